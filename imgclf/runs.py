"""`imgclf runs`: the runs below a folder, from their plain files: list, show, the best, out of the way."""

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

TRASH = ".trash"  # below the folder of runs


@dataclasses.dataclass(frozen=True)
class Run:
    """One run as its files tell. state: finished, unfinished or broken, and then `problem` says what. Figures may be None."""

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
    """Every run of a folder, the newest first, unfinished and broken ones too; raises ImgclfError for a folder not there."""
    registry.check_runs(folder)
    found = []
    for path in sorted(folder.iterdir() if folder.is_dir() else []):
        kept = [file for file in (path / "config.json", path / run_info.FILE) if os.path.lexists(file)]
        if path.name != TRASH and kept:
            found.append((os.lstat(kept[0]).st_mtime, path))
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
    tested: dict[str, Any] = {}
    if os.path.lexists(path / evaluations.TEST):
        try:
            tested = evaluations.read(path / evaluations.TEST, ("accuracy", "interval", "baseline"))
        except ImgclfError as error:
            problem = str(error)
    return Run(
        path.name, str(path), "finished", info.model, info.finished, metrics.epochs,
        metrics.val_accuracy, metrics.val_interval, metrics.val_baseline, tested.get("accuracy"),
        tuple(tested["interval"]) if tested else None, Baseline.from_dict(tested["baseline"]) if tested else None,
        info.data.path, problem,
    )  # fmt: skip


def show(run: Bundle) -> dict[str, Any]:
    """Everything that a bundle knows, with the scores of its evaluations; raises ImgclfError for one that cannot be read."""
    found = {}
    for path in sorted(run.path.glob("evaluation-*.json")):
        content = evaluations.read(path)
        found[path.stem.removeprefix("evaluation-")] = {name: content[name] for name in evaluations.SCORES}
    return {"run": str(run.path), **run.info.to_dict(), "evaluations": found}


def remove(name: str, folder: Path = Path("runs")) -> Path:
    """Move a run, finished or not, into the trash beside it; returns where it lies now. Nothing is deleted.

    Raises ImgclfError when there is no such run, or when a process trains it.
    """
    path = folder / name if Path(name).name == name and (folder / name).is_dir() else Path(name)
    if not (path / run_info.FILE).exists() and not (path / "config.json").exists():
        raise ImgclfError(f"{name}: no run; `imgclf runs list` shows what there is")
    if (path / "config.json").exists():
        with locks.held(path / "config.json", f"{path}: another process is training this run; wait for it, or stop it first"):
            pass
    place = path.resolve()
    with contained.Folder.named(place.parent) as beside, beside.below(TRASH, make=True) as trash:
        name = names.free(place.name, "", lambda other: trash.status(other) is not None)
        beside.replace(place.name, name, trash)
        return trash.path / name
