"""Write the files of each epoch into the run folder: the best model, the checkpoint, the history and the curves."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf.core.files import atomic
from imgclf.models import bundle, keras_file
from imgclf.reports import tables
from imgclf.train import tensorboard, validation
from imgclf.train.checkpoint import write_checkpoint
from imgclf.train.state import Epoch, TrainingState
from imgclf.train.strategies import Strategy

if TYPE_CHECKING:
    import keras

_LOGGED = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
_CURVES_EVERY = 20.0  # seconds: drawing takes half a second


class RunFiles:
    """The files of a run. Only the chief writes them; for the other workers, the methods do nothing."""

    def __init__(self, state: TrainingState, strategy: Strategy) -> None:
        self._state, self._strategy, self._drawn_at = state, strategy, 0.0
        is_logged = state.config.tensorboard and state.machine.is_chief
        self._log = tensorboard.writer(state.run_dir / "tensorboard") if is_logged else None

    def save_epoch(self, entry: Epoch) -> None:
        """Write the best model so far, the checkpoint and the history, and the curves every 20 seconds."""
        state, trainer = self._state, self._strategy.trainer
        if not state.machine.is_chief:
            return
        if entry.is_best and self._strategy.saves:
            save(trainer.exported, state.run_dir / bundle.MODEL)
        write_checkpoint(state, trainer)
        is_due = time.monotonic() - self._drawn_at > _CURVES_EVERY
        write_history(state, draw=is_due)
        self._drawn_at = time.monotonic() if is_due else self._drawn_at
        if self._log:
            self._log(entry.epoch, {name: getattr(entry, name) for name in _LOGGED})

    def finish(self) -> None:
        """Write the final curves, and the network of the last epoch."""
        state = self._state
        if state.machine.is_chief:
            write_history(state, draw=True)
            save(self._strategy.network(self._strategy.trainer.exported.get_weights()), state.run_dir / "last.keras")


def saved_best(state: TrainingState) -> str:
    """Return the end of an error message: where the best epoch so far is saved; "" if there is none."""
    if not (state.run_dir / bundle.MODEL).exists() or not state.history:
        return ""
    return f"; the best epoch so far is saved in {state.run_dir / bundle.MODEL}"


def save(network: "keras.Sequential", path: Path) -> None:
    """Write a network to a `.keras` file, atomically."""
    with atomic.atomic_path(path) as temporary:
        keras_file.save(network, temporary)


def write_history(state: TrainingState, *, draw: bool) -> None:
    """Write history.csv, and curves.png too if `draw`."""
    rows = [dataclasses.asdict(entry) for entry in state.history]
    if rows:
        tables.write_csv(rows, state.run_dir / "history.csv")
    if rows and draw:
        from imgclf.reports import plots

        best = next(entry for entry in reversed(state.history) if entry.is_best)
        score = validation.interval(state, best.val_accuracy), validation.compare_with_baseline(state, best.val_accuracy)
        plots.save(plots.curves(rows, *score), state.run_dir / "curves.png")
