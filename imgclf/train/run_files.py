"""The files that a training writes into its run folder as it goes: the best model, checkpoint, history and curves."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf.core.files import atomic
from imgclf.models import bundle, keras_file
from imgclf.reports import tables
from imgclf.train import tensorboard, validation
from imgclf.train.checkpoint import write_checkpoint
from imgclf.train.strategies import Strategy
from imgclf.train.work import Epoch, Work

if TYPE_CHECKING:
    import keras

_LOGGED = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
_CURVES_EVERY = 20.0  # seconds: drawing them takes half a one


class RunFiles:
    """What the chief writes into the run's folder; the other workers write nothing."""

    def __init__(self, work: Work, strategy: Strategy) -> None:
        self._work, self._strategy, self._drawn = work, strategy, 0.0
        is_logged = work.config.tensorboard and work.machine.is_chief
        self._log = tensorboard.writer(work.run_dir / "tensorboard") if is_logged else None

    def save_epoch(self, entry: Epoch) -> None:
        """The best model so far, the checkpoint and the history; the curves now and then."""
        work, trainer = self._work, self._strategy.trainer
        if not work.machine.is_chief:
            return
        if entry.is_best and self._strategy.saves:
            save(trainer.stock, work.run_dir / bundle.MODEL)
        write_checkpoint(work, trainer)
        due = time.monotonic() - self._drawn > _CURVES_EVERY
        write_history(work, draw=due)
        self._drawn = time.monotonic() if due else self._drawn
        if self._log:
            self._log(entry.epoch, {name: getattr(entry, name) for name in _LOGGED})

    def finish(self) -> None:
        """The last curves and the last epoch's network."""
        work = self._work
        if work.machine.is_chief:
            write_history(work, draw=True)
            save(self._strategy.network(self._strategy.trainer.stock.get_weights()), work.run_dir / "last.keras")


def kept(work: Work) -> str:
    """The end of an error message: where the best epoch so far is; "" if none was saved."""
    if not (work.run_dir / bundle.MODEL).exists() or not work.history:
        return ""
    return f"; the best epoch that was saved is in {work.run_dir / bundle.MODEL}"


def save(network: "keras.Sequential", path: Path) -> None:
    """Write a network to a `.keras` file, atomically."""
    with atomic.atomic_path(path) as temporary:
        keras_file.save(network, temporary)


def write_history(work: Work, *, draw: bool) -> None:
    """Write history.csv, and curves.png too if `draw`."""
    rows = [dataclasses.asdict(entry) for entry in work.history]
    if rows:
        tables.write_csv(rows, work.run_dir / "history.csv")
    if rows and draw:
        from imgclf.reports import plots

        best = next(entry for entry in reversed(work.history) if entry.is_best)
        score = validation.interval(work, best.val_accuracy), validation.beside(work, best.val_accuracy)
        plots.save(plots.curves(rows, *score), work.run_dir / "curves.png")
