"""Finish a run: save the best epoch, calibrate it, compare LiteRT with Keras, and write the bundle."""

import dataclasses
import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import imgclf
from imgclf.core.config import SCRATCH, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic
from imgclf.core.parallel import ordered_map
from imgclf.data import prepared_images
from imgclf.data.manifest import Manifest
from imgclf.evaluation import calibration
from imgclf.images import decode
from imgclf.models import backbones, bundle
from imgclf.models.bundle import Bundle
from imgclf.train import strategies, validation
from imgclf.train.loop import patience, save
from imgclf.train.work import CHECKPOINT, Work

if TYPE_CHECKING:
    import keras


_CALIBRATED_ON = 1000  # validation images at most
TOLERANCE = 1e-4  # largest probability difference allowed between Keras and LiteRT


def finish(work: Work, strategy: strategies.Strategy) -> Bundle:
    """Save and export the best epoch, hold the export against Keras, and write bundle.json."""
    network = strategy.network(work.best)
    run_dir, config, prepared, manifest, history = work.run_dir, work.config, work.prepared, work.manifest, work.history
    best = [entry for entry in history if entry.is_best][-1]
    save(network, run_dir / bundle.MODEL)
    with atomic.atomic_path(run_dir / bundle.LITERT) as temporary:
        strategy.export(network, temporary)
    info: dict[str, Any] = {
        "imgclf": imgclf.__version__,
        "task": "binary" if len(prepared.class_names) == 2 else "categorical",
        "model": config.model,
        "class_names": list(prepared.class_names),
        "preprocessing": dataclasses.asdict(prepared.preprocessing),
        "metrics": {
            "best_epoch": best.epoch,
            "epochs": len(history),
            "train_loss": best.loss,
            "train_accuracy": best.accuracy,
            "val_loss": best.val_loss,
            "val_accuracy": best.val_accuracy,
            "val_interval": validation.interval(work, best.val_accuracy),
            "val_baseline": dataclasses.asdict(validation.beside(work, best.val_accuracy)),
            "val_groups": dataclasses.asdict(validation.groups(work)),
        },
        "data": {
            "path": str(work.data.resolve()),
            "fingerprint": manifest.fingerprint,
            "split_hash": manifest.hash,
            "images": {part: len(files) for part, files in prepared.files.items()},
            "skipped": [list(item) for item in prepared.skipped],
        },
        "seed": config.seed,
        "precision": strategy.kind,
        "devices": str(work.machine),
        "config": dataclasses.asdict(config),
        "patience": patience(config, work.length),
        "class_weights": None if work.weights is None else work.weights.tolist(),
        "parameters": int(network.count_params()),
        "packages": {name: importlib.metadata.version(name) for name in ("tensorflow", "keras", "numpy", "ai-edge-litert")}
        | {"opencv": _opencv_version()},
        "weights_sha256": _weights_sha256(config),
    }
    difference = _difference(network, run_dir, info, prepared)
    if not difference <= TOLERANCE:
        raise ImgclfError(
            f"{run_dir / bundle.LITERT}: answers differently from {bundle.MODEL} (by {difference:.2g} in probability); "
            "the run is left unfinished. Please report this with the package versions"
        )
    info["litert_difference"] = difference
    info["calibration"] = _calibration(Bundle(run_dir, dict(info)), prepared, manifest)
    finished = bundle.write(run_dir, info)
    (run_dir / CHECKPOINT).unlink(missing_ok=True)
    return finished


def _weights_sha256(config: TrainConfig) -> str | None:
    if config.model in SCRATCH:
        return None
    try:
        return backbones.weights_sha256(config.model, backbones.weights(config.weights))
    except (OSError, UsageError):  # the file was removed while the run trained
        return None


def _opencv_version() -> str:
    import cv2

    return cv2.__version__


def _calibration(run: Bundle, prepared: prepared_images.Prepared, manifest: Manifest) -> dict[str, Any]:
    """Calibrate on the validation images: the temperature and the calibration error before and after.

    The temperature stays 1 if cross-validation shows no gain.
    """
    names = sorted(prepared.files["val"])
    names = names[:: math.ceil(len(names) / _CALIBRATED_ON)]  # of every class
    found = np.array(list(ordered_map(lambda name: run.probability(_pixels(prepared, name)), names)))
    true = np.array([prepared.class_names.index(name.split("/", 1)[0]) for name in names])
    group_of = {row.sha256: row.group for row in manifest.rows}
    own = [group_of.get(prepared_images.content_of(name), name) for name in names]
    fit = calibration.calibration(true, found, np.unique(own, return_inverse=True)[1])
    calibrated = calibration.tempered(found, fit.temperature)
    return {
        "temperature": fit.temperature,
        "fitted": fit.fitted,
        "gain": fit.gain,
        "images": len(names),
        "error_before": calibration.calibration_error(true, found),
        "error_after": calibration.calibration_error(true, calibrated),
        "thresholds": calibration.useful_thresholds(true, calibrated),
    }


def _pixels(prepared: prepared_images.Prepared, name: str) -> decode.Image:
    return decode.decode(decode.read(prepared.folder / "val" / name))


def _difference(
    network: "keras.Sequential", run_dir: Path, info: Mapping[str, Any], prepared: prepared_images.Prepared
) -> float:
    """The largest probability difference between Keras and LiteRT on up to 64 validation images."""
    names = list(prepared.files["val"])
    names = names[:: math.ceil(len(names) / 64)]  # of every class
    pixels = np.stack([_pixels(prepared, name) for name in names])
    kept = Bundle(run_dir, dict(info)).probabilities(list(pixels))
    keras_output = network.predict_on_batch(pixels.astype(np.float32))
    expected = np.hstack([1 - keras_output, keras_output]) if keras_output.shape[1] == 1 else keras_output
    return float(np.abs(kept - expected).max())
