"""A finished run as a value: class names, recipe and weights together, answering on LiteRT without TensorFlow."""

import contextlib
import datetime
import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.base import installing, reading, writing
from imgclf.base.checking import wrong_content
from imgclf.base.config import Recipe, TrainConfig
from imgclf.base.errors import ImgclfError, UsageError
from imgclf.base.parallel import ordered_map
from imgclf.base.remedies import why
from imgclf.learning import bundle_values, keras_settings, metrics
from imgclf.learning.baseline import Baseline
from imgclf.learning.engines import Engines

FORMAT = 1
FILE = "bundle.json"
MODEL = "model.keras"
LITERT = "model.tflite"


class Bundle:
    """A run folder that holds `bundle.json`; only a finished run does.

    `info` is the content of bundle.json; `class_names` gives each output of the model its name, in order.
    """

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self.class_names: tuple[str, ...] = tuple(info["class_names"])
        self.recipe = Recipe.from_dict(info["recipe"])
        self.val_baseline = Baseline(**info["metrics"]["val_baseline"])  # baseline on the validation images
        self.temperature = float(info["calibration"]["temperature"]) if "calibration" in info else 1.0
        self._engines = Engines(path / LITERT, self._check_engine, "broken bundle, the model cannot be loaded; retrain")

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Read and check a run folder; raises ImgclfError saying what is broken."""
        if path.is_file():
            raise ImgclfError(f"{path}: a file, not a run folder; give the folder that holds {FILE}")
        if not path.is_dir():
            raise ImgclfError(f"{path}: no such run folder; `imgclf runs list` shows those there are, `imgclf train` makes one")
        file = path / FILE
        info = _read(file)
        try:
            bundle = cls(path, info)
            files = {name: {"bytes": entry["bytes"], "sha256": entry["sha256"]} for name, entry in info["files"].items()}
            fits = info["recipe_hash"] == bundle.recipe.hash
            bundle_values.check(info, {MODEL, LITERT})
            TrainConfig.from_dict(info["config"])
        except UsageError as error:
            raise wrong_content(file, error) from error
        except ImgclfError as error:
            raise ImgclfError(f"{file}: {error}") from error
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ImgclfError(f"{file}: broken bundle, {error} is missing or wrong") from error
        if not fits:
            raise ImgclfError(
                f"{file}: broken bundle, the recipe does not match its hash; copy the run folder again or retrain"
            )
        if info.get("checksum") != checksum(info):
            raise ImgclfError(f"{file}: broken bundle, it was edited after it was written; copy the run again or retrain")
        bundle._check_files(files)
        return bundle

    def _check_files(self, files: dict[str, dict[str, Any]]) -> None:
        """Sizes of all files, and the content of the one that answers."""
        for name, expected in files.items():
            path = self.path / name
            actual = path.stat().st_size if path.is_file() else None
            if actual is None:
                raise ImgclfError(f"{path}: broken bundle, the file is missing; copy the run folder again or retrain")
            if actual != expected["bytes"] or (name == LITERT and _sha256(path) != expected["sha256"]):
                raise ImgclfError(
                    f"{path}: broken bundle, the file was changed after training; copy the run folder again or retrain"
                )

    def probability(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Class probabilities, (classes,), of one (h, w, 3) uint8 picture at the recipe's size. Any thread may call.

        Calibrated: by the temperature that was found on the validation pictures.
        """
        output = self._engines.output(image).astype(np.float64)
        if len(self.class_names) == 2:
            output = np.array([1 - output[0], output[0]])
        return metrics.tempered(output, self.temperature)

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(n, classes) for n pictures at the recipe's size, on all cores."""
        rows = list(ordered_map(self.probability, images))
        return np.array(rows).reshape(-1, len(self.class_names))

    def network(self) -> Any:
        """model.keras, by TensorFlow; raises ImgclfError when it cannot be loaded."""
        path = self.path / MODEL
        if not path.is_file() or _sha256(path) != self.info["files"][MODEL]["sha256"]:
            raise ImgclfError(
                f"{path}: broken bundle, the file was changed after training; copy the run folder again or retrain"
            )
        with keras_settings.pinned():
            import keras

            try:
                return keras.saving.load_model(path, compile=False)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
                version = str(self.info.get("packages", {}).get("keras", keras.__version__))
                raise ImgclfError(
                    f"{path}: Keras {keras.__version__} cannot load this file, which was written by Keras {version}; "
                    f"the file is not damaged: install that version or a newer one: {installing.at_least('keras', version)}"
                ) from error

    def _check_engine(self, engine: Any) -> None:
        """Raise ImgclfError if the network does not match bundle.json."""
        shape = tuple(engine.get_input_details()[0]["shape"])
        outputs = int(engine.get_output_details()[0]["shape"][-1])
        if shape != (1, self.recipe.height, self.recipe.width, 3):
            raise ImgclfError(f"{self.path / LITERT}: broken bundle, its input {shape} does not match the recipe")
        if outputs != (1 if len(self.class_names) == 2 else len(self.class_names)):
            raise ImgclfError(f"{self.path / LITERT}: broken bundle, {outputs} outputs for {len(self.class_names)} classes")


def _read(file: Path) -> dict[str, Any]:
    """Read bundle.json. Raises ImgclfError for unknown formats."""
    if not file.exists():
        raise ImgclfError(f"{file.parent}: not a finished run ({FILE} is missing); choose another run or train again")
    if not file.is_file():  # reading a pipe would block for ever
        raise ImgclfError(f"{file}: broken bundle, it is not a regular file")
    try:
        info = reading.json_object(file)
    except ValueError as error:
        raise ImgclfError(f"{file}: broken bundle, it cannot be read ({error})") from error
    if type(info.get("format")) is not int or info["format"] < 1:
        raise ImgclfError(f"{file}: broken bundle, it does not describe a bundle")
    if info["format"] > FORMAT:
        raise ImgclfError(
            f"{file}: written by a newer imgclf (format {info['format']}, this version reads {FORMAT}); update imgclf"
        )
    return info


def write(path: Path, info: dict[str, Any]) -> Bundle:
    """Finish a run: describe its files and write bundle.json, last and atomically."""
    files = {
        name: {
            "bytes": (path / name).stat().st_size,
            "sha256": _sha256(path / name),
        }
        for name in (MODEL, LITERT)
    }
    recipe = Recipe.from_dict(info["recipe"])
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
    whole = {"format": FORMAT, **info, "recipe_hash": recipe.hash, "files": files, "finished": finished}
    writing.write_json(path / FILE, {**whole, "checksum": checksum(whole)})
    return Bundle.load(path)


def checksum(info: dict[str, Any]) -> str:
    """Over everything in a bundle.json but itself, so that an edited class name is noticed and not believed."""
    content = json.dumps({key: value for key, value in info.items() if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_run_folder(model: str, run_dir: Path | None, runs: Path = Path("runs")) -> Path:
    """Make the folder of a new run: `run_dir`, which must be missing or empty, or `runs/<time>-<model>`."""
    if run_dir is not None:
        check_run_folder(run_dir)
        _make(run_dir, exist_ok=True)
        return run_dir
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{model}"
    for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
        with contextlib.suppress(FileExistsError):
            _make(runs / name, exist_ok=False)
            return runs / name
    raise ImgclfError(f"{runs}: cannot make a new run folder {stem}")


def check_run_folder(run_dir: Path) -> None:
    """Raise ImgclfError unless a new run can go there."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ImgclfError(f"{run_dir}: a file, not a folder; give --run-dir a new folder")
    if run_dir.exists() and any(run_dir.iterdir()):
        raise ImgclfError(f"{run_dir}: not empty, and a run never writes over another; give --run-dir a new folder")


def forget(run_dir: Path, *, whole: bool) -> None:
    """Take back what a run that could not begin has written, and its folder too if `whole`."""
    for name in ("config.json", "split.csv"):
        (run_dir / name).unlink(missing_ok=True)
    if whole:
        with contextlib.suppress(OSError):
            run_dir.rmdir()


def _make(folder: Path, *, exist_ok: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        raise
    except OSError as error:
        raise ImgclfError(f"{folder}: cannot create this folder: {why(error, 'choose another with --run-dir')}") from error


def find_unfinished(run: str | None, runs: Path = Path("runs")) -> Path:
    """The folder of an unfinished run: a path, a name under `runs/`, or the newest there; raises ImgclfError."""
    if run not in (None, "latest"):
        path = Path(run or "")
        path = runs / path if path.name == run and (runs / path).is_dir() else path
        if (path / FILE).exists():
            raise ImgclfError(f"{path}: a finished run; there is nothing to resume")
        if not (path / "config.json").exists():
            raise ImgclfError(f"{path}: no run that could be resumed (config.json is missing)")
        return path
    started = [path.parent for path in runs.glob("*/config.json") if not (path.parent / FILE).exists()]
    if not started:
        raise ImgclfError(f"{runs}: no unfinished run here; give --resume its folder")
    return max(started, key=lambda path: ((path / "config.json").stat().st_mtime_ns, path.name))


def check_runs(runs: Path) -> None:
    """Raise ImgclfError for a folder of runs that is not there; the usual one may be missing, where nothing was trained yet."""
    if runs != Path("runs") and not runs.is_dir():
        what = "a file, not a folder" if runs.exists() else "no such folder"
        raise ImgclfError(f"{runs}: {what}; give --in the folder of runs")


def best(runs: Path) -> tuple[Bundle, str]:
    """The run with the highest validation accuracy (the newest of equals), and a note on the runs that were compared.

    Accuracies are comparable only on the same images, so only runs on the newest run's split count. Broken runs are skipped.
    """
    check_runs(runs)
    found = []
    for file in runs.glob(f"*/{FILE}"):
        with contextlib.suppress(ImgclfError, KeyError, TypeError):
            one = Bundle.load(file.parent)
            found.append((one.info["metrics"]["val_accuracy"], one.info["finished"], one))
    if not found:
        raise ImgclfError(f"{runs}: no finished run here; train one with `imgclf train`, or give --run FOLDER")
    split = max(found, key=lambda item: item[1])[2].info["data"]["split_hash"]
    same = [item for item in found if item[2].info["data"]["split_hash"] == split]
    chosen = max(same, key=lambda item: item[:2])[2]
    others = len(found) - len(same)
    note = (
        f"{chosen.path.name} is the best of {len(same)} on the newest run's split; runs on other splits, not compared: {others}"
    )
    return chosen, note if others else ""


def find(run: str | None, runs: Path = Path("runs")) -> Bundle:
    """The bundle a user means: a path, or the name of a run under `runs/`.

    None and "latest" are the newest finished run there, "best" is the result of `best`.
    """
    if run == "best":
        return best(runs)[0]
    if run not in (None, "latest"):
        path = Path(run or "")
        return Bundle.load(runs / path if path.name == run and (runs / path).is_dir() else path)
    newest: tuple[str, str] | None = None
    for file in runs.glob(f"*/{FILE}"):
        # One broken run must not hide the others, nor be passed over when it is the newest: it sorts by its file's time.
        try:
            finished = str(reading.json_object(file)["finished"])
        except (ImgclfError, ValueError, KeyError):
            modified = datetime.datetime.fromtimestamp(os.stat(file).st_mtime, datetime.UTC)
            finished = modified.isoformat(timespec="microseconds")
        newest = max(newest or ("", ""), (finished, file.parent.name))
    if newest is None:
        raise ImgclfError(f"{runs}: no finished run here; train one with `imgclf train`, or give --run FOLDER")
    try:
        return Bundle.load(runs / newest[1])
    except ImgclfError as error:  # not passed over: nobody would know that another one answers
        rest = f"it is the newest run: `imgclf runs rm {shlex.quote(newest[1])}` puts it away, or give --run another"
        raise ImgclfError(f"{error}; {rest}") from error
