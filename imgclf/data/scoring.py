"""Choose the images to score a run on, and predict them. Used by `evaluate` and `compare`."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.core import names
from imgclf.core.config import Subset
from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.fields import check
from imgclf.core.files.state_folder import check_data_folder, command
from imgclf.core.parallel import ordered_map
from imgclf.data import dataset, file_index, layout
from imgclf.data.dataset import Sample
from imgclf.data.manifest import Manifest, added_classes, read_manifest, with_renamed
from imgclf.evaluation import baseline, grouped
from imgclf.images import decode, preprocess, quality
from imgclf.models.bundle import Bundle

MANIFEST = "split.csv"
MEASURES = ("size", "brightness", "blur")  # shorter side in pixels; 0 to 1; 0 to 1


@dataclasses.dataclass(frozen=True)
class Images:
    """The images to score a run on.

    root: The data folder; paths of samples are relative to it.
    on: Description for messages, such as "the test set of the run's own split".
    name: Name for file names, such as "test".
    group_of: Group by path for the run's own split; None for another folder, whose groups are unknown.
    """

    root: Path
    on: str
    name: str
    samples: tuple[Sample, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    group_of: Mapping[str, str] | None


@dataclasses.dataclass(frozen=True)
class Scored:
    """Predictions for the samples that could be read.

    true: (n,) class indices.
    probabilities: One array (n, classes) for each run, calibrated.
    measures: (n, 3), see MEASURES.
    skipped: (path, reason) of all files that were not scored.
    """

    samples: tuple[Sample, ...]
    true: NDArray[np.int64]
    probabilities: tuple[NDArray[np.float64], ...]
    measures: NDArray[np.float64]
    skipped: tuple[tuple[str, str], ...]


def images(bundle: Bundle, data: Path | None = None, subset: Subset | None = None) -> Images:
    """Choose the images to score a run on: a subset of its own split, or another data folder with the same classes.

    The notes warn of images that make the score too high: the model was trained on them, or they chose its best epoch.

    Args:
        data: Data folder; None for the one that the run was trained on.
        subset: Subset of the run's split or of the folder. None means the test set (or the validation set if there is no test
            set) for the run's own split, and all images for another folder.

    Raises:
        ImgclfError: There is nothing to score.
    """
    check("split", subset, Subset | None)
    root = data or Path(bundle.info.data.path)
    manifest = manifest_of(bundle)
    if data is None and not root.is_dir():
        raise ImgclfError(f"{root}: the run's data folder no longer exists; give the folder that contains its images now")
    check_data_folder(root)
    skipped: list[tuple[str, str]] = []
    if _is_own(root, manifest, bundle):
        samples, name, notes, group_of = _own_subset(root, manifest, subset)
        on = f"the {name} set of the run's own split"
    else:
        if subset is not None and not layout.subset_folders(root):
            raise ImgclfError(f"{root}: not the data this run was trained on, and it has no {subset} folder; omit --split")
        samples, name, skipped = _other_data(root, bundle, subset)
        notes, group_of = [], None
        on = f"all images of {root}" if subset is None else f"the {subset} folder of {root}"
    if name != "train":
        notes += seen_in_training(bundle, root, samples)
    if not samples:
        raise ImgclfError("; ".join([f"{root}: no image to evaluate: {on}", *notes]))
    return Images(root, on, name, tuple(samples), tuple(skipped), tuple(notes), group_of)


def groups(on: Images, found: Scored) -> grouped.Groups | None:
    """Return the groups of the scored images; None if they are unknown."""
    return None if on.group_of is None else grouped.count(on.group_of[sample.path] for sample in found.samples)


def baseline_of(bundle: Bundle, found: Scored, right: int) -> baseline.Baseline:
    """Return the baseline on the scored images, compared with a run that predicts `right` of them correctly."""
    name = bundle.info.metrics.val_baseline.class_name
    of_class = sum(sample.label == name for sample in found.samples)
    return baseline.baseline(name, of_class, right, len(found.samples))


def score(bundles: Sequence[Bundle], on: Images, progress: Callable[[int, int], None] | None = None) -> Scored:
    """Predict the images with all runs, which must have the same classes. Each image is decoded only once, on all cores.

    Raises ImgclfError if no image can be read.
    """
    class_names = bundles[0].class_names

    def predict(sample: Sample) -> tuple[list[NDArray[np.float64]], tuple[float, float, float]] | ImageError:
        try:
            image = decode.decode(decode.read(on.root / sample.path))
        except ImageError as error:
            return error
        grey = preprocess.thumbnail(image, quality.SIDE)
        measured = (float(min(image.shape[:2])), quality.brightness(quality.levels(grey)), quality.blurry(grey))
        return [bundle.probability(preprocess.apply(bundle.preprocessing, image)) for bundle in bundles], measured

    kept, skipped = [], list(on.skipped)
    rows: list[list[NDArray[np.float64]]] = []
    measures = []
    for done, (sample, result) in enumerate(zip(on.samples, ordered_map(predict, on.samples), strict=True), 1):
        if isinstance(result, ImageError):
            skipped.append((sample.path, str(result)))
        else:
            kept.append(sample)
            rows.append(result[0])
            measures.append(result[1])
        if progress:
            progress(done, len(on.samples))
    if not rows:
        raise ImgclfError(
            f"{on.root}: none of the {len(on.samples)} images can be read ({on.on}); run {command('clean', on.root)}"
        )
    true = np.array([class_names.index(sample.label or "") for sample in kept], np.int64)
    by_run = tuple(np.array(rows_) for rows_ in zip(*rows, strict=True))
    return Scored(tuple(kept), true, by_run, np.array(measures), tuple(skipped))


def manifest_of(bundle: Bundle) -> Manifest:
    """Return the split that the run was trained with; raises ImgclfError if the file is missing or was changed."""
    path = bundle.path / MANIFEST
    if not path.exists():
        raise ImgclfError(f"{path}: broken run: the file is missing; copy the run folder again or retrain")
    manifest = read_manifest(path)
    if manifest.hash != bundle.info.data.split_hash:
        raise ImgclfError(f"{path}: broken run: the split was changed after training; copy the run folder again")
    return manifest


def as_named(root: Path, manifest: Manifest) -> tuple[Manifest, int, list[str]]:
    """Update the run's split with the current paths and classes of its images.

    As in training, an image that no longer has its old path is found by its content.

    Returns:
        The updated manifest, the number of files of known classes that are not in it, and notes on renamed images and on class
        folders that are unknown to the run.
    """
    label_of = {file.path: file.label for file in layout.scan(root) if file.label and not file.ignored}
    paths = {row.path for row in manifest.rows}
    new = sorted(label_of.keys() - paths)
    hashes = {} if paths <= label_of.keys() else file_index.content_hashes(root, new)
    found, notes = with_renamed(manifest, label_of, hashes)
    others = label_of.keys() - {row.path for row in found.rows}
    unknown = added_classes(manifest, (label_of[path] for path in others))
    if unknown:
        notes.append(
            f"class folders that this run was not trained on (not scored): {unknown}; to add them, run "
            f"{command('split', root, '--force')} and train again"
        )
    return found, sum(label_of[path] in manifest.class_names for path in others), notes


def seen_in_training(bundle: Bundle, root: Path, samples: Sequence[Sample]) -> list[str]:
    """Return notes if some of the images trained the run or chose its best epoch. Compares contents, not names."""
    hashes = file_index.content_hashes(root, [sample.path for sample in samples])
    rows, notes = manifest_of(bundle).rows, []
    for subset, role in (("train", "training set"), ("val", "validation set, which chose its best epoch")):
        known = {row.sha256 for row in rows if row.split == subset}
        seen = sum(1 for digest in hashes.values() if digest in known)
        if seen:
            notes.append(f"images that were in the run's {role}: {seen} of {len(samples)}; the score is too optimistic")
    return notes


def _is_own(root: Path, manifest: Manifest, bundle: Bundle) -> bool:
    """Return whether a folder is the run's data: the recorded folder, or one with most files of the split at the same paths."""
    if root.resolve() == Path(bundle.info.data.path):
        return True
    some = manifest.rows[:: max(1, len(manifest.rows) // 50)]
    paths = {row: names.spelled(root, row.path) for row in some}
    hashes = file_index.content_hashes(root, [path for path in paths.values() if (root / path).is_file()])
    return 2 * sum(1 for row, path in paths.items() if hashes.get(path) == row.sha256) > len(some)


def _own_subset(root: Path, manifest: Manifest, subset: Subset | None) -> tuple[list[Sample], str, list[str], dict[str, str]]:
    manifest, others, notes = as_named(root, manifest)
    has_test = any(row.split == "test" for row in manifest.rows)
    if subset is None:
        subset = "test" if has_test else "val"
        if not has_test:
            notes.append("the split has no test set, so the validation set is scored")
    if subset == "train":
        notes.append("the model was trained on these images: the score measures memorization, not accuracy on new images")
    rows = [row for row in manifest.rows if row.split == subset]
    samples = [Sample(row.path, row.label) for row in rows if (root / row.path).exists()]
    gone = len(rows) - len(samples)
    if gone:
        notes.append(f"images of the {subset} set that are no longer in {root}: {gone} of {len(rows)}")
    hashes = file_index.content_hashes(root, [sample.path for sample in samples])
    changed = [row.path for row in rows if row.path in hashes and hashes[row.path] != row.sha256]
    if changed:
        notes.append(f"images that have changed since the run's split was made: {len(changed)}, first {changed[0]}")
    if others:
        notes.append(f"files in {root} that are not in the run's split and were not scored: {others}")
    return samples, subset, notes, {row.path: row.group for row in rows}


def _other_data(root: Path, bundle: Bundle, subset: Subset | None) -> tuple[list[Sample], str, list[tuple[str, str]]]:
    everything, skipped = dataset.index(root)
    unknown = sorted(set(everything.class_names) - set(bundle.class_names))
    if unknown:
        raise ImgclfError(f"{root}: class {unknown[0]} is unknown to this run; its classes are {', '.join(bundle.class_names)}")
    folders, samples = layout.subset_folders(root), list(everything.samples)
    if subset is not None:  # drop the images and the skipped files of other subsets
        samples = [one for one in samples if folders[one.path.split("/", 1)[0]] == subset]
        skipped = [one for one in skipped if folders[one[0].split("/", 1)[0]] == subset]
    name = "other-" + re.sub(r"[^\w.-]+", "-", root.resolve().name)
    return samples, name if subset is None else f"{name}-{subset}", skipped
