"""A pool of LiteRT interpreters for one file. Interpreters are created when needed and reused."""

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
    """A LiteRT file that can be used from any thread.

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
        """check: raises an error for an unexpected interpreter. broken: text of the ImgclfError for an unusable file.

        sha256: of the file's content, if it is known. before: called once, before the file is read, which happens on first use;
        raises an error for a file not to be loaded. The content is kept: what becomes of the file then does not matter to a
        server that runs for weeks.
        """
        self.file = file
        self._check, self._broken, self._sha256, self._before = check, broken, sha256, before
        self._idle: list[Any] = []  # its append and pop are atomic
        self._lock, self._content = threading.Lock(), b""

    def output(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The first row of the output for one (h, w, 3) image. Raises ImgclfError for a file that cannot be used."""
        with self._one() as engine:
            try:
                engine.set_tensor(engine.get_input_details()[0]["index"], image[np.newaxis].astype(np.float32))
                engine.invoke()
                found: NDArray[np.float32] = engine.get_tensor(engine.get_output_details()[0]["index"])[0]
            except (ValueError, RuntimeError) as error:
                raise ImgclfError(f"{self.file}: {self._broken}") from error
        return found

    @contextlib.contextmanager
    def _one(self) -> Iterator[Any]:
        try:
            engine = self._idle.pop()
        except IndexError:
            engine = self._made()
        yield engine
        self._idle.append(engine)  # not returned after an error, because its state is unknown

    def _made(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with self._lock:
                if not self._content:
                    self._before()
                    content = self.file.read_bytes()
                    if self._sha256 and hashlib.sha256(content).hexdigest() != self._sha256:
                        raise ValueError("replaced since it was checked")
                    self._content = content
            engine = Interpreter(model_content=self._content, num_threads=1)
            engine.allocate_tensors()
            self._check(engine)
        except (OSError, ValueError, RuntimeError) as error:
            raise ImgclfError(f"{self.file}: {self._broken}") from error
        return engine
