"""The catalogue: an unchanged file is not read again, a changed one always is, and what is damaged is made anew."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, photo, write
from planted import scene

from imgclf import dataset
from imgclf.base.errors import ImgclfError
from imgclf.base.parallel import process_map


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(6):
        write(tmp_path / "a" / f"{number}.png", encoded(scene(number, 60, 40), "PNG"))
    write(tmp_path / "a" / "page.jpg", b"<html>")
    write(tmp_path / "a" / "half.jpg", encoded(photo(1))[:300])
    return tmp_path


def look(root: Path) -> dataset.Catalogue:
    return dataset.examine(root, [file.path for file in dataset.scan(root)])


def test_facts(data: Path) -> None:
    with look(data) as catalogue:
        assert list(catalogue.paths) == [
            "a/0.png",
            "a/1.png",
            "a/2.png",
            "a/3.png",
            "a/4.png",
            "a/5.png",
            "a/half.jpg",
            "a/page.jpg",
        ]
        assert catalogue.usable().tolist() == [True] * 6 + [False] * 2
        assert catalogue.facts["problem"].tolist() == [b""] * 6 + [b"damaged", b"not-an-image"]
        assert catalogue.problems == {
            6: "damaged or truncated JPEG: it cannot be decoded to the end", 7: "not an image but an HTML page"}  # fmt: skip
        assert catalogue.facts["width"][:6].tolist() == [60] * 6
        assert catalogue.facts["height"][:6].tolist() == [40] * 6
        assert catalogue.facts["bytes"].tolist() == [(data / path).stat().st_size for path in catalogue.paths]
        assert catalogue.hashes().keys() == set(catalogue.paths[:7])  # what is no picture is not read to its end
        assert catalogue.read == 8


def test_what_is_unchanged_is_not_read_again(data: Path) -> None:
    with look(data) as first, look(data) as second:
        assert second.read == 1  # the page's first bytes
        np.testing.assert_array_equal(first.facts, second.facts)
        np.testing.assert_array_equal(first.sha256, second.sha256)
        assert first.problems == second.problems


def test_what_is_changed_is_read_even_when_size_and_time_are_the_same(data: Path) -> None:
    (data / "a" / "page.jpg").unlink()
    look(data)
    one, other = data / "a" / "0.png", data / "a" / "1.png"
    times = one.stat().st_atime_ns, one.stat().st_mtime_ns
    flipped = bytearray(one.read_bytes())
    flipped[-30] ^= 1
    one.write_bytes(flipped)
    os.utime(one, ns=times)
    with look(data) as catalogue:
        assert catalogue.read == 1
        assert catalogue.facts["problem"][0] == b"damaged"
    other.rename(data / "a" / "x.png")
    (data / "a" / "2.png").rename(other)
    (data / "a" / "x.png").rename(data / "a" / "2.png")
    with look(data) as catalogue:  # two that swapped their names: known by content, in their new places
        assert catalogue.read == 0
        expected = dataset.content_hashes(data, ["a/1.png", "a/2.png"])
        assert {path: catalogue.hashes()[path] for path in expected} == expected


def test_what_moved_is_recognised_and_what_is_gone_forgotten(data: Path) -> None:
    with look(data) as first:
        facts = first.facts[0].copy()
    write(data / "b" / "moved.png", (data / "a" / "0.png").read_bytes())
    (data / "a" / "0.png").unlink()
    (data / "a" / "1.png").unlink()
    with look(data) as catalogue:
        assert catalogue.read == 1  # the page
        assert catalogue.facts[list(catalogue.paths).index("b/moved.png")] == facts
        assert len(catalogue.similar_pairs()) == 0  # its thumbnail moved with it
    with sqlite3.connect(data / ".imgclf" / "index" / "files.sqlite") as db:
        assert db.execute("SELECT count(*) FROM files").fetchone() == (6,)
        assert db.execute("SELECT count(*) FROM thumbnails").fetchone() == (5,)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "another version", "empty"])
def test_a_damaged_index_is_made_anew(data: Path, damage: str) -> None:
    with look(data) as first:
        pass
    index = data / ".imgclf" / "index" / "files.sqlite"
    if damage == "another version":
        with sqlite3.connect(index) as db:
            db.execute("PRAGMA user_version = 77")
        db.close()
    else:
        content = index.read_bytes()
        index.write_bytes({"garbage": b"no database" * 500, "truncated": content[: len(content) // 2], "empty": b""}[damage])
    with look(data) as catalogue:
        np.testing.assert_array_equal(first.facts, catalogue.facts)
        assert catalogue.read == 8
    with look(data) as catalogue:
        assert catalogue.read == 1


def test_an_index_damaged_in_its_midst_is_made_anew(data: Path) -> None:
    """Its head is whole, so that it opens; the damage shows only when the rows are read."""
    for number in range(60):
        write(data / "a" / f"more {number}.png", encoded(scene(100 + number, 60, 40), "PNG"))
    with look(data) as first:
        pass
    index = data / ".imgclf" / "index" / "files.sqlite"
    content = bytearray(index.read_bytes())
    content[4096:] = bytes(byte ^ 0x5A for byte in content[4096:])
    index.write_bytes(content)
    with look(data) as catalogue:
        np.testing.assert_array_equal(first.facts, catalogue.facts)
        assert catalogue.read == 68
    index.write_bytes(content)
    paths = [file.path for file in dataset.scan(data)]
    assert dataset.content_hashes(data, paths) == first.hashes() | dataset.content_hashes(data, ["a/page.jpg"])


def test_a_missing_thumbnail_is_said_and_mended_by_the_next_run(data: Path) -> None:
    look(data)
    index = data / ".imgclf" / "index" / "files.sqlite"
    with sqlite3.connect(index) as db:
        db.execute("DELETE FROM thumbnails WHERE id = 2")
    db.close()
    with look(data) as catalogue, pytest.raises(ImgclfError, match=r"files.sqlite: was damaged .*run again"):
        catalogue.similar_pairs()
    with look(data) as catalogue:
        assert len(catalogue.similar_pairs()) == 0


def test_two_commands_at_once_do_not_mix_their_thumbnails(data: Path) -> None:
    """Both have opened the index before the other writes."""
    paths = [file.path for file in dataset.scan(data)]
    write(data / "a" / "copy.jpg", encoded(scene(3, 60, 40), quality=95))
    with dataset.examine(data, paths) as one, look(data) as other:
        assert len(one.similar_pairs()) == 0
        assert len(other.similar_pairs()) == 1
        rows = other._db.execute("SELECT thumbnail, count(*) FROM files WHERE thumbnail GROUP BY 1").fetchall()
        assert {count for _number, count in rows} == {1}


def test_similar_pairs_are_kept_for_the_same_pictures(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.pixels import duplicates

    write(data / "a" / "copy.jpg", encoded(scene(3, 60, 40), quality=95))
    with look(data) as catalogue:
        (pair,) = catalogue.similar_pairs()
        assert {catalogue.paths[pair["first"]], catalogue.paths[pair["second"]]} == {"a/3.png", "a/copy.jpg"}

    def never(*_arguments: object) -> None:
        raise AssertionError("searched again")

    with monkeypatch.context() as patch:
        patch.setattr(duplicates, "pairs", never)
        (data / "a" / "page.jpg").unlink()  # no picture: the pictures are the same
        (data / "a" / "3.png").rename(data / "a" / "z.png")
        with look(data) as catalogue:
            (pair,) = catalogue.similar_pairs()
            assert {catalogue.paths[pair["first"]], catalogue.paths[pair["second"]]} == {"a/z.png", "a/copy.jpg"}
    write(data / "a" / "another.jpg", encoded(scene(3, 60, 40), quality=90))
    with look(data) as catalogue:
        assert len(catalogue.similar_pairs()) == 2


def test_small_pictures_are_copies_only_when_identical(tmp_path: Path) -> None:
    for side in (39, 40):
        write(tmp_path / f"{side}" / "it.png", encoded(scene(3, 60, side), "PNG"))
        write(tmp_path / f"{side}" / "copy.jpg", encoded(scene(3, 60, side), quality=95))
    write(tmp_path / "39" / "same.bmp", encoded(scene(3, 60, 39), "BMP"))
    with look(tmp_path) as catalogue:
        pairs = [{catalogue.paths[pair["first"]], catalogue.paths[pair["second"]]} for pair in catalogue.similar_pairs()]
        assert pairs == [{"40/it.png", "40/copy.jpg"}]
        assert len(set(catalogue.same_pixels().tolist())) == 4


def test_same_pixels(data: Path) -> None:
    write(data / "b" / "same.bmp", encoded(scene(2, 60, 40), "BMP"))
    write(data / "b" / "same too.png", (data / "a" / "2.png").read_bytes())
    with look(data) as catalogue:
        same = catalogue.same_pixels().tolist()
        names = [catalogue.paths[index] for index in same]
        assert names == [*catalogue.paths[:8], "a/2.png", "a/2.png"]


def test_a_picture_turned_is_not_the_same_pixels(tmp_path: Path) -> None:
    """The same bytes of pixels in another shape."""
    from PIL import Image

    write(tmp_path / "a" / "wide.png", encoded(Image.new("RGB", (60, 40), (9, 9, 9)), "PNG"))
    write(tmp_path / "a" / "tall.png", encoded(Image.new("RGB", (40, 60), (9, 9, 9)), "PNG"))
    with look(tmp_path) as catalogue:
        assert catalogue.same_pixels().tolist() == [0, 1]


# -- processes --------------------------------------------------------------------------------------------------------


def _double(shared: int, item: int) -> int:
    if item == shared:
        raise ValueError("an item that cannot be")
    return 2 * item


def _die(shared: int, item: int) -> int:
    if item == shared:
        os._exit(9)
    return item


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.base import parallel

    monkeypatch.setattr(parallel, "cpu_count", lambda: 2)
    monkeypatch.setattr(parallel, "WORTH_PROCESSES", 0)


@pytest.mark.usefixtures("two_workers")
def test_processes_keep_the_order_and_hand_on_errors() -> None:
    assert list(process_map(_double, -1, range(500))) == [2 * number for number in range(500)]
    with pytest.raises(ValueError, match="an item that cannot be"):
        list(process_map(_double, 300, range(500)))


@pytest.mark.usefixtures("two_workers")
def test_a_process_that_dies_is_named_with_what_it_was_at() -> None:
    with pytest.raises(ImgclfError, match=r"a worker process died \(exit code 9\) between '288' and '303'"):
        list(process_map(_die, 300, range(500)))


@pytest.mark.usefixtures("two_workers")
def test_processes_give_the_same_facts(data: Path) -> None:
    for number in range(40):
        write(data / "a" / f"more {number}.jpg", encoded(scene(100 + number, 60, 40)))
    with look(data) as catalogue:
        assert catalogue.read == 48
        alone = catalogue.facts.copy()
    (data / ".imgclf" / "index" / "files.sqlite").unlink()
    with dataset.examine(data, [file.path for file in dataset.scan(data)][:20]) as few:
        np.testing.assert_array_equal(few.facts, alone[:20])
