"""The sizes of the subsets, and warnings about them."""

import collections
import math
from collections.abc import Mapping

from imgclf.core.config import SUBSETS, SplitConfig, Subset
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import allocation
from imgclf.data.manifest import Manifest
from imgclf.split.class_folders import same_but_for_case
from imgclf.split.material import Material


def shares(train: float | None, val: float | None, test: float | None) -> dict[Subset, float]:
    """The three shares, adding to 1. Those not given share what is left in the ratio 70 : 15 : 15; percentages will do.

    Raises UsageError when they cannot add up.
    """
    default = {"train": SplitConfig.train, "val": SplitConfig.val, "test": SplitConfig.test}
    given = {subset: value for subset, value in zip(SUBSETS, (train, val, test), strict=True) if value is not None}
    if any(not math.isfinite(value) or value < 0 for value in given.values()):
        raise UsageError("--train, --val and --test must be numbers of 0 or more")
    if 1 < max(given.values(), default=0) < 5:
        raise UsageError("--train, --val and --test are shares of 1 (0.7) or of 100 (70)")
    if max(given.values(), default=0) > 1 and all(value == 0 or value >= 1 for value in given.values()):
        given = {subset: value / 100 for subset, value in given.items()}
    total = sum(given.values())
    missing = [subset for subset in SUBSETS if subset not in given]
    if total > 1 + 1e-9 or (not missing and abs(total - 1) > 1e-9):
        raise UsageError(f"--train, --val and --test must add to 1 (or 100), not {total:g}")
    rest = sum(default[subset] for subset in missing)
    result: dict[Subset, float] = {
        subset: given[subset] if subset in given else max(0.0, 1 - total) * default[subset] / rest for subset in SUBSETS
    }
    if result["train"] <= 0:
        raise UsageError("the train share must be above 0")
    return result


def check_filled(manifest: Manifest, fractions: Mapping[Subset, float], material: Material) -> None:
    """Refuse a split whose groups, by the user's own word, leave a subset without an image."""
    filled = {row.split for row in manifest.rows}
    empty = [subset for subset in SUBSETS if fractions[subset] > 0 and subset not in filled]
    if empty and material.keys and not material.folders:
        sizes = collections.Counter(material.groups.values())
        raise ImgclfError(
            f"the groups asked for are too few or too large ({len(sizes)}, the largest of {max(sizes.values()):,} images): "
            f"nothing is left for {' and '.join(empty)}; name finer groups, or set the share of that subset to 0"
        )


def warnings_of(manifest: Manifest, from_folders: bool) -> list[str]:
    classes = manifest.counts()
    notes = [twins] if (twins := same_but_for_case(manifest.class_names)) else []
    for name, counts in classes.items():
        if counts["train"] == 0:
            raise ImgclfError(f"class {name}: no image of it is in the train set; add images, or remove the class")
    for subset in SUBSETS[1:]:
        lacking = [name for name, counts in classes.items() if counts[subset] == 0]
        if len(lacking) == len(classes):
            need = (
                "training needs one to choose the best epoch" if subset == "val" else "nothing will be left for an honest score"
            )
            notes.append(f"the {subset} set is empty: {need}")
        elif lacking:
            shown = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
            notes.append(f"classes without an image in the {subset} set, whose score says nothing of them: {shown}")
    subsets_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        subsets_of[row.group].add(row.split)
    leaking = sum(1 for subsets in subsets_of.values() if len(subsets) > 1)
    if leaking and from_folders:
        notes.append(f"leakage: identical images or groups that lie in more than one part of this folder: {leaking}")
    labels_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        labels_of[row.sha256].add(row.label)
    conflicts = [row.path for row in manifest.rows if len(labels_of[row.sha256]) > 1]
    if conflicts:
        shown = ", ".join(conflicts[:4]) + (", ..." if len(conflicts) > 4 else "")
        notes.append(f"{len(conflicts)} identical files lie under different classes: {shown}")
    return notes


def from_folders(material: Material, fractions: Mapping[Subset, float], seed: int) -> tuple[dict[str, Subset], list[str]]:
    """The subsets that the folders name; a missing validation set is taken from train."""
    folders = material.folders
    notes = [f"used the folder's own subsets: {', '.join(sorted(folders))}"]
    subsets = {sample.path: folders[sample.path.split("/", 1)[0]] for sample in material.samples}
    if "val" not in folders.values():
        inner = fractions["val"] / (fractions["train"] + fractions["val"])
        if inner <= 0:
            raise UsageError("the folder has no validation set, and --val 0 takes none from train")
        training = [sample for sample in material.samples if subsets[sample.path] == "train"]
        subsets |= allocation.allocate(training, material.groups, {"train": 1 - inner, "val": inner}, seed)
        notes.append(f"no validation folder: {inner:.0%} of train became the validation set")
    if "test" not in folders.values():
        notes.append("no test folder: `imgclf evaluate` will score the validation set")
    return subsets, notes
