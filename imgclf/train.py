"""`imgclf train`: prepare pixels, build the network, train it, keep the best epoch, and leave a bundle that explains itself."""

import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import imgclf
from imgclf import bundle, dataset, model
from imgclf.base import journal
from imgclf.base.config import Part, Recipe, TrainConfig
from imgclf.base.errors import ImgclfError, UsageError
from imgclf.bundle import Bundle
from imgclf.pixels import images

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # largest probability difference allowed between Keras and LiteRT


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

    def epoch(self, epoch: Epoch) -> object:
        """An epoch has ended."""


class Silent:
    """A Listener that does nothing."""

    def note(self, text: str) -> None: ...
    def stage(self, name: str) -> None: ...
    def preparing(self, done: int, total: int) -> None: ...
    def started(self, run_dir: Path, summary: str) -> None: ...
    def batch(self, epoch: int, done: int, total: int) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...


def train(
    data: Path, config: TrainConfig | None = None, *, run_dir: Path | None = None, listener: Listener | None = None
) -> Bundle:
    """Train on a data folder that has a split manifest and return the finished run.

    Writes `history.csv`, `curves.png`, `model.keras` (the best epoch by validation accuracy, then loss) and `last.keras` as it
    goes, and `bundle.json` last: a run folder without it is unfinished. Raises ImgclfError.
    """
    config = config or TrainConfig()
    listener = listener or Silent()
    check(config)
    if not str(data.resolve()).isprintable():
        raise ImgclfError(f"{data}: the folder's path has characters that TensorFlow cannot open; rename or move the folder")
    place = (run_dir or Path("runs")).resolve()
    if data.resolve() in (place, *place.parents):
        raise ImgclfError(
            f"{run_dir or 'runs'}: lies inside the data folder {data}, where it would become a class; give --run-dir"
        )
    manifest = dataset.read_manifest(_manifest_path(data, config.fold))
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

    run_dir = bundle.new_run_folder(config.model, run_dir)
    resolved = {**dataclasses.asdict(config), "image_size": side, "data": str(data.resolve())}
    journal.write_json(run_dir / "config.json", resolved)
    journal.write_atomic(run_dir / "split.csv", manifest.to_csv())
    listener.stage("loading TensorFlow")
    network = model.build(len(prepared.class_names), recipe.height, recipe.width, seed=config.seed)
    steps = config.epochs * math.ceil(len(prepared.files["train"]) / config.batch_size)
    model.compile(network, learning_rate=config.learning_rate, steps=steps)
    depth = sum(1 for layer in network.layers if layer.name.startswith("conv2d"))
    listener.started(
        run_dir,
        f"{len(prepared.files['train']):,} training and {len(prepared.files['val']):,} validation pictures, "
        f"{len(prepared.class_names)} classes, {side} x {side} pixels; "
        f"{depth} convolutional blocks, {network.count_params():,} parameters",
    )
    history = _fit(network, prepared, config, run_dir, listener)
    listener.stage("exporting")
    return _finish(run_dir, data, config, prepared, manifest, history)


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


def _fit(
    network: "keras.Sequential", prepared: dataset.Prepared, config: TrainConfig, run_dir: Path, listener: Listener
) -> list[Epoch]:
    import keras

    training = dataset.batches(prepared, "train", batch_size=config.batch_size, seed=config.seed, augmentation=config.augment)
    validation = dataset.batches(prepared, "val", batch_size=64)
    recorder = _recorder(keras, len(prepared.files["train"]), config, run_dir, listener)
    network.fit(training, validation_data=validation, epochs=config.epochs, callbacks=[recorder], verbose=0, shuffle=False)
    history: list[Epoch] = recorder.history
    return history


def _recorder(keras: Any, count: int, config: TrainConfig, run_dir: Path, listener: Listener) -> Any:
    """The Keras callback that writes what a run leaves as it goes; a function, since keras is imported late."""

    class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.history: list[Epoch] = []
            self.number = 0
            self.began = self.trained = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.number = epoch + 1
            self.began = self.trained = time.perf_counter()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.trained = time.perf_counter()
            if not math.isfinite(logs["loss"]):
                raise ImgclfError(
                    f"the loss is no longer a number in epoch {self.number}: the steps are too large; "
                    f"try --learning-rate {config.learning_rate / 10:g}"
                )
            listener.batch(self.number, min(count, (batch + 1) * config.batch_size), count)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = time.perf_counter()
            entry = Epoch(
                epoch=self.number,
                loss=logs["loss"],
                accuracy=logs["accuracy"],
                val_loss=logs["val_loss"],
                val_accuracy=logs["val_accuracy"],
                images_per_second=count / max(1e-9, self.trained - self.began),
                seconds=now - self.began,
                is_best=improves(self.history, logs["val_accuracy"], logs["val_loss"]),
            )
            self.history.append(entry)
            _save(self.model, run_dir / "last.keras")
            if entry.is_best:
                _save(self.model, run_dir / bundle.MODEL)
            _write_history(self.history, run_dir)
            listener.epoch(entry)

    return Recorder()


def improves(history: Sequence[Epoch], val_accuracy: float, val_loss: float) -> bool:
    """Whether an epoch beats all before it: a higher validation accuracy, or the same with a lower loss."""
    return all((val_accuracy, -val_loss) > (epoch.val_accuracy, -epoch.val_loss) for epoch in history)


def _save(network: "keras.Sequential", path: Path) -> None:
    with journal.atomic_path(path) as temporary:
        network.save(temporary)


def _write_history(history: list[Epoch], run_dir: Path) -> None:
    from imgclf.display import plots, report

    rows = [dataclasses.asdict(entry) for entry in history]
    report.write_csv(rows, run_dir / "history.csv")
    plots.save(plots.curves(rows), run_dir / "curves.png")


def _finish(
    run_dir: Path,
    data: Path,
    config: TrainConfig,
    prepared: dataset.Prepared,
    manifest: dataset.Manifest,
    history: list[Epoch],
) -> Bundle:
    """Export the best epoch, hold it against Keras, and write bundle.json."""
    import keras

    best = [entry for entry in history if entry.is_best][-1]
    network = keras.saving.load_model(run_dir / bundle.MODEL)
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
            "path": str(data.resolve()),
            "fingerprint": manifest.fingerprint,
            "split_hash": manifest.hash,
            "pictures": {part: len(files) for part, files in prepared.files.items()},
            "left_out": [list(item) for item in prepared.left_out],
        },
        "seed": config.seed,
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
    return bundle.write(run_dir, info)


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
