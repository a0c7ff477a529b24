"""clean: every file accounted for, nothing lost, all undone, a second run changes nothing."""

import csv
import json
import os
import socket
from pathlib import Path

import pytest
from conftest import Run, bomb, encoded, photo, tree, write

from imgclf import clean
from imgclf.base.errors import ImgclfError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes with one fault of every kind."""
    root = tmp_path / "data"
    jpeg, png = encoded(photo(1, 90, 70)), encoded(photo(2), "PNG")
    flipped = bytearray(png)
    flipped[len(flipped) // 2] ^= 1
    for name, content in {
        "cats/good.jpg": jpeg,
        "cats/deep/inside/good.JPEG": jpeg,
        "cats/photo.webp": encoded(photo(3), "WEBP"),
        "cats/photo.avif": encoded(photo(3), "AVIF"),
        "cats/photo.tif": encoded(photo(3), "TIFF"),
        "cats/truncated.jpg": jpeg[: len(jpeg) // 2],
        "cats/empty.jpg": b"",
        "cats/page.jpg": b"<!DOCTYPE html><html></html>",
        "cats/notes.txt": b"remember the milk",
        "cats/.hidden.jpg": jpeg,
        "cats/Thumbs.db": b"x",
        "cats/.trash/old.jpg": jpeg,
        "dogs/really-a-jpeg.png": jpeg,
        "dogs/no-extension": png,
        "dogs/really-webp.jpg": encoded(photo(4), "WEBP"),
        "dogs/IMG.2021": png,
        "dogs/taken.png": png,
        "dogs/taken.jpg": encoded(photo(5), "PNG"),
        "dogs/flipped.png": bytes(flipped),
        "dogs/bomb.png": bomb(),
        "readme.md": b"# about",
        ".DS_Store": b"x",
        ".cache/thing.jpg": jpeg,
    }.items():
        write(root / name, content)
    return root


EXPECTED = {
    ".DS_Store": ("ignored", "rule", ""),
    ".cache/thing.jpg": ("ignored", "rule", ""),
    "cats/.hidden.jpg": ("ignored", "rule", ""),
    "cats/.trash/old.jpg": ("ignored", "rule", ""),
    "cats/Thumbs.db": ("ignored", "rule", ""),
    "cats/deep/inside/good.JPEG": ("kept", "", ""),
    "cats/empty.jpg": ("quarantined", "empty", ".imgclf/quarantine/0001/cats/empty.jpg"),
    "cats/good.jpg": ("kept", "", ""),
    "cats/notes.txt": ("quarantined", "not-an-image", ".imgclf/quarantine/0001/cats/notes.txt"),
    "cats/page.jpg": ("quarantined", "not-an-image", ".imgclf/quarantine/0001/cats/page.jpg"),
    "cats/photo.avif": ("kept", "", ""),
    "cats/photo.tif": ("kept", "", ""),
    "cats/photo.webp": ("kept", "", ""),
    "cats/truncated.jpg": ("quarantined", "damaged", ".imgclf/quarantine/0001/cats/truncated.jpg"),
    "dogs/IMG.2021": ("renamed", "extension", "dogs/IMG.2021.png"),
    "dogs/bomb.png": ("quarantined", "too-large", ".imgclf/quarantine/0001/dogs/bomb.png"),
    "dogs/flipped.png": ("quarantined", "damaged", ".imgclf/quarantine/0001/dogs/flipped.png"),
    "dogs/no-extension": ("renamed", "extension", "dogs/no-extension.png"),
    "dogs/really-a-jpeg.png": ("renamed", "extension", "dogs/really-a-jpeg.jpg"),
    "dogs/really-webp.jpg": ("renamed", "extension", "dogs/really-webp.webp"),
    "dogs/taken.jpg": ("renamed", "extension", "dogs/taken-2.png"),
    "dogs/taken.png": ("kept", "", ""),
    "readme.md": ("ignored", "rule", ""),
}


def found(result: clean.Cleaning) -> dict[str, tuple[str, str, str]]:
    return {finding.path: (finding.action, finding.reason, finding.moved_to) for finding in result.findings}


def test_every_file_is_accounted_for(data: Path) -> None:
    before = tree(data)
    result = clean.clean(data)
    assert found(result) == EXPECTED
    assert set(before) == set(EXPECTED)
    assert result.counts() == {"kept": 6, "renamed": 5, "quarantined": 6, "ignored": 6, "stuck": 0}
    for name, (_action, _reason, target) in EXPECTED.items():
        assert (data / (target or name)).read_bytes() == before[name]


def test_findings_carry_format_and_size(data: Path) -> None:
    by_path = {finding.path: finding for finding in clean.clean(data).findings}
    good, bomb_ = by_path["cats/good.jpg"], by_path["dogs/bomb.png"]
    assert (good.format, good.width, good.height) == ("JPEG", 90, 70)
    assert good.bytes == (data / "cats/good.jpg").stat().st_size
    assert "20000 x 20000" in bomb_.detail


def test_dry_run_touches_nothing(data: Path) -> None:
    before = tree(data)
    result = clean.clean(data, dry_run=True)
    assert found(result) == EXPECTED
    assert tree(data) == before
    assert not list((data / ".imgclf").rglob("*")), "a dry run leaves no file"


def test_a_second_run_changes_nothing(data: Path) -> None:
    clean.clean(data)
    after = tree(data)
    second = clean.clean(data)
    assert second.counts() == {"kept": 11, "renamed": 0, "quarantined": 0, "ignored": 6, "stuck": 0}
    assert tree(data) == after


def test_undo_restores_everything(data: Path) -> None:
    before = tree(data)
    clean.clean(data)
    restored, problems, notes = clean.undo(data)
    assert (problems, notes) == ([], [])
    assert sorted(restored) == sorted(name for name, values in EXPECTED.items() if values[2])
    assert tree(data) == before
    assert found(clean.clean(data, dry_run=True)).keys() == EXPECTED.keys()


def test_two_cleans_then_undo(data: Path) -> None:
    before = tree(data)
    clean.clean(data)
    write(data / "cats/page.jpg", b"<html>again</html>")  # the same name is quarantined a second time
    clean.clean(data)
    assert (data / ".imgclf/quarantine/0002/cats/page.jpg").read_bytes() == b"<html>again</html>"
    _restored, problems, _notes = clean.undo(data)
    # The newest comes back first and the older one finds its place taken: it stays in quarantine, and is named.
    assert len(problems) == 1
    assert "cats/page.jpg" in problems[0]
    assert tree(data) == {**before, "cats/page.jpg": b"<html>again</html>"}
    assert (data / ".imgclf/quarantine/0001/cats/page.jpg").read_bytes() == before["cats/page.jpg"]


def test_a_picture_that_cannot_be_read_stays_where_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory, no permission, a network that hiccups: not the picture's fault."""

    def hungry(*_arguments: object) -> None:
        raise MemoryError

    from imgclf.pixels import images

    before = tree(data)
    with monkeypatch.context() as patch:
        patch.setattr(images.cv2, "imdecode", hungry)
        result = clean.clean(data)
    assert {f.path for f in result.findings if f.action == "stuck"} == {
        "cats/good.jpg", "cats/deep/inside/good.JPEG", "cats/truncated.jpg", "dogs/really-a-jpeg.png"}  # fmt: skip
    assert (data / "cats/good.jpg").read_bytes() == before["cats/good.jpg"]


def test_odd_files(tmp_path: Path) -> None:
    root = tmp_path / "data"
    good = encoded(photo(1))
    for name in ("-dash.jpg", "line\nbreak.jpg", "猫.jpg", os.fsdecode(b"caf\xe9.jpg"), "a" * 250 + ".jpg"):
        write(root / "cats" / name, good)
    (root / "cats" / "dangling.jpg").symlink_to("nowhere.jpg")
    (root / "cats" / "loop.jpg").symlink_to("loop.jpg")
    (root / "cats" / "linked.jpg").symlink_to("-dash.jpg")
    (root / "cats" / "again").symlink_to(root / "cats")
    os.mkfifo(root / "cats" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "cats" / "socket"))
        result = clean.clean(root)
    actions = {finding.path: finding.action for finding in result.findings}
    assert [name for name, action in actions.items() if action == "quarantined"] == [
        "cats/dangling.jpg", "cats/loop.jpg", "cats/pipe.jpg", "cats/socket"]  # fmt: skip
    assert sum(action == "kept" for action in actions.values()) == 6
    clean.undo(root)
    assert os.readlink(root / "cats" / "dangling.jpg") == "nowhere.jpg"
    assert (root / "cats" / "pipe.jpg").is_fifo()


def test_two_files_that_want_the_same_new_name(tmp_path: Path) -> None:
    for name in ("pic", "pic.png", "pic.webp"):
        write(tmp_path / "cats" / name, encoded(photo(1)))
    assert [(finding.path, finding.moved_to) for finding in clean.clean(tmp_path, dry_run=True).findings] == [
        ("cats/pic", "cats/pic.jpg"), ("cats/pic.png", "cats/pic-2.jpg"), ("cats/pic.webp", "cats/pic-3.jpg")]  # fmt: skip


def test_what_cannot_be_moved_is_stuck_and_said(tmp_path: Path, imgclf: Run) -> None:
    """The same broken file under two names: a linked folder shows it twice, and it moves once."""
    write(tmp_path / "data" / "cats" / "good.jpg", encoded(photo(1)))
    write(tmp_path / "data" / "dogs" / "good.jpg", encoded(photo(2)))
    write(tmp_path / "data" / "cats" / "bad.jpg", b"")
    (tmp_path / "data" / "dogs" / "link").symlink_to(tmp_path / "data" / "cats")
    before = tree(tmp_path / "data")
    done = imgclf("clean", "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["counts"] == {"kept": 3, "renamed": 0, "quarantined": 1, "ignored": 0, "stuck": 1}
    stuck = next(file for file in answer["files"] if file["action"] == "stuck")
    assert (stuck["path"], stuck["moved_to"]) == ("dogs/link/bad.jpg", "")
    assert "could not be moved: the file is no longer there" in stuck["detail"]
    clean.undo(tmp_path / "data")
    assert tree(tmp_path / "data") == before


def test_a_folder_that_is_split_already(tmp_path: Path) -> None:
    for part in ("train", "validation", "test"):
        write(tmp_path / part / "cats" / "1.jpg", encoded(photo(1)))
    write(tmp_path / "train" / "LICENSE", b"CC0")
    write(tmp_path / "test" / "cats" / "2.jpg", b"<html>")
    assert found(clean.clean(tmp_path)) == {
        "test/cats/1.jpg": ("kept", "", ""),
        "test/cats/2.jpg": ("quarantined", "not-an-image", ".imgclf/quarantine/0001/test/cats/2.jpg"),
        "train/LICENSE": ("ignored", "rule", ""),
        "train/cats/1.jpg": ("kept", "", ""),
        "validation/cats/1.jpg": ("kept", "", ""),
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: write(root, b"x"), "a file, not a folder"),
        (lambda root: root.mkdir(), "no class folders; it is empty"),
        (lambda root: write(root / "1.jpg", encoded(photo(1))), r"no class folders; it holds files such as 1.jpg directly"),
        (lambda root: write(root / "bad\nname" / "1.jpg", b"x"), r"the class folder 'bad\\nname' has a name with"),
    ],
)
def test_bad_folders_are_named(make: object, words: str, tmp_path: Path) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(ImgclfError, match=words):
        clean.clean(tmp_path / "data")


# -- the command ------------------------------------------------------------------------------------------------------


def test_command_reports_json_and_csv(data: Path, imgclf: Run) -> None:
    done = imgclf("clean", "data/", "--json", "--report", "out.csv")
    assert done.returncode == 0
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["counts"] == {"kept": 6, "renamed": 5, "quarantined": 6, "ignored": 6, "stuck": 0}
    assert {file["path"]: (file["action"], file["reason"], file["moved_to"]) for file in answer["files"]} == EXPECTED
    with open(data.parent / "out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"]: (row["action"], row["reason"], row["moved_to"]) for row in rows} == EXPECTED


def test_a_report_never_overwrites_and_is_refused_before_anything_moves(data: Path, imgclf: Run) -> None:
    before = tree(data.parent)
    write(data.parent / "photo.csv", b"precious\n")
    for place, words in [
        ("data/cats/good.jpg", "a report is written as CSV"),
        ("data/cats/new.csv", "lies inside the data folder"),
        ("photo.csv", "exists and is no report of imgclf"),
        ("missing/new.csv", "is missing or cannot be written"),
    ]:
        done = imgclf("clean", "--report", place)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
    assert tree(data.parent) == {**before, "photo.csv": b"precious\n"}
    for _ in range(2):  # an earlier report is replaced
        assert imgclf("clean", "--dry-run", "--report", "new.csv").returncode == 0


def test_command_tables(data: Path, imgclf: Run) -> None:
    done = imgclf("clean", "data/", "--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "23 files: 6 kept, 5 to be renamed, 6 to be quarantined, 6 ignored"
    assert "PNG named .jpg, to become taken-2.png" in done.stdout
    done = imgclf("clean")
    assert "23 files: 6 kept, 5 renamed, 6 quarantined, 6 ignored" in done.stdout
    assert "PNG named .jpg, now taken-2.png" in done.stdout
    done = imgclf("clean", "--undo")
    assert (done.returncode, done.stdout) == (0, "11 files are back where they were\n")


def test_a_class_that_lost_all_its_pictures_is_named_by_the_next_verb(data: Path, imgclf: Run) -> None:
    write(data / "birds" / "1.jpg", b"")
    assert imgclf("clean").returncode == 0
    done = imgclf("split")
    assert done.returncode == 1
    assert done.stderr == "imgclf: error: data: the class folder birds has no images; add some, or remove the folder\n"
