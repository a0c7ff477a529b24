"""Shards that are merged into the index: a damaged one is kept and scanned again, and each image keeps its own thumbnail."""

import contextlib
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, write
from planted import scene

from imgclf.core.shards import Shard
from imgclf.data import file_index, index_tables, layout
from imgclf.data.scanned import Scanned


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(3):
        write(tmp_path / "a" / f"{number}.png", encoded(scene(number, 60, 40), "PNG"))
    return tmp_path


def paths(root: Path) -> list[str]:
    return [file.path for file in layout.scan(root)]


def scan(root: Path) -> Scanned:
    with file_index.inspect(root, paths(root)) as scanned:
        return scanned


def shard_file(root: Path) -> Path:
    """The results of shard 1 of 1, which has all files."""
    file_index.inspect_shard(root, paths(root), Shard(1, 1))
    (file,) = index_tables.index_path(root).parent.glob("*.shard-1-of-1.sqlite")
    return file


def change(file: Path, sql: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute(sql, values)


def test_a_shard_that_is_whole_is_not_scanned_again(data: Path) -> None:
    file = shard_file(data)
    scanned = scan(data)
    assert (scanned.read, scanned.taken, file.exists()) == (0, [Shard(1, 1)], False)
    assert sorted(scanned.thumbnails.tolist()) == [1, 2, 3]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("UPDATE thumbnails SET compared = ? WHERE id = 2", (bytes(index_tables.COMPARED - 1),)),
        ("UPDATE thumbnails SET compared = ? WHERE id = 2", (bytes(index_tables.COMPARED + 1),)),
        ("UPDATE thumbnails SET compared = ? WHERE id = 2", ("x" * index_tables.COMPARED,)),
        ("UPDATE thumbnails SET compared = NULL WHERE id = 3", ()),
        ("UPDATE thumbnails SET id = 0 WHERE id = 1", ()),
        ("UPDATE thumbnails SET id = -1 WHERE id = 1", ()),
        (f"UPDATE thumbnails SET id = {1 << 62} WHERE id = 3", ()),
        ("UPDATE files SET sha256 = ?", (bytes(31),)),
        ("UPDATE files SET stamp = ?", (bytes(17),)),
        ("UPDATE files SET problem = ?", ("x" * ((1 << 16) + 1),)),
        ("UPDATE files SET path = ? WHERE thumbnail = 1", (b"x" * ((1 << 16) + 1),)),
        ("UPDATE files SET thumbnail = -1", ()),
        (f"UPDATE files SET thumbnail = {1 << 62}", ()),
    ],
)
def test_a_shard_with_an_invalid_row_is_kept_and_scanned_again(
    data: Path, sql: str, values: tuple[object, ...], caplog: pytest.LogCaptureFixture
) -> None:
    file = shard_file(data)
    change(file, sql, *values)
    scanned = scan(data)
    assert (scanned.read, scanned.taken) == (3, [])
    assert scanned.usable().all()
    assert sorted(path.name for path in file.parent.iterdir()) == [f"{file.stem}-1.sqlite", index_tables.index_path(data).name]
    assert [line.startswith(f"{file}: damaged (") for line in caplog.messages] == [True]


@pytest.mark.parametrize("length", [0, 1 << 16])
def test_the_longest_problem_that_a_row_may_have(data: Path, length: int) -> None:
    file = shard_file(data)
    change(file, "UPDATE files SET problem = ?", "x" * length)
    assert scan(data).taken == [Shard(1, 1)]


def test_damage_of_the_index_is_not_taken_for_damage_of_a_shard(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It shows when a shard is merged: the index is rebuilt from the shard, and no file is read again."""
    file = shard_file(data)
    kept = file.rename(file.with_name("kept"))
    scan(data)
    kept.rename(file)
    index = index_tables.index_path(data)
    change(index, "UPDATE sqlite_sequence SET seq = 'text'")
    scanned = scan(data)
    assert (scanned.taken, scanned.read) == ([Shard(1, 1)], 0)
    assert sorted(path.name for path in index.parent.iterdir()) == [f"{index.stem}-1.sqlite", index.name]
    assert [line.startswith(f"{index}: damaged (") for line in caplog.messages] == [True]


def test_a_file_without_a_thumbnail_gets_none_from_another(data: Path) -> None:
    """A damaged image has none; after a merge it must not have that of the last image before."""
    scan(data)
    write(data / "a" / "half.png", encoded(scene(8, 60, 40), "PNG")[:300])
    write(data / "a" / "new.jpg", encoded(scene(7, 60, 40)))
    shard_file(data)
    scan(data)
    with contextlib.closing(sqlite3.connect(index_tables.index_path(data))) as db:
        rows = dict(db.execute("SELECT CAST(path AS TEXT), thumbnail FROM files").fetchall())
    assert rows["a/half.png"] == 0
    assert sorted(rows.values()) == [0, 1, 2, 3, 4]


def test_each_merged_image_has_the_thumbnail_of_its_own_pixels(data: Path) -> None:
    """The ids of a shard begin at 1, as those of the index do."""
    scan(data)
    for number in range(3):
        write(data / "b" / f"copy {number}.jpg", encoded(scene(number, 60, 40), quality=95))
    shard_file(data)
    with file_index.inspect(data, paths(data)) as scanned:
        assert scanned.read == 0
        names = [{scanned.paths[pair["first"]], scanned.paths[pair["second"]]} for pair in scanned.similar_pairs()]
    assert sorted(map(sorted, names)) == [[f"a/{number}.png", f"b/copy {number}.jpg"] for number in range(3)]


def test_a_row_that_has_only_a_hash_replaces_no_measurements(data: Path) -> None:
    """A shard that only hashed a file, merged after another command measured it."""
    file = shard_file(data)
    change(file, "UPDATE files SET measurements = x'', thumbnail = 0")
    other = file.with_name("kept")
    file.rename(other)
    measured = scan(data)
    other.rename(file)
    scanned = scan(data)
    assert (scanned.taken, scanned.read) == ([Shard(1, 1)], 0)
    np.testing.assert_array_equal(scanned.thumbnails, measured.thumbnails)


def test_measurements_replace_a_row_that_has_only_a_hash(data: Path) -> None:
    file_index.content_hashes(data, paths(data))
    index = index_tables.index_path(data)
    with contextlib.closing(sqlite3.connect(index)) as db:
        assert db.execute("SELECT length(measurements) FROM files").fetchall() == [(0,)] * 3
    shard_file(data)
    assert scan(data).read == 0
