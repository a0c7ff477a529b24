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
    _pass_over_warnings_of_others()
    with contextlib.suppress(ValueError):  # not the main thread, of a program that is not ours
        signal.signal(signal.SIGTERM, _terminate)


def _pass_over_warnings_of_others() -> None:
    """The user's own filters hold for our code; what other packages warn of nobody here could act on.

    But for what was left open: nobody knows whose it was.
    """
    for kind in Warning.__subclasses__():
        if kind is not ResourceWarning:
            warnings.filterwarnings("ignore", category=kind, module=r"(?!imgclf\b)")
    # For processes that we start: their first imports come before these lines.
    filters = os.environ.pop("PYTHONWARNINGS", "").split(",")
    if kept := [one for one in filters if ResourceWarning.__name__ in one]:
        os.environ["PYTHONWARNINGS"] = ",".join(kept)


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
