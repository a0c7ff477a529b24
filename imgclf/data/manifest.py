"""The split manifest: a CSV file in the data folder with the subset of each image."""

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
    """One row of a split manifest. group: files of one group are never put into different subsets."""

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
    """The subset of each image. Rows are sorted by path."""

    rows: tuple[Row, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({row.label for row in self.rows}))

    @property
    def hash(self) -> str:
        """A hash of all rows: it changes with any path, label, subset, group or content."""
        return hashlib.sha256(self.to_csv().encode("utf-8", "surrogateescape")).hexdigest()[:12]

    @property
    def fingerprint(self) -> str:
        """A hash of the labels and contents only: it does not depend on paths and subsets."""
        lines = sorted(f"{row.label}\0{row.sha256}" for row in self.rows)
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]

    def subset(self, root: Path, subset: Subset) -> Dataset:
        """Return one subset as a Dataset, with the class names of the whole manifest."""
        samples = tuple(Sample(row.path, row.label) for row in self.rows if row.split == subset)
        return Dataset(root, samples, self.class_names)

    def counts(self) -> dict[str, dict[Subset, int]]:
        """Return the number of images by class and subset."""
        counts: dict[str, dict[Subset, int]] = {name: dict.fromkeys(SUBSETS, 0) for name in self.class_names}
        for row in self.rows:
            counts[row.label][row.split] += 1
        return counts

    def to_csv(self) -> str:
        """Return the text of the file: a header, then one row per image."""
        lines = [COLUMNS, *((row.path, row.label, row.split, row.group, row.sha256) for row in self.rows)]
        return "".join(csv_files.line(line) for line in lines)


def elsewhere_note(root: Path) -> list[str]:
    """Return a note if the data folder is read-only, so that imgclf stores its own files in the user's cache."""
    state = state_folder(root)
    if is_inside(state, root):
        return []
    closed = owners.closed(root / STATE_NAME)
    return [f"{closed or f'{root} is read-only'}: imgclf stores its own files in {state}"]


def manifest_path(root: Path) -> Path:
    """Return the path of a data folder's manifest, which need not exist.

    A manifest inside a data folder that has since become read-only is still found.
    """
    path, inside = state_folder(root) / "split.csv", root / STATE_NAME / "split.csv"
    return inside if inside.exists() and not path.exists() else path


def fold_paths(root: Path) -> list[Path]:
    """Return the manifests of a data folder's folds, in order; empty if there are none or the set is incomplete."""
    folder, inside = state_folder(root) / "folds", root / STATE_NAME / "folds"
    found = (inside if inside.is_dir() and not folder.is_dir() else folder).glob("fold-*-of-*.csv")
    paths = sorted((path for path in found if _FOLD.fullmatch(path.name)), key=lambda path: int(path.stem.split("-")[1]))
    return paths if [path.name for path in paths] == [f"fold-{n}-of-{len(paths)}.csv" for n in range(1, len(paths) + 1)] else []


def _split_of(path: Path, *options: str) -> str:
    """Return the command that makes this manifest, with FOLDER for the data if the manifest lies in the user's cache."""
    data = next((folder.parent for folder in path.parents if folder.name == STATE_NAME), Path("FOLDER"))
    return command("split", data, *options)


def read_manifest(path: Path) -> Manifest:
    """Read a split manifest; raises ImgclfError that names the invalid line."""
    replace = f"make a new one with {_split_of(path, '--force')}"
    if not os.path.lexists(path):
        raise ImgclfError(f"{path}: no split yet; run {_split_of(path)} first")
    content = read_bounded(path, csv_files.LARGEST)
    rows: dict[str, Row] = {}
    expected = f"expected {','.join(COLUMNS)} with split one of {', '.join(SUBSETS)}, each path once"
    remedy = f"fix it, or {replace}"
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
    """Return whether a row is safe: its path stays inside the data folder, and its label is the name of one folder.

    A manifest may come from someone else.
    """
    if not _DIGEST.fullmatch(digest):
        return False
    return "/" in path and not {"", ".", ".."} & {*path.split("/"), label} and "/" not in label and "\0" not in path + label


def load_subsets(root: Path, manifest: Manifest, progress: Progress | None = None) -> tuple[dict[Subset, Dataset], list[str]]:
    """Return each subset as a dataset of its unchanged images, and the notes of `current_manifest`."""
    now, notes = current_manifest(root, manifest, progress)
    classes = manifest.class_names
    return {subset: dataclasses.replace(now.subset(root, subset), class_names=classes) for subset in SUBSETS}, notes


def current_manifest(root: Path, manifest: Manifest, progress: Progress | None = None) -> tuple[Manifest, list[str]]:
    """Return the manifest of the images that still exist unchanged, and notes on all changes in the data folder.

    An image that was renamed or moved to another class is found by its content, and gets its new path and class.
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
        notes.append(f"classes of the split that no longer have images: {_some(lost)}")
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
            f"or add them without changing the subsets of the others: {command('split', root, '--stable')}"
        )
    changed = [row.path for row in manifest.rows if row.path in hashes and hashes[row.path] != row.sha256]
    if changed:
        # The new content may be in another subset: the model must not be trained on an edited copy of a test image.
        notes.append(
            f"images skipped because they changed after the split: {_some(changed)}; "
            f"make a new split with them: {command('split', root, '--force')}"
        )
    usable = present - set(changed)
    return Manifest(tuple(row for row in manifest.rows if row.path in usable)), notes


def added_classes(manifest: Manifest, labels: Iterable[str]) -> str:
    """Return text that lists the classes missing in the manifest, with their numbers of images; "" if there are none."""
    counts = collections.Counter(label for label in labels if label not in manifest.class_names)
    return ", ".join(f"{label} ({count:,} image{'s' if count > 1 else ''})" for label, count in sorted(counts.items()))


def with_renamed(manifest: Manifest, label_of: Mapping[str, str], hashes: Mapping[str, str]) -> tuple[Manifest, list[str]]:
    """Find renamed and moved files by content, and return the manifest with their new paths and classes, and notes.

    Paths that differ only in Unicode form, such as after a copy from a Mac, count as equal.

    Args:
        label_of: Class by path, of all files in class folders.
        hashes: SHA-256 by path, at least of files whose paths are not in the manifest.
    """
    manifest = as_spelled(manifest, label_of)
    lost: dict[str, list[Row]] = collections.defaultdict(list)  # by content; several rows if the split has copies
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
    """Return the manifest with paths in the Unicode form of the existing files."""
    if all(row.path.isascii() for row in manifest.rows):
        return manifest
    spelling = names.by_spelling(set(paths).difference(row.path for row in manifest.rows))
    existing = set(paths)
    rows = []
    for row in manifest.rows:
        path = row.path if row.path in existing else spelling.pop(names.nfc(row.path), row.path)
        rows.append(dataclasses.replace(row, path=path))
    return Manifest(tuple(sorted(rows, key=lambda row: row.path)))


def _some(paths: Sequence[str]) -> str:
    """Return the count and the first five paths as text."""
    return f"{len(paths)} ({', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''})"
