"""Compute image features with a frozen backbone: once per image, on LiteRT and all cores. They are stored by image content."""

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.core import database, shards
from imgclf.core.config import Preprocessing
from imgclf.core.database import Database
from imgclf.core.errors import ImageError
from imgclf.core.files.state_folder import state_folder
from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Progress
from imgclf.core.shards import Shard
from imgclf.images.augment import ImageAugmentation
from imgclf.images.decode import Image
from imgclf.models import backbones
from imgclf.models.litert import Engines

_TABLES = database.Tables(
    "CREATE TABLE features (image TEXT, view TEXT, vector BLOB, PRIMARY KEY (image, view)) WITHOUT ROWID", version=1
)
_ORIGINALS = "SELECT image FROM features WHERE view = '' ORDER BY image"
_INSERT = "INSERT OR REPLACE INTO features VALUES (?, ?, ?)"
_COMMIT_EVERY = 2.0  # seconds of work that a kill may lose


class Extractor:
    """A backbone as a LiteRT file. `vector` is thread-safe. width: number of features per image."""

    def __init__(self, file: Path, width: int) -> None:
        self.file, self.width = file, width
        self._engines = Engines(file)

    def vector(self, image: Image) -> NDArray[np.float32]:
        """Return the features, (width,), of one (h, w, 3) uint8 image at the backbone's size."""
        return np.asarray(self._engines.output(image), np.float32)


def opened(
    data: Path, name: str, preprocessing: Preprocessing, weights: backbones.Weights = "imagenet", seed: int = 0
) -> tuple[Extractor, Path]:
    """Return a backbone, which the first call exports to LiteRT, and the path of its feature store for a data folder."""
    identity = backbones.identity(name, weights, seed)
    extractor = Extractor(backbones.extractor(name, preprocessing.height, weights, seed), backbones.BACKBONES[name].features)
    return extractor, state_folder(data) / "features" / f"{name}-{preprocessing.hash}-{identity}-{_TABLES.version}.sqlite"


def known(store: Path) -> set[str]:
    """Return the content hashes of the images whose original view, without augmentation, is in the store."""
    if not store.exists():
        return set()
    with database.running(store, _TABLES, lambda db: {digest for (digest,) in db.rows(_ORIGINALS, key=1)}) as hashes:
        return hashes


def merge(store: Path) -> list[Shard]:
    """Merge the features that other processes computed, one shard each, into the store, and remove their files."""
    with database.running(store, _TABLES, _merge) as taken:
        return taken


def _merge(db: Database) -> list[Shard]:
    return shards.merge(db, _TABLES, lambda other: db.put(_INSERT, _rows(other)))


def _rows(db: Database) -> Iterator[tuple[str, str, bytes]]:
    for image, view, vector in db.rows("SELECT image, view, vector FROM features ORDER BY image, view", key=2):
        if not (isinstance(image, str) and isinstance(view, str) and _is_vector(vector)):
            raise db.damaged("features that cannot be read")
        yield image, view, vector


def _is_vector(content: object, width: int | None = None) -> bool:
    """Return whether a value holds finite float32 numbers, `width` of them if it is given."""
    if not isinstance(content, bytes) or len(content) % 4 or len(content) != 4 * (width or len(content) // 4):
        return False
    return bool(np.isfinite(np.frombuffer(content, "<f4")).all())


def seed_of(digest: str, view: int) -> int:
    """Return the random seed of a view. It depends on the image and the view only, so all trainings use the same views."""
    return int.from_bytes(hashlib.sha256(f"{digest} {view}".encode()).digest()[:7])


@dataclasses.dataclass(frozen=True)
class Views:
    """Views of each image, by name: "" is the original; the others are augmented by `change`, seeded by image and name."""

    names: tuple[str, ...] = ("",)
    change: ImageAugmentation | None = None


def extract(
    extractor: Extractor,
    store: Path,
    images: Sequence[tuple[str, Callable[[], Image]]],
    *,
    views: Views = Views(),
    progress: Progress | None = None,
    unreadable: list[int] | None = None,
) -> NDArray[np.float32]:
    """Return the features of every image, from the store if it has them. New features are computed and stored.

    An interrupted extraction continues where it stopped.

    Args:
        images: (content hash, function that reads the pixels) of each image.
        unreadable: A list that receives the positions of unreadable images, whose features are 0. None: they raise an error.

    Returns:
        An array (views, n, width).
    """
    result = np.zeros((len(views.names), len(images), extractor.width), np.float32)
    extraction = _Extraction(extractor, images, views, unreadable, result)
    with database.running(store, _TABLES, lambda db: extraction.run(db, progress)):
        return extraction.result


@dataclasses.dataclass
class _Extraction:
    extractor: Extractor
    images: Sequence[tuple[str, Callable[[], Image]]]
    views: Views
    unreadable: list[int] | None
    result: NDArray[np.float32]  # (views, n, width)

    def run(self, db: Database, progress: Progress | None) -> None:
        """Fill the result, and store new features every two seconds."""
        todo = self._missing(db)
        total = self.result.shape[0] * self.result.shape[1]
        rows: list[tuple[str, str, bytes]] = []
        saved = time.monotonic()
        with contextlib.closing(ordered_map(self._vector, todo)) as vectors:
            for done, ((index, number), vector) in enumerate(zip(todo, vectors, strict=True), 1):
                if vector is not None:
                    self.result[number, index] = vector
                    rows.append((self.images[index][0], self.views.names[number], vector.astype("<f4").tobytes()))
                elif self.unreadable is not None and index not in self.unreadable:
                    self.unreadable.append(index)
                if time.monotonic() - saved > _COMMIT_EVERY or done == len(todo):
                    with db.writing():
                        db.put(_INSERT, rows)
                    rows.clear()
                    saved = time.monotonic()
                if progress:
                    progress(total - len(todo) + done, total)

    def _missing(self, db: Database) -> list[tuple[int, int]]:
        """Copy stored features into the result, and return the (image, view) positions of the others, sorted by image."""
        todo: list[tuple[int, int]] = []
        for number, view in enumerate(self.views.names):
            for index, (digest, _read) in enumerate(self.images):
                row = db.one("SELECT vector FROM features WHERE image = ? AND view = ?", (digest, view))
                if row:
                    if not _is_vector(row[0], self.extractor.width):
                        raise db.damaged("features that cannot be read")
                    self.result[number, index] = np.frombuffer(row[0], "<f4")
                else:
                    todo.append((index, number))
        return sorted(todo)

    def _vector(self, position: tuple[int, int]) -> NDArray[np.float32] | None:
        (digest, read), view = self.images[position[0]], position[1]
        try:
            image = read()
        except (ImageError, OSError):
            if self.unreadable is None:
                raise
            return None
        if self.views.names[view] and self.views.change:
            image = self.views.change(image, seed_of(digest, view))
        return self.extractor.vector(image)
