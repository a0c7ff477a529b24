"""The index: an unchanged file is not read again, a changed one always is, and what is damaged is made anew."""

import contextlib
import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, photo, write
from planted import scene

from imgclf.core.errors import ImgclfError
from imgclf.core.parallel import process_map
from imgclf.data import file_index, index_tables, layout
from imgclf.data import file_index as indexes
from imgclf.data.scanned import Scanned
from imgclf.images import measurements
from imgclf.split import class_folders, splitting


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(6):
        write(tmp_path / "a" / f"{number}.png", encoded(scene(number, 60, 40), "PNG"))
    write(tmp_path / "a" / "page.jpg", b"<html>")
    write(tmp_path / "a" / "half.jpg", encoded(photo(1))[:300])
    return tmp_path


def scanning(root: Path) -> contextlib.AbstractContextManager[Scanned]:
    return file_index.inspect(root, [file.path for file in layout.scan(root)])


def scan(root: Path) -> Scanned:
    """The columns alone; the file is closed."""
    with scanning(root) as scanned:
        return scanned


@contextlib.contextmanager
def sql(root: Path) -> Iterator[sqlite3.Connection]:
    """The index, to be changed behind the back of imgclf."""
    with contextlib.closing(sqlite3.connect(index_tables.index_path(root))) as db, db:
        yield db


def reads(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Scan a folder, and return (files read, files decoded)."""
    counts = {"read": 0, "measure": 0}

    def counting(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            counts[name] += 1
            return function(*arguments)

        return counted

    with monkeypatch.context() as patch:
        patch.setattr(measurements.decode, "read", counting("read", measurements.decode.read))
        patch.setattr(measurements, "measure", counting("measure", measurements.measure))
        assert scan(root).read == counts["measure"]
    return counts["read"], counts["measure"]


def test_measurements(data: Path) -> None:
    with scanning(data) as scanned:
        assert list(scanned.paths) == [
            "a/0.png",
            "a/1.png",
            "a/2.png",
            "a/3.png",
            "a/4.png",
            "a/5.png",
            "a/half.jpg",
            "a/page.jpg",
        ]
        assert scanned.usable().tolist() == [True] * 6 + [False] * 2
        assert scanned.measurements["problem"].tolist() == [b""] * 6 + [b"damaged", b"not-an-image"]
        assert scanned.problems == {
            6: "damaged or truncated JPEG: it cannot be decoded to the end", 7: "not an image but an HTML page"}  # fmt: skip
        assert scanned.measurements["width"][:6].tolist() == [60] * 6
        assert scanned.measurements["height"][:6].tolist() == [40] * 6
        assert scanned.measurements["bytes"].tolist() == [(data / path).stat().st_size for path in scanned.paths]
        assert scanned.hashes().keys() == set(scanned.paths[:7])  # what is no image is not read to its end
        assert scanned.read == 8


def test_what_is_unchanged_is_not_read_again(data: Path) -> None:
    with scanning(data) as first, scanning(data) as second:
        assert second.read == 1  # the page's first bytes
        np.testing.assert_array_equal(first.measurements, second.measurements)
        np.testing.assert_array_equal(first.sha256, second.sha256)
        assert first.problems == second.problems


def test_what_is_changed_is_read_even_when_size_and_time_are_the_same(data: Path) -> None:
    (data / "a" / "page.jpg").unlink()
    scan(data)
    one, other = data / "a" / "0.png", data / "a" / "1.png"
    times = one.stat().st_atime_ns, one.stat().st_mtime_ns
    flipped = bytearray(one.read_bytes())
    flipped[-30] ^= 1
    one.write_bytes(flipped)
    os.utime(one, ns=times)
    with scanning(data) as scanned:
        assert scanned.read == 1
        assert scanned.measurements["problem"][0] == b"damaged"
    other.rename(data / "a" / "x.png")
    (data / "a" / "2.png").rename(other)
    (data / "a" / "x.png").rename(data / "a" / "2.png")
    with scanning(data) as scanned:  # two that swapped their names: known by content, in their new places
        assert scanned.read == 0
        expected = file_index.content_hashes(data, ["a/1.png", "a/2.png"])
        assert {path: scanned.hashes()[path] for path in expected} == expected


def test_what_moved_is_recognised_and_what_is_gone_forgotten(data: Path) -> None:
    with scanning(data) as first:
        measured = first.measurements[0].copy()
    write(data / "b" / "moved.png", (data / "a" / "0.png").read_bytes())
    (data / "a" / "0.png").unlink()
    (data / "a" / "1.png").unlink()
    with scanning(data) as scanned:
        assert scanned.read == 1  # the page
        assert scanned.measurements[list(scanned.paths).index("b/moved.png")] == measured
        assert len(scanned.similar_pairs()) == 0  # its thumbnail moved with it
    with sql(data) as db:
        assert db.execute("SELECT count(*) FROM files").fetchone() == (6,)
        assert db.execute("SELECT count(*) FROM thumbnails").fetchone() == (5,)


# -- links, and edits in place ----------------------------------------------------------------------------------------


def test_links_do_not_make_it_read_again_what_it_knows(data: Path, tmp_path_factory: pytest.TempPathFactory,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    (data / "a" / "page.jpg").unlink()
    for number in range(6):
        write(data / "b" / f"{number}.png", encoded(scene(50 + number, 60, 40), "PNG"))
    assert reads(data, monkeypatch) == (13, 13)
    place = tmp_path_factory.mktemp("links")
    manifest = splitting.split(data).manifest
    class_folders.export(manifest, data, place / "ours", "hard")
    assert os.stat(data / "b" / "0.png").st_nlink == 2
    assert reads(data, monkeypatch) == (0, 0)
    for number in range(6):
        os.link(data / "b" / f"{number}.png", place / f"{number}")  # by somebody else
        os.chmod(data / "a" / f"{number}.png", 0o600)
    assert reads(data, monkeypatch) == (12, 0)  # hashed, since an edit would look the same, and not decoded
    assert reads(data, monkeypatch) == (0, 0)


def test_an_edit_in_place_is_seen_beside_links(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Size and time are as they were: before the link, between link and note, and after."""
    for number in range(6):
        write(data / "b" / f"{number}.png", encoded(scene(50 + number, 60, 40), "PNG"))
    place = tmp_path_factory.mktemp("links")

    def edit(path: str) -> None:
        file = data / path
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        content = bytearray(file.read_bytes())
        content[-30] ^= 1
        with open(file, "r+b") as opened:
            opened.write(content)
        os.utime(file, ns=times)

    def link(path: str, *, edited: bool = False) -> tuple[str, bytes, bytes]:
        before = index_tables.stamp(data / path)
        os.link(data / path, place / path.replace("/", "-"))
        if edited:
            os.truncate(data / path, 100)
        return path, before, index_tables.stamp(data / path)

    scan(data)
    edit("b/0.png")
    linked = [link("b/0.png"), link("b/1.png"), link("b/2.png", edited=True)]
    edit("b/1.png")
    file_index.update_stamps(data, [*linked, link("b/3.png")])
    edit("b/3.png")
    scanned = scan(data)
    damaged = [
        path for path, problem in zip(scanned.paths, scanned.measurements["problem"], strict=True) if problem == b"damaged"
    ]
    assert damaged == ["a/half.jpg", "b/0.png", "b/1.png", "b/2.png", "b/3.png"]


# -- damage, and what is none ------------------------------------------------------------------------------------------


def kept(root: Path) -> list[str]:
    return sorted(path.name for path in index_tables.index_path(root).parent.iterdir())


@pytest.mark.parametrize("damage", ["garbage", "truncated", "another version", "a view"])
def test_a_damaged_index_is_made_anew_and_the_old_one_kept(
    data: Path, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scan(data)
    index = index_tables.index_path(data)
    if damage == "another version":
        with sql(data) as db:
            db.execute("PRAGMA user_version = 77")
    elif damage == "a view":
        with sql(data) as db:
            db.executescript("ALTER TABLE files RENAME TO f; CREATE VIEW files AS SELECT * FROM f")
    else:
        content = index.read_bytes()
        index.write_bytes({"garbage": b"no database" * 500, "truncated": content[: len(content) // 2]}[damage])
    content = index.read_bytes()
    scanned = scan(data)
    np.testing.assert_array_equal(first.measurements, scanned.measurements)
    assert scanned.read == 8
    assert kept(data) == [f"{index.stem}-1.sqlite", index.name]
    assert (index.parent / f"{index.stem}-1.sqlite").read_bytes() == content
    (line,) = caplog.messages
    assert line.startswith(f"{index}: damaged (")
    assert line.endswith(f") and rebuilt; old file: {index.stem}-1.sqlite")
    assert scan(data).read == 1


def test_another_version_has_an_index_of_its_own(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(data)
    ours = index_tables.index_path(data)
    content = ours.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(index_tables, "TABLES", indexes.database.Tables(index_tables._SQL, 5))
        assert scan(data).read == 8
        assert scan(data).read == 1
    assert kept(data) == sorted(["files-5.sqlite", ours.name])
    assert ours.read_bytes() == content
    assert scan(data).read == 1


def test_an_empty_index_is_a_new_one(data: Path) -> None:
    scan(data)
    index_tables.index_path(data).write_bytes(b"")
    assert scan(data).read == 8
    assert kept(data) == [index_tables.index_path(data).name]


def test_an_index_damaged_in_its_midst_is_made_anew(data: Path) -> None:
    """Its head is whole, so that it opens; the damage shows only when the rows are read."""
    for number in range(60):
        write(data / "a" / f"more {number}.png", encoded(scene(100 + number, 60, 40), "PNG"))
    first = scan(data)
    index = index_tables.index_path(data)
    content = bytearray(index.read_bytes())
    content[16384:] = bytes(byte ^ 0x5A for byte in content[16384:])
    index.write_bytes(content)
    scanned = scan(data)
    np.testing.assert_array_equal(first.measurements, scanned.measurements)
    assert scanned.read == 68
    index.write_bytes(content)
    paths = [file.path for file in layout.scan(data)]
    assert file_index.content_hashes(data, paths) == first.hashes() | file_index.content_hashes(data, ["a/page.jpg"])
    assert kept(data) == [f"{index.stem}-1.sqlite", f"{index.stem}-2.sqlite", index.name]


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ("UPDATE files SET measurements = x'00' WHERE thumbnail = 3", 8),
        ("UPDATE files SET sha256 = 'text'", 8),
        ("UPDATE files SET problem = CAST(x'ff' AS TEXT)", 8),
        ("UPDATE files SET thumbnail = 'text'", 8),
        ("UPDATE files SET path = CAST(path AS TEXT)", 8),
    ],
)
def test_stored_values_that_cannot_be_decoded_are_damage(data: Path, change: str, read: int) -> None:
    scan(data)
    with sql(data) as db:
        db.execute(change)
    assert scan(data).read == read
    assert len(kept(data)) == 2


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sqlite_sequence SET seq = 'text'",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807",
        "UPDATE sqlite_sequence SET seq = 3",  # numbers would be given twice
        "UPDATE sqlite_sequence SET seq = -5",
    ],
)
def test_numbers_that_cannot_be_are_damage(data: Path, change: str) -> None:
    scan(data)
    with sql(data) as db:
        db.execute(change)
    write(data / "a" / "new.png", encoded(scene(50, 60, 40), "PNG"))
    assert scan(data).read == 9
    assert len(kept(data)) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", b"\xff\xfe"), ("format", b"HTML"), ("width", 0), ("height", 1 << 31), ("bytes", 0), ("bytes", 1 << 60),
        ("trailing", 1 << 62), ("brightness", np.nan), ("blurry", np.inf), ("endless", 2), ("animated", 255), ("flat", 7),
    ],
)  # fmt: skip
def test_measurements_that_no_image_has_are_damage(data: Path, field: str, value: bytes | float, tmp_path: Path) -> None:
    scan(data)
    with sql(data) as db:
        path, record = db.execute("SELECT path, measurements FROM files WHERE CAST(path AS TEXT) = 'a/0.png'").fetchone()
        changed = np.frombuffer(record, measurements.DTYPE).copy()
        if changed.dtype[field].kind == "b":
            place = changed.dtype.fields[field][1]  # type: ignore[index]
            whole = bytearray(record)
            whole[place] = int(value)
            db.execute("UPDATE files SET measurements = ? WHERE path = ?", (bytes(whole), path))
        else:
            changed[field] = value
            db.execute("UPDATE files SET measurements = ? WHERE path = ?", (changed.tobytes(), path))
    assert scan(data).read == 8
    assert len(kept(data)) == 2


def test_measurements_of_a_file_that_moved_are_checked_too(data: Path) -> None:
    scan(data)
    with sql(data) as db:
        path, record = db.execute("SELECT path, measurements FROM files WHERE CAST(path AS TEXT) = 'a/0.png'").fetchone()
        changed = np.frombuffer(record, measurements.DTYPE).copy()
        changed["format"] = b"HTML"
        db.execute("UPDATE files SET measurements = ? WHERE path = ?", (changed.tobytes(), path))
    os.rename(data / "a" / "0.png", data / "a" / "renamed.png")
    assert scan(data).read == 8
    assert len(kept(data)) == 2


def test_damage_that_shows_in_the_comparison_asks_to_run_again(data: Path) -> None:
    scan(data)
    with sql(data) as db:
        db.execute("UPDATE thumbnails SET compared = x'01' WHERE id = 2")
    index = index_tables.index_path(data)
    words = rf"{index}: damaged \(.*\); run the command again to rebuild it; old file: .*-1.sqlite"
    with pytest.raises(ImgclfError, match=words), scanning(data) as scanned:
        scanned.similar_pairs()
    with scanning(data) as scanned:
        assert len(scanned.similar_pairs()) == 0
    with sql(data) as db:
        db.execute("UPDATE searches SET pairs = x'0102'")
    with pytest.raises(ImgclfError, match="run the command again"), scanning(data) as scanned:
        scanned.similar_pairs()
    assert len(kept(data)) == 2


def test_a_thumbnail_that_another_command_replaced_is_made_again(data: Path) -> None:
    with scanning(data) as scanned:
        with sql(data) as db:
            db.execute("DELETE FROM thumbnails WHERE id = 2")
        assert len(scanned.similar_pairs()) == 0
    assert len(kept(data)) == 1


def test_a_number_of_a_thumbnail_is_not_given_twice(data: Path) -> None:
    """Else a command that still has it would compare another image."""
    with scanning(data) as scanned:
        last = int(scanned.thumbnails.max())
        (data / "a" / "5.png").unlink()
        scan(data)
        write(data / "a" / "6.png", encoded(scene(6, 60, 40), "PNG"))
        assert scan(data).thumbnails.max() == last + 1
        with pytest.raises(ImgclfError, match=r"5.png: changed while it was compared"):
            scanned.similar_pairs()


def test_a_lock_is_no_damage(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan(data)
    connect = sqlite3.connect
    monkeypatch.setattr(
        indexes.database.sqlite3, "connect", lambda *places, **options: connect(*places, **{**options, "timeout": 0.1})
    )
    write(data / "a" / "new.png", encoded(scene(9, 60, 40), "PNG"))
    with contextlib.closing(connect(index_tables.index_path(data))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ImgclfError, match=r"files-.*: in use by another command; wait .* \(database is locked\)"):
            scan(data)
        other.rollback()
        other.execute("BEGIN IMMEDIATE")  # another writes: it can be read, and not be written
        with pytest.raises(ImgclfError, match="in use by another command"):
            scan(data)
    assert kept(data) == [index_tables.index_path(data).name]
    assert scan(data).read == 2


def test_a_fault_of_ours_is_no_damage(data: Path) -> None:
    """A connection that is closed, a thread that may not use it, a statement that is wrong."""
    with scanning(data) as scanned:
        pass
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        scanned.similar_pairs()
    with scanning(data) as scanned:
        wrong: list[BaseException] = []

        def elsewhere() -> None:
            try:
                scanned.similar_pairs()
            except sqlite3.ProgrammingError as error:
                wrong.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(wrong) == 1
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            scanned._db.one("SELECT 1 FROM none_such")
    assert kept(data) == [index_tables.index_path(data).name]
    assert scan(data).read == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root: mounts a small disk")
def test_a_full_disk_is_no_damage(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    small = data / ".imgclf"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        for number in range(150):
            write(data / "a" / f"more {number}.jpg", encoded(scene(100 + number, 60, 40)))
        with pytest.raises(ImgclfError, match=r"the disk is full; free some space"):
            scan(data)
        names = kept(data)
        assert [name for name in names if not name.endswith("-journal")] == [index_tables.index_path(data).name]
        subprocess.run(["mount", "-o", "remount,size=20M", small], check=True)
        assert scan(data).read == 158
    finally:
        subprocess.run(["umount", "-l", small], check=True)


# -- several commands, and pairs ---------------------------------------------------------------------------------------


def test_two_commands_at_once_do_not_mix_their_thumbnails(data: Path) -> None:
    """Both have opened the index before the other writes."""
    paths = [file.path for file in layout.scan(data)]
    write(data / "a" / "copy.jpg", encoded(scene(3, 60, 40), quality=95))
    with file_index.inspect(data, paths) as one, scanning(data) as other:
        assert len(one.similar_pairs()) == 0
        assert len(other.similar_pairs()) == 1
        rows = other._db.rows("SELECT thumbnail, count(*) FROM files WHERE thumbnail GROUP BY 1")
        assert {count for _number, count in rows} == {1}


def test_similar_pairs_are_kept_for_the_same_images(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.images import similarity

    write(data / "a" / "copy.jpg", encoded(scene(3, 60, 40), quality=95))
    with scanning(data) as scanned:
        (pair,) = scanned.similar_pairs()
        assert {scanned.paths[pair["first"]], scanned.paths[pair["second"]]} == {"a/3.png", "a/copy.jpg"}

    def never(*_arguments: object) -> None:
        raise AssertionError("searched again")

    with monkeypatch.context() as patch:
        patch.setattr(similarity, "pairs", never)
        (data / "a" / "page.jpg").unlink()  # no image: the images are the same
        (data / "a" / "3.png").rename(data / "a" / "z.png")
        with scanning(data) as scanned:
            (pair,) = scanned.similar_pairs()
            assert {scanned.paths[pair["first"]], scanned.paths[pair["second"]]} == {"a/z.png", "a/copy.jpg"}
    write(data / "a" / "another.jpg", encoded(scene(3, 60, 40), quality=90))
    with scanning(data) as scanned:
        assert len(scanned.similar_pairs()) == 2


def test_small_images_are_copies_only_when_identical(tmp_path: Path) -> None:
    for side in (39, 40):
        write(tmp_path / f"{side}" / "it.png", encoded(scene(3, 60, side), "PNG"))
        write(tmp_path / f"{side}" / "copy.jpg", encoded(scene(3, 60, side), quality=95))
    write(tmp_path / "39" / "same.bmp", encoded(scene(3, 60, 39), "BMP"))
    with scanning(tmp_path) as scanned:
        pairs = [{scanned.paths[pair["first"]], scanned.paths[pair["second"]]} for pair in scanned.similar_pairs()]
        assert pairs == [{"40/it.png", "40/copy.jpg"}]
        assert len(set(scanned.same_pixels().tolist())) == 4


def test_same_pixels(data: Path) -> None:
    write(data / "b" / "same.bmp", encoded(scene(2, 60, 40), "BMP"))
    write(data / "b" / "same too.png", (data / "a" / "2.png").read_bytes())
    with scanning(data) as scanned:
        same = scanned.same_pixels().tolist()
        names = [scanned.paths[index] for index in same]
        assert names == [*scanned.paths[:8], "a/2.png", "a/2.png"]


def test_an_image_turned_is_not_the_same_pixels(tmp_path: Path) -> None:
    """The same bytes of pixels in another shape."""
    from PIL import Image

    write(tmp_path / "a" / "wide.png", encoded(Image.new("RGB", (60, 40), (9, 9, 9)), "PNG"))
    write(tmp_path / "a" / "tall.png", encoded(Image.new("RGB", (40, 60), (9, 9, 9)), "PNG"))
    with scanning(tmp_path) as scanned:
        assert scanned.same_pixels().tolist() == [0, 1]


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
    from imgclf.core import parallel

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
    with scanning(data) as scanned:
        assert scanned.read == 48
        alone = scanned.measurements.copy()
    index_tables.index_path(data).unlink()
    with file_index.inspect(data, [file.path for file in layout.scan(data)][:20]) as few:
        np.testing.assert_array_equal(few.measurements, alone[:20])
