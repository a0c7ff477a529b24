"""The content of bundle.json, which describes a finished run, as frozen dataclasses."""

import dataclasses
import hashlib
import json
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgclf.core import json_schema
from imgclf.core.config import SCRATCH, Preprocessing, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import wrong_content
from imgclf.core.files import atomic, reading
from imgclf.core.files.state_folder import command
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.grouped import Groups

FORMAT = 1
FILE = "bundle.json"


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Metrics of the best epoch. Losses in nats; accuracies 0 to 1; val_interval: 95% Wilson interval of val_accuracy."""

    best_epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_interval: tuple[float, float]
    val_baseline: Baseline
    val_groups: Groups


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The training data of a run. images: number of images by subset, train and val. skipped: (file, reason)."""

    path: str
    fingerprint: str
    split_hash: str
    images: Mapping[str, int]
    skipped: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The calibration on the validation images. See `evaluation.calibration.Calibration`.

    images: number of validation images used. error_before, error_after: expected calibration error on them, 0 to 1. thresholds:
    (probability, accuracy of the predictions that are at least as probable, their fraction of all), by rising accuracy.
    """

    temperature: float
    fitted: float
    gain: float
    images: int
    error_before: float
    error_after: float
    thresholds: tuple[tuple[float, float, float], ...]


@dataclasses.dataclass(frozen=True)
class SavedFile:
    """A file of the run: its size in bytes and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """The content of bundle.json except the hashes computed from it. The schema `bundle` describes every field.

    class_names: the name of each output of the model, in order. patience: epochs without improvement before the training
    ends; 0 for never. class_weights: loss weight of each class, or None. weights_sha256: of the backbone's weights, or None.
    litert_difference: largest difference in probability between model.tflite and model.keras. finished: ISO 8601, UTC.
    """

    imgclf: str
    task: str
    model: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    metrics: Metrics
    data: TrainingData
    seed: int
    precision: str
    devices: str
    config: TrainConfig
    patience: int
    class_weights: tuple[float, ...] | None
    parameters: int
    packages: Mapping[str, str]
    weights_sha256: str | None
    litert_difference: float
    calibration: Calibration
    files: Mapping[str, SavedFile]
    finished: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document, with its hashes."""
        values = {"format": FORMAT, **dataclasses.asdict(self), "preprocessing_hash": self.preprocessing.hash}
        document: dict[str, Any] = json.loads(json.dumps({**values, "checksum": checksum(values)}))
        return document

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> "RunInfo":
        """Convert a document that is valid by the schema. The hashes are not checked."""
        metrics, data, calibration = document["metrics"], document["data"], document["calibration"]
        weights = document["class_weights"]
        converted: dict[str, Any] = {
            "class_names": tuple(document["class_names"]),
            "preprocessing": Preprocessing.from_dict(document["preprocessing"]),
            "metrics": Metrics(
                **metrics
                | {
                    "val_interval": tuple(metrics["val_interval"]),
                    "val_baseline": Baseline.from_dict(metrics["val_baseline"]),
                    "val_groups": Groups(**metrics["val_groups"]),
                }
            ),
            "data": TrainingData(**data | {"skipped": tuple(map(tuple, data["skipped"]))}),
            "config": TrainConfig.from_dict(document["config"]),
            "class_weights": None if weights is None else tuple(weights),
            "calibration": Calibration(**calibration | {"thresholds": tuple(map(tuple, calibration["thresholds"]))}),
            "files": {name: SavedFile(**file) for name, file in document["files"].items()},
        }
        values = {field.name: document[field.name] for field in dataclasses.fields(RunInfo)}
        return RunInfo(**{**values, **converted})

    @property
    def next_step(self) -> str:
        """The recommendation for a run that is not better than the baseline, as an imperative clause."""
        path, here = Path(self.data.path), Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else path
        if self.model not in SCRATCH and self.config.weights != "none":
            return f"search for wrong labels with {command('audit', path)}, or add images"
        weights = ", or `--class-weights none`" if self.class_weights is not None else ""
        return f"try {command('train', path, '--model', 'efficientnet-lite0')}{weights}"


def read(run: Path) -> RunInfo:
    """Read and check the bundle.json of a run folder. Raises ImgclfError if it is missing, invalid, edited or too new."""
    file = run / FILE
    document = _document(file)
    try:
        preprocessing = Preprocessing.from_dict(document.get("preprocessing"))
        TrainConfig.from_dict(document.get("config"))
    except UsageError as error:
        raise wrong_content(file, error) from error
    except ImgclfError as error:
        raise ImgclfError(f"{file}: {error}") from error
    try:
        json_schema.check(document, "bundle")
        _check_values(document)
    except ValueError as error:
        raise ImgclfError(f"{file}: broken run: {error}; copy the run folder again or retrain") from error
    if document["preprocessing_hash"] != preprocessing.hash:
        raise ImgclfError(
            f"{file}: broken run: the preprocessing does not match its hash; copy the run folder again or retrain"
        )
    if document["checksum"] != checksum(document):
        raise ImgclfError(f"{file}: broken run: it was edited after it was written; copy the run again or retrain")
    return RunInfo.from_dict(document)


def finished(run: Path) -> str:
    """Read only the finishing time of a run, ISO 8601, from bundle.json. Raises ImgclfError if it cannot be read."""
    try:
        return str(reading.read_json(run / FILE)["finished"])
    except KeyError as error:
        raise ImgclfError(f"{run / FILE}: broken run: finished is missing; copy the run folder again or retrain") from error


def write(run: Path, info: RunInfo) -> None:
    """Write bundle.json atomically, which makes the folder a finished run."""
    atomic.write_json(run / FILE, info.to_dict())


def checksum(document: Mapping[str, Any]) -> str:
    """Return the checksum of a bundle.json without its own field. It detects edits, for example of a class name."""
    content = json.dumps({key: value for key, value in document.items() if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _document(file: Path) -> dict[str, Any]:
    """Read the JSON of a bundle.json. Raises ImgclfError for unknown formats."""
    if not os.path.lexists(file):
        raise ImgclfError(f"{file.parent}: not a finished run ({FILE} is missing); choose another run or train again")
    try:
        found = reading.read_json(file)
    except ImgclfError as error:
        raise ImgclfError(f"{error}; copy the run folder again or retrain") from error
    if type(found.get("format")) is not int or found["format"] < 1:
        raise ImgclfError(f"{file}: broken run: the format number is invalid; copy the run folder again or retrain")
    if found["format"] > FORMAT:
        number = found["format"] if found["format"] < json_schema.LARGEST else "unknown"
        raise ImgclfError(f"{file}: written by a newer imgclf (format {number}, this version reads {FORMAT}); update imgclf")
    return found


def _check_values(document: Mapping[str, Any]) -> None:
    """Raise ValueError for invalid values that the schema cannot detect."""
    names = document["class_names"]
    if len(set(names)) < len(names):
        raise ValueError("class_names is invalid: a name occurs twice")
    for name in names:  # `predict --move-to` uses them as folder names
        _check_text(name, "class_names")
        is_file_name = name and not name.startswith(".") and len(name.encode()) <= 255
        if not is_file_name or "/" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
            raise ValueError(f"class_names is invalid: {name[:60]!r} cannot be the name of a folder")
    if document["metrics"]["val_baseline"]["class_name"] not in names:
        raise ValueError("metrics.val_baseline.class_name is invalid: it is not one of class_names")
    if document["class_weights"] is not None and len(document["class_weights"]) != len(names):
        raise ValueError("class_weights is invalid: there must be one for each class")
    for field in ("path", "split_hash"):
        _check_text(document["data"][field], f"data.{field}")


def _check_text(text: str, field: str) -> None:
    """Raise ValueError for text that cannot be part of a path."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{field} is invalid: {text[:60]!a} is not text") from None
    if "\0" in text:
        raise ValueError(f"{field} is invalid: it contains a NUL character")
