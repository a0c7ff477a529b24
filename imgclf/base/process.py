"""What a command's process begins with, whatever it was started from: its streams, its signals, its warnings."""

import contextlib
import io
import os
import signal
import sys
import warnings
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # the exit code after SIGTERM, as shells have it


def begin() -> None:
    """Make this process a command's own; to be called once, before anything else."""
    _fill_closed_descriptors()
    sys.stdout = sys.stdout or io.StringIO()  # closed by the caller, as in `imgclf ... >&-`
    sys.stderr = sys.stderr or io.StringIO()
    # The user's own filters hold for our code; what other packages warn of nobody here could act on.
    warnings.filterwarnings("ignore", module=r"(?!imgclf\b)")
    os.environ.pop("PYTHONWARNINGS", None)  # for processes of ours, whose first imports would come before this line
    with contextlib.suppress(ValueError):  # not the main thread, of a program that is not ours
        signal.signal(signal.SIGTERM, _terminate)


def _fill_closed_descriptors() -> None:
    """The null device for each of stdin, stdout and stderr that is closed: the next file opened would take its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _terminate(*_signal: Any) -> None:
    """End as after an error, with all that is cleaned up then; a second SIGTERM ends at once.

    By a handler and not by the signal itself, which the first process of a container is not ended by.
    """
    signal.signal(signal.SIGTERM, lambda *_again: os._exit(TERMINATED))
    raise SystemExit(TERMINATED)
