"""`imgclf audit`: find likely label errors, outliers and near-duplicates from the features of a backbone."""

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

# The mean distance of an outlier to its ten nearest images is at least this many median absolute deviations above the median.
OUTLIER_DISTANCE = 8.0
SIMILAR = 0.85  # minimum cosine similarity of the features of near-duplicates
NEARER = 1 / 3  # maximum distance of near-duplicates, as a fraction of the distance to the tenth nearest neighbour


def audit(data: StrPath, config: AuditConfig | None = None, *, progress: Stages | None = None) -> Audit:
    """Compute the features of every image, and find likely label errors, outliers and near-duplicates. Nothing is moved.

    The features are stored in the data folder, and `train` uses them too.

    Raises:
        ImgclfError: The data folder has fewer than 20 usable images, or a class has fewer than 2.
    """
    data = Path(data)
    config = config or AuditConfig()
    images, skipped = dataset.index(data, minimum_classes=2)
    preprocessing, extractor, store = _prepare(data, config, progress)
    label = {sample.path: sample.label or "" for sample in images.samples}
    usable, _fresh, unreadable = prepared_images.store_pixels(
        data, list(label), preprocessing, stage(progress, "preparing images")
    )
    paths = sorted(usable, key=lambda path: (label[path], usable[path], path))
    readers = [_reader(data, preprocessing, usable[path]) for path in paths]
    merged = features.merge(store)
    (vectors,) = features.extract(extractor, store, readers, progress=stage(progress, "computing features"))
    labels = np.array([images.class_names.index(label[path]) for path in paths])
    if len(paths) < 20 or min(np.bincount(labels, minlength=len(images.class_names))) < 2:
        raise ImgclfError(f"{data}: too few images; an audit needs at least 20, and 2 of every class")
    near, similar, errors = compare(vectors, labels, config.seed, progress)
    found = list(_issues(paths, labels, errors, near, similar, images.class_names))
    ranked = tuple(paths[index] for index in errors.ranking.tolist())
    right, total = int((errors.predicted == labels).sum()), len(labels)
    counts = collections.Counter(label[path] for path in paths)
    trivial = baseline(largest(counts), max(counts.values()), right, total)
    score = right / total, wilson_interval(right, total), trivial
    return Audit(str(data), config.model, images, tuple(found), ranked, *score, (*skipped, *unreadable), shards.summary(merged))


def compare(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int, progress: Stages | None = None
) -> tuple[label_errors.Neighbours, NDArray[np.bool_], label_errors.LabelErrors]:
    """Return (nearest neighbours, mask of near-duplicates, likely label errors) of features (n, width) and labels (n,)."""
    near = label_errors.neighbours(vectors, stage(progress, "comparing images"))
    similar = _similar(near)
    same = np.where(similar, near.nearest, np.arange(len(labels)))
    probabilities = label_errors.held_out(
        vectors, labels, _groups(same), seed=seed, progress=stage(progress, "predicting labels")
    )
    return near, similar, label_errors.label_errors(probabilities, labels, stage(progress, "ranking labels"))


def compute_shard(
    data: Path, shard: Shard, config: AuditConfig | None = None, *, progress: Stages | None = None
) -> dict[str, Any]:
    """Compute and store the features of one shard of the images. Run `audit` after the last shard.

    Returns:
        For JSON: the shard, and the numbers of files in the folder, of files inspected, and of unusable files.
    """
    config = config or AuditConfig()
    layout.classes(data, 2)
    files = [file.path for file in layout.scan(data) if file.label is not None and not file.ignored]
    own = [path for path in files if shard.has(path)]
    preprocessing, extractor, store = _prepare(data, config, progress)
    usable, _fresh, unreadable = prepared_images.store_pixels(
        data, own, preprocessing, stage(progress, "preparing images"), shard
    )
    known = features.known(store)
    readers = [_reader(data, preprocessing, digest) for digest in sorted(set(usable.values()) - known)]
    with shards.result(store, shard) as file:
        features.extract(extractor, file, readers, progress=stage(progress, "computing features"))
    return {
        "data": str(data), "shard": shard.index, "shards": shard.count, "files": len(files), "inspected": len(own),
        "broken": len(unreadable),
    }  # fmt: skip


def _prepare(data: Path, config: AuditConfig, progress: Stages | None) -> tuple[Preprocessing, features.Extractor, Path]:
    """Return (preprocessing, backbone, path of the stored features)."""
    side = config.image_size or backbones.BACKBONES[config.model].side
    if progress:
        progress(f"loading {config.model}", 0, 0)
    preprocessing = Preprocessing(side, side)
    weights = backbones.weights(config.weights)
    return preprocessing, *features.opened(data, config.model, preprocessing, weights, config.seed)


def _reader(data: Path, preprocessing: Preprocessing, digest: str) -> tuple[str, partial[decode.Image]]:
    """Return (content hash, function that decodes the stored image), as `features.extract` needs it."""
    return digest, partial(_pixels, prepared_images.stored(data, preprocessing, digest))


def _issues(
    paths: list[str],
    labels: NDArray[np.int64],
    errors: label_errors.LabelErrors,
    near: label_errors.Neighbours,
    similar: NDArray[np.bool_],
    classes: tuple[str, ...],
) -> Iterator[Issue]:
    for index in errors.ranking[: int(errors.wrong.sum())].tolist():
        own, other = classes[labels[index]], classes[errors.suggested[index]]
        likely, current = errors.suggested_probability[index], errors.label_probability[index]
        detail = f"{other} {likely:.2f}, {own} {current:.2f}"
        yield Issue(paths[index], "label", float(1 - current), detail, label=own, suggestion=other)
    for index in np.argsort(-near.outlier_score, kind="stable").tolist():
        if near.outlier_score[index] < OUTLIER_DISTANCE:
            break
        detail = (
            f"distance to its nearest images is {near.outlier_score[index]:.0f} median absolute deviations above the median"
        )
        yield Issue(paths[index], "outlier", float(1 - 4 / near.outlier_score[index]), detail, label=classes[labels[index]])
    shown = set()
    for index in np.argsort(-near.similarity, kind="stable").tolist():
        if not similar[index]:
            break
        other = int(near.nearest[index])
        if (other, index) not in shown:
            shown.add((index, other))
            detail = f"similarity {near.similarity[index]:.3f}" + (
                f", but its class is {classes[labels[other]]}" if labels[other] != labels[index] else ""
            )
            score = float(np.clip(near.similarity[index], 0, 1))
            yield Issue(paths[index], "similar", score, detail, paths[other], label=classes[labels[index]])


def _similar(near: label_errors.Neighbours) -> NDArray[np.bool_]:
    """Return (n,): whether each image is a near-duplicate of its nearest neighbour.

    Of 1,000 images of cats and dogs, no two had a similarity above 0.80. Copies of them that were recompressed, rotated by 10
    degrees, mirrored, or cropped by a tenth on each side had 0.95, 0.91, 0.95 and 0.86 (medians). If all images of a folder are
    similar, such as flowers in a bed, different images reach that too. Therefore the nearest neighbour must also be much nearer
    than the tenth nearest.
    """
    return np.asarray((near.similarity >= SIMILAR) & (1 - near.similarity <= NEARER * (1 - near.tenth_similarity)))


def _groups(same: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (n,): the connected component of each image, where the edges are the pairs (i, same[i])."""
    return np.array(list(components.smallest(range(len(same)), enumerate(same.tolist())).values()))


def _pixels(path: Path) -> decode.Image:
    return decode.decode(decode.read(path))
