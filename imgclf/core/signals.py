"""Temporary signal handlers. The previous handlers are always restored."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Finish the block before SIGINT or SIGTERM takes effect; a second signal takes effect at once."""
    pending: list[int] = []
    with contextlib.ExitStack() as stack:

        def hold(number: int, _frame: Any) -> None:
            pending.append(number)
            stack.close()

        stack.enter_context(handled(hold, signal.SIGINT, signal.SIGTERM))
        yield
    if pending:
        signal.raise_signal(pending[0])


@contextlib.contextmanager
def handled(handler: Callable[[int, Any], object] | int, *numbers: int) -> Iterator[None]:
    """Use this handler for these signals inside the block.

    Python sets handlers only in the main thread, so other threads change nothing. A handler that was not set from Python
    cannot be restored, so it is not replaced.
    """
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                if signal.getsignal(number) is not None:
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
