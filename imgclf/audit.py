"""`imgclf audit`: labels that are likely wrong, pictures unlike all others, copies; by the features of a backbone."""

import collections
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import components, csv_files, report_actions, shards
from imgclf.core.config import Backbone, Recipe, Seed
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import Within, check
from imgclf.core.files import atomic
from imgclf.core.files.state_folder import check_output
from imgclf.core.progress import Progress, Stages, stage
from imgclf.core.shards import Shard
from imgclf.data import layout, prepared_images
from imgclf.evaluation import label_errors
from imgclf.evaluation.baseline import Baseline, baseline, largest
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import decode
from imgclf.models import backbones, features
from imgclf.reports import image_page

CHECKS = {
    "label": "another class is more likely, by what a classifier says that was not trained on the picture",
    "outlier": "unlike every other picture of the folder",
    "near-duplicate": "shows nearly the same as another picture of the folder",
}
COLUMNS = ("path", "label", "check", "score", "action", "new_label", "suggestion", "detail", "other")
APART = 8.0  # median deviations from which a picture is an outlier
ALIKE = 0.85  # cosine of features from which two pictures may show nearly the same
NEARER = 1 / 3  # and how far they lie apart at most, as a share of the distance to the tenth nearest
PAGE_LIMIT = 1000  # pictures of each check on the page


@dataclasses.dataclass(frozen=True)
class Suspect:
    """One finding. score: 0 to 1, how sure. suggestion: the likelier class of a `label`. other: the picture it resembles."""

    path: str
    label: str
    check: str
    score: float
    suggestion: str
    detail: str
    other: str = ""


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found. ranked: every picture's path, the label most likely to be wrong first."""

    data: str
    model: str
    pictures: layout.Dataset
    suspects: tuple[Suspect, ...]
    ranked: tuple[str, ...]
    accuracy: float  # of the held-out classifier, as the labels are
    interval: tuple[float, float]  # 95% Wilson interval of the accuracy
    baseline: Baseline  # baseline on the same images
    left_out: tuple[tuple[str, str], ...]
    note: str = ""  # on shares that were taken up

    def by_check(self) -> dict[str, list[Suspect]]:
        """Suspects of each check, the surest first."""
        return {name: [one for one in self.suspects if one.check == name] for name in CHECKS}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": "audit/1",
            "data": self.data,
            "model": self.model,
            "pictures": len(self.pictures.samples),
            "held_out_accuracy": self.accuracy,
            "interval": self.interval,
            "baseline": dataclasses.asdict(self.baseline),
            "suspects": [dataclasses.asdict(one) for one in self.suspects],
            "left_out": [list(item) for item in self.left_out],
        }


def audit(
    data: Path,
    *,
    name: Backbone = "efficientnet-lite0",
    weights: str = "imagenet",
    image_size: int | None = None,
    seed: int = 0,
    progress: Stages | None = None,
) -> Audit:
    """Compute every picture's features (kept, and shared with `train`), and look for what does not fit. Nothing is moved.

    Raises ImgclfError and UsageError.
    """
    pictures, left_out = layout.index(data, minimum_classes=2)
    recipe, extractor, store = _ready(data, name, weights, image_size, seed, progress)
    label = {sample.path: sample.label or "" for sample in pictures.samples}
    usable, _fresh, unread = prepared_images.store_pixels(data, list(label), recipe, stage(progress, "preparing pictures"))
    paths = sorted(usable, key=lambda path: (label[path], usable[path], path))
    read = [_reading(data, recipe, usable[path]) for path in paths]
    taken = features.take_up(store)
    width = backbones.BACKBONES[name].features
    (seen,) = features.extract(extractor, store, read, width=width, progress=stage(progress, "computing features"))
    labels = np.array([pictures.class_names.index(label[path]) for path in paths])
    if len(paths) < 20 or min(np.bincount(labels, minlength=len(pictures.class_names))) < 2:
        raise ImgclfError(f"{data}: too few pictures to tell what is usual; an audit needs 20, and 2 of every class")
    near, alike, errors = compare(seen, labels, seed, progress)
    found = list(_found(paths, labels, errors, near, alike, pictures.class_names))
    ranked = tuple(paths[index] for index in errors.order.tolist())
    right, total = int((errors.predicted == labels).sum()), len(labels)
    counts = collections.Counter(label[path] for path in paths)
    trivial = baseline(largest(counts), max(counts.values()), right, total)
    score = right / total, wilson_interval(right, total), trivial
    return Audit(str(data), name, pictures, tuple(found), ranked, *score, (*left_out, *unread), shards.said(taken))


def compare(
    seen: NDArray[np.float32], labels: NDArray[np.int64], seed: int, progress: Stages | None = None
) -> tuple[label_errors.Neighbours, NDArray[np.bool_], label_errors.LabelErrors]:
    """(nearest neighbours, mask of near-duplicates, likely label errors) from features (n, width) and labels (n,)."""
    near = label_errors.neighbours(seen, stage(progress, "comparing images"))
    alike = _alike(near)
    same = np.where(alike, near.nearest, np.arange(len(labels)))
    judged = label_errors.held_out(seen, labels, _groups(same), seed=seed, progress=stage(progress, "judging labels"))
    return near, alike, label_errors.label_errors(judged, labels, stage(progress, "ranking labels"))


def look(
    data: Path,
    shard: Shard,
    *,
    name: Backbone = "efficientnet-lite0",
    weights: str = "imagenet",
    image_size: int | None = None,
    seed: int = 0,
    progress: Stages | None = None,
) -> dict[str, Any]:
    """Compute the features of a share of the pictures, and keep them for the `audit` that comes after all shares.

    Returns the share and its figures: files in the folder, files looked at, unusable ones.
    """
    layout.classes(data, 2)
    files = [file.path for file in layout.scan(data) if file.label is not None and not file.ignored]
    own = [path for path in files if shard.has(path)]
    recipe, extractor, store = _ready(data, name, weights, image_size, seed, progress)
    usable, _fresh, unread = prepared_images.store_pixels(data, own, recipe, stage(progress, "preparing pictures"), shard)
    known = features.known(store)
    read = [_reading(data, recipe, digest) for digest in sorted(set(usable.values()) - known)]
    with shards.result(store, shard) as file:
        width = backbones.BACKBONES[name].features
        features.extract(extractor, file, read, width=width, progress=stage(progress, "computing features"))
    return {
        "data": str(data), "shard": shard.index, "shards": shard.count, "files": len(files), "looked_at": len(own),
        "broken": len(unread),
    }  # fmt: skip


def _ready(
    data: Path, name: Backbone, weights: str, image_size: int | None, seed: int, progress: Stages | None
) -> tuple[Recipe, features.Extractor, Path]:
    """(recipe, backbone, where its features are kept); raises UsageError for a model that is no backbone."""
    if name not in backbones.BACKBONES:
        raise UsageError(f"--model {name}: an audit needs a pretrained backbone: {', '.join(backbones.BACKBONES)}")
    check("image-size", image_size, Annotated[int, Within(32, 1024)] | None)
    check("seed", seed, Seed)
    side = image_size or backbones.BACKBONES[name].side
    if progress:
        progress(f"making {name} ready", 0, 0)
    recipe = Recipe(side, side)
    return recipe, *features.opened(data, name, recipe, backbones.weights(weights), seed)


def _reading(data: Path, recipe: Recipe, digest: str) -> tuple[str, partial[decode.Image]]:
    """A stored picture as `features.extract` asks for it."""
    return digest, partial(_pixels, prepared_images.stored(data, recipe, digest))


def _found(
    paths: list[str],
    labels: NDArray[np.int64],
    errors: label_errors.LabelErrors,
    near: label_errors.Neighbours,
    alike: NDArray[np.bool_],
    classes: tuple[str, ...],
) -> Iterator[Suspect]:
    for index in errors.order[: int(errors.wrong.sum())].tolist():
        own, other = classes[labels[index]], classes[errors.likelier[index]]
        likely, kept = errors.likely[index], errors.kept[index]
        yield Suspect(paths[index], own, "label", float(1 - kept), other, f"{other} {likely:.2f}, {own} {kept:.2f}")
    for index in np.argsort(-near.apart, kind="stable").tolist():
        if near.apart[index] < APART:
            break
        detail = f"lies {near.apart[index]:.0f} times as far from the others as is usual"
        yield Suspect(paths[index], classes[labels[index]], "outlier", float(1 - 4 / near.apart[index]), "", detail)
    shown = set()
    for index in np.argsort(-near.similarity, kind="stable").tolist():
        if not alike[index]:
            break
        other = int(near.nearest[index])
        if (other, index) not in shown:
            shown.add((index, other))
            detail = f"likeness {near.similarity[index]:.3f}" + (
                f", but that one is {classes[labels[other]]}" if labels[other] != labels[index] else ""
            )
            score = float(np.clip(near.similarity[index], 0, 1))
            yield Suspect(paths[index], classes[labels[index]], "near-duplicate", score, "", detail, paths[other])


def _alike(near: label_errors.Neighbours) -> NDArray[np.bool_]:
    """(n,) who shows nearly the same as its nearest: far nearer than pictures of its kind otherwise are.

    Of 1,000 photos of cats and dogs no two were above 0.80; copies of them that were recompressed, turned by 10 degrees,
    mirrored or cropped by a tenth a side were at 0.95, 0.91, 0.95 and 0.86 (medians). Where all is alike, as flowers in a bed,
    different ones come near that; but then so does the tenth nearest.
    """
    return np.asarray((near.similarity >= ALIKE) & (1 - near.similarity <= NEARER * (1 - near.tenth)))


def _groups(same: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) a number for each set of pictures that hang together by pairs (i, same[i])."""
    return np.array(list(components.smallest(range(len(same)), enumerate(same.tolist())).values()))


def _pixels(path: Path) -> decode.Image:
    return decode.decode(decode.read(path))


def _size(path: Path) -> tuple[int, int]:
    """(width, height), as the header says."""
    head = decode.read_header(path)
    return head.width, head.height


def check_report(path: Path, data: Path) -> None:
    """Refuse a place for the CSV before anything is computed."""
    check_output(path, data, ".csv", ",".join(COLUMNS), "--report")


def check_page(path: Path, data: Path) -> None:
    """Refuse a place for the HTML page before anything is computed."""
    check_output(path, data, ".html", image_page.START, "--html")


def write_report(result: Audit, path: Path, relabel: float | None = None) -> tuple[int, list[str]]:
    """One CSV row a suspect for `clean --apply`, which changes nothing until `action` says so.

    relabel: labels at least so surely wrong get the action `relabel` into the likelier class. An older report that asks for
    anything is kept beside the new one. Returns how many lines ask for a move, and what to tell of the older report.
    """
    rows: list[tuple[object, ...]] = [COLUMNS]
    asked = 0
    for one in result.suspects:
        order = _asks(one, relabel)
        asked += order
        wish = ("relabel", one.suggestion) if order else ("keep", "")
        rows.append((one.path, one.label, one.check, f"{one.score:.4f}", *wish, one.suggestion, one.detail, one.other))
    notes = report_actions.keep(path)
    atomic.write_lines(path, (csv_files.line(row) for row in rows))
    return asked, notes


def check_relabel(score: float | None) -> None:
    """Raise UsageError unless this is a valid minimum score for changing labels."""
    check("relabel", score, Annotated[float, Within(0, 1, above=True)] | None)


def _asks(one: Suspect, relabel: float | None) -> bool:
    return relabel is not None and one.check == "label" and one.score >= relabel


def write_page(result: Audit, path: Path, relabel: float | None = None, progress: Progress | None = None) -> None:
    """A self-contained page of the suspects, the worst first, on which a reader decides and saves a CSV for `clean --apply`.

    relabel: what `write_report` would write is chosen already.
    """
    label = {sample.path: sample.label or "" for sample in result.pictures.samples}
    data, pictures = Path(result.data), []
    by_path: dict[str, list[Suspect]] = {}
    for found in result.by_check().values():
        for one in found[:PAGE_LIMIT]:
            by_path.setdefault(one.path, []).append(one)
    for name, found in by_path.items():
        other = next((one.other for one in found if one.other), "")
        sizes = [_size(data / file) if file else (0, 0) for file in (name, other)]
        pictures.append(
            image_page.Picture(
                name, label[name], "", "", *sizes[0],
                tuple(
                    (one.check, one.score, f"relabel,{one.suggestion}" if _asks(one, relabel) else "reported", one.detail)
                    for one in found
                ),
                other=other, other_label=label.get(other, ""), other_size=sizes[1],
            )
        )  # fmt: skip
    image_page.write(
        path, data, pictures, title=f"{result.data}: what an audit found", group="finding",
        about=f"{len(result.pictures.samples):,} pictures; {result.model}, each judged by a classifier that had not seen it",
        checks={name: (len(found), CHECKS[name]) for name, found in result.by_check().items() if found},
        classes=layout.class_folders(data), progress=progress,
    )  # fmt: skip
