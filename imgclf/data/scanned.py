"""The measurements of files as columns, and the search for similar images."""

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

_MOST_COMPARED = 64  # images of a group that one image is compared with


@dataclasses.dataclass(frozen=True)
class Scanned:
    """Measurements of files, as columns: row i of every column belongs to paths[i]."""

    root: Path
    paths: Sequence[str]
    measurements: Measurements  # (n,) dtype DTYPE
    sha256: NDArray[np.void]  # (n,) 32 bytes, zero where the file could not be read
    problems: dict[int, str]  # by index: why the file is unusable
    thumbnails: NDArray[np.int64]  # (n,) id of each file's thumbnail in the database, 0 if there is none
    read: int  # number of files read and decoded now; the others were in the index
    taken: list[Shard]  # shards of other processes whose results were merged
    _db: Database = dataclasses.field(repr=False, compare=False)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each readable file, by path."""
        known = ((path, value.tobytes()) for path, value in zip(self.paths, self.sha256, strict=True))
        return {path: digest.hex() for path, digest in known if digest != NO_HASH}

    def usable(self) -> NDArray[np.bool_]:
        """Return (n,): whether each file decodes."""
        return np.asarray(self.measurements["problem"] == b"")

    def same_pixels(self) -> NDArray[np.int64]:
        """Return (n,): the lowest index of a file with the same size and pixels, which may be the file itself."""
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
        """Return some of the files, by index. Use only the columns of the result, not the searches for similar images."""
        some = list(indices)
        problems = {new: self.problems[old] for new, old in enumerate(some) if old in self.problems}
        paths = [self.paths[index] for index in some]
        columns = self.measurements[some], self.sha256[some], problems, self.thumbnails[some]
        return Scanned(self.root, paths, *columns, self.read, self.taken, self._db)

    def similar_pairs(self, progress: Progress | None = None, at_least: float = 0.0) -> NDArray[np.void]:
        """Return pairs of near-duplicates (also mirrored), dtype `similarity.PAIRS`, as indices into this scan.

        Of several files with the same pixels only the first is compared. The pairs connect every group of near-duplicates, but
        are not all pairs of a group. The result is stored, and used again while the folder contains the same images. Raises
        ImgclfError if the index is damaged.

        Args:
            at_least: The minimum similarity of each pair.
        """
        large = np.minimum(self.measurements["width"], self.measurements["height"]) >= similarity.MIN_SIDE
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
            thumbnails_of = lambda indices: self._thumbnails_of(chosen[indices])  # noqa: E731
            pairs = similarity.pairs(hashes, ranks, small, thumbnails_of, at_least=at_least, progress=progress)
            with self._db.writing():
                self._db.put("DELETE FROM searches WHERE images != ?", [(key,)])
                if pairs.nbytes < database.LONGEST // 2:
                    self._db.put("INSERT OR REPLACE INTO searches VALUES (?, ?, ?)", [(key, at_least, pairs.tobytes())])
        pairs["first"], pairs["second"] = chosen[pairs["first"]], chosen[pairs["second"]]
        return pairs

    def likeness(self, first: int, others: Sequence[int]) -> tuple[int, float, bool]:
        """Return (the one of `others` that is most similar to `first`, its similarity, whether it is mirrored)."""
        nearest = np.array(others)
        if len(nearest) > _MOST_COMPARED:
            nearest = nearest[
                similarity.distance(self.measurements["hash"][first], self.measurements["hash"][nearest]).argsort(kind="stable")
            ]
        nearest = nearest[:_MOST_COMPARED]
        grey = self._thumbnails_of(nearest)[0]
        own = np.repeat(self._thumbnails_of(np.array([first]))[0], len(nearest), axis=0)
        similarities = np.array([similarity.similarity(own, grey), similarity.similarity(own, grey[:, :, ::-1])])
        mirrored, place = np.unravel_index(similarities.argmax(), similarities.shape)
        return int(nearest[place]), float(similarities[mirrored, place]), bool(mirrored)

    def _thumbnails_of(self, indices: NDArray[np.int64]) -> tuple[similarity.Thumbnails, similarity.Colours]:
        each, place = np.unique(indices, return_inverse=True)
        rows = self._compared(each)[place]
        grey = rows[:, :GREY].reshape(-1, similarity.SIDE, similarity.SIDE)
        return grey, rows[:, GREY : GREY + COLOURS].reshape(-1, similarity.COLOURS, similarity.COLOURS, 3)

    def _compared(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return (n, COMPARED): thumbnails and ranks of the hash bits of the files with these indices."""
        rows = []
        for index, number in zip(indices.tolist(), self.thumbnails[indices].tolist(), strict=True):
            row = self._db.one("SELECT compared FROM thumbnails WHERE id = ?", (number,))
            if row and not is_bytes(row[0], COMPARED):
                raise self._db.damaged("a thumbnail of the wrong size")
            rows.append(row[0] if row else self._compute_again(index))
        return np.frombuffer(b"".join(rows), np.uint8).reshape(len(indices), -1)

    def _compute_again(self, index: int) -> bytes:
        """Compute again a thumbnail that another command has just replaced. Raises ImgclfError if the image changed."""
        digest, _record, _problem, thumbnail = measurements.measure_file((str(self.root), frozenset()), self.paths[index])
        if digest != self.sha256[index].tobytes() or not thumbnail:
            raise ImgclfError(f"{self.root / self.paths[index]}: changed while it was compared; run the command again")
        return thumbnail

    def _pairs(self, content: object, count: int) -> NDArray[np.void]:
        """Decode stored pairs, which must be indices below `count`."""
        if isinstance(content, bytes) and len(content) % similarity.PAIRS.itemsize == 0:
            pairs = np.frombuffer(content, similarity.PAIRS).copy()
            ends = np.stack([pairs["first"], pairs["second"]])
            is_valid = (ends >= 0).all() and (ends < count).all() and np.isfinite(pairs["similarity"]).all()
            if is_valid and (np.ascontiguousarray(pairs["mirrored"]).view("u1") <= 1).all():
                return pairs
        raise self._db.damaged("pairs that cannot be read")
