"""`imgclf audit`: labels that are likely wrong, images unlike all others, copies; by the features of a backbone."""

import collections
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.audit.results import Audit
from imgclf.core import components, shards
from imgclf.core.config import AuditConfig, Preprocessing
from imgclf.core.errors import ImgclfError
from imgclf.core.files.paths import StrPath
from imgclf.core.progress import Stages, stage
from imgclf.core.shards import Shard
from imgclf.data import dataset, layout, prepared_images
from imgclf.data.checks import Issue
from imgclf.evaluation import label_errors
from imgclf.evaluation.baseline import baseline, largest
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import decode
from imgclf.models import backbones, features

APART = 8.0  # median deviations from which an image is an outlier
ALIKE = 0.85  # cosine of features from which two images may show nearly the same
NEARER = 1 / 3  # and how far they lie apart at most, as a share of the distance to the tenth nearest


def audit(data: StrPath, config: AuditConfig | None = None, *, progress: Stages | None = None) -> Audit:
    """Compute every image's features (kept, and shared with `train`), and look for what does not fit. Nothing is moved.

    Raises ImgclfError and UsageError.
    """
    data = Path(data)
    config = config or AuditConfig()
    images, skipped = dataset.index(data, minimum_classes=2)
    preprocessing, extractor, store = _ready(data, config, progress)
    label = {sample.path: sample.label or "" for sample in images.samples}
    usable, _fresh, unread = prepared_images.store_pixels(data, list(label), preprocessing, stage(progress, "preparing images"))
    paths = sorted(usable, key=lambda path: (label[path], usable[path], path))
    read = [_reading(data, preprocessing, usable[path]) for path in paths]
    taken = features.take_up(store)
    (seen,) = features.extract(extractor, store, read, progress=stage(progress, "computing features"))
    labels = np.array([images.class_names.index(label[path]) for path in paths])
    if len(paths) < 20 or min(np.bincount(labels, minlength=len(images.class_names))) < 2:
        raise ImgclfError(f"{data}: too few images to tell what is usual; an audit needs 20, and 2 of every class")
    near, alike, errors = compare(seen, labels, config.seed, progress)
    found = list(_found(paths, labels, errors, near, alike, images.class_names))
    ranked = tuple(paths[index] for index in errors.order.tolist())
    right, total = int((errors.predicted == labels).sum()), len(labels)
    counts = collections.Counter(label[path] for path in paths)
    trivial = baseline(largest(counts), max(counts.values()), right, total)
    score = right / total, wilson_interval(right, total), trivial
    return Audit(str(data), config.model, images, tuple(found), ranked, *score, (*skipped, *unread), shards.summary(taken))


def compare(
    seen: NDArray[np.float32], labels: NDArray[np.int64], seed: int, progress: Stages | None = None
) -> tuple[label_errors.Neighbours, NDArray[np.bool_], label_errors.LabelErrors]:
    """(nearest neighbours, mask of near-duplicates, likely label errors) from features (n, width) and labels (n,)."""
    near = label_errors.neighbours(seen, stage(progress, "comparing images"))
    alike = _alike(near)
    same = np.where(alike, near.nearest, np.arange(len(labels)))
    judged = label_errors.held_out(seen, labels, _groups(same), seed=seed, progress=stage(progress, "judging labels"))
    return near, alike, label_errors.label_errors(judged, labels, stage(progress, "ranking labels"))


def compute_shard(
    data: Path, shard: Shard, config: AuditConfig | None = None, *, progress: Stages | None = None
) -> dict[str, Any]:
    """Compute the features of one shard of the images, and keep them for the `audit` that follows the last shard.

    Returns the shard and its counts: files in the folder, files inspected, unusable ones.
    """
    config = config or AuditConfig()
    layout.classes(data, 2)
    files = [file.path for file in layout.scan(data) if file.label is not None and not file.ignored]
    own = [path for path in files if shard.has(path)]
    preprocessing, extractor, store = _ready(data, config, progress)
    usable, _fresh, unread = prepared_images.store_pixels(data, own, preprocessing, stage(progress, "preparing images"), shard)
    known = features.known(store)
    read = [_reading(data, preprocessing, digest) for digest in sorted(set(usable.values()) - known)]
    with shards.result(store, shard) as file:
        features.extract(extractor, file, read, progress=stage(progress, "computing features"))
    return {
        "data": str(data), "shard": shard.index, "shards": shard.count, "files": len(files), "inspected": len(own),
        "broken": len(unread),
    }  # fmt: skip


def _ready(data: Path, config: AuditConfig, progress: Stages | None) -> tuple[Preprocessing, features.Extractor, Path]:
    """(preprocessing, backbone, where its features are kept)."""
    side = config.image_size or backbones.BACKBONES[config.model].side
    if progress:
        progress(f"making {config.model} ready", 0, 0)
    preprocessing = Preprocessing(side, side)
    weights = backbones.weights(config.weights)
    return preprocessing, *features.opened(data, config.model, preprocessing, weights, config.seed)


def _reading(data: Path, preprocessing: Preprocessing, digest: str) -> tuple[str, partial[decode.Image]]:
    """A stored image as `features.extract` asks for it."""
    return digest, partial(_pixels, prepared_images.stored(data, preprocessing, digest))


def _found(
    paths: list[str],
    labels: NDArray[np.int64],
    errors: label_errors.LabelErrors,
    near: label_errors.Neighbours,
    alike: NDArray[np.bool_],
    classes: tuple[str, ...],
) -> Iterator[Issue]:
    for index in errors.order[: int(errors.wrong.sum())].tolist():
        own, other = classes[labels[index]], classes[errors.likelier[index]]
        likely, kept = errors.likely[index], errors.kept[index]
        detail = f"{other} {likely:.2f}, {own} {kept:.2f}"
        yield Issue(paths[index], "label", float(1 - kept), detail, label=own, suggestion=other)
    for index in np.argsort(-near.apart, kind="stable").tolist():
        if near.apart[index] < APART:
            break
        detail = f"lies {near.apart[index]:.0f} times as far from the others as is usual"
        yield Issue(paths[index], "outlier", float(1 - 4 / near.apart[index]), detail, label=classes[labels[index]])
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
            yield Issue(paths[index], "similar", score, detail, paths[other], label=classes[labels[index]])


def _alike(near: label_errors.Neighbours) -> NDArray[np.bool_]:
    """(n,) who shows nearly the same as its nearest: far nearer than images of its kind otherwise are.

    Of 1,000 photos of cats and dogs no two were above 0.80; copies of them that were recompressed, turned by 10 degrees,
    mirrored or cropped by a tenth a side were at 0.95, 0.91, 0.95 and 0.86 (medians). Where all is alike, as flowers in a bed,
    different ones come near that; but then so does the tenth nearest.
    """
    return np.asarray((near.similarity >= ALIKE) & (1 - near.similarity <= NEARER * (1 - near.tenth)))


def _groups(same: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) a number for each set of images that are connected by pairs (i, same[i])."""
    return np.array(list(components.smallest(range(len(same)), enumerate(same.tolist())).values()))


def _pixels(path: Path) -> decode.Image:
    return decode.decode(decode.read(path))
