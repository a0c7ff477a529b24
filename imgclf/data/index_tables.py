"""The tables of the index, and their rows, which are checked when they are read."""

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

# Raised when a measure or the comparison of images changes: what was kept by the old one is then forgotten.
MEASURES = 4
# Thumbnail numbers are never reused: a command may still look for one that another command has replaced.
_SQL = """
CREATE TABLE files (
    path BLOB PRIMARY KEY, stamp BLOB, sha256 BLOB, measurements BLOB, problem TEXT, thumbnail INT
) WITHOUT ROWID;
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY AUTOINCREMENT, compared BLOB);
CREATE TABLE searches (images BLOB, at_least REAL, pairs BLOB, PRIMARY KEY (images, at_least)) WITHOUT ROWID;
"""
TABLES = database.Tables(_SQL, zlib.crc32(f"{MEASURES} {DECODER_VERSION} {measurements.DTYPE} {_SQL}".encode()) & 0x7FFFFFFF)
_MOST = 1 << 62  # more thumbnails than there will ever be
_LONGEST_TEXT = 1 << 16  # of a path, and of the words for a problem
# What another process found; a hash alone does not displace the measurements of an image.
_TAKE = """
INSERT INTO files VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE
SET stamp = excluded.stamp, sha256 = excluded.sha256, measurements = excluded.measurements, problem = excluded.problem,
    thumbnail = excluded.thumbnail
WHERE length(excluded.measurements) > 0 OR length(files.measurements) = 0
"""
NO_HASH = bytes(32)
GREY = similarity.SIDE**2  # bytes of a thumbnail; behind it come colours and ranks
COLOURS = 3 * similarity.COLOURS**2
COMPARED = GREY + COLOURS + 64


def take_up(db: Database) -> list[Shard]:
    """Put the results of finished shards into the index, and remove their files."""

    def copy(other: Database) -> None:
        last = _last(db)
        db.put("INSERT INTO thumbnails VALUES (?, ?)", ((last + number, seen) for number, seen in _thumbnails(other)))
        db.put(_TAKE, ((*row, last + number if number else 0) for *row, number in _rows(other)))

    return shards.merge(db, TABLES, copy)


def _thumbnails(db: Database) -> Iterator[tuple[int, bytes]]:
    for number, seen in db.rows("SELECT id, compared FROM thumbnails ORDER BY id", key=1):
        if not 0 < number < _MOST or not is_bytes(seen, COMPARED):
            raise db.damaged("a thumbnail of the wrong size")
        yield number, seen


def _last(db: Database) -> int:
    """The number of the newest thumbnail."""
    (last,) = db.one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence")
    if not isinstance(last, int) or not 0 <= last < _MOST:
        raise db.damaged("a thumbnail's number that cannot be")
    return last


def stamp(path: Path) -> bytes:
    """A stamp of a file that changes with the file. It has the inode, because two files that swap names keep size and time.

    The last eight bytes are the ctime, the only sign of an edit that keeps the size and resets the mtime. The ctime also
    changes with links and permissions; in that case the content is hashed, but not decoded.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return bytes(16)
    numbers = status.st_size, status.st_mtime_ns, status.st_ino
    return xxhash.xxh3_64_digest(b"%d %d %d" % numbers) + struct.pack("<q", status.st_ctime_ns)


Row = tuple[bytes, bytes, bytes, bytes, str, int]  # of the table files


def _rows(db: Database) -> Iterator[Row]:
    """All rows, sorted by path. Files that were only hashed have no measurements."""
    for row in db.rows("SELECT path, stamp, sha256, measurements, problem, thumbnail FROM files ORDER BY path", key=1):
        path, at, digest, record, problem, number = row
        is_whole = (
            isinstance(path, bytes)
            and len(path) <= _LONGEST_TEXT
            and is_bytes(at, 16)
            and is_bytes(digest, 32)
            and (is_bytes(record, measurements.DTYPE.itemsize) or is_bytes(record, 0))
            and isinstance(problem, str)
            and len(problem) <= _LONGEST_TEXT
            and isinstance(number, int)
            and 0 <= number < _MOST
        )
        if not is_whole:
            raise db.damaged(f"the row of {str(path)[:100]} cannot be read")
        yield row


def is_bytes(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length


def known_rows(db: Database, paths: Sequence[str]) -> Iterator[tuple[int | None, Row | None]]:
    """Every index of `paths` with its row or None, and every other row with None: two sorted lists, merged."""
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
    """Write rows and thumbnails, given by index, say in `places` where the thumbnails are, and empty both."""
    if not rows:
        return
    with db.writing():
        last = _last(db)
        for number, index in enumerate(thumbnails, last + 1):
            places[index] = number
            rows[index] = (*rows[index][:-1], number)
        db.put("INSERT INTO thumbnails VALUES (?, ?)", enumerate(thumbnails.values(), last + 1))
        db.put("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows.values())
    rows.clear()
    thumbnails.clear()


def index_path(root: Path) -> Path:
    return state_folder(root) / "index" / f"files-{TABLES.version}.sqlite"
