"""`imgclf split`: divide a data set into train, validation and test parts that share no picture, as a manifest."""

import collections
import csv
import dataclasses
import math
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgclf import dataset
from imgclf.base import journal
from imgclf.base.config import PARTS, Link, Part, SplitConfig
from imgclf.base.errors import ImgclfError, UsageError
from imgclf.base.folders import state_folder
from imgclf.dataset import Manifest, Row


@dataclasses.dataclass(frozen=True)
class Split:
    """A manifest in force, where it lies, whether it is new, and what to tell the user."""

    manifest: Manifest
    path: Path
    changed: bool
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()  # (path, reason) of files in class folders that are no pictures

    def to_dict(self) -> dict[str, Any]:
        """For JSON: counts and where the manifest lies; the manifest itself is a CSV file."""
        return {
            "manifest": str(self.path),
            "changed": self.changed,
            "hash": self.manifest.hash,
            "counts": self.manifest.counts(),
            "notes": list(self.notes),
            "left_out": [list(item) for item in self.left_out],
        }


def exists(data: Path) -> bool:
    """Whether a data folder has a split manifest; raises ImgclfError when there is no such folder."""
    return dataset.manifest_path(data).exists()


def shares(train: float | None, val: float | None, test: float | None) -> dict[Part, float]:
    """The three shares, adding to 1. Those not given share what is left in the ratio 70 : 15 : 15; percentages will do.

    Raises UsageError when they cannot add up.
    """
    default = {"train": 0.70, "val": 0.15, "test": 0.15}
    given = {part: value for part, value in zip(PARTS, (train, val, test), strict=True) if value is not None}
    if any(not math.isfinite(value) or value < 0 for value in given.values()):
        raise UsageError("--train, --val and --test must be numbers of 0 or more")
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


def quotas(count: int, fractions: Mapping[Part, float]) -> dict[Part, int]:
    """How many of `count` pictures go to each part: largest remainder, and at least one in each where there are enough."""
    exact = {part: count * fractions[part] for part in PARTS}
    numbers = {part: math.floor(exact[part] + 1e-9) for part in PARTS}
    by_remainder = sorted(PARTS, key=lambda part: numbers[part] - exact[part])
    for part in by_remainder[: count - sum(numbers.values())]:
        numbers[part] += 1
    wanted = [part for part in PARTS if fractions[part] > 0]
    if count >= len(wanted):
        for part in wanted:
            if numbers[part] == 0:
                richest = max(wanted, key=lambda other: numbers[other])
                numbers[richest] -= 1
                numbers[part] += 1
    return numbers


def group(hashes: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, str]:
    """The group of every path: files with the same bytes or the same key belong together, however long the chain.

    hashes: content by path; keys: what the user says belongs together (a patient, a burst), for some or all paths. A group is
    named after the smallest of its content hashes.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for path, digest in hashes.items():
        content = root(digest)
        if path in keys:
            one, other = sorted((content, root(f"~{keys[path]}")))  # "~" sorts behind every hexadecimal digit
            parent[other] = one
    return {path: root(digest) for path, digest in hashes.items()}


def plan(
    samples: Sequence[dataset.Sample],
    hashes: Mapping[str, str],
    fractions: Mapping[Part, float],
    seed: int,
    keys: Mapping[str, str] | None = None,
) -> Manifest:
    """Assign every sample to a part: stratified by class, the same for the same seed whatever the order on disk.

    Groups (see `group`) are never torn. Those of several files are placed first, each where its classes are furthest from their
    quotas; single files then fill the quotas up.
    """
    group_of = group({sample.path: hashes[sample.path] for sample in samples}, keys or {})
    groups: dict[str, list[dataset.Sample]] = collections.defaultdict(list)
    for sample in samples:
        groups[group_of[sample.path]].append(sample)
    by_class: dict[str, int] = collections.Counter(sample.label or "" for sample in samples)
    left = {label: quotas(count, fractions) for label, count in sorted(by_class.items())}
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda name: -len(groups[name]))  # stable: the largest first, otherwise shuffled
    allowed = [part for part in PARTS if fractions[part] > 0]
    rows = []
    for name in order:
        members = groups[name]
        labels = [member.label or "" for member in members]
        if len(members) > 1:  # the part with the most room for all of them
            part = max(allowed, key=lambda part: min(left[label][part] for label in labels))
        else:  # in shuffled order, filling one part after the other is a random draw
            part = next((part for part in allowed if left[labels[0]][part] > 0), allowed[0])
        for member, label in zip(members, labels, strict=True):
            left[label][part] -= 1
            rows.append(Row(member.path, label, part, name[:12], hashes[member.path]))
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))


def keys_by_regex(paths: Sequence[str], pattern: str) -> dict[str, str]:
    """The captured text of each path in which `pattern` is found; raises UsageError for a pattern that cannot serve."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise UsageError(
            f"--group-by {pattern!r} captures nothing; put what names the group in brackets, as in 'patient([0-9]+)'"
        )
    found = {path: compiled.search(path) for path in paths}
    keys = {path: "/".join(part or "" for part in match.groups()) for path, match in found.items() if match}
    if not keys:
        raise UsageError(f"--group-by {pattern!r} is found in none of the {len(paths)} paths, such as {paths[0]!r}")
    return keys


def keys_from_file(file: Path) -> dict[str, str]:
    """Groups by path from a CSV with the columns path and group; raises ImgclfError."""
    try:
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            rows = csv.DictReader(text)
            columns = rows.fieldnames or []
            if not {"path", "group"} <= set(columns):
                raise ImgclfError(f"{file}: needs the columns path and group, has {', '.join(columns) or 'none'}")
            keys: dict[str, str] = {}
            for row in rows:
                if not row["group"]:
                    continue
                if keys.setdefault(row["path"], row["group"]) != row["group"]:
                    raise ImgclfError(f"{file}: {row['path']} is in two groups, {keys[row['path']]} and {row['group']}")
            return keys
    except csv.Error as error:
        raise ImgclfError(f"{file}: not a CSV file that can be read ({error})") from error
    except OSError as error:
        raise ImgclfError(f"{file}: cannot be read: {error.strerror}") from error


def split(
    data: Path,
    config: SplitConfig | None = None,
    *,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Split:
    """Make the manifest of a data folder, or find that the one in force is the same.

    A folder with train, validation and test subfolders keeps them as they are; when it has no validation part, one is taken
    from train. Raises ImgclfError when another manifest is in force and `force` is not given; the old one is then kept beside.
    """
    config = config or SplitConfig()
    fractions: dict[Part, float] = {"train": config.train, "val": config.val, "test": config.test}
    everything, left_out = dataset.index(data, minimum_classes=2)
    notes = dataset.elsewhere_note(data)
    hashes = dataset.content_hashes(data, [sample.path for sample in everything.samples], progress)
    readable = [sample for sample in everything.samples if sample.path in hashes]
    left_out += [(sample.path, "cannot be read") for sample in everything.samples if sample.path not in hashes]
    folders = dataset.part_folders(data)
    keys, said = _keys([sample.path for sample in readable], config)
    if folders:
        manifest, said = _from_folders(readable, hashes, folders, fractions, config.seed, keys)
        notes += said
    else:
        manifest = plan(readable, hashes, fractions, config.seed, keys)
        notes += said
    notes += _warnings(manifest, bool(folders))
    with journal.locked(state_folder(data), "split"):
        path = dataset.manifest_path(data)
        if path.exists():
            old = dataset.read_manifest(path)
            if old == manifest:
                return Split(manifest, path, False, tuple(notes), tuple(left_out))
            if not force:
                raise ImgclfError(
                    f"{path}: another split is in force ({_difference(old, manifest)}); "
                    "add --force to replace it (the old one is kept beside it)"
                )
            path = state_folder(data) / path.name
            if path.exists():
                _keep_old(path)
        journal.write_atomic(path, manifest.to_csv())
    return Split(manifest, path, True, tuple(notes), tuple(left_out))


def _keys(paths: Sequence[str], config: SplitConfig) -> tuple[dict[str, str], list[str]]:
    """The user's groups by path, and a note on what they leave out."""
    if config.group_by and config.groups:
        raise UsageError("--group-by and --groups exclude each other")
    if config.group_by:
        keys = keys_by_regex(paths, config.group_by)
    elif config.groups:
        keys = keys_from_file(Path(config.groups))
        if not set(keys) & set(paths):
            shown = f"none of its paths, such as {min(keys)!r}, is in the data folder" if keys else "it names no group"
            raise ImgclfError(f"{config.groups}: {shown}; paths look like {paths[0]!r}")
    else:
        return {}, []
    alone = sum(1 for path in paths if path not in keys)
    count = len({keys[path] for path in paths if path in keys})
    return keys, [f"groups kept together: {count}" + (f"; pictures in none of them: {alone}" if alone else "")]


def _from_folders(
    samples: Sequence[dataset.Sample],
    hashes: Mapping[str, str],
    folders: Mapping[str, Part],
    fractions: Mapping[Part, float],
    seed: int,
    keys: Mapping[str, str],
) -> tuple[Manifest, list[str]]:
    """The parts that the folders name; a missing validation part is taken from train."""
    notes = [f"used the folder's own parts: {', '.join(sorted(folders))}"]
    part_of = {sample.path: folders[sample.path.split("/", 1)[0]] for sample in samples}
    if "val" not in folders.values():
        inner = fractions["val"] / (fractions["train"] + fractions["val"])
        if inner <= 0:
            raise UsageError("the folder has no validation part, and --val 0 takes none from train")
        training = [sample for sample in samples if part_of[sample.path] == "train"]
        drawn = plan(training, hashes, {"train": 1 - inner, "val": inner, "test": 0.0}, seed, keys)
        part_of |= {row.path: row.split for row in drawn.rows}
        notes.append(f"no validation folder: {inner:.0%} of train became the validation part")
    if "test" not in folders.values():
        notes.append("no test folder: `imgclf evaluate` will score the validation part")
    group_of = group({sample.path: hashes[sample.path] for sample in samples}, keys)
    rows = [
        Row(sample.path, sample.label or "", part_of[sample.path], group_of[sample.path][:12], hashes[sample.path])
        for sample in samples
    ]
    return Manifest(tuple(sorted(rows, key=lambda row: row.path))), notes


def _warnings(manifest: Manifest, from_folders: bool) -> list[str]:
    notes = []
    for name, counts in manifest.counts().items():
        if counts["train"] == 0:
            raise ImgclfError(f"class {name}: no picture of it is in the train part; add pictures, or remove the class")
        empty = [part for part in ("val", "test") if counts[part] == 0]
        if empty and sum(counts.values()) < 3:
            notes.append(f"class {name} has {sum(counts.values())} pictures, too few for every part")
    for part in ("val", "test"):
        if not any(row.split == part for row in manifest.rows):
            need = (
                "training needs one to choose the best epoch" if part == "val" else "nothing will be left for an honest score"
            )
            notes.append(f"the {part} part is empty: {need}")
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
    number = 1
    while (old := path.with_name(f"split-{number}.csv")).exists():
        number += 1
    journal.write_atomic(old, path.read_bytes())


def in_force(data: Path) -> Split:
    """The split that a data folder has; raises ImgclfError when there is none."""
    path = dataset.manifest_path(data)
    return Split(dataset.read_manifest(path), path, False)


def check_export(data: Path, target: Path) -> None:
    """Refuse a target that is no new or empty folder, or that lies in the data folder."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ImgclfError(
            f"{target}: exists and is not an empty folder; an export never mixes with other files, choose another"
        )
    resolved = target.resolve()
    if resolved == data.resolve() or data.resolve() in resolved.parents:
        raise ImgclfError(f"{target}: lies inside the data folder, where it would become part of it; choose another place")


def export(
    manifest: Manifest, data: Path, target: Path, link: Link, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Make `target/<part>/<class>/...` with every picture of the manifest; returns notes. The target must be new or empty.

    Raises ImgclfError when it is not, when it lies in a class folder of the data, or when a link cannot be made.
    """
    check_export(data, target)
    target = target.resolve()
    folders = dataset.part_folders(data)
    building = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    copied = 0
    try:
        for part in PARTS:
            for label in manifest.class_names:
                (building / part / label).mkdir(parents=True)
        for done, row in enumerate(manifest.rows, 1):
            inner = row.path.split("/", 2 if folders else 1)[-1]
            place = building / row.split / row.label / inner
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.exists():
                raise ImgclfError(f"{row.path}: two pictures of one class and part have this name; rename one of them")
            copied += _place(data / row.path, place, link)
            if progress:
                progress(done, len(manifest.rows))
        if target.exists():
            target.rmdir()
        os.rename(building, target)
    except OSError as error:
        raise ImgclfError(f"{target}: export failed: {error.strerror or error} ({error.filename})") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return [f"{copied} pictures were copied: no hard links between these two places"] if copied else []


def _place(source: Path, target: Path, link: Link) -> int:
    """Put one picture in place; 1 when a hard link became a copy."""
    if link == "symlink":
        target.symlink_to(source.resolve())
        return 0
    if link == "hard":
        return 0 if dataset.link_or_copy(source.resolve(), target) else 1
    shutil.copy2(source, target)
    return 0
