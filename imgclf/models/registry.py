"""Folders of runs: create a new one, and find a run by path or name."""

import contextlib
import datetime
import os
import shlex
from pathlib import Path

from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why
from imgclf.models import run_info
from imgclf.models.bundle import Bundle
from imgclf.models.run_info import FILE


def new_run_folder(model: str, run_dir: Path | None, runs: Path = Path("runs")) -> Path:
    """Create the folder of a new run: `run_dir`, which must be missing or empty, or `runs/<time>-<model>`."""
    if run_dir is not None:
        check_run_folder(run_dir)
        _make(run_dir, exist_ok=True)
        return run_dir
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{model}"
    for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
        with contextlib.suppress(FileExistsError):
            _make(runs / name, exist_ok=False)
            return runs / name
    raise ImgclfError(f"{runs}: cannot create a new run folder {stem}")


def check_run_folder(run_dir: Path) -> None:
    """Raise ImgclfError unless a new run can go there."""
    if run_dir.exists() and not run_dir.is_dir():
        raise ImgclfError(f"{run_dir}: a file, not a folder; give --run-dir a new folder")
    if run_dir.exists() and any(run_dir.iterdir()):
        raise ImgclfError(f"{run_dir}: not empty, and a run never overwrites another; give --run-dir a new folder")


def forget(run_dir: Path, *, whole: bool) -> None:
    """Remove the files of a run that failed to start, and its folder too if `whole`."""
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
    """Return the folder of an unfinished run. Raises ImgclfError if there is none.

    run: a path or a name under `runs/`; None or "latest" for the newest unfinished run there.
    """
    if run not in (None, "latest"):
        path = Path(run or "")
        path = runs / path if path.name == run and (runs / path).is_dir() else path
        if (path / FILE).exists():
            raise ImgclfError(f"{path}: a finished run; there is nothing to resume")
        if not (path / "config.json").exists():
            raise ImgclfError(f"{path}: not a run that can be resumed (config.json is missing)")
        return path
    started = [path.parent for path in runs.glob("*/config.json") if not (path.parent / FILE).exists()]
    if not started:
        raise ImgclfError(f"{runs}: no unfinished run here; give --resume the folder of the run")
    return max(started, key=lambda path: ((path / "config.json").stat().st_mtime_ns, path.name))


def check_runs(runs: Path) -> None:
    """Raise ImgclfError if the folder of runs is missing. The default folder may be missing, before the first training."""
    if runs != Path("runs") and not runs.is_dir():
        what = "a file, not a folder" if runs.exists() else "no such folder"
        raise ImgclfError(f"{runs}: {what}; give --in the folder of runs")


def best(runs: Path) -> tuple[Bundle, str]:
    """Return the run with the highest validation accuracy (the newest of equals), and a note on runs on other splits, or "".

    Accuracies are comparable only on the same images, so only runs on the newest run's split count. Broken runs are skipped.
    """
    check_runs(runs)
    found = []
    for file in runs.glob(f"*/{FILE}"):
        with contextlib.suppress(ImgclfError):
            one = Bundle.load(file.parent)
            found.append((one.info.metrics.val_accuracy, one.info.finished, one))
    if not found:
        raise ImgclfError(f"{runs}: no finished run here; train one with `imgclf train`, or give --run FOLDER")
    split = max(found, key=lambda item: item[1])[2].info.data.split_hash
    same = [item for item in found if item[2].info.data.split_hash == split]
    chosen = max(same, key=lambda item: item[:2])[2]
    others = len(found) - len(same)
    note = (
        f"{chosen.path.name} is the best of {len(same)} on the newest run's split; runs on other splits, not compared: {others}"
    )
    return chosen, note if others else ""


def find(run: str | None, runs: Path = Path("runs")) -> Bundle:
    """Load a finished run by its path or its name under `runs/`.

    None and "latest" select the newest finished run there, "best" the result of `best`. Raises ImgclfError.
    """
    if run == "best":
        return best(runs)[0]
    if run not in (None, "latest"):
        path = Path(run or "")
        return Bundle.load(runs / path if path.name == run and (runs / path).is_dir() else path)
    newest: tuple[str, str] | None = None
    for file in runs.glob(f"*/{FILE}"):
        # One broken run must not hide the others. If it is the newest, it must not be skipped either, so use its file's time.
        try:
            finished = run_info.finished(file.parent)
        except ImgclfError:
            modified = datetime.datetime.fromtimestamp(os.stat(file).st_mtime, datetime.UTC)
            finished = modified.isoformat(timespec="microseconds")
        newest = max(newest or ("", ""), (finished, file.parent.name))
    if newest is None:
        raise ImgclfError(f"{runs}: no finished run here; train one with `imgclf train`, or give --run FOLDER")
    try:
        return Bundle.load(runs / newest[1])
    except ImgclfError as error:  # not skipped: the user would not notice that another run is used
        remedy = f"it is the newest run: move it away with `imgclf runs rm {shlex.quote(newest[1])}`, or give --run another"
        raise ImgclfError(f"{error}; {remedy}") from error
