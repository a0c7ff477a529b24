"""`imgclf train`: prepare pixels, build the network, train it, keep the best epoch, and leave a bundle that explains itself."""

import contextlib
import dataclasses
import errno
import hashlib
import importlib.metadata
import itertools
import json
import math
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

import imgclf
from imgclf import bundle, dataset, model
from imgclf.base import journal, table
from imgclf.base.config import Augment, Model, Part, Precision, Recipe, Schedule, TrainConfig
from imgclf.base.errors import ImgclfError, UsageError
from imgclf.base.folders import state_folder
from imgclf.bundle import Bundle
from imgclf.learning import board, devices, precision, schedule, training
from imgclf.learning.weights import class_weights
from imgclf.pixels import augment, images

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # largest probability difference allowed between Keras and LiteRT
CHECKPOINT = "checkpoint.npz"  # what a run that is not finished goes on from
_LOGGED = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
_CURVES_EVERY = 20.0  # seconds: drawing them takes half a one


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; `images_per_second` counts training pictures, `seconds` the whole epoch with validation."""

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    images_per_second: float
    seconds: float
    is_best: bool


class Listener(Protocol):
    """What a caller hears while a training runs."""

    def note(self, text: str) -> object:
        """Something the user should know."""

    def stage(self, name: str) -> object:
        """Something that takes seconds begins."""

    def preparing(self, done: int, total: int) -> object:
        """Pictures decoded so far."""

    def started(self, run_dir: Path, summary: str) -> object:
        """The network is built and the first epoch begins."""

    def batch(self, epoch: int, done: int, total: int) -> object:
        """Training pictures seen in this epoch."""

    def epoch(self, epoch: Epoch, left: float) -> object:
        """An epoch has ended; about so many seconds are left."""

    def stop(self) -> bool:
        """Whether to end after this epoch."""


class Silent:
    """A Listener that does nothing."""

    def note(self, text: str) -> None: ...
    def stage(self, name: str) -> None: ...
    def preparing(self, done: int, total: int) -> None: ...
    def started(self, run_dir: Path, summary: str) -> None: ...
    def batch(self, epoch: int, done: int, total: int) -> None: ...
    def epoch(self, epoch: Epoch, left: float) -> None: ...

    def stop(self) -> bool:
        return False


class _OfWorker(Silent):
    """What a worker that is not the chief has to say: not the figures, which are the same as the chief's."""

    def __init__(self, listener: Listener, machine: devices.Devices) -> None:
        self._listener = listener
        listener.note(f"worker {machine.index} of 0 to {machine.workers - 1}; worker 0, the chief, shows and writes the run")

    def note(self, text: str) -> None:
        self._listener.note(text)

    def stage(self, name: str) -> None:
        self._listener.stage(name)

    def preparing(self, done: int, total: int) -> None:
        self._listener.preparing(done, total)


@dataclasses.dataclass
class _Work:
    """One training: what it is made from, and how far it has come."""

    data: Path
    config: TrainConfig  # as resolved: nothing is left to be chosen but what the machine decides
    manifest: dataset.Manifest
    prepared: dataset.Prepared
    run_dir: Path
    listener: Listener
    machine: devices.Devices
    epochs: int = 0  # to be trained; a time budget may make it fewer than asked for
    history: list[Epoch] = dataclasses.field(default_factory=list)
    best: list[NDArray[Any]] = dataclasses.field(default_factory=list)  # weights of the best epoch
    factor: float = 1.0  # what a plateau has made of the rate
    used: float = 0.0  # seconds of the time budget that earlier processes took


def train(
    data: Path,
    config: TrainConfig | None = None,
    *,
    run_dir: Path | None = None,
    listener: Listener | None = None,
    device_count: int | None = None,
) -> Bundle | None:
    """Train on a data folder that has a split manifest and return the finished run.

    Writes `history.csv`, `curves.png`, `model.keras` (the best epoch by validation accuracy, then loss) and a checkpoint as it
    goes, and `bundle.json` last: a run folder without it is unfinished, and `resume` goes on with it. device_count: of this
    machine, every GPU by default. Where TF_CONFIG names several machines, each calls this; the chief alone writes, and the
    others get None. Raises ImgclfError.
    """
    config = config or TrainConfig()
    listener = listener or Silent()
    check(config)
    began = time.monotonic()
    if not str(data.resolve()).isprintable():
        raise ImgclfError(f"{data}: the folder's path has characters that TensorFlow cannot open; rename or move the folder")
    place = (run_dir or Path("runs")).resolve()
    if data.resolve() in (place, *place.parents):
        raise ImgclfError(
            f"{run_dir or 'runs'}: lies inside the data folder {data}, where it would become a class; give --run-dir"
        )
    manifest = dataset.read_manifest(_manifest_path(data, config.fold))
    listener.stage("loading TensorFlow" + (" and waiting for the other workers" if devices.are_several() else ""))
    machine = devices.choose(device_count)
    listener = listener if machine.is_chief else _OfWorker(listener, machine)
    with devices.lost(machine, "start all of them again with --resume and the run folder that the chief has named"):
        prepared, config = _prepare(data, manifest, config, machine, listener)
        if machine.is_chief:
            run_dir = bundle.new_run_folder(config.model, run_dir)
            journal.write_json(run_dir / "config.json", {**dataclasses.asdict(config), "data": str(data.resolve())})
            journal.write_atomic(run_dir / "split.csv", manifest.to_csv())
        work = _Work(data, config, manifest, prepared, run_dir or place, listener, machine, config.epochs)
        return _run(work, began)


def resume(run: str | None = None, *, listener: Listener | None = None, device_count: int | None = None) -> Bundle | None:
    """Go on with an unfinished run, the newest under `runs/` if none is named, at the epoch that it had reached.

    The result is what the uninterrupted run would have been; with several machines, each must see the run's folder, and all but
    the chief get None. Raises ImgclfError when there is none, or when its pictures or its split are no longer what they were.
    """
    listener = listener or Silent()
    began = time.monotonic()
    run_dir = bundle.find_unfinished(run)
    try:
        stored = json.loads((run_dir / "config.json").read_bytes())
        data = Path(stored.pop("data"))
        config = TrainConfig(**stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{run_dir / 'config.json'}: cannot be read ({error}); train anew") from error
    manifest = dataset.read_manifest(run_dir / "split.csv")
    listener.stage("loading TensorFlow" + (" and waiting for the other workers" if devices.are_several() else ""))
    machine = devices.choose(device_count)
    listener = listener if machine.is_chief else _OfWorker(listener, machine)
    with devices.lost(machine, f"start all of them again with `imgclf train --resume {run_dir}`"):
        prepared, config = _prepare(data, manifest, config, machine, listener)
        work = _Work(data, config, manifest, prepared, run_dir, listener, machine, config.epochs)
        return _run(work, began)


def _prepare(
    data: Path, manifest: dataset.Manifest, config: TrainConfig, machine: devices.Devices, listener: Listener
) -> tuple[dataset.Prepared, TrainConfig]:
    """The pictures at the network's size, and the config with that size; by the chief first, and the others find them there."""
    if not machine.is_chief:
        machine.told([0])
    parts, notes = dataset.load_parts(data, manifest, listener.preparing)
    for note in dataset.elsewhere_note(data) + notes:
        listener.note(note)
    chosen: Mapping[Part, dataset.Dataset] = {"train": parts["train"], "val": parts["val"]}
    side = config.image_size or dataset.auto_image_size(parts["train"], config.seed)
    recipe = Recipe(height=side, width=side, aspect=config.aspect)
    prepared = dataset.prepare(data, chosen, recipe, listener.preparing)
    for path, reason in prepared.left_out:
        listener.note(f"left out {path}: {reason}")
    _check_parts(data, prepared)
    if machine.is_chief:
        machine.told([0])
    return prepared, dataclasses.replace(config, image_size=side)


def _run(work: _Work, began: float) -> Bundle | None:
    """Build the network, train it from where it stands, and finish."""
    config, prepared, listener, machine = work.config, work.prepared, work.listener, work.machine
    labels = [name.split("/", 1)[0] for name in prepared.files["train"]]
    counted = [labels.count(name) for name in prepared.class_names]
    weights = class_weights(config.class_weights, prepared.class_names, counted)
    trainer, kind, why = _trainer(config, prepared, machine)
    stock = trainer.stock
    _restore(work, trainer)
    _check_agreement(work, weights)
    counts = {part: len(files) for part, files in prepared.files.items()}
    depth = sum(1 for layer in stock.layers if layer.name.startswith("conv2d"))
    about = (
        f"{counts['train']:,} training and {counts['val']:,} validation pictures, {len(prepared.class_names)} classes, "
        f"{prepared.recipe.width} x {prepared.recipe.height} pixels; "
        f"{config.model}: {depth} convolutions, {stock.count_params():,} parameters; {kind}: {why}"
        + (f"; {machine}" if machine.count > 1 else "")
    )
    listener.started(work.run_dir, about + (f"; classes weighed {_some(weights, prepared)}" if weights is not None else ""))
    if work.history:
        listener.note(f"resumed after epoch {len(work.history)}")
    own = dataset.shard(prepared, machine.index, machine.workers)
    pictures = dataset.Pictures(own, "train", listener.preparing)
    validation = dataset.Pictures(own, "val", listener.preparing)
    with _remedies(work):
        _fit(work, trainer, pictures, validation, weights, began)
    finished = None
    if machine.is_chief:
        listener.stage("exporting")
        for variable, value in zip(stock.weights, work.best, strict=True):
            variable.assign(value)
        finished = _finish(work, stock, kind)
    machine.told([0])  # the others wait: the chief would take them for lost
    return finished


def _check_agreement(work: _Work, weights: NDArray[np.float32] | None) -> None:
    """Raise ImgclfError when the workers have not begun with the same pictures, split, options, class weights and epoch."""
    machine, batch = work.machine, work.config.batch_size
    if batch % machine.workers or batch < machine.count:
        least = machine.workers * math.ceil(max(batch, machine.count) / machine.workers)
        raise UsageError(
            f"--batch-size {batch} cannot be shared by {machine}: it counts the pictures of all; try --batch-size {least}"
        )
    all_of_it = repr((_content(work), work.config, weights is not None and weights.tolist(), work.history))
    digest = hashlib.sha256(all_of_it.encode()).digest()
    differ = not np.array_equal(machine.told(list(digest)), list(digest))
    others = int(machine.total([differ])[0])
    if others:
        raise ImgclfError(
            f"{others} of {machine.workers} workers have other pictures, another split, other options or another epoch than "
            "the chief; give all the same command, and the same data and run folder or equal copies"
        )


def summary(data: Path, config: TrainConfig) -> tuple[str, list[tuple[str, str, str, int]]]:
    """(size and precision in words, (name, kind, output shape, parameters) of each layer) of what `train` would build."""
    check(config)
    pictures, _left_out = dataset.index(data, minimum_classes=2)
    side = config.image_size or dataset.auto_image_size(pictures, config.seed)
    network = model.build(config.model, len(pictures.class_names), side, side, seed=config.seed)
    kind, why = precision.choose(config.precision)
    layers = [
        (layer.name, type(layer).__name__, " x ".join(str(number) for number in layer.output.shape[1:]), layer.count_params())
        for layer in network.layers
    ]
    return f"{config.model} for {side} x {side} pixels; trained in {kind}: {why}", layers


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """The loss at each learning rate of a rising series, smoothed, and a rate to train with."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    plot: Path


def find_rate(
    data: Path, config: TrainConfig, *, listener: Listener | None = None, device_count: int | None = None
) -> RateSearch:
    """Train a few steps at rates from 1e-6 to 1 and see where the loss falls and where it breaks (Smith, 2017).

    Suggests a third of the rate at which the loss falls fastest. Nothing is kept but the plot. Raises ImgclfError.
    """
    check(config)
    listener = listener or Silent()
    manifest = dataset.read_manifest(_manifest_path(data, config.fold))
    if devices.are_several():
        raise UsageError("--lr-find works on one machine; unset TF_CONFIG for it")
    listener.stage("loading TensorFlow")
    machine = devices.choose(device_count)
    prepared, config = _prepare(data, manifest, config, machine, listener)
    trainer, _kind, _why = _trainer(config, prepared, machine)
    pictures = dataset.Pictures(prepared, "train", listener.preparing)
    change = smoothed(augment.changer(config.augment, config.flip), config.label_smoothing)
    steps = 100
    rates = np.geomspace(1e-6, 1, steps).tolist()
    seen: list[float] = []
    for epoch in itertools.count(1):
        batches = pictures.shuffled(config.batch_size, seed=config.seed, epoch=epoch, change=change)
        trainer.epoch(batches, iter(rates[len(seen) :]), lambda _done, loss: seen.append(loss))
        listener.batch(epoch, len(seen), steps)
        if len(seen) == steps or not all(math.isfinite(loss) for loss in seen):
            break
    finite = list(itertools.takewhile(math.isfinite, seen))
    losses = _smooth(finite)
    worst = next((n for n, loss in enumerate(losses) if n > 10 and loss > 2 * min(losses[: n + 1])), len(losses))
    slopes = np.gradient(losses[:worst], np.log(rates[:worst]))
    suggestion = rates[int(slopes.argmin())] / 3
    from imgclf.display import plots

    plot = state_folder(data) / "lr-find.png"
    plots.save(plots.rates(rates[:worst], losses[:worst], suggestion), plot)
    return RateSearch(tuple(rates[:worst]), tuple(losses[:worst]), float(f"{suggestion:.1g}"), plot)


def _smooth(values: Sequence[float]) -> list[float]:
    """A moving average that keeps 0.9, without its bias at the beginning."""
    smooth, average = [], 0.0
    for number, value in enumerate(values, 1):
        average = 0.9 * average + 0.1 * value
        smooth.append(average / (1 - 0.9**number))
    return smooth


def _trainer(
    config: TrainConfig, prepared: dataset.Prepared, machine: devices.Devices
) -> tuple[training.Trainer, Precision, str]:
    """(a trainer with a new network, its number format, why that)."""
    kind, why = precision.choose(config.precision)
    sizes = len(prepared.class_names), prepared.recipe.height, prepared.recipe.width
    with machine.strategy.scope():
        network = model.build(config.model, *sizes, seed=config.seed, for_training=precision.POLICIES[kind])
    stock = model.build(config.model, *sizes, seed=config.seed)
    model.compile(stock, config.learning_rate)
    options: dict[str, Any] = {"weight_decay": config.weight_decay, "ema": config.ema, "loss_scaling": kind == "float16"}
    return training.Trainer(network, stock, machine, **options), kind, why


def _manifest_path(data: Path, fold: int | None) -> Path:
    """The manifest of the split, or of one fold; raises ImgclfError when there is no such fold."""
    if fold is None:
        return dataset.manifest_path(data)
    folds = dataset.fold_paths(data)
    if not folds:
        raise ImgclfError(f"{data}: no folds yet; make them with `imgclf split --folds 5`")
    if not 1 <= fold <= len(folds):
        raise ImgclfError(f"--fold {fold}: there are folds 1 to {len(folds)}")
    return folds[fold - 1]


def check(config: TrainConfig) -> None:
    """Raise UsageError for a value no training can use."""
    if config.epochs < 1:
        raise UsageError(f"--epochs must be 1 or more, not {config.epochs}")
    if config.batch_size < 1:
        raise UsageError(f"--batch-size must be 1 or more, not {config.batch_size}")
    if config.image_size is not None and not 16 <= config.image_size <= 1024:
        raise UsageError(f"--image-size must be 16 to 1024 pixels, not {config.image_size}")
    if not 0 < config.learning_rate < 10:
        raise UsageError(f"--learning-rate must be above 0 and below 10, not {config.learning_rate:g}")
    for name, value, kind in (
        ("--model", config.model, Model), ("--precision", config.precision, Precision), ("--augment", config.augment, Augment),
        ("--lr-schedule", config.lr_schedule, Schedule),
    ):  # fmt: skip
        if value not in get_args(kind):
            raise UsageError(f"{name} {value}: choose {', '.join(get_args(kind))}")
    if config.early_stopping is not None and config.early_stopping < 0:
        raise UsageError(f"--early-stopping must be 0 (never) or more epochs, not {config.early_stopping}")
    if not 0 <= config.label_smoothing < 0.5:
        raise UsageError(f"--label-smoothing must be 0 to below 0.5, not {config.label_smoothing:g}")
    if not 0 <= config.weight_decay < 1:
        raise UsageError(f"--weight-decay must be 0 to below 1, not {config.weight_decay:g}")
    if not 0 <= config.ema < 1:
        raise UsageError(f"--ema must be 0 (none) to below 1, not {config.ema:g}")
    if config.time_budget is not None and not config.time_budget > 0:
        raise UsageError(f"--time-budget must be more than no time, not {config.time_budget:g} s")
    if not 0 <= config.seed < 2**31:
        raise UsageError(f"--seed must be 0 to {2**31 - 1}, not {config.seed}")


def _check_parts(data: Path, prepared: dataset.Prepared) -> None:
    for part in ("train", "val"):
        if not prepared.files[part]:
            raise ImgclfError(
                f"{data}: the {part} part has no usable picture; add pictures or give it a larger share "
                f"(imgclf split --{part} 0.2 --force)"
            )
    labels = {name.split("/", 1)[0] for name in prepared.files["train"]}
    for name in prepared.class_names:
        if name not in labels:
            raise ImgclfError(f"{data}: class {name} has no usable training picture; add some and split anew, or remove it")


def _some(weights: NDArray[np.float32], prepared: dataset.Prepared) -> str:
    shown = [f"{name} {weight:.2f}" for name, weight in zip(prepared.class_names, weights, strict=True)]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")


def patience(config: TrainConfig) -> int:
    """Epochs without improvement after which a training ends; 0 for never.

    By default half of the epochs, ten at least: cosine and one-cycle do their best at the end, when the rate falls, and must
    not be cut off just before. A fifth of them, six at least, where the rate does not fall by itself.
    """
    if config.early_stopping is not None:
        return config.early_stopping
    if config.lr_schedule in ("cosine", "one-cycle"):
        return max(10, math.ceil(config.epochs / 2))
    return max(6, math.ceil(config.epochs / 5))


def _fit(
    work: _Work,
    trainer: training.Trainer,
    pictures: dataset.Pictures,
    validation: dataset.Pictures,
    weights: NDArray[np.float32] | None,
    began: float,
) -> None:
    config, listener, machine = work.config, work.listener, work.machine
    share = int(machine.total([len(pictures)])[0]) // machine.workers  # pictures of each worker, as many of all
    count, batch = share * machine.workers, config.batch_size // machine.workers
    steps = math.ceil(share / batch)
    change = smoothed(augment.changer(config.augment, config.flip), config.label_smoothing)
    log = board.writer(work.run_dir / "tensorboard") if config.tensorboard and machine.is_chief else None
    drawn = 0.0
    while len(work.history) < work.epochs and not _is_over(work):
        number = len(work.history) + 1
        start = ended = time.perf_counter()

        def after(done: int, loss: float, number: int = number) -> None:
            nonlocal ended
            ended = time.perf_counter()
            if not math.isfinite(loss):
                raise ImgclfError(
                    f"the loss is no longer a number in epoch {number}: the steps are too large; "
                    f"try --learning-rate {config.learning_rate / 10:g}{_kept(work)}"
                )
            listener.batch(number, done, count)

        side = _side(work, number, work.epochs)
        batches = pictures.shuffled(
            batch, seed=config.seed, epoch=number, change=change, weights=weights, side=side, count=share, shard=machine.index
        )
        score = trainer.epoch(batches, _rates(work, steps, number), after)
        trainer.freeze()
        valued = trainer.evaluate(validation.in_order())
        entry = Epoch(
            epoch=number, loss=score.loss, accuracy=score.accuracy, val_loss=valued.loss, val_accuracy=valued.accuracy,
            images_per_second=count / max(1e-9, ended - start), seconds=time.perf_counter() - start,
            is_best=improves(work.history, valued.accuracy, valued.loss),
        )  # fmt: skip
        _slow_down(work, valued.loss)
        work.history.append(entry)
        if entry.is_best:
            work.best = [np.array(variable) for variable in trainer.stock.weights]
        if number == 1 and config.time_budget:
            _fit_budget(work, time.monotonic() - began)
        if machine.is_chief:
            if entry.is_best:
                _save(trainer.stock, work.run_dir / bundle.MODEL)
            due = time.monotonic() - drawn > _CURVES_EVERY
            _write_history(work, draw=due)
            drawn = time.monotonic() if due else drawn
            if log:
                log(number, {name: getattr(entry, name) for name in _LOGGED})
            _write_checkpoint(work, trainer)
        listener.epoch(entry, entry.seconds * _cost(work, number, work.epochs))
        if machine.told([listener.stop()])[0]:
            listener.note(f"stopped after epoch {number}, as asked; the best epoch so far is kept")
            break
    if machine.is_chief:
        _write_history(work, draw=True)
        _save(trainer.stock, work.run_dir / "last.keras")


def smoothed(change: augment.Change | None, smoothing: float) -> augment.Change | None:
    """Augmentation, and targets moved by `smoothing` towards all being equally likely (Szegedy et al., 2016)."""
    if not smoothing:
        return change

    def both(
        pixels: NDArray[np.uint8], targets: NDArray[np.float32], seeds: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        if change:
            pixels, targets = change(pixels, targets, seeds)
        return pixels, targets * np.float32(1 - smoothing) + np.float32(smoothing / max(2, targets.shape[1]))

    return both


def _rates(work: _Work, steps: int, number: int) -> Iterator[float]:
    config = work.config
    for step in range((number - 1) * steps, number * steps):
        yield work.factor * schedule.rate(config.lr_schedule, config.learning_rate, step, work.epochs * steps)


def _slow_down(work: _Work, val_loss: float) -> None:
    """With `plateau`, lower the rate when the validation loss has not fallen for a third of the patience."""
    if work.config.lr_schedule == "plateau":
        losses = [entry.val_loss for entry in work.history] + [val_loss]
        wait = max(2, patience(work.config) // 3)
        if len(losses) - 1 - losses.index(min(losses)) >= wait and (len(losses) - 1 - losses.index(min(losses))) % wait == 0:
            work.factor *= schedule.PLATEAU_FACTOR


def _is_over(work: _Work) -> bool:
    """Whether early stopping ends the training now."""
    wait = patience(work.config)
    best = max((entry.epoch for entry in work.history if entry.is_best), default=0)
    return wait > 0 and len(work.history) - best >= wait


def _fit_budget(work: _Work, elapsed: float) -> None:
    """After the first epoch: as many epochs as the time left is good for, with a tenth of it for the end."""
    budget, first = work.config.time_budget or 0.0, work.history[0].seconds
    left = 0.9 * budget - elapsed
    fitting = (epochs for epochs in range(1, work.config.epochs + 1) if first * _cost(work, 1, epochs) <= left)
    work.epochs = int(work.machine.told([max(fitting, default=1)])[0])
    if work.epochs < work.config.epochs:
        work.listener.note(f"{work.epochs} epochs fit into the time budget of {budget:.0f} s")


def _side(work: _Work, number: int, epochs: int) -> int:
    """Pixels a side of the training pictures of an epoch."""
    full = work.prepared.recipe.height
    return schedule.side(full, number, epochs) if work.config.progressive else full


def _cost(work: _Work, number: int, epochs: int) -> float:
    """How many times as long as this epoch all those after it will take together: the time goes with the pictures' area."""
    own = _side(work, number, epochs)
    return sum((_side(work, later, epochs) / own) ** 2 for later in range(number + 1, epochs + 1))


def _kept(work: _Work) -> str:
    if not work.best:
        return ""
    best = max(entry.epoch for entry in work.history if entry.is_best)
    return f"; epoch {best}, the best so far, is in {work.run_dir / bundle.MODEL}"


@contextlib.contextmanager
def _remedies(work: _Work) -> Iterator[None]:
    """Running out of memory or disk becomes one line that says what to do."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        smaller = max(1, work.config.batch_size // 2)
        raise ImgclfError(
            f"not enough memory for batches of {work.config.batch_size} pictures of {work.config.image_size} pixels; "
            f"try --batch-size {smaller}, or a smaller --image-size or --model{_kept(work)}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImgclfError(
            f"{work.run_dir}: the disk is full; make room, then go on with `imgclf train --resume {work.run_dir}`{_kept(work)}"
        ) from error


# -- going on ---------------------------------------------------------------------------------------------------------------


def _content(work: _Work) -> str:
    """What the result depends on beside the config: the pictures, in which part and class, and how they are fed."""
    names = sorted(f"{part}/{name}" for part, files in work.prepared.files.items() for name in files)
    return hashlib.sha256("\n".join([*names, *work.prepared.class_names, work.prepared.recipe.hash]).encode()).hexdigest()


def _write_checkpoint(work: _Work, trainer: training.Trainer) -> None:
    """All that the next epoch depends on, in one file and atomically: a kill loses the epoch that it falls into, no more."""
    state = {
        "content": _content(work),
        "epochs": work.epochs,
        "factor": work.factor,
        "history": [dataclasses.asdict(entry) for entry in work.history],
    }
    arrays = {f"network-{name}": value for name, value in trainer.state().items()}
    arrays |= {f"best-{number:04d}": value for number, value in enumerate(work.best)}
    with journal.atomic_path(work.run_dir / CHECKPOINT) as temporary:
        np.savez(temporary, allow_pickle=False, state=np.array(json.dumps(state)), **arrays)


def _restore(work: _Work, trainer: training.Trainer) -> None:
    """Take up the run's checkpoint, if it has one."""
    path = work.run_dir / CHECKPOINT
    if not path.exists():
        return
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            state = json.loads(str(arrays["state"]))
            if state["content"] != _content(work):
                raise ImgclfError(
                    f"{work.run_dir}: the pictures, their classes or the split are not those this run began with; train anew"
                )
            trainer.restore({name: arrays[name] for name in arrays.files if name.startswith("network-")})
            work.best = [arrays[name] for name in sorted(arrays.files) if name.startswith("best-")]
        work.epochs, work.factor = state["epochs"], state["factor"]
        work.history = [Epoch(**entry) for entry in state["history"]]
        trainer.freeze()  # the stock network too: the run may have been killed after its last epoch
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ImgclfError(f"{path}: cannot be used ({error}); train anew") from error


def improves(history: Sequence[Epoch], val_accuracy: float, val_loss: float) -> bool:
    """Whether an epoch beats all before it: a higher validation accuracy, or the same with a lower loss."""
    return all((val_accuracy, -val_loss) > (epoch.val_accuracy, -epoch.val_loss) for epoch in history)


def _save(network: "keras.Sequential", path: Path) -> None:
    with journal.atomic_path(path) as temporary:
        network.save(temporary)


def _write_history(work: _Work, *, draw: bool) -> None:
    rows = [dataclasses.asdict(entry) for entry in work.history]
    if rows:
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        journal.write_lines(work.run_dir / "history.csv", (table.line(line) for line in lines))
    if rows and draw:
        from imgclf.display import plots

        plots.save(plots.curves(rows), work.run_dir / "curves.png")


def _finish(work: _Work, network: "keras.Sequential", kind: Precision) -> Bundle:
    """Save and export the best epoch, hold the export against Keras, and write bundle.json."""
    run_dir, config, prepared, manifest, history = work.run_dir, work.config, work.prepared, work.manifest, work.history
    best = [entry for entry in history if entry.is_best][-1]
    _save(network, run_dir / bundle.MODEL)
    with journal.atomic_path(run_dir / bundle.LITERT) as temporary:
        network.export(str(temporary), format="litert", verbose=False)
    info: dict[str, Any] = {
        "imgclf": imgclf.__version__,
        "task": "binary" if len(prepared.class_names) == 2 else "categorical",
        "model": config.model,
        "class_names": list(prepared.class_names),
        "recipe": dataclasses.asdict(prepared.recipe),
        "metrics": {
            "best_epoch": best.epoch,
            "epochs": len(history),
            "train_loss": best.loss,
            "train_accuracy": best.accuracy,
            "val_loss": best.val_loss,
            "val_accuracy": best.val_accuracy,
        },
        "data": {
            "path": str(work.data.resolve()),
            "fingerprint": manifest.fingerprint,
            "split_hash": manifest.hash,
            "pictures": {part: len(files) for part, files in prepared.files.items()},
            "left_out": [list(item) for item in prepared.left_out],
        },
        "seed": config.seed,
        "precision": kind,
        "devices": str(work.machine),
        "config": dataclasses.asdict(config),
        "parameters": int(network.count_params()),
        "packages": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy", "ai-edge-litert")}
        | {"opencv": _opencv_version()},
    }
    difference = _difference(network, run_dir, info, prepared)
    if not difference <= TOLERANCE:
        raise ImgclfError(
            f"{run_dir / bundle.LITERT}: answers differently from {bundle.MODEL} (by {difference:.2g} in probability); "
            "the run is left unfinished. Please report this with the package versions"
        )
    info["litert_difference"] = difference
    finished = bundle.write(run_dir, info)
    (run_dir / CHECKPOINT).unlink(missing_ok=True)
    return finished


def _opencv_version() -> str:
    import cv2

    return cv2.__version__


def _difference(network: "keras.Sequential", run_dir: Path, info: Mapping[str, Any], prepared: dataset.Prepared) -> float:
    """The largest probability difference between Keras and LiteRT on up to 64 validation pictures."""
    names = list(prepared.files["val"])[:64]
    pixels = np.stack([images.decode(images.read(prepared.folder / "val" / name)) for name in names])
    kept = Bundle(run_dir, dict(info)).probabilities(list(pixels))
    keras_output = network.predict_on_batch(pixels.astype(np.float32))
    expected = np.hstack([1 - keras_output, keras_output]) if keras_output.shape[1] == 1 else keras_output
    return float(np.abs(kept - expected).max())
