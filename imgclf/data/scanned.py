"""The measurements of files, column by column, and which of them show the same."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from imgclf.core import database
from imgclf.core.database import Database
from imgclf.core.errors import ImgclfError
from imgclf.core.progress import Progress
from imgclf.core.shards import Shard
from imgclf.data.index_tables import (
    COLOURS,
    COMPARED,
    GREY,
    NO_HASH,
    is_bytes,
)
from imgclf.images import measurements, similarity
from imgclf.images.measurements import Measurements

_MOST_COMPARED = 64  # images of a group that one is held against


@dataclasses.dataclass(frozen=True)
class Scanned:
    """Measurements of files, column by column; index i is paths[i] in every column."""

    root: Path
    paths: Sequence[str]
    measurements: Measurements  # (n,) dtype DTYPE
    sha256: NDArray[np.void]  # (n,) 32 bytes, zero where the file could not be read
    problems: dict[int, str]  # why a file cannot be used, in words
    thumbnails: NDArray[np.int64]  # (n,) where the database has each file's thumbnail, 0 where there is none
    read: int  # files read and decoded now; the others were known
    taken: list[Shard]  # shares of other processes whose results were taken up
    _db: Database = dataclasses.field(repr=False, compare=False)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that could be read, by path."""
        known = ((path, value.tobytes()) for path, value in zip(self.paths, self.sha256, strict=True))
        return {path: digest.hex() for path, digest in known if digest != NO_HASH}

    def usable(self) -> NDArray[np.bool_]:
        """(n,) which files have pixels."""
        return np.asarray(self.measurements["problem"] == b"")

    def same_pixels(self) -> NDArray[np.int64]:
        """(n,) for each file the lowest index of a file with the same size and pixels; its own where there is none."""
        result = np.arange(len(self.paths))
        some = np.flatnonzero(self.usable())
        pixels = self.measurements["pixels"][some]
        order = np.lexsort((some, pixels[:, 1], pixels[:, 0]))
        same = np.zeros(len(some), bool)
        same[1:] = (pixels[order][1:] == pixels[order][:-1]).all(axis=1)
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(some))))
        result[some[order]] = some[order][first]
        return result

    def subset(self, indices: Sequence[int]) -> "Scanned":
        """Some of the files, by index; only the columns are meant to be used, not the comparison with others."""
        some = list(indices)
        problems = {new: self.problems[old] for new, old in enumerate(some) if old in self.problems}
        paths = [self.paths[index] for index in some]
        columns = self.measurements[some], self.sha256[some], problems, self.thumbnails[some]
        return Scanned(self.root, paths, *columns, self.read, self.taken, self._db)

    def similar_pairs(self, progress: Progress | None = None, at_least: float = 0.0) -> NDArray[np.void]:
        """Pairs (dtype duplicates.PAIRS, indices into this scan) of different images that show the same.

        Every group of such hangs together by its pairs. at_least: a similarity that every pair must have. Kept for the next
        time that the folder holds the same images. Raises ImgclfError when the index's file is damaged.
        """
        large = np.minimum(self.measurements["width"], self.measurements["height"]) >= similarity.SMALLEST
        comparable = self.usable() & large & ~self.measurements["flat"]
        chosen = np.flatnonzero(comparable & (self.same_pixels() == np.arange(len(self.paths))))
        pixels = self.measurements["pixels"][chosen]
        chosen = chosen[np.lexsort((pixels[:, 1], pixels[:, 0]))]
        key = xxhash.xxh3_128_digest(self.measurements["pixels"][chosen].tobytes())
        row = self._db.one("SELECT pairs FROM searches WHERE images = ? AND at_least = ?", (key, at_least))
        if row:
            pairs = self._pairs(row[0], len(chosen))
        else:
            ranks, small = np.empty((len(chosen), 64), np.uint8), np.empty((len(chosen), 64), np.float16)
            for top in range(0, len(chosen), 1024):
                rows = self._compared(chosen[top : top + 1024])
                ranks[top : top + 1024] = rows[:, -64:]
                small[top : top + 1024] = similarity.coarse(rows[:, :GREY].reshape(-1, similarity.SIDE, similarity.SIDE))
            hashes = self.measurements["hash"][chosen]
            looks = lambda some: self._looks(chosen[some])  # noqa: E731
            pairs = similarity.pairs(hashes, ranks, small, looks, at_least=at_least, progress=progress)
            with self._db.writing():
                self._db.put("DELETE FROM searches WHERE images != ?", [(key,)])
                if pairs.nbytes < database.LONGEST // 2:
                    self._db.put("INSERT OR REPLACE INTO searches VALUES (?, ?, ?)", [(key, at_least, pairs.tobytes())])
        pairs["first"], pairs["second"] = chosen[pairs["first"]], chosen[pairs["second"]]
        return pairs

    def likeness(self, first: int, others: Sequence[int]) -> tuple[int, float, bool]:
        """(the one of the others most similar to the first, how similar, whether as a mirror image); see `similarity`."""
        nearest = np.array(others)
        if len(nearest) > _MOST_COMPARED:
            nearest = nearest[
                similarity.distance(self.measurements["hash"][first], self.measurements["hash"][nearest]).argsort(kind="stable")
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
        grey = rows[:, :GREY].reshape(-1, similarity.SIDE, similarity.SIDE)
        return grey, rows[:, GREY : GREY + COLOURS].reshape(-1, similarity.COLOURS, similarity.COLOURS, 3)

    def _compared(self, some: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, bytes): thumbnails and ranks of the files with these indices."""
        rows = []
        for index, number in zip(some.tolist(), self.thumbnails[some].tolist(), strict=True):
            row = self._db.one("SELECT compared FROM thumbnails WHERE id = ?", (number,))
            if row and not is_bytes(row[0], COMPARED):
                raise self._db.damaged("a thumbnail of the wrong size")
            rows.append(row[0] if row else self._made_again(index))
        return np.frombuffer(b"".join(rows), np.uint8).reshape(len(some), -1)

    def _made_again(self, index: int) -> bytes:
        """Compute a thumbnail again that another command has just replaced. Raises ImgclfError if the image changed."""
        digest, _record, _problem, thumbnail = measurements.measure_file((str(self.root), frozenset()), self.paths[index])
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
