"""The index: measurements of each file, stored in DATA/.imgclf/index so that an unchanged file is not read again.

The file is an SQLite database and only a cache. Each version of imgclf has its own file, so that a team with two versions does
not rebuild it again and again. Files of old versions may be deleted.
"""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from imgclf.core import database, shards
from imgclf.core.database import Database
from imgclf.core.errors import ImgclfError
from imgclf.core.parallel import ordered_map, process_map
from imgclf.core.progress import Progress
from imgclf.core.shards import Shard
from imgclf.data import index_tables
from imgclf.data.dataset import Dataset, select
from imgclf.data.index_tables import (
    Row,
    index_path,
    known_rows,
    merge_shards,
    save,
    stamp,
)
from imgclf.data.layout import DataFile, classes, scan
from imgclf.data.scanned import Scanned
from imgclf.images import measurements

_COMMIT_EVERY = 2.0  # seconds of work that are lost if the process is killed


@contextlib.contextmanager
def inspect(root: Path, paths: Sequence[str], progress: Progress | None = None) -> Iterator[Scanned]:
    """Measure every file, and yield the measurements.

    New and changed files are read once and decoded completely, on all cores. A file that only moved is recognised by its
    content. Raises ImgclfError if the index cannot be written.

    Args:
        paths: All files of the data folder, relative to it. The index drops the measurements of all other files.
    """
    path = index_path(root)
    with database.running(
        path, index_tables.TABLES, lambda db: _inspect(db, root, paths, progress, merge_shards(db))
    ) as scanned:
        yield scanned


def inspect_shard(root: Path, paths: Sequence[str], shard: Shard, progress: Progress | None = None) -> tuple[int, int]:
    """Measure one shard of the files, for the next `inspect` to merge.

    Files that are in the index and have not changed are skipped. Any number of shards may run at once, on several machines.

    Returns:
        (number of files inspected, number of unusable files among them).
    """
    todo = [path for path in paths if shard.has(path)]
    path = index_path(root)
    if path.exists():
        with database.running(path, index_tables.TABLES, lambda db: _unchanged(db, root, paths)) as unchanged:
            todo = [one for one in todo if one not in unchanged]
    with (
        shards.result(path, shard) as file,
        database.running(file, index_tables.TABLES, lambda db: _inspect(db, root, todo, progress, [])) as scanned,
    ):
        return len(todo), len(scanned.problems)


def _unchanged(db: Database, root: Path, paths: Sequence[str]) -> set[str]:
    """Return the paths of files that are in the index and have not changed since."""
    known = ((paths[index], row) for index, row in known_rows(db, paths) if index is not None and row and row[3])
    return {path for path, row in known if row[1] == stamp(root / path)}


class _Columns:
    """The columns of a `Scanned`, while they are being filled."""

    def __init__(self, count: int) -> None:
        self.records = np.zeros(count, measurements.DTYPE)
        self.digests = np.zeros(count, "V32")
        self.problems: dict[int, str] = {}
        self.thumbnails = np.zeros(count, np.int64)

    def put(self, index: int, digest: bytes, record: bytes, problem: str, thumbnail: int) -> None:
        """Store the measurements of one file. digest: empty if the file must be read again next time."""
        self.records[index] = np.frombuffer(record, measurements.DTYPE)[0]
        if problem:
            self.problems[index] = problem
        if digest:
            self.digests[index] = np.frombuffer(digest, "V32")[0]
            self.thumbnails[index] = thumbnail


@dataclasses.dataclass(frozen=True)
class _Changes:
    """The differences between the files and the index."""

    todo: list[tuple[int, bytes]]  # (index, stamp) of files that are new or changed
    # SHA-256 -> (measurements, problem, thumbnail) of paths that are gone or changed; the file may have moved
    moved: dict[bytes, tuple[bytes, str, int]]
    gone: list[tuple[bytes]]  # paths, as parameters of an SQL statement


def _inspect(db: Database, root: Path, paths: Sequence[str], progress: Progress | None, taken: list[Shard]) -> Scanned:
    columns = _Columns(len(paths))
    changes = _compare(db, root, paths, columns)
    if not measurements.are_sound(np.delete(columns.records, [index for index, _now in changes.todo])):
        raise db.damaged("impossible measurements")
    read = _read(db, root, paths, changes, columns, progress)
    if changes.gone:
        with db.writing():
            db.put("DELETE FROM files WHERE path = ?", changes.gone)
            db.put("DELETE FROM thumbnails WHERE id NOT IN (SELECT thumbnail FROM files)")
    return Scanned(root, paths, columns.records, columns.digests, columns.problems, columns.thumbnails, read, taken, db)


def _compare(db: Database, root: Path, paths: Sequence[str], columns: _Columns) -> _Changes:
    """Fill the columns of unchanged files from the index; return the differences."""
    changes = _Changes([], {}, [])
    for index, row in known_rows(db, paths):
        if index is None:
            if row:
                changes.gone.append((row[0],))
                if row[3]:
                    changes.moved[row[2]] = row[3:]
            continue
        now = stamp(root / paths[index])
        if row and row[3] and row[1] == now:
            columns.put(index, *row[2:])
        else:
            if row and row[3]:
                changes.moved[row[2]] = row[3:]
            changes.todo.append((index, now))
    return changes


def _read(
    db: Database, root: Path, paths: Sequence[str], changes: _Changes, columns: _Columns, progress: Progress | None
) -> int:
    """Read the new and changed files, fill their columns and save them in the index; return how many were decoded."""
    known = len(paths) - len(changes.todo)
    if progress:
        progress(known, len(paths))
    rows: dict[int, Row] = {}
    thumbnails: dict[int, bytes] = {}
    saved = time.monotonic()
    read = 0
    todo = [paths[index] for index, _now in changes.todo]
    results = process_map(measurements.measure_file, (str(root), frozenset(changes.moved)), todo)
    with contextlib.closing(results):
        for done, ((index, now), result) in enumerate(zip(changes.todo, results, strict=True), 1):
            digest, record, problem, thumbnail = result
            place = 0
            if not record:
                record, problem, place = changes.moved[digest]
            else:
                read += 1
                if thumbnail:
                    thumbnails[index] = thumbnail
            columns.put(index, digest, record, problem, place)
            if place and not measurements.are_sound(columns.records[index : index + 1]):
                raise db.damaged("impossible measurements")
            if digest:
                rows[index] = (os.fsencode(paths[index]), now, digest, record, problem, place)
            if len(rows) >= 1000 or time.monotonic() - saved > _COMMIT_EVERY:
                save(db, rows, thumbnails, columns.thumbnails)
                saved = time.monotonic()
            if progress:
                progress(known + done, len(paths))
    save(db, rows, thumbnails, columns.thumbnails)
    return read


@contextlib.contextmanager
def images(
    root: Path, *, minimum_classes: int = 1, progress: Progress | None = None
) -> Iterator[tuple[Scanned, list[DataFile], Dataset, list[tuple[str, str]]]]:
    """Measure every file in a class folder, and yield (scan, files, dataset of the images that decode, skipped files).

    Skipped files are (path, reason). Raises ImgclfError under the same conditions as `dataset.index`.
    """
    names = classes(root, minimum_classes)
    files = [file for file in scan(root) if not file.ignored]
    with inspect(root, [file.path for file in files], progress) as scanned:
        problems = (
            scanned.problems.get(index, "unusable") if bad else "" for index, bad in enumerate((~scanned.usable()).tolist())
        )
        yield scanned, files, *select(root, names, zip(files, problems, strict=True))


def content_hashes(
    root: Path, paths: Sequence[str], progress: Progress | None = None, shard: Shard | None = None
) -> dict[str, str]:
    """Return the SHA-256 of each file, by path. Unreadable files are missing.

    Nothing is decoded, and unchanged files are not read.

    Args:
        shard: The shard that the paths are, if any. Its hashes are stored for the next `inspect`.
    """
    path = index_path(root)
    with shards.result(path, shard) if shard else contextlib.nullcontext(path) as file:

        def hash_files(db: Database) -> dict[str, str]:
            if not shard:
                merge_shards(db)
            return _content_hashes(db, root, paths, progress)

        with database.running(file, index_tables.TABLES, hash_files) as hashes:
            return hashes


def _content_hashes(db: Database, root: Path, paths: Sequence[str], progress: Progress | None) -> dict[str, str]:
    hashes: dict[str, str] = {}
    todo: list[tuple[str, bytes]] = []
    for index, row in known_rows(db, paths):
        if index is not None:
            now = stamp(root / paths[index])
            if row and row[1] == now:
                hashes[paths[index]] = row[2].hex()
            else:
                todo.append((paths[index], now))

    def digest_of(item: tuple[str, bytes]) -> bytes:
        try:
            with open(root / item[0], "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return b""

    rows = {}
    with contextlib.closing(ordered_map(digest_of, todo)) as digests:
        for done, ((path, now), digest) in enumerate(zip(todo, digests, strict=True), 1):
            if digest:
                hashes[path] = digest.hex()
                rows[done] = (os.fsencode(path), now, digest, b"", "", 0)
            if progress:
                progress(len(paths) - len(todo) + done, len(paths))
    save(db, rows, {}, np.zeros(0, np.int64))
    return hashes


def update_stamps(root: Path, linked: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Update the stamps of files that got a hard link. Without this they are read again, since a hard link changes the ctime.

    linked: (path, `stamp` before the link was made, `stamp` after).
    """
    same = [(after, os.fsencode(path), before) for path, before, after in linked if before[:8] == after[:8]]
    path = index_path(root)

    def update(db: Database) -> None:
        with db.writing():
            db.put("UPDATE files SET stamp = ? WHERE path = ? AND stamp = ?", same)

    if same and path.exists():
        # If the index is locked, the files are read again.
        with contextlib.suppress(ImgclfError), database.running(path, index_tables.TABLES, update):
            pass
