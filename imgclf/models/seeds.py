"""Seed the initial weights of a network without changing the random state of the program."""

import contextlib
import random
import threading
from collections.abc import Iterator

_LOCK = threading.RLock()  # two trainings in one process must not share a random state


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Use this seed inside the block for layers without their own. Keras draws seeds from `random`, whose state is restored."""
    with _LOCK:
        before = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
