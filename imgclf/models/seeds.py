"""Seed the initial weights of a network without changing the random state of the calling program."""

import contextlib
import random
import threading
from collections.abc import Iterator

_LOCK = threading.RLock()  # two trainings in one process must not share a random state


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block, layers without their own seed use this one. Keras draws it from `random`, which is restored."""
    with _LOCK:
        before = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
