"""The SQL tables of the index. Rows are validated when they are read."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from imgclf.core import database, shards
from imgclf.core.config import DECODER_VERSION
from imgclf.core.database import Database
from imgclf.core.files.state_folder import state_folder
from imgclf.core.shards import Shard
from imgclf.images import measurements, similarity

# Increase this when a measurement or the comparison of images changes: imgclf then starts a new index.
MEASURES = 4
# AUTOINCREMENT: ids are never reused, because one command may still look up a thumbnail that another one has replaced.
_SQL = """
CREATE TABLE files (
    path BLOB PRIMARY KEY, stamp BLOB, sha256 BLOB, measurements BLOB, problem TEXT, thumbnail INT
) WITHOUT ROWID;
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY AUTOINCREMENT, compared BLOB);
CREATE TABLE searches (images BLOB, at_least REAL, pairs BLOB, PRIMARY KEY (images, at_least)) WITHOUT ROWID;
"""
TABLES = database.Tables(_SQL, zlib.crc32(f"{MEASURES} {DECODER_VERSION} {measurements.DTYPE} {_SQL}".encode()) & 0x7FFFFFFF)
_LAST_ID = 1 << 62  # no index ever has so many thumbnails
_LONGEST_TEXT = 1 << 16  # bytes of a path, characters of a problem
# Merge a row of another process. A row with only a hash does not replace a row with measurements.
_MERGE = """
INSERT INTO files VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE
SET stamp = excluded.stamp, sha256 = excluded.sha256, measurements = excluded.measurements, problem = excluded.problem,
    thumbnail = excluded.thumbnail
WHERE length(excluded.measurements) > 0 OR length(files.measurements) = 0
"""
NO_HASH = bytes(32)
GREY = similarity.SIDE**2  # bytes of the grey thumbnail; the colour thumbnail and the ranks of the hash bits follow
COLOURS = 3 * similarity.COLOURS**2
COMPARED = GREY + COLOURS + 64


def merge_shards(db: Database) -> list[Shard]:
    """Merge the results of finished shards into the index, and remove their files."""

    def copy(other: Database) -> None:
        last = _last_id(db)
        db.put("INSERT INTO thumbnails VALUES (?, ?)", ((last + number, seen) for number, seen in _thumbnails(other)))
        db.put(_MERGE, ((*row, last + number if number else 0) for *row, number in _rows(other)))

    return shards.merge(db, TABLES, copy)


def _thumbnails(db: Database) -> Iterator[tuple[int, bytes]]:
    for number, seen in db.rows("SELECT id, compared FROM thumbnails ORDER BY id", key=1):
        if not 0 < number < _LAST_ID or not is_bytes(seen, COMPARED):
            raise db.damaged("a thumbnail of the wrong size")
        yield number, seen


def _last_id(db: Database) -> int:
    """Return the id of the newest thumbnail."""
    (last,) = db.one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence")
    if not isinstance(last, int) or not 0 <= last < _LAST_ID:
        raise db.damaged("an invalid thumbnail id")
    return last


def stamp(path: Path) -> bytes:
    """Return 16 bytes that change when the file changes: a hash of size, mtime and inode, then the ctime.

    The inode is needed because two files that swap names may keep size and mtime. The ctime (the last 8 bytes) is the only sign
    of an edit that keeps the size and resets the mtime. It also changes with links and permissions; in that case the content is
    hashed, but not decoded. The result is zero for a file that cannot be read.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return bytes(16)
    numbers = status.st_size, status.st_mtime_ns, status.st_ino
    return xxhash.xxh3_64_digest(b"%d %d %d" % numbers) + struct.pack("<q", status.st_ctime_ns)


Row = tuple[bytes, bytes, bytes, bytes, str, int]  # of the table files


def _rows(db: Database) -> Iterator[Row]:
    """Yield all rows, sorted by path. Files that were only hashed have no measurements."""
    for row in db.rows("SELECT path, stamp, sha256, measurements, problem, thumbnail FROM files ORDER BY path", key=1):
        path, at, digest, record, problem, number = row
        is_valid = (
            isinstance(path, bytes)
            and len(path) <= _LONGEST_TEXT
            and is_bytes(at, 16)
            and is_bytes(digest, 32)
            and (is_bytes(record, measurements.DTYPE.itemsize) or is_bytes(record, 0))
            and isinstance(problem, str)
            and len(problem) <= _LONGEST_TEXT
            and isinstance(number, int)
            and 0 <= number < _LAST_ID
        )
        if not is_valid:
            raise db.damaged(f"the row of {str(path)[:100]} is invalid")
        yield row


def is_bytes(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length


def known_rows(db: Database, paths: Sequence[str]) -> Iterator[tuple[int | None, Row | None]]:
    """Merge the paths with the rows of the index: yield (index into `paths`, row), with None where one of them is missing."""
    order = sorted(range(len(paths)), key=lambda index: os.fsencode(paths[index]))
    rows = _rows(db)
    row = next(rows, None)
    for index in order:
        path = os.fsencode(paths[index])
        while row and row[0] < path:
            yield None, row
            row = next(rows, None)
        if row and row[0] == path:
            yield index, row
            row = next(rows, None)
        else:
            yield index, None
    while row:
        yield None, row
        row = next(rows, None)


def save(db: Database, rows: dict[int, Row], thumbnails: dict[int, bytes], places: NDArray[np.int64]) -> None:
    """Write rows and thumbnails (both by file index), store the ids of the thumbnails in `places`, and clear both dicts."""
    if not rows:
        return
    with db.writing():
        last = _last_id(db)
        for number, index in enumerate(thumbnails, last + 1):
            places[index] = number
            rows[index] = (*rows[index][:-1], number)
        db.put("INSERT INTO thumbnails VALUES (?, ?)", enumerate(thumbnails.values(), last + 1))
        db.put("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows.values())
    rows.clear()
    thumbnails.clear()


def index_path(root: Path) -> Path:
    return state_folder(root) / "index" / f"files-{TABLES.version}.sqlite"
