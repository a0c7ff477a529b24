"""`imgclf runs`: list the runs in a folder, show one, and move one to the trash. It reads the files of the runs only."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from imgclf.core import names
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained, locks, reading
from imgclf.evaluation.baseline import Baseline
from imgclf.models import evaluations, registry, run_info
from imgclf.models.bundle import Bundle

TRASH = ".trash"  # inside the folder of runs


@dataclasses.dataclass(frozen=True)
class Run:
    """One run, as read from its files. state: finished, unfinished, or broken with the reason in `problem`.

    Metrics are None if the run does not have them.
    """

    name: str
    path: str
    state: str
    model: str | None = None
    finished: str | None = None
    epochs: int | None = None
    val_accuracy: float | None = None
    val_interval: tuple[float, float] | None = None  # 95% Wilson interval
    val_baseline: Baseline | None = None  # baseline on the same images
    test_accuracy: float | None = None  # of the last `imgclf evaluate` on the test set
    test_interval: tuple[float, float] | None = None
    test_baseline: Baseline | None = None
    data: str | None = None
    problem: str = ""


def runs(folder: Path = Path("runs")) -> list[Run]:
    """List all runs of a folder, including unfinished and broken ones, the newest first.

    Raises ImgclfError if the folder does not exist.
    """
    registry.check_runs(folder)
    found = []
    for path in sorted(folder.iterdir() if folder.is_dir() else []):
        files = [file for file in (path / "config.json", path / run_info.FILE) if os.path.lexists(file)]
        if path.name != TRASH and files:
            found.append((os.lstat(files[0]).st_mtime, path))
    return [_read(path) for _time, path in sorted(found, reverse=True)]


def _read(path: Path) -> Run:
    file = path / "config.json"
    if not os.path.lexists(path / run_info.FILE):
        try:
            config = reading.read_json(file)
            for name in ("model", "data"):
                if not isinstance(config.get(name, ""), str):
                    raise ImgclfError(f"{file}: {name} must be text; train again")
        except ImgclfError as error:
            return Run(path.name, str(path), "broken", problem=str(error))
        return Run(path.name, str(path), "unfinished", config.get("model"), data=config.get("data"))
    try:
        run = Bundle.load(path)
    except ImgclfError as error:
        return Run(path.name, str(path), "broken", problem=str(error))
    info, metrics, problem = run.info, run.info.metrics, ""
    test: dict[str, Any] = {}
    if os.path.lexists(path / evaluations.TEST):
        try:
            test = evaluations.read(path / evaluations.TEST, ("accuracy", "interval", "baseline"))
        except ImgclfError as error:
            problem = str(error)
    return Run(
        path.name, str(path), "finished", info.model, info.finished, metrics.epochs,
        metrics.val_accuracy, metrics.val_interval, metrics.val_baseline, test.get("accuracy"),
        tuple(test["interval"]) if test else None, Baseline.from_dict(test["baseline"]) if test else None,
        info.data.path, problem,
    )  # fmt: skip


def show(run: Bundle) -> dict[str, Any]:
    """Return the content of bundle.json and the scores of all evaluations. Raises ImgclfError if one cannot be read."""
    scores = {}
    for path in sorted(run.path.glob("evaluation-*.json")):
        content = evaluations.read(path)
        scores[path.stem.removeprefix("evaluation-")] = {name: content[name] for name in evaluations.SCORES}
    return {"run": str(run.path), **run.info.to_dict(), "evaluations": scores}


def remove(name: str, folder: Path = Path("runs")) -> Path:
    """Move a run, finished or not, into the trash beside it, and return its new path. Nothing is deleted.

    Raises ImgclfError if there is no such run, or if a process is training it.
    """
    path = folder / name if Path(name).name == name and (folder / name).is_dir() else Path(name)
    if not (path / run_info.FILE).exists() and not (path / "config.json").exists():
        raise ImgclfError(f"{name}: not a run; `imgclf runs list` shows the runs")
    if (path / "config.json").exists():
        with locks.held(path / "config.json", f"{path}: another process is training this run; wait for it, or stop it first"):
            pass
    path = path.resolve()
    with contained.Folder.named(path.parent) as parent, parent.below(TRASH, make=True) as trash:
        name = names.free(path.name, "", lambda other: trash.status(other) is not None)
        parent.replace(path.name, name, trash)
        return trash.path / name
