"""`imgclf split`: divide a data set into train, validation and test sets that share no image, as a manifest."""

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
    """A manifest in force, where it lies, whether it is new, and what to tell the user."""

    manifest: Manifest
    path: Path
    changed: bool
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()  # (path, reason) of files in class folders that are in no subset

    def groups(self) -> tuple[int, int, int]:
        """(groups of several images, images in them, groups that lie in more than one subset: leakage)."""
        members = collections.Counter(row.group for row in self.manifest.rows)
        subsets: dict[str, set[str]] = collections.defaultdict(set)
        for row in self.manifest.rows:
            subsets[row.group].add(row.split)
        several = [name for name, count in members.items() if count > 1]
        return len(several), sum(members[name] for name in several), sum(len(subsets[name]) > 1 for name in several)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: counts and where the manifest lies; the manifest itself is a CSV file."""
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
    """Whether a data folder has a split manifest; raises ImgclfError when there is no such folder."""
    return manifest_path(data).exists()


def split(data: StrPath, config: SplitConfig | None = None, *, force: bool = False, progress: Stages | None = None) -> Split:
    """Make the manifest of a data folder, or find that the one in force is the same.

    A folder with train, validation and test subfolders keeps them as they are; when it has no validation set, one is taken
    from train. Raises ImgclfError when another manifest is in force and `force` is not given; the old one is then kept beside.
    """
    data = Path(data)
    config = config or SplitConfig()
    material = gather(data, config, progress)
    with locks.locked(state_folder(data), "split"):
        return _put_in_force(data, config, material, force=force)


def _put_in_force(data: Path, config: SplitConfig, material: Material, *, force: bool) -> Split:
    """Make the manifest and write it, unless the one that is there forbids it."""
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
            raise UsageError("--stable: the folder has train and test folders of its own, which are used as they are")
        subsets, said = from_folders(material, fractions, config.seed)
        notes += [*said, *layout.unlabelled_note(data)]
        if config.group_by or config.groups:
            notes.append("--group-by and --groups are not used: the folder's own subsets stay as they are")
    elif config.stable:
        anchor = None if force else old
        subsets, unfit = allocation.allocate_stably(samples, hashes, groups, material.keys, config, anchor)
        skipped += unfit
        if anchor:
            extends = True
            contents = {row.sha256 for row in anchor.rows}
            known = {row.path for row in anchor.rows}
            new = [path for path in subsets if hashes[path] not in contents]
            changed = sum(path in known for path in new)
            notes.append(f"the split in force stays as it is; images added to it: {len(new) - changed}")
            if changed:
                notes.append(f"images saved anew since the split, which keep their subset: {changed}")
    else:
        subsets = allocation.allocate(samples, groups, fractions, config.seed)
    manifest = allocation.manifest_of(samples, hashes, groups, subsets)
    check_filled(manifest, fractions, material)
    notes += warnings_of(manifest, bool(material.folders))
    if old and old == manifest:
        return Split(manifest, path, False, tuple(notes), tuple(skipped))
    if old and not force and not extends:
        raise ImgclfError(
            f"{path}: another split is in force ({_difference(old, manifest)}); "
            "add --force to replace it (the old one is kept beside it)"
        )
    path = state_folder(data) / path.name
    if path.exists():
        _keep_old(path)
    atomic.write_atomic(path, manifest.to_csv())
    return Split(manifest, path, True, tuple(notes), tuple(skipped))


def folds(
    data: Path, count: int, config: SplitConfig | None = None, *, force: bool = False, progress: Stages | None = None
) -> list[Split]:
    """Make `count` manifests for cross-validation, DATA/.imgclf/folds/fold-I-of-K.csv: every image is tested once.

    Fold I is the test set of manifest I; of the others a validation set is drawn in the ratio of config's train and val.
    Groups stay whole throughout. The first has the notes of all. Raises ImgclfError when other folds are there and `force` is
    not given, and when the groups leave a fold nothing to test, or a class nothing to train on.
    """
    config = config or SplitConfig()
    if config.stable:
        raise UsageError("--stable and --folds exclude each other")
    if count < 2:
        raise UsageError(f"--folds {count}: two folds at least")
    material = gather(data, config, progress)
    if material.folders:
        raise UsageError("--folds: the folder has train and test folders of its own, which are used as they are")
    samples, hashes, groups = material.samples, material.hashes, material.groups
    smallest = min(collections.Counter(sample.label for sample in samples).values())
    if smallest < count:
        raise UsageError(f"--folds {count}: a class has {smallest} images only, fewer than folds")
    fold_of = allocation.allocate(samples, groups, dict.fromkeys(range(1, count + 1), 1 / count), config.seed)
    inner = config.val / (config.train + config.val)
    made = []
    said = [*material.notes, *layout.merged_note(data, hashes)]
    folder = state_folder(data) / "folds"
    for number in range(1, count + 1):
        rest = [sample for sample in samples if fold_of[sample.path] != number]
        subsets: dict[str, Subset] = dict.fromkeys((s.path for s in samples), "test")
        subsets |= allocation.allocate(rest, groups, {"train": 1 - inner, "val": inner}, config.seed)
        manifest = allocation.manifest_of(samples, hashes, groups, subsets)
        if not any(row.split == "test" for row in manifest.rows):
            raise ImgclfError(
                f"--folds {count}: the groups are too few or too large: nothing is left to test in fold {number}; "
                "take fewer folds, or name finer groups"
            )
        try:
            said += warnings_of(manifest, False)
        except ImgclfError as error:
            finer = "; or take fewer folds, or name finer groups" if material.keys else ""
            raise ImgclfError(f"fold {number} of {count}: {error}{finer}") from error
        made.append(Split(manifest, folder / f"fold-{number}-of-{count}.csv", True))
    made[0] = dataclasses.replace(made[0], notes=tuple(dict.fromkeys(said)), skipped=tuple(material.skipped))
    with locks.locked(state_folder(data), "split"):
        old = fold_paths(data)
        if [path.name for path in old] == [one.path.name for one in made] and all(
            path.read_bytes() == one.manifest.to_csv().encode("utf-8", "surrogateescape")
            for path, one in zip(old, made, strict=True)
        ):
            return [dataclasses.replace(one, changed=False) for one in made]
        if old and not force:
            raise ImgclfError(f"{folder}: other folds are there ({len(old)}); add --force to replace them")
        with contained.at(folder, make=True) as place:
            for name in place.names():
                if fnmatch.fnmatch(name, "fold-*-of-*.csv"):  # from here to the end the set is incomplete: `fold_paths` says so
                    place.unlink(name)
        for one in made:
            atomic.write_atomic(one.path, one.manifest.to_csv())
    return made


def _difference(old: Manifest, new: Manifest) -> str:
    before = {row.path: row for row in old.rows}
    after = {row.path: row for row in new.rows}
    added, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    moved = sum(1 for path in after.keys() & before.keys() if after[path].split != before[path].split)
    return f"{added} images are new, {gone} are gone, {moved} would change their subset"


def _keep_old(path: Path) -> None:
    atomic.write_atomic(numbered(path), path.read_bytes())


def in_force(data: Path) -> Split:
    """The split that a data folder has; raises ImgclfError when there is none."""
    path = manifest_path(data)
    return Split(read_manifest(path), path, False)
