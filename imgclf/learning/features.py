"""Features of pictures by a frozen backbone: computed once, on LiteRT and all cores, and kept by content."""

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.base import shards
from imgclf.base.config import Recipe
from imgclf.base.errors import ImgclfError
from imgclf.base.folders import state_folder
from imgclf.base.parallel import ordered_map
from imgclf.base.progress import Progress
from imgclf.base.shards import Shard
from imgclf.learning import backbones
from imgclf.pixels.augment import ChangeOne
from imgclf.pixels.images import Image

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS features (picture TEXT, view TEXT, vector BLOB, PRIMARY KEY (picture, view)) WITHOUT ROWID"
)
_COMMIT_EVERY = 2.0  # seconds: what a kill may lose


class Extractor:
    """A backbone as a LiteRT file; `vector` may be called from any thread."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._of_thread = threading.local()

    def vector(self, image: Image) -> NDArray[np.float32]:
        """(features,) of one (h, w, 3) uint8 picture at the backbone's size."""
        engine = getattr(self._of_thread, "engine", None)
        if engine is None:
            from ai_edge_litert.interpreter import Interpreter

            engine = self._of_thread.engine = Interpreter(str(self.file), num_threads=1)
            engine.allocate_tensors()
        engine.set_tensor(engine.get_input_details()[0]["index"], image[np.newaxis].astype(np.float32))
        engine.invoke()
        return np.asarray(engine.get_tensor(engine.get_output_details()[0]["index"])[0], np.float32)


def opened(
    data: Path, name: str, recipe: Recipe, weights: backbones.Weights = "imagenet", seed: int = 0
) -> tuple[Extractor, Path]:
    """A backbone that is ready to be asked, made the first time, and where its features of a folder's pictures are kept."""
    identity = backbones.identity(name, weights, seed)
    extractor = Extractor(backbones.extractor(name, recipe.height, weights, seed))
    return extractor, state_folder(data) / "features" / f"{name}-{recipe.hash}-{identity}.sqlite"


def known(store: Path) -> set[str]:
    """The content hashes of the pictures whose plain features are kept."""
    if not store.exists():
        return set()
    with contextlib.closing(_connected(store)) as db, _meant(store):
        return {digest for (digest,) in db.execute("SELECT picture FROM features WHERE view = ''")}


def take_up(store: Path) -> list[Shard]:
    """Put the features that other processes computed, each a share, into the store, and remove their files."""
    taken = []
    for shard, path in shards.results(store):
        with contextlib.closing(_connected(store)) as db, contextlib.closing(_connected(path)) as other, _meant(store), db:
            db.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", _rows(other, path))
        path.unlink(missing_ok=True)  # another command may take it up too
        taken.append(shard)
    return taken


def _rows(db: sqlite3.Connection, store: Path) -> Iterator[tuple[str, str, bytes]]:
    """What is kept; where it is damaged, it is this store that is removed, not the one that takes it up."""
    with _meant(store):
        yield from db.execute("SELECT picture, view, vector FROM features")


def _connected(store: Path) -> sqlite3.Connection:
    store.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(store, timeout=60)
    try:
        with _meant(store):
            db.execute("PRAGMA synchronous = OFF")
            db.execute(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def _meant(store: Path) -> Iterator[None]:
    """What a database says, in our words; one that is damaged is removed."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise ImgclfError(f"{store}: cannot be written ({error}); make room, or wait for the other command") from error
        store.unlink(missing_ok=True)
        raise ImgclfError(f"{store}: was damaged ({error}), and is removed; run again to make it anew") from error


def seed_of(digest: str, view: int) -> int:
    """What a picture's view is drawn from: the picture and the view alone, so that it is the same in every training."""
    return int.from_bytes(hashlib.sha256(f"{digest} {view}".encode()).digest()[:7])


def extract(
    extractor: Extractor,
    store: Path,
    pictures: Sequence[tuple[str, Callable[[], Image]]],
    *,
    width: int,
    views: Sequence[str] = ("",),
    change: ChangeOne | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """(views, n, width): the features of every picture, from `store` where they are known and computed where not.

    pictures: (content hash, a function that reads the pixels). views: names of views; "" is the picture as it is, others are
    drawn by `change` from the picture and the view's place. A killed extraction goes on where it was.
    """
    result = np.empty((len(views), len(pictures), width), np.float32)
    with contextlib.closing(_connected(store)) as db, _meant(store):
        _extract(extractor, db, pictures, views, change, result, progress)
    return result


def _extract(
    extractor: Extractor,
    db: sqlite3.Connection,
    pictures: Sequence[tuple[str, Callable[[], Image]]],
    views: Sequence[str],
    change: ChangeOne | None,
    result: NDArray[np.float32],
    progress: Progress | None,
) -> None:
    todo: list[tuple[int, int]] = []
    for number, view in enumerate(views):
        for index, (digest, _read) in enumerate(pictures):
            row = db.execute("SELECT vector FROM features WHERE picture = ? AND view = ?", (digest, view)).fetchone()
            if row and len(row[0]) == 4 * result.shape[2]:
                result[number, index] = np.frombuffer(row[0], "<f4")
            else:
                todo.append((index, number))
    todo.sort()  # the views of a picture follow each other
    total = len(views) * len(pictures)

    def one(item: tuple[int, int]) -> NDArray[np.float32]:
        digest, read = pictures[item[0]]
        image = read()
        if views[item[1]] and change:
            image = change(image, seed_of(digest, item[1]))
        return extractor.vector(image)

    rows: list[tuple[str, str, bytes]] = []
    saved = time.monotonic()
    for done, ((index, number), vector) in enumerate(zip(todo, ordered_map(one, todo), strict=True), 1):
        result[number, index] = vector
        rows.append((pictures[index][0], views[number], vector.astype("<f4").tobytes()))
        if time.monotonic() - saved > _COMMIT_EVERY or done == len(todo):
            with db:
                db.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", rows)
            rows.clear()
            saved = time.monotonic()
        if progress:
            progress(total - len(todo) + done, total)
