"""Set up the process of a command: standard streams, signals and warnings."""

import contextlib
import io
import os
import signal
import sys
import warnings
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # exit code after SIGTERM, as in shells


def begin() -> None:
    """Set up this process for a command. Call it once, before anything else."""
    _fill_closed_descriptors()
    sys.stdout = sys.stdout or io.StringIO()  # closed by the caller, as in `imgclf ... >&-`
    sys.stderr = sys.stderr or io.StringIO()
    _ignore_warnings_of_other_packages()
    with contextlib.suppress(ValueError):  # raised outside the main thread, if another program calls us
        signal.signal(signal.SIGTERM, _terminate)


def _ignore_warnings_of_other_packages() -> None:
    """Ignore warnings of other packages, because users cannot act on them. The user's filters still apply to our code.

    ResourceWarning is kept, because it is not clear whose file was left open.
    """
    for kind in Warning.__subclasses__():
        if kind is not ResourceWarning:
            warnings.filterwarnings("ignore", category=kind, module=r"(?!imgclf\b)")
    # For child processes: they import packages before this function runs.
    filters = os.environ.pop("PYTHONWARNINGS", "").split(",")
    if kept := [one for one in filters if ResourceWarning.__name__ in one]:
        os.environ["PYTHONWARNINGS"] = ",".join(kept)


def _fill_closed_descriptors() -> None:
    """Open the null device for each closed stdin, stdout or stderr. Otherwise the next file would get its descriptor."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _terminate(*_signal: Any) -> None:
    """Exit with the usual clean-up. A second SIGTERM exits at once.

    The handler is needed because the default action of SIGTERM does not stop the main process of a container.
    """
    signal.signal(signal.SIGTERM, lambda *_again: os._exit(TERMINATED))
    raise SystemExit(TERMINATED)
