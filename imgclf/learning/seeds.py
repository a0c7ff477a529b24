"""The seed of a network's first weights, without a trace in the generators of the caller's program."""

import contextlib
import random
import threading
from collections.abc import Iterator

_LOCK = threading.RLock()  # two trainings of one process must not draw from each other's seed


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, layers without a seed of their own draw it from this one; `random`, from which Keras takes it, is put back."""
    with _LOCK:
        before = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
