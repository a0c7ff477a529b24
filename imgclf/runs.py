"""`imgclf runs`: the runs below a folder, from their plain files: list, show, the best, out of the way."""

import dataclasses
from pathlib import Path
from typing import Any

from imgclf import bundle
from imgclf.base import contained, locks, reading
from imgclf.base.errors import ImgclfError
from imgclf.bundle import Bundle
from imgclf.learning.baseline import Baseline

TRASH = ".trash"  # below the folder of runs
SHOWN = ("pictures", "accuracy", "interval", "baseline", "groups", "macro_f1", "macro_f1_interval", "loss", "calibration_error")


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
    test_accuracy: float | None = None  # of the last `imgclf evaluate` on the test part
    test_interval: tuple[float, float] | None = None
    test_baseline: Baseline | None = None
    data: str | None = None
    problem: str = ""


def runs(folder: Path = Path("runs")) -> list[Run]:
    """Every run of a folder, the newest first, unfinished and broken ones too; raises ImgclfError for a folder not there."""
    bundle.check_runs(folder)
    found = []
    for path in sorted(folder.iterdir() if folder.is_dir() else []):
        if path.name == TRASH or not ((path / bundle.FILE).exists() or (path / "config.json").exists()):
            continue
        found.append(((path / "config.json" if (path / "config.json").exists() else path / bundle.FILE).stat().st_mtime, path))
    return [_read(path) for _time, path in sorted(found, reverse=True)]


def _read(path: Path) -> Run:
    if not (path / bundle.FILE).exists():
        config = _json(path / "config.json")
        return Run(path.name, str(path), "unfinished", config.get("model"), data=config.get("data"))
    try:
        run = Bundle.load(path)
    except ImgclfError as error:
        return Run(path.name, str(path), "broken", problem=str(error))
    info, figures = run.info, run.info["metrics"]
    return Run(
        path.name, str(path), "finished", info["model"], info["finished"], figures["epochs"],
        figures["val_accuracy"], figures["val_interval"], run.val_baseline, *_tested(path), info["data"]["path"],
    )  # fmt: skip


def _tested(path: Path) -> tuple[float | None, tuple[float, float] | None, Baseline | None]:
    """(accuracy, interval, baseline) of the last evaluation on the test set; None without a readable one."""
    content = _json(path / "evaluation-test.json")
    try:
        low, high = map(float, content["interval"])
        return float(content["accuracy"]), (low, high), Baseline(**content["baseline"])
    except (KeyError, TypeError, ValueError):
        return None, None, None


def _json(path: Path) -> dict[str, Any]:
    try:
        return reading.json_object(path)
    except (ImgclfError, ValueError):
        return {}


def show(run: Bundle) -> dict[str, Any]:
    """Everything that a bundle knows, with the scores of its evaluations."""
    evaluations = {}
    for path in sorted(run.path.glob("evaluation-*.json")):
        content = _json(path)
        evaluations[path.stem.removeprefix("evaluation-")] = {name: content.get(name) for name in SHOWN}
    return {"run": str(run.path), **run.info, "evaluations": evaluations}


def remove(name: str, folder: Path = Path("runs")) -> Path:
    """Move a run, finished or not, into the trash beside it; returns where it lies now. Nothing is deleted.

    Raises ImgclfError when there is no such run, or when a process trains it.
    """
    path = folder / name if Path(name).name == name and (folder / name).is_dir() else Path(name)
    if not (path / bundle.FILE).exists() and not (path / "config.json").exists():
        raise ImgclfError(f"{name}: no run; `imgclf runs list` shows what there is")
    if (path / "config.json").exists():
        with locks.held(path / "config.json", f"{path}: being trained by another process; wait for it, or stop it first"):
            pass
    place = path.resolve()
    with contained.Folder.named(place.parent) as beside, beside.below(TRASH, make=True) as trash:
        name, number = place.name, 1
        while trash.status(name):
            number += 1
            name = f"{place.name}-{number}"
        beside.replace(place.name, name, trash)
        return trash.path / name
