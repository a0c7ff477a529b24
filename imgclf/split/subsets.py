"""The fractions of the subsets, and warnings about the result."""

import collections
import math
from collections.abc import Mapping

from imgclf.core.config import SUBSETS, SplitConfig, Subset
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import allocation
from imgclf.data.manifest import Manifest
from imgclf.split.class_folders import same_but_for_case
from imgclf.split.material import Material


def fractions(train: float | None, val: float | None, test: float | None) -> dict[Subset, float]:
    """Return the fractions of the three subsets, with the sum 1.

    Subsets without a value divide the rest in the ratio of the defaults (70 : 15 : 15). Percentages are accepted too. Raises
    UsageError if the sum of the values cannot be 1 (or 100).
    """
    default = {"train": SplitConfig.train, "val": SplitConfig.val, "test": SplitConfig.test}
    given = {subset: value for subset, value in zip(SUBSETS, (train, val, test), strict=True) if value is not None}
    if any(not math.isfinite(value) or value < 0 for value in given.values()):
        raise UsageError("--train, --val and --test must be 0 or more")
    if 1 < max(given.values(), default=0) < 5:
        raise UsageError("--train, --val and --test must be fractions (0.7) or percentages (70)")
    if max(given.values(), default=0) > 1 and all(value == 0 or value >= 1 for value in given.values()):
        given = {subset: value / 100 for subset, value in given.items()}
    total = sum(given.values())
    missing = [subset for subset in SUBSETS if subset not in given]
    if total > 1 + 1e-9 or (not missing and abs(total - 1) > 1e-9):
        raise UsageError(f"--train, --val and --test must add up to 1 (or 100), but add up to {total:g}")
    rest = sum(default[subset] for subset in missing)
    result: dict[Subset, float] = {
        subset: given[subset] if subset in given else max(0.0, 1 - total) * default[subset] / rest for subset in SUBSETS
    }
    if result["train"] <= 0:
        raise UsageError("--train must be above 0")
    return result


def check_filled(manifest: Manifest, fractions: Mapping[Subset, float], material: Material) -> None:
    """Raise ImgclfError if the user's groups leave a subset without images."""
    filled = {row.split for row in manifest.rows}
    empty = [subset for subset in SUBSETS if fractions[subset] > 0 and subset not in filled]
    if empty and material.keys and not material.folders:
        sizes = collections.Counter(material.groups.values())
        raise ImgclfError(
            f"the groups are too few or too large ({len(sizes)}, the largest has {max(sizes.values()):,} images): "
            f"no image is left for {' and '.join(empty)}; define smaller groups, or set the fraction of that subset to 0"
        )


def warnings_of(manifest: Manifest, from_folders: bool) -> list[str]:
    """Return warnings about empty subsets, leakage and conflicting labels; raises ImgclfError if a class has no training image.

    from_folders: The data folder was already split.
    """
    classes = manifest.counts()
    notes = [twins] if (twins := same_but_for_case(manifest.class_names)) else []
    for name, counts in classes.items():
        if counts["train"] == 0:
            raise ImgclfError(f"class {name}: the train set has no image of it; add images, or remove the class")
    for subset in SUBSETS[1:]:
        lacking = [name for name, counts in classes.items() if counts[subset] == 0]
        if len(lacking) == len(classes):
            effect = (
                "training cannot choose the best epoch" if subset == "val" else "the model cannot be scored on unseen images"
            )
            notes.append(f"the {subset} set is empty: {effect}")
        elif lacking:
            shown = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
            notes.append(f"classes without an image in the {subset} set, so its scores do not cover them: {shown}")
    subsets_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        subsets_of[row.group].add(row.split)
    leaking = sum(1 for subsets in subsets_of.values() if len(subsets) > 1)
    if leaking and from_folders:
        notes.append(
            f"leakage: groups (duplicates, near-duplicates or your own) in more than one subset of this folder: {leaking}"
        )
    labels_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        labels_of[row.sha256].add(row.label)
    conflicts = [row.path for row in manifest.rows if len(labels_of[row.sha256]) > 1]
    if conflicts:
        shown = ", ".join(conflicts[:4]) + (", ..." if len(conflicts) > 4 else "")
        notes.append(f"{len(conflicts)} identical files are in different classes: {shown}")
    return notes


def from_folders(material: Material, fractions: Mapping[Subset, float], seed: int) -> tuple[dict[str, Subset], list[str]]:
    """Return the subset of every path by its folder, and notes. A missing validation set is drawn from train."""
    folders = material.folders
    notes = [f"used the data folder's own subsets: {', '.join(sorted(folders))}"]
    subsets = {sample.path: folders[sample.path.split("/", 1)[0]] for sample in material.samples}
    if "val" not in folders.values():
        inner = fractions["val"] / (fractions["train"] + fractions["val"])
        if inner <= 0:
            raise UsageError("the data folder has no validation set, and --val 0 draws none from train; set --val above 0")
        training = [sample for sample in material.samples if subsets[sample.path] == "train"]
        subsets |= allocation.allocate(training, material.groups, {"train": 1 - inner, "val": inner}, seed)
        notes.append(f"no validation folder: {inner:.0%} of train is used for validation")
    if "test" not in folders.values():
        notes.append("no test folder: `imgclf evaluate` scores the validation set")
    return subsets, notes
