"""A pool of LiteRT interpreters for one file. Interpreters are created when needed and reused."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.base.errors import ImgclfError

MAX_TENSOR = 1 << 30  # bytes; the largest of a classifier at 1,024 pixels a side is a quarter of it


class Engines:
    """A LiteRT file that can be used from any thread.

    Each interpreter serves one thread at a time and computes on one thread, which gives the best throughput. Interpreters are
    borrowed and returned, not bound to threads: thread pools are short-lived and would create new interpreters each time.
    """

    def __init__(
        self, file: Path, check: Callable[[Any], None] = lambda _engine: None, broken: str = "the model cannot be loaded"
    ) -> None:
        """check: raises an error for an unexpected interpreter. broken: text of the ImgclfError for an unusable file.

        The file is read on first use, once: what becomes of it then does not matter to a server that runs for weeks.
        """
        self.file = file
        self._check, self._broken = check, broken
        self._content = b""
        self._idle: list[Any] = []  # its append and pop are atomic

    def output(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The first row of the output for one (h, w, 3) image.

        Raises ImgclfError for a model that does not compute finite numbers.
        """
        with self._one() as engine:
            try:
                engine.set_tensor(engine.get_input_details()[0]["index"], image[np.newaxis].astype(np.float32))
                engine.invoke()
                found: NDArray[np.float32] = engine.get_tensor(engine.get_output_details()[0]["index"])[0]
            except (ValueError, RuntimeError) as error:
                raise ImgclfError(f"{self.file}: {self._broken}") from error
        if not np.isfinite(found).all():
            raise ImgclfError(f"{self.file}: {self._broken}")
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
            self._content = self._content or self.file.read_bytes()
            engine = Interpreter(model_content=self._content, num_threads=1)
            self._check(engine)
            if max(_bytes(tensor) for tensor in engine.get_tensor_details()) > MAX_TENSOR:
                raise ValueError("a tensor that no classifier needs")
            engine.allocate_tensors()
        except (OSError, ValueError, RuntimeError) as error:
            raise ImgclfError(f"{self.file}: {self._broken}") from error
        return engine


def _bytes(tensor: dict[str, Any]) -> int:
    """The size of a tensor by LiteRT's description of it; a length that is not known yet counts as one."""
    itemsize: int = np.dtype(tensor["dtype"]).itemsize
    return math.prod(max(1, int(length)) for length in tensor["shape"]) * itemsize
