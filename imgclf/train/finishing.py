"""Finish a run: export the best epoch, compare LiteRT with Keras, calibrate, and write the bundle."""

import datetime
import importlib.metadata
import math
from typing import TYPE_CHECKING

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
from imgclf.models.inference import LITERT, InferenceModel
from imgclf.models.run_info import Calibration, Metrics, RunInfo, TrainingData
from imgclf.train import strategies, validation
from imgclf.train.loop import patience
from imgclf.train.run_files import save
from imgclf.train.state import CHECKPOINT, TrainingState

if TYPE_CHECKING:
    import keras


_CALIBRATED_ON = 1000  # validation images at most
TOLERANCE = 1e-4  # largest probability difference allowed between Keras and LiteRT


def finish(state: TrainingState, strategy: strategies.Strategy) -> Bundle:
    """Save and export the best epoch, compare the export with Keras, and write bundle.json.

    Raises ImgclfError if the probabilities of Keras and LiteRT differ by more than TOLERANCE.
    """
    network = strategy.network(state.best)
    run_dir, config, prepared = state.run_dir, state.config, state.prepared
    save(network, run_dir / bundle.MODEL)
    with atomic.atomic_path(run_dir / LITERT) as temporary:
        strategy.export(network, temporary)
    model = InferenceModel(run_dir / LITERT, tuple(prepared.class_names), prepared.preprocessing)
    difference = _difference(network, model, prepared)
    if not difference <= TOLERANCE:
        raise ImgclfError(
            f"{model.file}: predicts differently from {bundle.MODEL} (by {difference:.2g} in probability); "
            "the run stays unfinished. Please report this with the package versions"
        )
    info = RunInfo(
        imgclf=imgclf.__version__,
        task="binary" if len(prepared.class_names) == 2 else "categorical",
        model=config.model,
        class_names=model.class_names,
        preprocessing=prepared.preprocessing,
        metrics=_metrics(state),
        data=_training_data(state),
        seed=config.seed,
        precision=strategy.kind,
        devices=str(state.machine),
        config=config,
        patience=patience(config, state.length),
        class_weights=None if state.weights is None else tuple(state.weights.tolist()),
        parameters=int(network.count_params()),
        packages=_packages(),
        weights_sha256=_weights_sha256(config),
        litert_difference=difference,
        calibration=_calibration(model, prepared, state.manifest),
        files=bundle.saved_files(run_dir),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
    )
    finished = bundle.write(run_dir, info)
    (run_dir / CHECKPOINT).unlink(missing_ok=True)
    return finished


def _metrics(state: TrainingState) -> Metrics:
    best = [entry for entry in state.history if entry.is_best][-1]
    return Metrics(
        best_epoch=best.epoch,
        epochs=len(state.history),
        train_loss=best.loss,
        train_accuracy=best.accuracy,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        val_interval=validation.interval(state, best.val_accuracy),
        val_baseline=validation.compare_with_baseline(state, best.val_accuracy),
        val_groups=validation.groups(state),
    )


def _training_data(state: TrainingState) -> TrainingData:
    return TrainingData(
        path=str(state.data.resolve()),
        fingerprint=state.manifest.fingerprint,
        split_hash=state.manifest.hash,
        images={subset: len(files) for subset, files in state.prepared.files.items()},
        skipped=tuple((path, reason) for path, reason in state.prepared.skipped),
    )


def _packages() -> dict[str, str]:
    """Return the versions of the packages that pixels or results depend on."""
    import cv2

    names = ("tensorflow", "keras", "numpy", "ai-edge-litert")
    return {name: importlib.metadata.version(name) for name in names} | {"opencv": cv2.__version__}


def _weights_sha256(config: TrainConfig) -> str | None:
    if config.model in SCRATCH:
        return None
    try:
        return backbones.weights_sha256(config.model, backbones.weights(config.weights))
    except (OSError, UsageError):  # the file was removed during training
        return None


def _calibration(model: InferenceModel, prepared: prepared_images.Prepared, manifest: Manifest) -> Calibration:
    """Fit the temperature on the validation images, and measure the calibration error before and after.

    The temperature stays 1 if cross-validation shows no gain.
    """
    names = sorted(prepared.files["val"])
    names = names[:: math.ceil(len(names) / _CALIBRATED_ON)]  # evenly spaced, so every class is included
    probabilities = np.array(list(ordered_map(lambda name: model.probability(_pixels(prepared, name)), names)))
    true = np.array([prepared.class_names.index(name.split("/", 1)[0]) for name in names])
    group_of = {row.sha256: row.group for row in manifest.rows}
    groups = [group_of.get(prepared_images.content_of(name), name) for name in names]
    fit = calibration.calibrate(true, probabilities, np.unique(groups, return_inverse=True)[1])
    calibrated = calibration.apply_temperature(probabilities, fit.temperature)
    return Calibration(
        temperature=fit.temperature,
        fitted=fit.fitted,
        gain=fit.gain,
        images=len(names),
        error_before=calibration.calibration_error(true, probabilities),
        error_after=calibration.calibration_error(true, calibrated),
        thresholds=tuple(calibration.useful_thresholds(true, calibrated)),
    )


def _pixels(prepared: prepared_images.Prepared, name: str) -> decode.Image:
    return decode.decode(decode.read(prepared.folder / "val" / name))


def _difference(network: "keras.Sequential", model: InferenceModel, prepared: prepared_images.Prepared) -> float:
    """Return the largest probability difference between Keras and LiteRT on up to 64 validation images."""
    names = list(prepared.files["val"])
    names = names[:: math.ceil(len(names) / 64)]  # evenly spaced, so every class is included
    pixels = np.stack([_pixels(prepared, name) for name in names])
    exported = model.probabilities(list(pixels))
    keras_output = network.predict_on_batch(pixels.astype(np.float32))
    expected = np.hstack([1 - keras_output, keras_output]) if keras_output.shape[1] == 1 else keras_output
    return float(np.abs(exported - expected).max())
