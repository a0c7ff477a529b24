"""One training as it stands: what it is made from, how far it has come, who listens, and its checkpoint."""

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

CHECKPOINT = "checkpoint.npz"  # what a run that is not finished goes on from


_Fraction = Annotated[float, Within(0, 1)]
_Size = Annotated[float, Within(0, 1e30)]


@dataclasses.dataclass(frozen=True)
class Epoch(Checked):
    """The metrics of one epoch; `images_per_second` counts training images, `seconds` the whole epoch with validation."""

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
    """What a caller hears while a training runs."""

    def note(self, text: str) -> object:
        """Something the user should know."""

    def stage(self, name: str) -> object:
        """Something that takes seconds begins."""

    def preparing(self, done: int, total: int) -> object:
        """Images decoded so far."""

    def computing(self, done: int, total: int) -> object:
        """Features computed so far."""

    def started(self, run_dir: Path, about: Sequence[str]) -> object:
        """The network is built and the first epoch begins; `about` says in lines what is trained, and how."""

    def tuning(self, about: Sequence[str]) -> object:
        """The head is trained, and fine-tuning begins."""

    def batch(self, epoch: int, done: int, total: int) -> object:
        """Training images seen in this epoch."""

    def epoch(self, epoch: Epoch, left: float) -> object:
        """An epoch has ended; about so many seconds are left."""

    def stop(self) -> bool:
        """Whether to end after this epoch."""


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
    """What a worker that is not the chief has to say: not the metrics, which are the same as the chief's."""

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
class Work:
    """One training: what it is made from, and how far it has come."""

    data: Path
    config: TrainConfig  # as resolved: nothing is left to be chosen but what the machine decides
    manifest: Manifest
    prepared: prepared_images.Prepared
    weights: NDArray[np.float32] | None  # what an image of each class counts
    run_dir: Path
    listener: Listener
    machine: devices.Devices
    epochs: int = 0  # to be trained; a time budget may make it fewer than asked for
    history: list[Epoch] = dataclasses.field(default_factory=list)
    best: list[NDArray[Any]] = dataclasses.field(default_factory=list)  # weights of the best epoch
    factor: float = 1.0  # what a plateau has made of the rate
    tuned_from: int | None = None  # epochs in the history when fine-tuning began
    resumed: bool = False
    made_folder: bool = False  # whether this training has made the run's folder
    expected: float | None = None  # validation accuracy that `--model auto` expected from the network
    stopped: bool = False  # by the user

    @property
    def began(self) -> int:
        """Epochs in the history when the present stage of the training began."""
        return self.tuned_from or 0

    @property
    def length(self) -> int:
        """Epochs of the present stage."""
        return self.epochs - self.began


def improves(history: Sequence[Epoch], val_accuracy: float, val_loss: float) -> bool:
    """Whether an epoch beats all before it: a higher validation accuracy, or the same with a lower loss."""
    return all((val_accuracy, -val_loss) > (epoch.val_accuracy, -epoch.val_loss) for epoch in history)


def content(work: Work) -> str:
    """What the result depends on beside the config: the images, in which subset and class, and how they are fed."""
    names = sorted(f"{subset}/{name}" for subset, files in work.prepared.files.items() for name in files)
    return hashlib.sha256(
        "\n".join([*names, *work.prepared.class_names, work.prepared.preprocessing.hash]).encode()
    ).hexdigest()
