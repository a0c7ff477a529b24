"""Progress output of `imgclf train`."""

import contextlib
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.cli.shared.console import (
    new_bar,
    say,
)
from imgclf.core import signals

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from imgclf.train import Epoch


class TrainingDisplay:
    """Prints one line per epoch on stderr, and a progress bar within the epoch on a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._spent = 0.0
        self._run_dir: Path | None = None
        self._stack = contextlib.ExitStack()
        self._stop = self._stop_announced = False

    def __enter__(self) -> "TrainingDisplay":
        self._bar = self._stack.enter_context(new_bar())
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.close()
        if details[0] is not None and self._run_dir and self._spent:
            from imgclf.models import run_info

            if not (self._run_dir / run_info.FILE).exists():
                say(f"unfinished run: continue with `imgclf train --resume {shlex.quote(str(self._run_dir))}`")

    def _interrupt(self, *_signal: Any) -> None:
        """Stop after this epoch on the first Ctrl-C, and at once on the second."""
        self._stop = True  # `batch` announces it: a signal may arrive in the middle of a line
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(self) -> bool:
        return self._stop

    def note(self, text: str) -> None:
        say(text, style="yellow")

    def stage(self, name: str) -> None:
        self._advance(name, 0, None)

    def preparing(self, done: int, total: int) -> None:
        self._advance("preparing images", done, total)

    def computing(self, done: int, total: int) -> None:
        self._advance("computing features", done, total)

    def started(self, run_dir: Path, about: Sequence[str]) -> None:
        self._run_dir = run_dir
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # if ignored, as with nohup, keep it ignored
            self._stack.enter_context(signals.handled(self._interrupt, signal.SIGINT))
        say(f"run {run_dir}")
        for line in about:
            say(line)
        self._header()

    def _header(self) -> None:
        say("epoch    loss  accuracy  val loss  val accuracy  images/s   left")

    def tuning(self, about: Sequence[str]) -> None:
        for line in about:
            say(line)
        self._header()

    def batch(self, epoch: int, done: int, total: int) -> None:
        if self._stop and not self._stop_announced:
            self._stop_announced = True
            say("stopping after this epoch; press Ctrl-C again to stop now and continue later with --resume", style="yellow")
        self._advance(f"epoch {epoch}", done, total)

    def epoch(self, epoch: "Epoch", left: float) -> None:
        self._spent += epoch.seconds
        star = "*" if epoch.is_best else " "
        say(
            f"{epoch.epoch:>5} {epoch.loss:>7.4f} {epoch.accuracy:>9.4f} {epoch.val_loss:>9.4f} "
            f"{epoch.val_accuracy:>12.4f}{star} {epoch.images_per_second:>9.0f} {_minutes(left):>6}"
        )

    def _advance(self, task: str, done: int, total: int | None) -> None:
        if self._bar is None:
            return
        if self._task is not None and total is None:  # a bar that had a total would still show its numbers
            self._bar.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._bar.add_task(task, total=total)
        self._bar.update(self._task, description=task, completed=done, total=total)


def _minutes(seconds: float) -> str:
    return f"{int(seconds + 0.5) // 60}:{int(seconds + 0.5) % 60:02d}"
