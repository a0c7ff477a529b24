"""Files in the class folders of a folder: the names that they get, and links and files that an undo leaves alone."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import tree, write

from imgclf.core.errors import ImgclfError
from imgclf.core.files import locks, placing


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "more/a.jpg"):
        write(tmp_path / "photos" / name, name.encode())
    return tmp_path / "photos"


def test_without_wishes_nothing_is_made(tmp_path: Path) -> None:
    assert placing.place(tmp_path / "sorted", [], "move") == placing.Placed()
    assert not (tmp_path / "sorted").exists()


def test_files_of_one_name_get_numbers(photos: Path, tmp_path: Path) -> None:
    """Also within one operation, and beside a file that is there."""
    folder = tmp_path / "sorted"
    write(folder / "cat/a.jpg", b"there")
    wishes = [(str(photos / "a.jpg"), "cat"), (str(photos / "more/a.jpg"), "cat"), (str(photos / "b.jpg"), "dog")]
    done = placing.place(folder, wishes, "move")
    assert (dict(done.labels), done.there, done.problems) == ({"cat": 2, "dog": 1}, 0, [])
    expected = {"cat/a.jpg": b"there", "cat/a-2.jpg": b"a.jpg", "cat/a-3.jpg": b"more/a.jpg", "dog/b.jpg": b"b.jpg"}
    assert tree(folder) == expected


@pytest.mark.parametrize("how", ["move", "link"])
def test_a_file_that_is_given_twice_is_placed_once(how: placing.How, photos: Path, tmp_path: Path) -> None:
    folder, name = tmp_path / "sorted", str(photos / "a.jpg")
    done = placing.place(folder, [(name, "cat"), (name, "cat"), (str(photos / "more/../a.jpg"), "cat")], how)
    assert (dict(done.labels), done.there, done.problems) == ({"cat": 1}, 2, [])
    assert tree(folder) == {"cat/a.jpg": b"a.jpg"}
    again = placing.place(folder, [(str(folder / "cat/a.jpg"), "cat")], how)
    assert (dict(again.labels), again.there) == ({}, 1)
    assert tree(folder) == {"cat/a.jpg": b"a.jpg"}


def test_a_file_that_is_there_under_a_numbered_name_is_not_placed_again(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sorted"
    write(folder / "cat/a.jpg", b"another one")
    for expected in ((1, 0), (0, 1)):
        done = placing.place(folder, [(str(photos / "a.jpg"), "cat")], "link")
        assert (done.labels["cat"], done.there) == expected
    assert tree(folder) == {"cat/a.jpg": b"another one", "cat/a-2.jpg": b"a.jpg"}


def test_links_are_placed_as_links_of_their_file(photos: Path, tmp_path: Path) -> None:
    """A link that leads nowhere is there, and is not "no longer there"."""
    (photos / "link.jpg").symlink_to("a.jpg")
    (photos / "dead.jpg").symlink_to("none.jpg")
    names = [str(photos / name) for name in ("link.jpg", "dead.jpg", "gone.jpg")]
    moved = placing.place(tmp_path / "moved", [(name, "cat") for name in names], "move")
    assert (moved.labels, moved.there) == ({}, 0)
    assert [(name, reason.split(",")[0]) for name, reason in moved.problems] == [
        (names[0], "a symbolic link"), (names[1], "a symbolic link"), (names[2], "no longer there"),
    ]  # fmt: skip
    linked = placing.place(tmp_path / "linked", [(names[0], "cat")], "link")
    assert (dict(linked.labels), linked.problems) == ({"cat": 1}, [])
    assert os.path.samefile(tmp_path / "linked/cat/link.jpg", photos / "a.jpg")
    assert placing.undo(tmp_path / "linked") == ([str(tmp_path / "linked/cat/link.jpg")], [])
    assert sorted(os.listdir(photos)) == ["a.jpg", "b.jpg", "dead.jpg", "link.jpg", "more"]
    assert os.listdir(tmp_path / "linked/cat") == []


def test_a_hidden_file_is_placed_and_comes_back(photos: Path, tmp_path: Path) -> None:
    """It keeps its name, and only the very file that was moved goes back to a hidden name."""
    hidden = write(photos / ".hidden.jpg", b"hidden")
    folder = tmp_path / "sorted"
    assert dict(placing.place(folder, [(str(hidden), "cat")], "move").labels) == {"cat": 1}
    assert placing.undo(folder) == ([str(hidden)], [])
    placing.place(folder, [(str(hidden), "cat")], "move")
    shutil.copy2(folder / "cat/.hidden.jpg", tmp_path / "copy")
    os.replace(tmp_path / "copy", folder / "cat/.hidden.jpg")
    reason = f"another file is there now; it came from {hidden}"
    assert placing.undo(folder) == ([], [(str(folder / "cat/.hidden.jpg"), reason)])
    assert not hidden.exists()


def test_an_edited_file_does_not_leave_the_folder(photos: Path, tmp_path: Path) -> None:
    """It has the inode of the file that was moved, and another size."""
    folder = tmp_path / "sorted"
    placing.place(folder, [(str(photos / "a.jpg"), "cat")], "move")
    with open(folder / "cat/a.jpg", "ab") as file:
        file.write(b" edited")
    back, problems = placing.undo(folder)
    assert (back, [reason.split(";")[0] for _file, reason in problems]) == ([], ["another file is there now"])
    assert (folder / "cat/a.jpg").read_bytes() == b"a.jpg edited"


# -- links --------------------------------------------------------------------------------------------------------------------


def stays(link: Path, reason: str = "no longer the link that was made, or its file is gone; the link stays") -> tuple[str, str]:
    return str(link), f"{reason}; it came from {link.parents[2]}/photos/a.jpg"


def linked(photos: Path) -> Path:
    """Link a.jpg into a folder; return the link."""
    placing.place(photos.parent / "sorted", [(str(photos / "a.jpg"), "cat")], "link")
    return photos.parent / "sorted/cat/a.jpg"


def test_a_link_that_is_the_last_copy_stays(photos: Path) -> None:
    """The file was replaced by a link to the placed one: both lead to one file, of which the placed name is the only one."""
    link = linked(photos)
    (photos / "a.jpg").unlink()
    (photos / "a.jpg").symlink_to(link)
    assert placing.undo(photos.parent / "sorted") == ([], [stays(link)])
    assert link.read_bytes() == b"a.jpg"


def test_a_file_in_the_place_of_a_link_stays(photos: Path) -> None:
    link = linked(photos)
    os.replace(write(link.with_name("new"), b"mine"), link)
    assert placing.undo(photos.parent / "sorted") == ([], [stays(link)])
    assert link.read_bytes() == b"mine"


def test_a_link_that_its_user_removed_is_gone(photos: Path) -> None:
    """It is a problem only while the file is there: its link may lie elsewhere."""
    link = linked(photos)
    link.unlink()
    assert placing.undo(link.parents[1]) == ([], [stays(link, "no longer there")])
    (photos / "a.jpg").unlink()
    assert placing.undo(link.parents[1]) == ([str(link)], [])


def test_the_folder_of_a_link_that_its_user_removed_is_no_problem(photos: Path) -> None:
    link = linked(photos)
    shutil.rmtree(link.parent)
    assert placing.undo(link.parents[1]) == ([str(link)], [])


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another disk than `tmp_path`."""
    folder = Path("/dev/shm") / f"{tmp_path.name}-{os.getpid()}"
    if not folder.parent.is_dir() or os.stat(folder.parent).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no second disk")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_a_file_on_another_disk_is_linked_by_a_symbolic_link_and_not_moved(photos: Path, elsewhere: Path) -> None:
    file, folder = write(elsewhere / "a.jpg", b"a"), photos.parent / "sorted"
    done = placing.place(folder, [(str(file), "cat")], "move")
    reason = "on another disk; choose a folder on the same disk as the images, or use --link-to"
    assert (done.labels, done.problems) == ({}, [(str(file), reason)])
    assert file.read_bytes() == b"a"
    (elsewhere / "link.jpg").symlink_to("a.jpg")
    done = placing.place(folder, [(str(elsewhere / "link.jpg"), "cat")], "link")
    assert (dict(done.labels), done.problems) == ({"cat": 1}, [])
    assert os.readlink(folder / "cat/link.jpg") == str(file), "the file itself, in case the link goes"
    assert placing.undo(folder) == ([str(folder / "cat/link.jpg")], [])
    assert sorted(os.listdir(elsewhere)) == ["a.jpg", "link.jpg"]


# -- other commands -----------------------------------------------------------------------------------------------------------


def test_another_command_in_the_folder_is_waited_for_and_then_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty seconds for each attempt; here the clock is turned, so that they pass at once."""
    clock = iter([100.0, 119.9, 120.0, 120.1])
    slept: list[float] = []
    monkeypatch.setattr(placing.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(placing.time, "sleep", slept.append)
    folder = tmp_path / "sorted"
    (folder / ".imgclf").mkdir(parents=True)
    with locks.locked(folder / ".imgclf", "clean"), pytest.raises(ImgclfError):
        placing.place(folder, [(str(photos / "a.jpg"), "cat")], "move")
    assert slept == [0.05, 0.05]
    assert (photos / "a.jpg").exists()


def test_nothing_to_undo(tmp_path: Path) -> None:
    with pytest.raises(ImgclfError, match="nothing was sorted into this folder, or all was taken back"):
        placing.undo(tmp_path)
    assert os.strerror(errno.EXDEV) == placing._ELSEWHERE
