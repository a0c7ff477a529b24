"""The sizes of the subsets, and warnings about them."""

import collections
import math
from collections.abc import Mapping

from imgclf.core.config import PARTS, Part, SplitConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import allocation
from imgclf.data.manifest import Manifest
from imgclf.split.class_folders import same_but_for_case
from imgclf.split.material import Material


def shares(train: float | None, val: float | None, test: float | None) -> dict[Part, float]:
    """The three shares, adding to 1. Those not given share what is left in the ratio 70 : 15 : 15; percentages will do.

    Raises UsageError when they cannot add up.
    """
    default = {"train": SplitConfig.train, "val": SplitConfig.val, "test": SplitConfig.test}
    given = {part: value for part, value in zip(PARTS, (train, val, test), strict=True) if value is not None}
    if any(not math.isfinite(value) or value < 0 for value in given.values()):
        raise UsageError("--train, --val and --test must be numbers of 0 or more")
    if 1 < max(given.values(), default=0) < 5:
        raise UsageError("--train, --val and --test are shares of 1 (0.7) or of 100 (70)")
    if max(given.values(), default=0) > 1 and all(value == 0 or value >= 1 for value in given.values()):
        given = {part: value / 100 for part, value in given.items()}
    total = sum(given.values())
    missing = [part for part in PARTS if part not in given]
    if total > 1 + 1e-9 or (not missing and abs(total - 1) > 1e-9):
        raise UsageError(f"--train, --val and --test must add to 1 (or 100), not {total:g}")
    rest = sum(default[part] for part in missing)
    result: dict[Part, float] = {
        part: given[part] if part in given else max(0.0, 1 - total) * default[part] / rest for part in PARTS
    }
    if result["train"] <= 0:
        raise UsageError("the train share must be above 0")
    return result


def check_filled(manifest: Manifest, fractions: Mapping[Part, float], material: Material) -> None:
    """Refuse a split whose groups, by the user's own word, leave a part without an image."""
    filled = {row.split for row in manifest.rows}
    empty = [part for part in PARTS if fractions[part] > 0 and part not in filled]
    if empty and material.keys and not material.folders:
        sizes = collections.Counter(material.groups.values())
        raise ImgclfError(
            f"the groups asked for are too few or too large ({len(sizes)}, the largest of {max(sizes.values()):,} images): "
            f"nothing is left for {' and '.join(empty)}; name finer groups, or set the share of that part to 0"
        )


def warnings_of(manifest: Manifest, from_folders: bool) -> list[str]:
    classes = manifest.counts()
    notes = [twins] if (twins := same_but_for_case(manifest.class_names)) else []
    for name, counts in classes.items():
        if counts["train"] == 0:
            raise ImgclfError(f"class {name}: no image of it is in the train part; add images, or remove the class")
    for part in PARTS[1:]:
        lacking = [name for name, counts in classes.items() if counts[part] == 0]
        if len(lacking) == len(classes):
            need = (
                "training needs one to choose the best epoch" if part == "val" else "nothing will be left for an honest score"
            )
            notes.append(f"the {part} part is empty: {need}")
        elif lacking:
            shown = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
            notes.append(f"classes without an image in the {part} part, whose score says nothing of them: {shown}")
    parts_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        parts_of[row.group].add(row.split)
    leaking = sum(1 for parts in parts_of.values() if len(parts) > 1)
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


def from_folders(material: Material, fractions: Mapping[Part, float], seed: int) -> tuple[dict[str, Part], list[str]]:
    """The parts that the folders name; a missing validation part is taken from train."""
    folders = material.folders
    notes = [f"used the folder's own parts: {', '.join(sorted(folders))}"]
    parts = {sample.path: folders[sample.path.split("/", 1)[0]] for sample in material.samples}
    if "val" not in folders.values():
        inner = fractions["val"] / (fractions["train"] + fractions["val"])
        if inner <= 0:
            raise UsageError("the folder has no validation part, and --val 0 takes none from train")
        training = [sample for sample in material.samples if parts[sample.path] == "train"]
        parts |= allocation.allocate(training, material.groups, {"train": 1 - inner, "val": inner}, seed)
        notes.append(f"no validation folder: {inner:.0%} of train became the validation part")
    if "test" not in folders.values():
        notes.append("no test folder: `imgclf evaluate` will score the validation part")
    return parts, notes
