"""The training state: inputs, progress, and the listener that shows it."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import TrainConfig
from imgclf.core.fields import Checked, Within
from imgclf.data import prepared_images
from imgclf.data.manifest import Manifest
from imgclf.train import devices

CHECKPOINT = "checkpoint.npz"  # `--resume` continues from it


_Fraction = Annotated[float, Within(0, 1)]
_Size = Annotated[float, Within(0, 1e30)]


@dataclasses.dataclass(frozen=True)
class Epoch(Checked):
    """The metrics of one epoch. `images_per_second` counts training images; `seconds` includes validation."""

    epoch: Annotated[int, Within(1, 1_000_000)]
    loss: _Size
    accuracy: _Fraction
    val_loss: _Size
    val_accuracy: _Fraction
    images_per_second: _Size
    seconds: _Size
    is_best: bool

    @staticmethod
    def _called(name: str) -> str:
        return f"history: {name}"


class Listener(Protocol):
    """Callbacks of a training: notes, progress, and a way to stop it."""

    def note(self, text: str) -> object:
        """Show a note to the user."""

    def stage(self, name: str) -> object:
        """Called at the start of a stage that takes seconds."""

    def preparing(self, done: int, total: int) -> object:
        """Called with the number of images decoded so far."""

    def computing(self, done: int, total: int) -> object:
        """Called with the number of features computed so far."""

    def started(self, run_dir: Path, about: Sequence[str]) -> object:
        """Called before the first epoch. about: lines of text on the images, the network and the devices."""

    def tuning(self, about: Sequence[str]) -> object:
        """Called before fine-tuning, after the epochs of the head. about: lines of text on the network."""

    def batch(self, epoch: int, done: int, total: int) -> object:
        """Called after each step with the number of training images so far in this epoch."""

    def epoch(self, epoch: Epoch, left: float) -> object:
        """Called after each epoch. left: estimated seconds until the end of the training."""

    def stop(self) -> bool:
        """Return whether the training must end after this epoch."""


class Silent:
    """A Listener that does nothing."""

    def note(self, text: str) -> None: ...
    def stage(self, name: str) -> None: ...
    def preparing(self, done: int, total: int) -> None: ...
    def computing(self, done: int, total: int) -> None: ...
    def started(self, run_dir: Path, about: Sequence[str]) -> None: ...
    def tuning(self, about: Sequence[str]) -> None: ...
    def batch(self, epoch: int, done: int, total: int) -> None: ...
    def epoch(self, epoch: Epoch, left: float) -> None: ...

    def stop(self) -> bool:
        return False


class OfWorker(Silent):
    """The listener of a worker that is not the chief: it does not show the metrics, which equal the chief's."""

    def __init__(self, listener: Listener, machine: devices.Devices) -> None:
        self._listener = listener
        listener.note(f"this is worker {machine.index} of {machine.workers}; worker 0, the chief, shows and writes the run")

    def note(self, text: str) -> None:
        self._listener.note(text)

    def stage(self, name: str) -> None:
        self._listener.stage(name)

    def preparing(self, done: int, total: int) -> None:
        self._listener.preparing(done, total)

    def computing(self, done: int, total: int) -> None:
        self._listener.computing(done, total)


@dataclasses.dataclass
class TrainingState:
    """The state of one training: its inputs and its progress."""

    data: Path
    config: TrainConfig  # resolved: only choices that depend on the machine are still open
    manifest: Manifest
    prepared: prepared_images.Prepared
    weights: NDArray[np.float32] | None  # loss weight of each class; None for equal weights
    run_dir: Path
    listener: Listener
    machine: devices.Devices
    epochs: int = 0  # number of epochs to train in total; a time budget may lower it
    history: list[Epoch] = dataclasses.field(default_factory=list)
    best: list[NDArray[Any]] = dataclasses.field(default_factory=list)  # weights of the best epoch
    factor: float = 1.0  # multiplies the learning rate; `plateau` lowers it
    tuned_from: int | None = None  # number of epochs before fine-tuning
    resumed: bool = False
    made_folder: bool = False  # whether this training created the run's folder
    expected: float | None = None  # validation accuracy that `--model auto` expected from the network
    stopped: bool = False  # by the user

    @property
    def stage_start(self) -> int:
        """Number of epochs before the current stage."""
        return self.tuned_from or 0

    @property
    def length(self) -> int:
        """Number of epochs of the current stage."""
        return self.epochs - self.stage_start


def improves(history: Sequence[Epoch], val_accuracy: float, val_loss: float) -> bool:
    """Return whether an epoch is better than all before it: higher validation accuracy, or the same and a lower loss."""
    return all((val_accuracy, -val_loss) > (epoch.val_accuracy, -epoch.val_loss) for epoch in history)


def content(state: TrainingState) -> str:
    """Return a hash of all inputs but the config: the images, their subsets and classes, and the preprocessing."""
    names = sorted(f"{subset}/{name}" for subset, files in state.prepared.files.items() for name in files)
    return hashlib.sha256(
        "\n".join([*names, *state.prepared.class_names, state.prepared.preprocessing.hash]).encode()
    ).hexdigest()
