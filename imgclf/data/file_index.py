"""The catalogue: what one look at each file told, kept in DATA/.imgclf/index so that an unchanged file is not read again.

The file is an SQLite database and only a cache. Each version of imgclf has its own file, so that a team with two versions does
not rebuild it again and again. Files of old versions may be deleted.
"""

import contextlib
import dataclasses
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from imgclf.core import database, shards
from imgclf.core.config import DECODER_VERSION
from imgclf.core.database import Database
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import state_folder
from imgclf.core.parallel import ordered_map, process_map
from imgclf.core.progress import Progress
from imgclf.core.shards import Shard
from imgclf.data.layout import Dataset, Found, classes, scan, select
from imgclf.images import measurements, similarity

# Raised when a measure or the comparison of pictures changes: what was kept by the old one is then forgotten.
_MEASURES = 4
# Thumbnail numbers are never reused: a command may still look for one that another command has replaced.
_SQL = """
CREATE TABLE files (path BLOB PRIMARY KEY, stamp BLOB, sha256 BLOB, facts BLOB, problem TEXT, thumbnail INT) WITHOUT ROWID;
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY AUTOINCREMENT, compared BLOB);
CREATE TABLE searches (pictures BLOB, at_least REAL, pairs BLOB, PRIMARY KEY (pictures, at_least)) WITHOUT ROWID;
"""
_TABLES = database.Tables(_SQL, zlib.crc32(f"{_MEASURES} {DECODER_VERSION} {measurements.FACTS} {_SQL}".encode()) & 0x7FFFFFFF)
_MOST = 1 << 62  # more thumbnails than there will ever be
_LONGEST_TEXT = 1 << 16  # of a path, and of what is said of a problem
# What another process found; a hash alone does not displace the facts of a picture.
_TAKE = """
INSERT INTO files VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE
SET stamp = excluded.stamp, sha256 = excluded.sha256, facts = excluded.facts, problem = excluded.problem,
    thumbnail = excluded.thumbnail
WHERE length(excluded.facts) > 0 OR length(files.facts) = 0
"""
_NO_HASH = bytes(32)
_GREY = similarity.SIDE**2  # bytes of a thumbnail; behind it come colours and ranks
_COLOURS = 3 * similarity.COLOURS**2
_COMPARED = _GREY + _COLOURS + 64
_MOST_COMPARED = 64  # pictures of a group that one is held against
_COMMIT_EVERY = 2.0  # seconds: what a killed first pass may lose


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Facts of files, column by column; index i is paths[i] in every column."""

    root: Path
    paths: Sequence[str]
    facts: measurements.Facts  # (n,) dtype FACTS
    sha256: NDArray[np.void]  # (n,) 32 bytes, zero where the file could not be read
    problems: dict[int, str]  # why a file cannot be used, in words
    thumbnails: NDArray[np.int64]  # (n,) where the database has each file's thumbnail, 0 where there is none
    read: int  # files read and decoded now; the others were known
    taken: list[Shard]  # shares of other processes whose results were taken up
    _db: Database = dataclasses.field(repr=False, compare=False)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that could be read, by path."""
        known = ((path, value.tobytes()) for path, value in zip(self.paths, self.sha256, strict=True))
        return {path: digest.hex() for path, digest in known if digest != _NO_HASH}

    def usable(self) -> NDArray[np.bool_]:
        """(n,) which files have pixels."""
        return np.asarray(self.facts["problem"] == b"")

    def same_pixels(self) -> NDArray[np.int64]:
        """(n,) for each file the lowest index of a file with the same size and pixels; its own where there is none."""
        result = np.arange(len(self.paths))
        some = np.flatnonzero(self.usable())
        pixels = self.facts["pixels"][some]
        order = np.lexsort((some, pixels[:, 1], pixels[:, 0]))
        same = np.zeros(len(some), bool)
        same[1:] = (pixels[order][1:] == pixels[order][:-1]).all(axis=1)
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(some))))
        result[some[order]] = some[order][first]
        return result

    def subset(self, indices: Sequence[int]) -> "Catalogue":
        """Some of the files, by index; only the columns are meant to be used, not the comparison with others."""
        some = list(indices)
        problems = {new: self.problems[old] for new, old in enumerate(some) if old in self.problems}
        paths = [self.paths[index] for index in some]
        columns = self.facts[some], self.sha256[some], problems, self.thumbnails[some]
        return Catalogue(self.root, paths, *columns, self.read, self.taken, self._db)

    def similar_pairs(self, progress: Progress | None = None, at_least: float = 0.0) -> NDArray[np.void]:
        """Pairs (dtype duplicates.PAIRS, indices into this catalogue) of different pictures that show the same.

        Every group of such hangs together by its pairs. at_least: a similarity that every pair must have. Kept for the next
        time that the folder holds the same pictures. Raises ImgclfError when the catalogue's file is damaged.
        """
        large = np.minimum(self.facts["width"], self.facts["height"]) >= similarity.SMALLEST
        comparable = self.usable() & large & ~self.facts["flat"]
        chosen = np.flatnonzero(comparable & (self.same_pixels() == np.arange(len(self.paths))))
        pixels = self.facts["pixels"][chosen]
        chosen = chosen[np.lexsort((pixels[:, 1], pixels[:, 0]))]
        key = xxhash.xxh3_128_digest(self.facts["pixels"][chosen].tobytes())
        row = self._db.one("SELECT pairs FROM searches WHERE pictures = ? AND at_least = ?", (key, at_least))
        if row:
            pairs = self._pairs(row[0], len(chosen))
        else:
            ranks, small = np.empty((len(chosen), 64), np.uint8), np.empty((len(chosen), 64), np.float16)
            for top in range(0, len(chosen), 1024):
                rows = self._compared(chosen[top : top + 1024])
                ranks[top : top + 1024] = rows[:, -64:]
                small[top : top + 1024] = similarity.coarse(rows[:, :_GREY].reshape(-1, similarity.SIDE, similarity.SIDE))
            hashes = self.facts["hash"][chosen]
            looks = lambda some: self._looks(chosen[some])  # noqa: E731
            pairs = similarity.pairs(hashes, ranks, small, looks, at_least=at_least, progress=progress)
            with self._db.writing():
                self._db.put("DELETE FROM searches WHERE pictures != ?", [(key,)])
                if pairs.nbytes < database.LONGEST // 2:
                    self._db.put("INSERT OR REPLACE INTO searches VALUES (?, ?, ?)", [(key, at_least, pairs.tobytes())])
        pairs["first"], pairs["second"] = chosen[pairs["first"]], chosen[pairs["second"]]
        return pairs

    def likeness(self, first: int, others: Sequence[int]) -> tuple[int, float, bool]:
        """(the one of the others most similar to the first, how similar, whether as a mirror image); see `duplicates`."""
        nearest = np.array(others)
        if len(nearest) > _MOST_COMPARED:
            nearest = nearest[
                similarity.distance(self.facts["hash"][first], self.facts["hash"][nearest]).argsort(kind="stable")
            ]
        nearest = nearest[:_MOST_COMPARED]
        grey = self._looks(nearest)[0]
        own = np.repeat(self._looks(np.array([first]))[0], len(nearest), axis=0)
        alike = np.array([similarity.similarity(own, grey), similarity.similarity(own, grey[:, :, ::-1])])
        turned, place = np.unravel_index(alike.argmax(), alike.shape)
        return int(nearest[place]), float(alike[turned, place]), bool(turned)

    def _looks(self, some: NDArray[np.int64]) -> tuple[similarity.Thumbnails, similarity.Colours]:
        each, place = np.unique(some, return_inverse=True)
        rows = self._compared(each)[place]
        grey = rows[:, :_GREY].reshape(-1, similarity.SIDE, similarity.SIDE)
        return grey, rows[:, _GREY : _GREY + _COLOURS].reshape(-1, similarity.COLOURS, similarity.COLOURS, 3)

    def _compared(self, some: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, bytes): thumbnails and ranks of the files with these indices."""
        rows = []
        for index, number in zip(some.tolist(), self.thumbnails[some].tolist(), strict=True):
            row = self._db.one("SELECT compared FROM thumbnails WHERE id = ?", (number,))
            if row and not _is_bytes(row[0], _COMPARED):
                raise self._db.damaged("a thumbnail of the wrong size")
            rows.append(row[0] if row else self._made_again(index))
        return np.frombuffer(b"".join(rows), np.uint8).reshape(len(some), -1)

    def _made_again(self, index: int) -> bytes:
        """Compute a thumbnail again that another command has just replaced. Raises ImgclfError if the image changed."""
        digest, _record, _problem, thumbnail = measurements.look_at((str(self.root), frozenset()), self.paths[index])
        if digest != self.sha256[index].tobytes() or not thumbnail:
            raise ImgclfError(f"{self.root / self.paths[index]}: changed while it was compared; run the command again")
        return thumbnail

    def _pairs(self, content: object, count: int) -> NDArray[np.void]:
        """Decode stored pairs of `count` images."""
        if isinstance(content, bytes) and len(content) % similarity.PAIRS.itemsize == 0:
            pairs = np.frombuffer(content, similarity.PAIRS).copy()
            ends = np.stack([pairs["first"], pairs["second"]])
            is_whole = (ends >= 0).all() and (ends < count).all() and np.isfinite(pairs["similarity"]).all()
            if is_whole and (np.ascontiguousarray(pairs["mirrored"]).view("u1") <= 1).all():
                return pairs
        raise self._db.damaged("pairs that cannot be read")


@contextlib.contextmanager
def examine(root: Path, paths: Sequence[str], progress: Progress | None = None) -> Iterator[Catalogue]:
    """The facts of every file given, which should be all that there are: what is known of others is forgotten.

    Files that are new or changed are read once and decoded to their end, on all cores; one that only moved is recognised by its
    content. Raises ImgclfError when the catalogue cannot be written.
    """
    path = _path(root)
    with database.begun(path, _TABLES, lambda db: _examine(db, root, paths, progress, _take_up(db))) as catalogue:
        yield catalogue


def examine_share(root: Path, paths: Sequence[str], shard: Shard, progress: Progress | None = None) -> tuple[int, int]:
    """Look at a share of the files for the next `examine`: (files looked at, of which so many cannot be used).

    What the catalogue knows already is passed over. Any number of shares may be looked at at once, from several machines.
    """
    todo = [path for path in paths if shard.has(path)]
    path = _path(root)
    if path.exists():
        with database.begun(path, _TABLES, lambda db: _unchanged(db, root, paths)) as same:
            todo = [one for one in todo if one not in same]
    with (
        shards.result(path, shard) as file,
        database.begun(file, _TABLES, lambda db: _examine(db, root, todo, progress, [])) as seen,
    ):
        return len(todo), len(seen.problems)


def _unchanged(db: Database, root: Path, paths: Sequence[str]) -> set[str]:
    """Paths of files that are in the index and have not changed since."""
    known = ((paths[index], row) for index, row in _known(db, paths) if index is not None and row and row[3])
    return {path for path, row in known if row[1] == stamp(root / path)}


def _take_up(db: Database) -> list[Shard]:
    """Put the results of finished shares into the catalogue, and remove their files."""

    def copy(other: Database) -> None:
        last = _last(db)
        db.put("INSERT INTO thumbnails VALUES (?, ?)", ((last + number, seen) for number, seen in _thumbnails(other)))
        db.put(_TAKE, ((*row, last + number if number else 0) for *row, number in _rows(other)))

    return shards.take_up(db, _TABLES, copy)


def _thumbnails(db: Database) -> Iterator[tuple[int, bytes]]:
    for number, seen in db.rows("SELECT id, compared FROM thumbnails ORDER BY id", key=1):
        if not 0 < number < _MOST or not _is_bytes(seen, _COMPARED):
            raise db.damaged("a thumbnail of the wrong size")
        yield number, seen


def _last(db: Database) -> int:
    """The number of the newest thumbnail."""
    (last,) = db.one("SELECT coalesce(max(seq), 0) FROM sqlite_sequence")
    if not isinstance(last, int) or not 0 <= last < _MOST:
        raise db.damaged("a thumbnail's number that cannot be")
    return last


def _examine(db: Database, root: Path, paths: Sequence[str], progress: Progress | None, taken: list[Shard]) -> Catalogue:
    count = len(paths)
    records = np.zeros(count, measurements.FACTS)
    digests = np.zeros(count, "V32")
    problems: dict[int, str] = {}
    todo: list[int] = []
    stamps: list[bytes] = []
    places = np.zeros(count, np.int64)
    moved: dict[bytes, tuple[bytes, str, int]] = {}  # content -> the rest of the row, where the path is gone or changed
    gone: list[tuple[bytes]] = []
    for index, row in _known(db, paths):
        if index is None:
            if row and row[3]:
                moved[row[2]] = row[3:]
            gone += [(row[0],)] if row else []
            continue
        now = stamp(root / paths[index])
        if row and row[3] and row[1] == now:
            records[index], digests[index] = np.frombuffer(row[3], measurements.FACTS)[0], np.frombuffer(row[2], "V32")[0]
            places[index] = row[5]
            if row[4]:
                problems[index] = row[4]
        else:
            if row and row[3]:
                moved[row[2]] = row[3:]
            todo.append(index)
            stamps.append(now)
    if not measurements.are_sound(np.delete(records, todo)):
        raise db.damaged("measurements that no image has")
    if progress:
        progress(count - len(todo), count)
    rows: dict[int, _Row] = {}
    thumbnails: dict[int, bytes] = {}
    saved = time.monotonic()
    read = 0
    looks = process_map(measurements.look_at, (str(root), frozenset(moved)), [paths[index] for index in todo])
    with contextlib.closing(looks):
        for done, (index, now, (digest, record, problem, thumbnail)) in enumerate(zip(todo, stamps, looks, strict=True), 1):
            place = 0
            if not record:
                record, problem, place = moved[digest]
            else:
                read += 1
                if thumbnail:
                    thumbnails[index] = thumbnail
            records[index] = np.frombuffer(record, measurements.FACTS)[0]
            if place and not measurements.are_sound(records[index : index + 1]):
                raise db.damaged("measurements that no image has")
            if problem:
                problems[index] = problem
            if digest:
                digests[index] = np.frombuffer(digest, "V32")[0]
                places[index] = place
                rows[index] = (os.fsencode(paths[index]), now, digest, record, problem, place)
            if len(rows) >= 1000 or time.monotonic() - saved > _COMMIT_EVERY:
                _save(db, rows, thumbnails, places)
                saved = time.monotonic()
            if progress:
                progress(count - len(todo) + done, count)
    _save(db, rows, thumbnails, places)
    if gone:
        with db.writing():
            db.put("DELETE FROM files WHERE path = ?", gone)
            db.put("DELETE FROM thumbnails WHERE id NOT IN (SELECT thumbnail FROM files)")
    return Catalogue(root, paths, records, digests, problems, places, read, taken, db)


@contextlib.contextmanager
def pictures(
    root: Path, *, minimum_classes: int = 1, progress: Progress | None = None
) -> Iterator[tuple[Catalogue, list[Found], Dataset, list[tuple[str, str]]]]:
    """(catalogue of every file in a class folder, those files, the pictures that decode, (path, reason) of the others).

    Raises ImgclfError as `folder.index` does.
    """
    names = classes(root, minimum_classes)
    files = [file for file in scan(root) if not file.ignored]
    with examine(root, [file.path for file in files], progress) as catalogue:
        problems = (
            catalogue.problems.get(index, "cannot be used") if bad else ""
            for index, bad in enumerate((~catalogue.usable()).tolist())
        )
        yield catalogue, files, *select(root, names, zip(files, problems, strict=True))


def content_hashes(
    root: Path, paths: Sequence[str], progress: Progress | None = None, shard: Shard | None = None
) -> dict[str, str]:
    """SHA-256 of each file, by path; unreadable files are left out. Nothing is decoded, and an unchanged file is not read.

    shard: where the paths are a share, whose hashes are kept for the next `examine`.
    """
    path = _path(root)
    with shards.result(path, shard) if shard else contextlib.nullcontext(path) as file:

        def work(db: Database) -> dict[str, str]:
            if not shard:
                _take_up(db)
            return _content_hashes(db, root, paths, progress)

        with database.begun(file, _TABLES, work) as hashes:
            return hashes


def _content_hashes(db: Database, root: Path, paths: Sequence[str], progress: Progress | None) -> dict[str, str]:
    hashes: dict[str, str] = {}
    todo: list[tuple[str, bytes]] = []
    for index, row in _known(db, paths):
        if index is not None:
            now = stamp(root / paths[index])
            if row and row[1] == now:
                hashes[paths[index]] = row[2].hex()
            else:
                todo.append((paths[index], now))

    def one(item: tuple[str, bytes]) -> bytes:
        try:
            with open(root / item[0], "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return b""

    rows = {}
    with contextlib.closing(ordered_map(one, todo)) as digests:
        for done, ((path, now), digest) in enumerate(zip(todo, digests, strict=True), 1):
            if digest:
                hashes[path] = digest.hex()
                rows[done] = (os.fsencode(path), now, digest, b"", "", 0)
            if progress:
                progress(len(paths) - len(todo) + done, len(paths))
    _save(db, rows, {}, np.zeros(0, np.int64))
    return hashes


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


def keep_known(root: Path, linked: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Update the stamps of files that got hard links, which change the ctime, so that they are not read again.

    linked: path, `stamp` before the link was made, `stamp` after.
    """
    same = [(after, os.fsencode(path), before) for path, before, after in linked if before[:8] == after[:8]]
    path = _path(root)

    def work(db: Database) -> None:
        with db.writing():
            db.put("UPDATE files SET stamp = ? WHERE path = ? AND stamp = ?", same)

    if same and path.exists():
        with contextlib.suppress(ImgclfError), database.begun(path, _TABLES, work):  # if in use: files are read again
            pass


_Row = tuple[bytes, bytes, bytes, bytes, str, int]  # of the table files


def _rows(db: Database) -> Iterator[_Row]:
    """All rows, sorted by path. Files that were only hashed have no facts."""
    for row in db.rows("SELECT path, stamp, sha256, facts, problem, thumbnail FROM files ORDER BY path", key=1):
        path, at, digest, record, problem, number = row
        is_whole = (
            isinstance(path, bytes)
            and len(path) <= _LONGEST_TEXT
            and _is_bytes(at, 16)
            and _is_bytes(digest, 32)
            and (_is_bytes(record, measurements.FACTS.itemsize) or _is_bytes(record, 0))
            and isinstance(problem, str)
            and len(problem) <= _LONGEST_TEXT
            and isinstance(number, int)
            and 0 <= number < _MOST
        )
        if not is_whole:
            raise db.damaged(f"the row of {str(path)[:100]} cannot be read")
        yield row


def _is_bytes(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length


def _known(db: Database, paths: Sequence[str]) -> Iterator[tuple[int | None, _Row | None]]:
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


def _save(db: Database, rows: dict[int, _Row], thumbnails: dict[int, bytes], places: NDArray[np.int64]) -> None:
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


def _path(root: Path) -> Path:
    return state_folder(root) / "index" / f"files-{_TABLES.version}.sqlite"
