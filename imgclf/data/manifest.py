"""The split manifest: which image is in which subset, as a CSV file in the data folder."""

import collections
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imgclf.core import csv_files, names
from imgclf.core.config import SUBSETS, Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files import owners
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.reading import read_bounded
from imgclf.core.files.state_folder import command, is_inside, state_folder
from imgclf.core.progress import Progress
from imgclf.data.dataset import Dataset, Sample
from imgclf.data.file_index import inspect
from imgclf.data.layout import scan


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of a split manifest. group: files with the same group are never put into different subsets."""

    path: str
    label: str
    split: Subset
    group: str
    sha256: str


_FOLD = re.compile(r"fold-[0-9]+-of-[0-9]+\.csv")
_DIGEST = re.compile("[0-9a-f]{64}")
COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Which image is in which subset, sorted by path."""

    rows: tuple[Row, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({row.label for row in self.rows}))

    @property
    def hash(self) -> str:
        """Changes with any path, label, subset or content."""
        return hashlib.sha256(self.to_csv().encode("utf-8", "surrogateescape")).hexdigest()[:12]

    @property
    def fingerprint(self) -> str:
        """Of the labelled contents alone, whatever their names and subsets."""
        lines = sorted(f"{row.label}\0{row.sha256}" for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def subset(self, root: Path, subset: Subset) -> Dataset:
        """One subset as a Dataset; the class names are those of the whole manifest."""
        samples = tuple(Sample(row.path, row.label) for row in self.rows if row.split == subset)
        return Dataset(root, samples, self.class_names)

    def counts(self) -> dict[str, dict[Subset, int]]:
        """Images by class and subset."""
        counts: dict[str, dict[Subset, int]] = {name: dict.fromkeys(SUBSETS, 0) for name in self.class_names}
        for row in self.rows:
            counts[row.label][row.split] += 1
        return counts

    def to_csv(self) -> str:
        """The file's text: a header, then a row an image."""
        lines = [COLUMNS, *((row.path, row.label, row.split, row.group, row.sha256) for row in self.rows)]
        return "".join(csv_files.line(line) for line in lines)


def elsewhere_note(root: Path) -> list[str]:
    """A note when imgclf's own files for this data folder lie in the user's cache, because the folder is read-only."""
    state = state_folder(root)
    if is_inside(state, root):
        return []
    closed = owners.closed(root / STATE_NAME)
    return [f"{closed or f'{root} is read-only'}: imgclf keeps its own files in {state}"]


def manifest_path(root: Path) -> Path:
    """Where a data folder's split manifest lies, or would: one inside a folder that is read-only now still counts."""
    path, inside = state_folder(root) / "split.csv", root / STATE_NAME / "split.csv"
    return inside if inside.exists() and not path.exists() else path


def fold_paths(root: Path) -> list[Path]:
    """The manifests of a data folder's folds, in order; empty when it has none, or not all of one set."""
    folder, inside = state_folder(root) / "folds", root / STATE_NAME / "folds"
    found = (inside if inside.is_dir() and not folder.is_dir() else folder).glob("fold-*-of-*.csv")
    paths = sorted((path for path in found if _FOLD.fullmatch(path.name)), key=lambda path: int(path.stem.split("-")[1]))
    return paths if [path.name for path in paths] == [f"fold-{n}-of-{len(paths)}.csv" for n in range(1, len(paths) + 1)] else []


def _split_of(path: Path, *options: str) -> str:
    """The command that makes this manifest. A path in the user's cache does not contain the data folder."""
    data = next((folder.parent for folder in path.parents if folder.name == STATE_NAME), Path("FOLDER"))
    return command("split", data, *options)


def read_manifest(path: Path) -> Manifest:
    """Read a split manifest; raises ImgclfError naming the line that is wrong."""
    anew = f"make a new one with {_split_of(path, '--force')}"
    if not os.path.lexists(path):
        raise ImgclfError(f"{path}: no split yet; run {_split_of(path)} first")
    content = read_bounded(path, csv_files.LARGEST)
    rows: dict[str, Row] = {}
    expected = f"expected {','.join(COLUMNS)} with split one of {', '.join(SUBSETS)}, each path once"
    remedy = f"fix it, or {anew}"
    try:
        lines = csv_files.rows(content, *COLUMNS)
        if next(lines, (0, []))[1] != list(COLUMNS):
            raise ImgclfError(f"{path}: not a split manifest: its first line is not {','.join(COLUMNS)}")
        for number, row in lines:
            if len(row) != len(COLUMNS) or row[2] not in SUBSETS or row[0] in rows or not _is_sound(*row):
                raise ImgclfError(f"{path}, line {number}: {expected}; {remedy}")
            rows[row[0]] = Row(row[0], names.nfc(row[1]), row[2], row[3], row[4])
    except ValueError as error:
        raise ImgclfError(f"{path}: {error}; {remedy}") from error
    return Manifest(tuple(rows[path] for path in sorted(rows)))


def _is_sound(path: str, label: str, _split: str, _group: str, digest: str) -> bool:
    """Whether a line's path lies in a data folder and its label names a folder: a manifest may have come from elsewhere."""
    if not _DIGEST.fullmatch(digest):
        return False
    return "/" in path and not {"", ".", ".."} & {*path.split("/"), label} and "/" not in label and "\0" not in path + label


def load_subsets(root: Path, manifest: Manifest, progress: Progress | None = None) -> tuple[dict[Subset, Dataset], list[str]]:
    """The subsets of a manifest as datasets of the files that `as_they_are` leaves, and its notes."""
    now, notes = as_they_are(root, manifest, progress)
    classes = manifest.class_names
    return {subset: dataclasses.replace(now.subset(root, subset), class_names=classes) for subset in SUBSETS}, notes


def as_they_are(root: Path, manifest: Manifest, progress: Progress | None = None) -> tuple[Manifest, list[str]]:
    """The rows of a manifest whose images are still there, and a note on each change since it was made.

    A file that was renamed, or moved to another class, is known by its content and used as it is now.
    """
    files = [file for file in scan(root) if not file.ignored]
    with inspect(root, [file.path for file in files], progress) as scanned:
        hashes = scanned.hashes()
        bad = {path for path, usable in zip(scanned.paths, scanned.usable().tolist(), strict=True) if not usable}
    label_of = {file.path: file.label for file in files if file.label is not None}
    present = label_of.keys()
    manifest, notes = with_renamed(manifest, label_of, hashes)
    known = {row.path for row in manifest.rows}
    gone = sorted(known - present)
    if gone:
        notes.append(
            f"images of the split that no longer exist (skipped): {_some(gone)}; "
            f"make a new split without them: {command('split', root, '--force')}"
        )
    lost = sorted(set(manifest.class_names) - {label_of[path] for path in known & present})
    if lost:
        notes.append(f"classes of the split that have no images any more: {_some(lost)}")
    later = added_classes(manifest, (label_of[path] for path in present - bad))
    if later:
        notes.append(
            f"class folders added after the split (not used for training): {later}; "
            f"make a new split with them: {command('split', root, '--force')}"
        )
    new = sorted(path for path in present - known - bad if label_of[path] in manifest.class_names)
    if new:
        notes.append(
            f"images that are not in the split: {_some(new)}; make a new split with {command('split', root, '--force')}, "
            f"or add them and keep the other images where they are: {command('split', root, '--stable')}"
        )
    changed = [row.path for row in manifest.rows if row.path in hashes and hashes[row.path] != row.sha256]
    if changed:
        # What they show now may be in another subset: an edited copy of a test image must not be trained on.
        notes.append(
            f"images skipped because they changed after the split: {_some(changed)}; "
            f"make a new split with them: {command('split', root, '--force')}"
        )
    usable = present - set(changed)
    return Manifest(tuple(row for row in manifest.rows if row.path in usable)), notes


def added_classes(manifest: Manifest, labels: Iterable[str]) -> str:
    """Classes that are not in the manifest, with their numbers of images, as text; "" for none."""
    counts = collections.Counter(label for label in labels if label not in manifest.class_names)
    return ", ".join(f"{label} ({count:,} image{'s' if count > 1 else ''})" for label, count in sorted(counts.items()))


def with_renamed(manifest: Manifest, label_of: Mapping[str, str], hashes: Mapping[str, str]) -> tuple[Manifest, list[str]]:
    """A manifest whose lost files are found under their new names and in their new classes, by content; and a note on them.

    label_of: the files in class folders. hashes: at least those of files whose paths are not in the manifest. Paths that differ
    only in Unicode form, as after a copy from a Mac, are the same path.
    """
    manifest = as_spelled(manifest, label_of)
    lost: dict[str, list[Row]] = collections.defaultdict(list)  # several of one content, where copies are in the split
    for row in manifest.rows:
        if row.path not in label_of:
            lost[row.sha256].append(row)
    before = {row.path for row in manifest.rows}
    renamed: dict[str, Row] = {}
    for path, label in sorted(label_of.items()):
        rows = lost.get(hashes.get(path, ""))
        if rows and path not in before and label in manifest.class_names:
            row = rows.pop(0)
            renamed[row.path] = dataclasses.replace(row, path=path, label=label)
    if not renamed:
        return manifest, []
    now = sorted((renamed.get(row.path, row) for row in manifest.rows), key=lambda row: row.path)
    found = [row.path for row in renamed.values()]
    return Manifest(tuple(now)), [f"images renamed or moved since the split: {_some(found)}"]


def as_spelled(manifest: Manifest, paths: Iterable[str]) -> Manifest:
    """The manifest with paths in the Unicode form of the existing files."""
    if all(row.path.isascii() for row in manifest.rows):
        return manifest
    spelling = names.by_spelling(set(paths).difference(row.path for row in manifest.rows))
    there = set(paths)
    rows = []
    for row in manifest.rows:
        path = row.path if row.path in there else spelling.pop(names.nfc(row.path), row.path)
        rows.append(dataclasses.replace(row, path=path))
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))


def _some(paths: Sequence[str]) -> str:
    """How many, and the first five by name."""
    return f"{len(paths)} ({', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''})"
