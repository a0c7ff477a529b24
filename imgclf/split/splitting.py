"""`imgclf split`: divide a data set into train, validation and test sets, stored as a manifest."""

import collections
import dataclasses
import fnmatch
from pathlib import Path
from typing import Any

from imgclf.core.config import SplitConfig, Subset
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic, contained, locks
from imgclf.core.files.paths import StrPath
from imgclf.core.files.state_folder import numbered, state_folder
from imgclf.core.progress import Stages
from imgclf.data import allocation, layout
from imgclf.data.manifest import Manifest, as_spelled, elsewhere_note, fold_paths, manifest_path, read_manifest
from imgclf.split.material import Material, gather
from imgclf.split.subsets import check_filled, from_folders, warnings_of


@dataclasses.dataclass(frozen=True)
class Split:
    """The manifest of a data folder. path: where it is stored. changed: whether it was written now. notes: messages to show."""

    manifest: Manifest
    path: Path
    changed: bool
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()  # (path, reason) of files in class folders that are in no subset

    def groups(self) -> tuple[int, int, int]:
        """Return (groups of several images, images in them, groups that lie in several subsets, which is leakage)."""
        members = collections.Counter(row.group for row in self.manifest.rows)
        subsets: dict[str, set[str]] = collections.defaultdict(set)
        for row in self.manifest.rows:
            subsets[row.group].add(row.split)
        several = [name for name, count in members.items() if count > 1]
        return len(several), sum(members[name] for name in several), sum(len(subsets[name]) > 1 for name in several)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON: counts and the path of the manifest, which is a CSV file."""
        return {
            "schema": "split/1",
            "manifest": str(self.path),
            "changed": self.changed,
            "hash": self.manifest.hash,
            "counts": self.manifest.counts(),
            **dict(zip(("groups", "grouped_images", "leakage"), self.groups(), strict=True)),
            "notes": list(self.notes),
            "skipped": [list(item) for item in self.skipped],
        }


def exists(data: Path) -> bool:
    """Return whether a data folder has a split manifest; raises ImgclfError if the folder does not exist."""
    return manifest_path(data).exists()


def split(data: StrPath, config: SplitConfig | None = None, *, force: bool = False, progress: Stages | None = None) -> Split:
    """Split a data folder and write the manifest, unless the existing manifest is equal.

    A folder with train, validation and test subfolders keeps these subsets; if it has no validation set, one is drawn from
    train.

    Args:
        force: Replace a different existing manifest. The old one is kept under another name.

    Raises:
        ImgclfError: A different manifest exists and `force` is not set.
    """
    data = Path(data)
    config = config or SplitConfig()
    material = gather(data, config, progress)
    with locks.locked(state_folder(data), "split"):
        return _write_split(data, config, material, force=force)


def _write_split(data: Path, config: SplitConfig, material: Material, *, force: bool) -> Split:
    """Make the manifest and write it; raises ImgclfError if a different one exists and may not be replaced."""
    samples, hashes, groups = material.samples, material.hashes, material.groups
    fractions = config.fractions
    notes = elsewhere_note(data) + ([] if material.folders else material.notes)
    notes += layout.merged_note(data, hashes)
    skipped = list(material.skipped)
    path = manifest_path(data)
    old = as_spelled(read_manifest(path), hashes) if path.exists() else None
    extends = False
    if material.folders:
        if config.stable:
            raise UsageError(
                "--stable: the data folder has its own train and test folders, which stay unchanged; omit --stable"
            )
        subsets, folder_notes = from_folders(material, fractions, config.seed)
        notes += [*folder_notes, *layout.unlabelled_note(data)]
        if config.group_by or config.groups:
            notes.append("--group-by and --groups are ignored: the data folder's own subsets stay unchanged")
    elif config.stable:
        previous = None if force else old
        subsets, unassigned = allocation.allocate_stably(samples, hashes, groups, material.keys, config, previous)
        skipped += unassigned
        if previous:
            extends = True
            contents = {row.sha256 for row in previous.rows}
            known = {row.path for row in previous.rows}
            new = [path for path in subsets if hashes[path] not in contents]
            changed = sum(path in known for path in new)
            notes.append(f"the existing split stays unchanged; images added to it: {len(new) - changed}")
            if changed:
                notes.append(f"images with new content since the split, which keep their subset: {changed}")
    else:
        subsets = allocation.allocate(samples, groups, fractions, config.seed)
    manifest = allocation.manifest_of(samples, hashes, groups, subsets)
    check_filled(manifest, fractions, material)
    notes += warnings_of(manifest, bool(material.folders))
    if old and old == manifest:
        return Split(manifest, path, False, tuple(notes), tuple(skipped))
    if old and not force and not extends:
        raise ImgclfError(
            f"{path}: the data folder has another split ({_difference(old, manifest)}); "
            "add --force to replace it (the old file is kept under another name)"
        )
    path = state_folder(data) / path.name
    if path.exists():
        _keep_old(path)
    atomic.write_atomic(path, manifest.to_csv())
    return Split(manifest, path, True, tuple(notes), tuple(skipped))


def folds(
    data: Path, count: int, config: SplitConfig | None = None, *, force: bool = False, progress: Stages | None = None
) -> list[Split]:
    """Write `count` manifests for cross-validation, DATA/.imgclf/folds/fold-I-of-K.csv. Every image is in exactly one test set.

    Fold I is the test set of manifest I. The other images are divided into train and val in the ratio of `config`. Groups are
    never divided. The first result has the notes of all folds.

    Raises:
        ImgclfError: Other folds exist and `force` is not set, or the groups leave a test set empty or a class without training
            images.
        UsageError: `count` is below 2 or above the size of the smallest class, or the data folder has its own subsets.
    """
    config = config or SplitConfig()
    if config.stable:
        raise UsageError("--stable and --folds cannot be used together; choose one")
    if count < 2:
        raise UsageError(f"--folds {count}: the minimum is 2")
    material = gather(data, config, progress)
    if material.folders:
        raise UsageError("--folds: the data folder has its own train and test folders, which stay unchanged; omit --folds")
    samples, hashes, groups = material.samples, material.hashes, material.groups
    smallest = min(collections.Counter(sample.label for sample in samples).values())
    if smallest < count:
        raise UsageError(f"--folds {count}: a class has only {smallest} images; use at most {smallest} folds, or add images")
    fold_of = allocation.allocate(samples, groups, dict.fromkeys(range(1, count + 1), 1 / count), config.seed)
    inner = config.val / (config.train + config.val)
    made = []
    notes = [*material.notes, *layout.merged_note(data, hashes)]
    folder = state_folder(data) / "folds"
    for number in range(1, count + 1):
        rest = [sample for sample in samples if fold_of[sample.path] != number]
        subsets: dict[str, Subset] = dict.fromkeys((s.path for s in samples), "test")
        subsets |= allocation.allocate(rest, groups, {"train": 1 - inner, "val": inner}, config.seed)
        manifest = allocation.manifest_of(samples, hashes, groups, subsets)
        if not any(row.split == "test" for row in manifest.rows):
            raise ImgclfError(
                f"--folds {count}: the groups are too few or too large: fold {number} has no test image; "
                "use fewer folds, or define smaller groups"
            )
        try:
            notes += warnings_of(manifest, False)
        except ImgclfError as error:
            hint = "; or use fewer folds, or define smaller groups" if material.keys else ""
            raise ImgclfError(f"fold {number} of {count}: {error}{hint}") from error
        made.append(Split(manifest, folder / f"fold-{number}-of-{count}.csv", True))
    made[0] = dataclasses.replace(made[0], notes=tuple(dict.fromkeys(notes)), skipped=tuple(material.skipped))
    with locks.locked(state_folder(data), "split"):
        old = fold_paths(data)
        if [path.name for path in old] == [one.path.name for one in made] and all(
            path.read_bytes() == one.manifest.to_csv().encode("utf-8", "surrogateescape")
            for path, one in zip(old, made, strict=True)
        ):
            return [dataclasses.replace(one, changed=False) for one in made]
        if old and not force:
            raise ImgclfError(f"{folder}: contains other folds ({len(old)}); add --force to replace them")
        with contained.at(folder, make=True) as place:
            for name in place.names():
                if fnmatch.fnmatch(name, "fold-*-of-*.csv"):  # until the last one is written, `fold_paths` returns no folds
                    place.unlink(name)
        for one in made:
            atomic.write_atomic(one.path, one.manifest.to_csv())
    return made


def _difference(old: Manifest, new: Manifest) -> str:
    before = {row.path: row for row in old.rows}
    after = {row.path: row for row in new.rows}
    added, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    moved = sum(1 for path in after.keys() & before.keys() if after[path].split != before[path].split)
    return f"{added} images are new, {gone} are missing, {moved} would move to another subset"


def _keep_old(path: Path) -> None:
    atomic.write_atomic(numbered(path), path.read_bytes())


def current_split(data: Path) -> Split:
    """Return the existing split of a data folder; raises ImgclfError if there is none."""
    path = manifest_path(data)
    return Split(read_manifest(path), path, False)
