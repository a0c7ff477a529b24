"""A pool of LiteRT interpreters for one file. It creates interpreters when they are needed, and reuses them."""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.errors import ImgclfError


class Engines:
    """The thread-safe interpreters of one LiteRT file.

    Each interpreter serves one thread at a time and computes on one thread, which gives the best throughput. Interpreters are
    borrowed and returned, not bound to threads: thread pools are short-lived and would create new interpreters each time.
    """

    def __init__(
        self,
        file: Path,
        check: Callable[[Any], None] = lambda _engine: None,
        broken: str = "the model cannot be loaded",
        *,
        sha256: str = "",
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """The file is read on first use and then stays in memory, so a server does not depend on the file any more.

        check: raises an error for an unexpected interpreter. broken: text of the ImgclfError for an unusable file. sha256: of
        the file's content, if it is known. before: called once before the file is read; raises an error to refuse it.
        """
        self.file = file
        self._check, self._broken, self._sha256, self._before = check, broken, sha256, before
        self._idle: list[Any] = []  # its append and pop are atomic
        self._lock, self._content = threading.Lock(), b""

    def output(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the output, without the batch axis, for one (h, w, 3) image. Raises ImgclfError for an unusable file."""
        with self._borrowed() as engine:
            try:
                engine.set_tensor(engine.get_input_details()[0]["index"], image[np.newaxis].astype(np.float32))
                engine.invoke()
                output: NDArray[np.float32] = engine.get_tensor(engine.get_output_details()[0]["index"])[0]
            except (ValueError, RuntimeError) as error:
                raise ImgclfError(f"{self.file}: {self._broken}") from error
        return output

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Any]:
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = self._create()
        yield engine
        self._idle.append(engine)  # not returned after an error, because its state is unknown

    def _create(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with self._lock:
                if not self._content:
                    self._before()
                    content = self.file.read_bytes()
                    if self._sha256 and hashlib.sha256(content).hexdigest() != self._sha256:
                        raise ValueError("the file was replaced after the check")
                    self._content = content
            engine = Interpreter(model_content=self._content, num_threads=1)
            engine.allocate_tensors()
            self._check(engine)
        except (OSError, ValueError, RuntimeError) as error:
            raise ImgclfError(f"{self.file}: {self._broken}") from error
        return engine
