"""Kept features: wrong ones mean that their file is damaged and computed anew, and are never used."""

import contextlib
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imgclf.core.errors import ImgclfError
from imgclf.core.shards import Shard
from imgclf.images.decode import Image
from imgclf.models import features


class Ones(features.Extractor):
    width = 3

    def __init__(self) -> None:
        """Without a file of a network."""

    def vector(self, image: Image) -> NDArray[np.float32]:
        return np.ones(3, np.float32)


def extract(store: Path) -> list[list[float]]:
    images = [("a", lambda: np.zeros((4, 4, 3), np.uint8)), ("b", lambda: np.zeros((4, 4, 3), np.uint8))]
    return features.extract(Ones(), store, images)[0].tolist()


@pytest.mark.parametrize(
    "vector",
    [
        b"",
        b"\0",
        struct.pack("<2f", 1, 1),
        struct.pack("<4f", 1, 1, 1, 1),
        struct.pack("<3f", 1, float("nan"), 1),
        "text",
        7,
        None,
    ],
)
def test_wrong_features_are_computed_anew(vector: object, tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    extract(store)
    with contextlib.closing(sqlite3.connect(store)) as db, db:
        db.execute("UPDATE features SET vector = ? WHERE image = 'b'", (vector,))
    with contextlib.suppress(ImgclfError):
        extract(store)
    assert extract(store) == [[1, 1, 1], [1, 1, 1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store-1.sqlite", "store.sqlite"]


@pytest.mark.parametrize("values", ["x'00', '', x'00000000'", "'c', '', x'00'", "'c', x'00', x'00000000'", "'c', '', 'text'"])
def test_wrong_features_of_a_share_are_not_taken_up(values: str, tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite"
    extract(store)
    share = tmp_path / "store.shard-1-of-2.sqlite"
    share.write_bytes(store.read_bytes())
    assert features.merge(store) == [Shard(1, 2)]
    share.write_bytes(store.read_bytes())
    with contextlib.closing(sqlite3.connect(share)) as db, db:
        db.execute(f"INSERT INTO features VALUES ({values})")
    assert features.merge(store) == []
    assert features.known(store) == {"a", "b"}
