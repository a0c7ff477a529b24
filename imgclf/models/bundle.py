"""A finished run: class names, preprocessing and weights. It predicts with LiteRT, without TensorFlow."""

import hashlib
import struct
import zipfile
from pathlib import Path
from typing import Any

from imgclf.core import extras
from imgclf.core.errors import ImgclfError
from imgclf.core.files import reading
from imgclf.core.files.paths import StrPath
from imgclf.models import keras_file, keras_settings, run_info
from imgclf.models.inference import LITERT, InferenceModel
from imgclf.models.run_info import FILE, RunInfo, SavedFile

MODEL = "model.keras"


class Bundle(InferenceModel):
    """A run folder with `bundle.json`, which only a finished run has. info: the content of bundle.json."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        """A separate process tests the model before this process loads it."""
        self.path, self.info = path, info
        temperature, digest = info.calibration.temperature, info.files[LITERT].sha256
        super().__init__(path / LITERT, info.class_names, info.preprocessing, temperature, foreign_sha256=digest)

    @classmethod
    def load(cls, path: StrPath) -> "Bundle":
        """Read and check a run folder. Raises ImgclfError if it is missing, unfinished or broken."""
        path = Path(path)
        if path.is_file():
            raise ImgclfError(f"{path}: a file, not a run folder; give the folder that contains {FILE}")
        if not path.is_dir():
            raise ImgclfError(f"{path}: no such run folder; `imgclf runs list` shows the runs, `imgclf train` creates one")
        bundle = cls(path, run_info.read(path))
        bundle._check_files()
        return bundle

    def _check_files(self) -> None:
        """Raise ImgclfError unless the files have the expected sizes, and the inference model the expected SHA-256."""
        for name, expected in self.info.files.items():
            path = self.path / name
            actual = path.stat().st_size if path.is_file() else None
            if actual is None:
                raise ImgclfError(f"{path}: broken run: the file is missing; copy the run folder again or retrain")
            if actual != expected.bytes or (name == LITERT and _sha256(path) != expected.sha256):
                raise _changed(path)

    def network(self) -> Any:
        """Load model.keras with TensorFlow. Raises ImgclfError if that fails."""
        path = self.path / MODEL
        if not path.is_file() or _sha256(path) != self.info.files[MODEL].sha256:
            raise _changed(path)
        try:
            keras_file.check(path)
        except _NO_NETWORK as error:
            raise ImgclfError(f"{path}: broken run: not a Keras file written by imgclf: {error}; retrain") from error
        with keras_settings.pinned():
            import keras

            try:
                return keras.saving.load_model(path, compile=False)
            except _NO_NETWORK as error:
                version = self.info.packages.get("keras", keras.__version__)
                raise ImgclfError(
                    f"{path}: Keras {keras.__version__} cannot load this file, which was written by Keras {version}; "
                    f"the file is not damaged: install that version or a newer one: {extras.at_least('keras', version)}"
                ) from error


# Keras, h5py and zipfile raise these for unexpected content.
_NO_NETWORK = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, EOFError, AssertionError,
    ArithmeticError, MemoryError, zipfile.BadZipFile, struct.error,
)  # fmt: skip


def _changed(path: Path) -> ImgclfError:
    return ImgclfError(f"{path}: broken run: the file was changed after training; copy the run folder again or retrain")


def saved_files(path: Path) -> dict[str, SavedFile]:
    """Return size and SHA-256 of the models in a run folder, for bundle.json."""
    return {name: SavedFile((path / name).stat().st_size, _sha256(path / name)) for name in (MODEL, LITERT)}


def write(path: Path, info: RunInfo) -> Bundle:
    """Finish a run: write bundle.json atomically, after all other files, and load the bundle."""
    run_info.write(path, info)
    bundle = Bundle.load(path)
    bundle.remember(info.files[LITERT].sha256)
    return bundle


def _sha256(path: Path) -> str:
    with reading.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
