"""A finished run as a value: class names, preprocessing and weights together, answering on LiteRT without TensorFlow."""

import datetime
import hashlib
import json
import os
import struct
import unicodedata
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import extras, json_schema
from imgclf.core.config import Preprocessing, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import wrong_content
from imgclf.core.files import atomic, reading
from imgclf.core.files.paths import StrPath
from imgclf.core.parallel import ordered_map
from imgclf.evaluation import calibration
from imgclf.evaluation.baseline import Baseline
from imgclf.models import keras_file, keras_settings, litert_probe
from imgclf.models.litert import Engines

FORMAT = 1
FILE = "bundle.json"
MODEL = "model.keras"
LITERT = "model.tflite"


class Bundle:
    """A run folder that holds `bundle.json`; only a finished run does.

    `info` is the content of bundle.json; `class_names` gives each output of the model its name, in order.
    """

    def __init__(self, path: Path, info: dict[str, Any], *, is_foreign: bool = False) -> None:
        """is_foreign: try the model in another process before this one loads it."""
        self.path = path
        self.info = info
        self.class_names: tuple[str, ...] = tuple(info["class_names"])
        self.preprocessing = Preprocessing.from_dict(info["preprocessing"])
        self.val_baseline = Baseline(**info["metrics"]["val_baseline"])  # baseline on the validation images
        self.temperature = float(info["calibration"]["temperature"]) if "calibration" in info else 1.0
        digest = info["files"][LITERT]["sha256"] if is_foreign else ""  # a run that is being made has none yet
        before = self._probe if is_foreign else lambda: None
        self._engines = Engines(path / LITERT, self._check_engine, _BROKEN, sha256=digest, before=before)

    @classmethod
    def load(cls, path: StrPath) -> "Bundle":
        """Read and check a run folder; raises ImgclfError saying what is broken."""
        path = Path(path)
        if path.is_file():
            raise ImgclfError(f"{path}: a file, not a run folder; give the folder that holds {FILE}")
        if not path.is_dir():
            raise ImgclfError(f"{path}: no such run folder; `imgclf runs list` shows those there are, `imgclf train` makes one")
        file = path / FILE
        info = _read(file)
        try:
            preprocessing = Preprocessing.from_dict(info.get("preprocessing"))
            TrainConfig.from_dict(info.get("config"))
        except UsageError as error:
            raise wrong_content(file, error) from error
        except ImgclfError as error:
            raise ImgclfError(f"{file}: {error}") from error
        try:
            json_schema.check(info, "bundle")
            _check_values(info)
        except ValueError as error:
            raise ImgclfError(f"{file}: broken bundle, {error}; copy the run folder again or retrain") from error
        if info["preprocessing_hash"] != preprocessing.hash:
            raise ImgclfError(
                f"{file}: broken bundle, the preprocessing does not match its hash; copy the run folder again or retrain"
            )
        if info["checksum"] != checksum(info):
            raise ImgclfError(f"{file}: broken bundle, it was edited after it was written; copy the run again or retrain")
        bundle = cls(path, info, is_foreign=True)
        bundle._check_files()
        return bundle

    def _check_files(self) -> None:
        """Raise ImgclfError unless all files have their sizes, and the one that answers its content."""
        for name, expected in self.info["files"].items():
            path = self.path / name
            actual = path.stat().st_size if path.is_file() else None
            if actual is None:
                raise ImgclfError(f"{path}: broken bundle, the file is missing; copy the run folder again or retrain")
            if actual != expected["bytes"] or (name == LITERT and _sha256(path) != expected["sha256"]):
                raise ImgclfError(
                    f"{path}: broken bundle, the file was changed after training; copy the run folder again or retrain"
                )

    def probability(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Class probabilities, (classes,), of one (h, w, 3) uint8 image at the preprocessing's size. Any thread may call.

        Calibrated: by the temperature that was found on the validation images.
        """
        output = self._engines.output(image).astype(np.float64)
        if not ((output >= 0) & (output <= 1)).all():  # nor NaN
            raise ImgclfError(
                f"{self.path / LITERT}: broken bundle, the outputs of the model are not probabilities (0 to 1); retrain"
            )
        if len(self.class_names) == 2:
            output = np.array([1 - output[0], output[0]])
        return calibration.tempered(output, self.temperature)

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(n, classes) for n images at the preprocessing's size, on all cores."""
        rows = list(ordered_map(self.probability, images))
        return np.array(rows).reshape(-1, len(self.class_names))

    def network(self) -> Any:
        """model.keras, by TensorFlow; raises ImgclfError when it cannot be loaded."""
        path = self.path / MODEL
        if not path.is_file() or _sha256(path) != self.info["files"][MODEL]["sha256"]:
            raise ImgclfError(
                f"{path}: broken bundle, the file was changed after training; copy the run folder again or retrain"
            )
        try:
            keras_file.check(path)
        except _NO_NETWORK as error:
            raise ImgclfError(f"{path}: broken bundle, no Keras file of imgclf: {error}; retrain") from error
        with keras_settings.pinned():
            import keras

            try:
                return keras.saving.load_model(path, compile=False)
            except _NO_NETWORK as error:
                version = str(self.info.get("packages", {}).get("keras", keras.__version__))
                raise ImgclfError(
                    f"{path}: Keras {keras.__version__} cannot load this file, which was written by Keras {version}; "
                    f"the file is not damaged: install that version or a newer one: {extras.at_least('keras', version)}"
                ) from error

    @property
    def _outputs(self) -> int:
        return 1 if len(self.class_names) == 2 else len(self.class_names)

    def _check_engine(self, engine: Any) -> None:
        """Raise ImgclfError if the network does not match bundle.json."""
        if problem := litert_probe.unfit(engine, (self.preprocessing.height, self.preprocessing.width), self._outputs):
            raise ImgclfError(f"{self.path / LITERT}: broken bundle, the model does not match {FILE}: {problem}; retrain")

    def _probe(self) -> None:
        """Raise ImgclfError for a model that is not safe to load."""
        side = self.preprocessing.height, self.preprocessing.width
        litert_probe.check(self.path / LITERT, self.info["files"][LITERT]["sha256"], side, self._outputs)


# What Keras, h5py and zipfile raise for other content than imgclf writes.
_NO_NETWORK = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, EOFError, AssertionError,
    ArithmeticError, MemoryError, zipfile.BadZipFile, struct.error,
)  # fmt: skip
_BROKEN = "broken bundle, the model cannot be loaded; retrain"


def _read(file: Path) -> dict[str, Any]:
    """Read bundle.json. Raises ImgclfError for unknown formats."""
    if not os.path.lexists(file):
        raise ImgclfError(f"{file.parent}: not a finished run ({FILE} is missing); choose another run or train again")
    try:
        info = reading.read_json(file)
    except ImgclfError as error:
        raise ImgclfError(f"{error}; copy the run folder again or retrain") from error
    if type(info.get("format")) is not int or info["format"] < 1:
        raise ImgclfError(f"{file}: broken bundle, it does not describe a bundle")
    if info["format"] > FORMAT:
        number = info["format"] if info["format"] < json_schema.LARGEST else "unknown"
        raise ImgclfError(f"{file}: written by a newer imgclf (format {number}, this version reads {FORMAT}); update imgclf")
    return info


def _check_values(info: dict[str, Any]) -> None:
    """Raise ValueError for what the schema cannot say."""
    names = info["class_names"]
    if len(set(names)) < len(names):
        raise ValueError("class_names is invalid: a name occurs twice")
    for name in names:  # they are printed, and used as folder names by `predict --move-to`
        _check_text(name, "class_names")
        is_file_name = name and not name.startswith(".") and len(name.encode()) <= 255
        if not is_file_name or "/" in name or any(unicodedata.category(letter) == "Cc" for letter in name):
            raise ValueError(f"class_names is invalid: {name[:60]!r} cannot be the name of a folder")
    if info["metrics"]["val_baseline"]["class_name"] not in names:
        raise ValueError("metrics.val_baseline.class_name is invalid: it is not one of class_names")
    if info["class_weights"] is not None and len(info["class_weights"]) != len(names):
        raise ValueError("class_weights is invalid: there must be one for each class")
    for place in ("path", "split_hash"):
        _check_text(info["data"][place], f"data.{place}")


def _check_text(text: str, place: str) -> None:
    """Raise ValueError for what can be part of no path."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"{place} is invalid: {text[:60]!a} is not text") from None
    if "\0" in text:
        raise ValueError(f"{place} is invalid: it contains a NUL character")


def write(path: Path, info: dict[str, Any]) -> Bundle:
    """Finish a run: describe its files and write bundle.json, last and atomically."""
    files: dict[str, dict[str, Any]] = {
        name: {
            "bytes": (path / name).stat().st_size,
            "sha256": _sha256(path / name),
        }
        for name in (MODEL, LITERT)
    }
    preprocessing = Preprocessing.from_dict(info["preprocessing"])
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    whole = {"format": FORMAT, **info, "preprocessing_hash": preprocessing.hash, "files": files, "finished": finished}
    atomic.write_json(path / FILE, {**whole, "checksum": checksum(whole)})
    found = Bundle.load(path)
    litert_probe.remember(files[LITERT]["sha256"], (preprocessing.height, preprocessing.width), found._outputs)
    return found


def checksum(info: dict[str, Any]) -> str:
    """Over everything in a bundle.json but itself, so that an edited class name is noticed and not believed."""
    content = json.dumps({key: value for key, value in info.items() if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with reading.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
