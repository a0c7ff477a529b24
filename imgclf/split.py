"""`imgclf split`: divide a data set into train, validation and test parts that share no picture, as a manifest."""

import collections
import dataclasses
import fnmatch
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgclf.core import csv_files, names
from imgclf.core.config import PARTS, Link, Part, SplitConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files import atomic, contained, locks
from imgclf.core.files.state_folder import check_outside, command, numbered, state_folder
from imgclf.core.progress import Progress, Stages, stage
from imgclf.core.remedies import why
from imgclf.data import allocation, file_index, issues, layout, prepared_images
from imgclf.data.manifest import Manifest, as_spelled, as_they_are, elsewhere_note, fold_paths, manifest_path, read_manifest


@dataclasses.dataclass(frozen=True)
class Split:
    """A manifest in force, where it lies, whether it is new, and what to tell the user."""

    manifest: Manifest
    path: Path
    changed: bool
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()  # (path, reason) of files in class folders that are in no part

    def groups(self) -> tuple[int, int, int]:
        """(groups of several pictures, pictures in them, groups that lie in more than one part: leakage)."""
        members = collections.Counter(row.group for row in self.manifest.rows)
        parts: dict[str, set[str]] = collections.defaultdict(set)
        for row in self.manifest.rows:
            parts[row.group].add(row.split)
        several = [name for name, count in members.items() if count > 1]
        return len(several), sum(members[name] for name in several), sum(len(parts[name]) > 1 for name in several)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: counts and where the manifest lies; the manifest itself is a CSV file."""
        return {
            "schema": "split/1",
            "manifest": str(self.path),
            "changed": self.changed,
            "hash": self.manifest.hash,
            "counts": self.manifest.counts(),
            **dict(zip(("groups", "grouped_pictures", "leakage"), self.groups(), strict=True)),
            "notes": list(self.notes),
            "left_out": [list(item) for item in self.left_out],
        }


def exists(data: Path) -> bool:
    """Whether a data folder has a split manifest; raises ImgclfError when there is no such folder."""
    return manifest_path(data).exists()


def shares(train: float | None, val: float | None, test: float | None) -> dict[Part, float]:
    """The three shares, adding to 1. Those not given share what is left in the ratio 70 : 15 : 15; percentages will do.

    Raises UsageError when they cannot add up.
    """
    default = {"train": 0.70, "val": 0.15, "test": 0.15}
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


def keys_by_regex(paths: Sequence[str], pattern: str) -> dict[str, str]:
    """The captured text of each path in which `pattern` is found; raises UsageError for a pattern that cannot serve."""
    try:
        compiled = re.compile(names.nfc(pattern))
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            f"--group-by {pattern!r} captures nothing; put what names the group in brackets, as in 'patient([0-9]+)'"
        )
    found = {path: compiled.search(names.nfc(path)) for path in paths}
    keys = {path: "/".join(part or "" for part in match.groups()) for path, match in found.items() if match}
    if not keys:
        raise UsageError(f"--group-by {pattern!r} is found in none of the {len(paths)} paths, such as {paths[0]!r}")
    return keys


def keys_from_file(file: Path, paths: Sequence[str]) -> dict[str, str]:
    """Groups by path from a CSV with the columns path and group; raises ImgclfError.

    paths: of the data folder. The file may use another Unicode form.
    """
    keys: dict[str, str] = {}
    spelling = names.by_spelling(paths)
    known = set(paths)
    for number, row in csv_files.records(file, "path", "group"):
        path, name = row["path"], names.nfc(row["group"])
        if path not in known:
            path = spelling.get(names.nfc(path), path)
        if name and keys.setdefault(path, name) != name:
            raise ImgclfError(f"{file}, line {number}: {path} is in two groups, {keys[path]} and {name}")
    return keys


@dataclasses.dataclass(frozen=True)
class _Material:
    """What a split is made from: usable pictures, their contents, and the groups that are never torn."""

    samples: tuple[layout.Sample, ...]
    hashes: dict[str, str]
    keys: dict[str, str]
    groups: dict[str, str]
    folders: dict[str, Part]
    notes: list[str]
    left_out: list[tuple[str, str]]


def _gather(data: Path, config: SplitConfig, progress: Stages | None) -> _Material:
    with file_index.pictures(data, minimum_classes=2, progress=stage(progress, "decoding")) as found:
        catalogue, _files, chosen, left_out = found
        alike = issues.groups(catalogue, stage(progress, "comparing")).tolist()
    paths = [sample.path for sample in chosen.samples]
    all_hashes = catalogue.hashes()
    hashes = {path: all_hashes[path] for path in paths}
    keys, notes = _keys(paths, config)
    pairs = [
        (catalogue.paths[index], catalogue.paths[first])
        for index, first in enumerate(alike)
        if index != first and catalogue.paths[index] in hashes
    ]
    groups = allocation.group(hashes, keys, pairs)
    return _Material(chosen.samples, hashes, keys, groups, layout.part_folders(data), notes, left_out)


def split(data: Path, config: SplitConfig | None = None, *, force: bool = False, progress: Stages | None = None) -> Split:
    """Make the manifest of a data folder, or find that the one in force is the same.

    A folder with train, validation and test subfolders keeps them as they are; when it has no validation part, one is taken
    from train. Raises ImgclfError when another manifest is in force and `force` is not given; the old one is then kept beside.
    """
    config = config or SplitConfig()
    material = _gather(data, config, progress)
    with locks.locked(state_folder(data), "split"):
        return _put_in_force(data, config, material, force=force)


def _put_in_force(data: Path, config: SplitConfig, material: _Material, *, force: bool) -> Split:
    """Make the manifest and write it, unless the one that is there forbids it."""
    samples, hashes, groups = material.samples, material.hashes, material.groups
    fractions: dict[Part, float] = {"train": config.train, "val": config.val, "test": config.test}
    notes = elsewhere_note(data) + ([] if material.folders else material.notes)
    notes += layout.merged_note(data, hashes)
    left_out = list(material.left_out)
    path = manifest_path(data)
    old = as_spelled(read_manifest(path), hashes) if path.exists() else None
    extends = False
    if material.folders:
        if config.stable:
            raise UsageError("--stable: the folder has train and test folders of its own, which are used as they are")
        parts, said = _from_folders(material, fractions, config.seed)
        notes += [*said, *layout.unlabelled_note(data)]
        if config.group_by or config.groups:
            notes.append("--group-by and --groups are not used: the folder's own parts stay as they are")
    elif config.stable:
        anchor = None if force else old
        parts, unfit = allocation.allocate_stably(samples, hashes, groups, material.keys, fractions, config.seed, anchor)
        left_out += unfit
        if anchor:
            extends = True
            contents = {row.sha256 for row in anchor.rows}
            known = {row.path for row in anchor.rows}
            new = [path for path in parts if hashes[path] not in contents]
            changed = sum(path in known for path in new)
            notes.append(f"the split in force stays as it is; pictures added to it: {len(new) - changed}")
            if changed:
                notes.append(f"pictures saved anew since the split, which keep their part: {changed}")
    else:
        parts = allocation.allocate(samples, groups, fractions, config.seed)
    manifest = allocation.manifest_of(samples, hashes, groups, parts)
    _check_filled(manifest, fractions, material)
    notes += _warnings(manifest, bool(material.folders))
    if old and old == manifest:
        return Split(manifest, path, False, tuple(notes), tuple(left_out))
    if old and not force and not extends:
        raise ImgclfError(
            f"{path}: another split is in force ({_difference(old, manifest)}); "
            "add --force to replace it (the old one is kept beside it)"
        )
    path = state_folder(data) / path.name
    if path.exists():
        _keep_old(path)
    atomic.write_atomic(path, manifest.to_csv())
    return Split(manifest, path, True, tuple(notes), tuple(left_out))


def folds(
    data: Path, count: int, config: SplitConfig | None = None, *, force: bool = False, progress: Stages | None = None
) -> list[Split]:
    """Make `count` manifests for cross-validation, DATA/.imgclf/folds/fold-I-of-K.csv: every picture is tested once.

    Fold I is the test part of manifest I; of the others a validation part is drawn in the ratio of config's train and val.
    Groups stay whole throughout. The first has the notes of all. Raises ImgclfError when other folds are there and `force` is
    not given, and when the groups leave a fold nothing to test, or a class nothing to train on.
    """
    config = config or SplitConfig()
    if config.stable:
        raise UsageError("--stable and --folds exclude each other")
    if count < 2:
        raise UsageError(f"--folds {count}: two folds at least")
    material = _gather(data, config, progress)
    if material.folders:
        raise UsageError("--folds: the folder has train and test folders of its own, which are used as they are")
    samples, hashes, groups = material.samples, material.hashes, material.groups
    smallest = min(collections.Counter(sample.label for sample in samples).values())
    if smallest < count:
        raise UsageError(f"--folds {count}: a class has {smallest} pictures only, fewer than folds")
    fold_of = allocation.allocate(samples, groups, dict.fromkeys(range(1, count + 1), 1 / count), config.seed)
    inner = config.val / (config.train + config.val)
    made = []
    said = [*material.notes, *layout.merged_note(data, hashes)]
    folder = state_folder(data) / "folds"
    for number in range(1, count + 1):
        rest = [sample for sample in samples if fold_of[sample.path] != number]
        parts: dict[str, Part] = dict.fromkeys((s.path for s in samples), "test")
        parts |= allocation.allocate(rest, groups, {"train": 1 - inner, "val": inner}, config.seed)
        manifest = allocation.manifest_of(samples, hashes, groups, parts)
        if not any(row.split == "test" for row in manifest.rows):
            raise ImgclfError(
                f"--folds {count}: the groups are too few or too large: nothing is left to test in fold {number}; "
                "take fewer folds, or name finer groups"
            )
        try:
            said += _warnings(manifest, False)
        except ImgclfError as error:
            finer = "; or take fewer folds, or name finer groups" if material.keys else ""
            raise ImgclfError(f"fold {number} of {count}: {error}{finer}") from error
        made.append(Split(manifest, folder / f"fold-{number}-of-{count}.csv", True))
    made[0] = dataclasses.replace(made[0], notes=tuple(dict.fromkeys(said)), left_out=tuple(material.left_out))
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


# -- leakage -------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Leak:
    """A picture that shows the same as others in another part, and the most similar of those.

    similarity: 1 and `exact` when the pixels are the same.
    """

    path: str
    part: Part
    other: str
    other_part: Part
    exact: bool
    mirrored: bool
    similarity: float


@dataclasses.dataclass(frozen=True)
class Leakage:
    """What leaks between the parts of a folder: `where` they come from, pictures looked at, and files without pixels."""

    data: Path
    where: str
    pictures: dict[Part, int]
    leaks: tuple[Leak, ...]
    left_out: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": "split-check/1",
            "data": str(self.data),
            "parts": self.where,
            "pictures": self.pictures,
            "leaks": [dataclasses.asdict(leak) for leak in self.leaks],
            "left_out": [list(item) for item in self.left_out],
        }


def check(data: Path, progress: Stages | None = None) -> Leakage:
    """Look for pictures that show the same in two parts of a folder that is split, by its folders or else by its manifest.

    Raises ImgclfError when it is not split.
    """
    with file_index.pictures(data, progress=stage(progress, "decoding")) as found:
        catalogue, files, chosen, left_out = found
        if layout.part_folders(data):
            where = "its folders"
        else:
            path = manifest_path(data)
            if not path.exists():
                raise ImgclfError(
                    f"{data}: not split: no train and test folders, and no manifest; run {command('split', data)}"
                )
            where = str(path)
            manifest = as_spelled(read_manifest(path), catalogue.paths)
            part_of = {row.path: row.split for row in manifest.rows}
            files = [dataclasses.replace(file, part=part_of.get(file.path)) for file in files]
        leaks = []
        for leak in issues.leaks(catalogue, files, stage(progress, "comparing")):
            one, other = files[leak.index], files[leak.other]
            if one.part and other.part:
                leaks.append(Leak(one.path, one.part, other.path, other.part, leak.exact, leak.mirrored, leak.similarity))
        leaks.sort(key=lambda leak: (-leak.similarity, leak.path))
    part = {file.path: file.part for file in files}
    counts: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for sample in chosen.samples:
        if (own := part[sample.path]) is not None:
            counts[own] += 1
    return Leakage(data, where, counts, tuple(leaks), tuple(left_out))


# -- the parts of a split ------------------------------------------------------------------------------------------------------


def _keys(paths: Sequence[str], config: SplitConfig) -> tuple[dict[str, str], list[str]]:
    """The user's groups by path, and a note on what they leave out."""
    if config.group_by and config.groups:
        raise UsageError("--group-by and --groups exclude each other")
    if config.group_by:
        keys = keys_by_regex(paths, config.group_by)
    elif config.groups:
        keys = keys_from_file(Path(config.groups), paths)
        if not set(keys) & set(paths):
            shown = f"none of its paths, such as {min(keys)!r}, is in the data folder" if keys else "it names no group"
            raise ImgclfError(
                f"{config.groups}: {shown}; paths look like {paths[0]!r}{csv_files.not_utf8(min(keys, default=''))}"
            )
    else:
        return {}, []
    alone = sum(1 for path in paths if path not in keys)
    count = len({keys[path] for path in paths if path in keys})
    notes = [f"groups as asked for: {count}" + (f"; pictures in none of them: {alone}" if alone else "")]
    if strangers := sorted(set(keys) - set(paths)):
        notes.append(f"rows of {config.groups} that match no usable image: {len(strangers):,}, first {strangers[0]!r}")
    return keys, notes


def _from_folders(material: _Material, fractions: Mapping[Part, float], seed: int) -> tuple[dict[str, Part], list[str]]:
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


def _check_filled(manifest: Manifest, fractions: Mapping[Part, float], material: _Material) -> None:
    """Refuse a split whose groups, by the user's own word, leave a part without a picture."""
    filled = {row.split for row in manifest.rows}
    empty = [part for part in PARTS if fractions[part] > 0 and part not in filled]
    if empty and material.keys and not material.folders:
        sizes = collections.Counter(material.groups.values())
        raise ImgclfError(
            f"the groups asked for are too few or too large ({len(sizes)}, the largest of {max(sizes.values()):,} pictures): "
            f"nothing is left for {' and '.join(empty)}; name finer groups, or set the share of that part to 0"
        )


def _warnings(manifest: Manifest, from_folders: bool) -> list[str]:
    classes = manifest.counts()
    notes = [twins] if (twins := _same_but_for_case(manifest.class_names)) else []
    for name, counts in classes.items():
        if counts["train"] == 0:
            raise ImgclfError(f"class {name}: no picture of it is in the train part; add pictures, or remove the class")
    for part in PARTS[1:]:
        lacking = [name for name, counts in classes.items() if counts[part] == 0]
        if len(lacking) == len(classes):
            need = (
                "training needs one to choose the best epoch" if part == "val" else "nothing will be left for an honest score"
            )
            notes.append(f"the {part} part is empty: {need}")
        elif lacking:
            shown = ", ".join(lacking[:4]) + (", ..." if len(lacking) > 4 else "")
            notes.append(f"classes without a picture in the {part} part, whose score says nothing of them: {shown}")
    parts_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        parts_of[row.group].add(row.split)
    torn = sum(1 for parts in parts_of.values() if len(parts) > 1)
    if torn and from_folders:
        notes.append(f"leakage: identical pictures or groups that lie in more than one part of this folder: {torn}")
    labels_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in manifest.rows:
        labels_of[row.sha256].add(row.label)
    conflicts = [row.path for row in manifest.rows if len(labels_of[row.sha256]) > 1]
    if conflicts:
        shown = ", ".join(conflicts[:4]) + (", ..." if len(conflicts) > 4 else "")
        notes.append(f"{len(conflicts)} identical files lie under different classes: {shown}")
    return notes


def _difference(old: Manifest, new: Manifest) -> str:
    before = {row.path: row for row in old.rows}
    after = {row.path: row for row in new.rows}
    added, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    moved = sum(1 for path in after.keys() & before.keys() if after[path].split != before[path].split)
    return f"{added} pictures are new, {gone} are gone, {moved} would change their part"


def _keep_old(path: Path) -> None:
    atomic.write_atomic(numbered(path), path.read_bytes())


def in_force(data: Path) -> Split:
    """The split that a data folder has; raises ImgclfError when there is none."""
    path = manifest_path(data)
    return Split(read_manifest(path), path, False)


def check_export(data: Path, target: Path) -> None:
    """Refuse a target that is no new or empty folder, or that lies in the data folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ImgclfError(
            f"{target}: exists and is not an empty folder; an export never mixes with other files, choose another"
        )
    check_outside(target, "--export", data)


def export(manifest: Manifest, data: Path, target: Path, link: Link, progress: Progress | None = None) -> list[str]:
    """Make `target/<part>/<class>/...` with the pictures of the manifest; returns notes. The target must be new or empty.

    One that changed since the split is left out, for what it shows now may be in another part. Raises ImgclfError when the
    target is not empty or is in the data folder, or if an image disappears meanwhile or a link cannot be made. Names that
    differ only in case get a number.
    """
    check_export(data, target)
    classes = manifest.class_names
    if twins := _same_but_for_case(classes):
        raise ImgclfError(
            f"{data}: {twins}; an export would mix them in one folder there: rename one, or merge them and split again"
        )
    manifest, notes = as_they_are(data, manifest)
    target = target.resolve()
    folders = layout.part_folders(data)
    building = target.with_name(contained.temporary_name(target.name))
    copied = numbered_ = 0
    taken: set[str] = set()
    placed = []
    try:
        building.mkdir()
        for part in PARTS:
            for label in classes:
                (building / part / label).mkdir(parents=True)
        for done, row in enumerate(manifest.rows, 1):
            inner = row.path.split("/", 2 if folders else 1)[-1]
            name = _free(f"{row.split}/{row.label}/{inner}", taken)
            numbered_ += not name.endswith(inner)
            place = building / name
            place.parent.mkdir(parents=True, exist_ok=True)
            before = file_index.stamp(data / row.path)
            copied += _place(data / row.path, place, link)
            placed.append((row.path, before, file_index.stamp(data / row.path)))
            if progress:
                progress(done, len(manifest.rows))
        if target.exists():
            target.rmdir()
        os.rename(building, target)
    except OSError as error:
        raise ImgclfError(f"{target}: export failed at {error.filename}: {why(error)}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    file_index.keep_known(data, placed)
    if numbered_:
        notes.append(f"images renamed with a number because names differ only in case or Unicode spelling: {numbered_}")
    if copied:
        notes.append(f"{copied} pictures were copied: no hard links between these two places")
    return notes


def _free(name: str, taken: set[str]) -> str:
    """Reserve a name that is also unique on disks that ignore case and Unicode form."""
    stem, ending = os.path.splitext(name)
    number = 1
    while names.folded(name) in taken:
        number += 1
        name = f"{stem}-{number}{ending}"
    taken.add(names.folded(name))
    return name


def _same_but_for_case(classes: Sequence[str]) -> str:
    """A message on two classes that are the same to macOS and Windows; "" for none."""
    found: dict[str, str] = {}
    for name in classes:
        if found.setdefault(names.folded(name), name) != name:
            return f"the classes {found[names.folded(name)]} and {name} differ only in case, which macOS and Windows ignore"
    return ""


def _place(source: Path, target: Path, link: Link) -> int:
    """Put one picture in place; 1 when a hard link became a copy."""
    if link == "symlink":
        target.symlink_to(source.resolve(strict=True))
        return 0
    if link == "hard":
        return 0 if prepared_images.link_or_copy(source.resolve(), target) else 1
    shutil.copy2(source, target)
    return 0
