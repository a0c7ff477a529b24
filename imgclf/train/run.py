"""`imgclf train`: prepare pixels, build the network, train it, keep the best epoch, and leave a bundle that explains itself."""

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import imgclf
from imgclf import bundle, dataset, model
from imgclf.base import journal
from imgclf.base.config import Precision, TrainConfig
from imgclf.base.errors import ImgclfError
from imgclf.bundle import Bundle
from imgclf.learning import devices, precision
from imgclf.learning.weights import class_weights
from imgclf.pixels import images
from imgclf.train.loop import fit, remedies, save
from imgclf.train.setup import check, check_agreement, make_trainer, manifest_path, prepare
from imgclf.train.work import CHECKPOINT, Listener, OfWorker, Silent, Work, restore

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # largest probability difference allowed between Keras and LiteRT


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
    manifest = dataset.read_manifest(manifest_path(data, config.fold))
    listener.stage("loading TensorFlow" + (" and waiting for the other workers" if devices.are_several() else ""))
    machine = devices.choose(device_count)
    listener = listener if machine.is_chief else OfWorker(listener, machine)
    with devices.lost(machine, "start all of them again with --resume and the run folder that the chief has named"):
        prepared, config = prepare(data, manifest, config, machine, listener)
        if machine.is_chief:
            run_dir = bundle.new_run_folder(config.model, run_dir)
            journal.write_json(run_dir / "config.json", {**dataclasses.asdict(config), "data": str(data.resolve())})
            journal.write_atomic(run_dir / "split.csv", manifest.to_csv())
        work = Work(data, config, manifest, prepared, run_dir or place, listener, machine, config.epochs)
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
    listener = listener if machine.is_chief else OfWorker(listener, machine)
    with devices.lost(machine, f"start all of them again with `imgclf train --resume {run_dir}`"):
        prepared, config = prepare(data, manifest, config, machine, listener)
        work = Work(data, config, manifest, prepared, run_dir, listener, machine, config.epochs)
        return _run(work, began)


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


def _run(work: Work, began: float) -> Bundle | None:
    """Build the network, train it from where it stands, and finish."""
    config, prepared, listener, machine = work.config, work.prepared, work.listener, work.machine
    labels = [name.split("/", 1)[0] for name in prepared.files["train"]]
    counted = [labels.count(name) for name in prepared.class_names]
    weights = class_weights(config.class_weights, prepared.class_names, counted)
    trainer, kind, why = make_trainer(config, prepared, machine)
    stock = trainer.stock
    restore(work, trainer)
    check_agreement(work, weights)
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
    with remedies(work):
        fit(work, trainer, pictures, validation, weights, began)
    finished = None
    if machine.is_chief:
        listener.stage("exporting")
        for variable, value in zip(stock.weights, work.best, strict=True):
            variable.assign(value)
        finished = _finish(work, stock, kind)
    machine.told([0])  # the others wait: the chief would take them for lost
    return finished


def _some(weights: NDArray[np.float32], prepared: dataset.Prepared) -> str:
    shown = [f"{name} {weight:.2f}" for name, weight in zip(prepared.class_names, weights, strict=True)]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")


def _finish(work: Work, network: "keras.Sequential", kind: Precision) -> Bundle:
    """Save and export the best epoch, hold the export against Keras, and write bundle.json."""
    run_dir, config, prepared, manifest, history = work.run_dir, work.config, work.prepared, work.manifest, work.history
    best = [entry for entry in history if entry.is_best][-1]
    save(network, run_dir / bundle.MODEL)
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
