"""Folders that follow no link: the same with descriptors and without, and nothing stays open."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import write

from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained
from imgclf.core.files.contained import Folder
from imgclf.core.files.links import LinkError


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.fixture(params=[True, False], ids=["by descriptor", "by path"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A folder with a file, a file with two names, a pipe, a folder, and links to a file, to a folder and to nothing."""
    monkeypatch.setattr(contained, "BY_DESCRIPTOR", request.param)
    root = tmp_path / "root"
    write(root / "file", b"12345")
    write(root / "twice", b"1")
    os.link(root / "twice", root / "again")
    os.mkfifo(root / "pipe")
    write(root / "inner" / "deep" / "x", b"x")
    write(tmp_path / "outside" / "secret", b"s")
    (root / "to file").symlink_to("file")
    (root / "to folder").symlink_to(tmp_path / "outside")
    (root / "to nothing").symlink_to("nowhere")
    before = descriptors()
    with Folder.named(root) as made:
        assert (made._descriptor is not None) == request.param
        yield made
    assert descriptors() == before
    assert (tmp_path / "outside" / "secret").read_bytes() == b"s"
    assert sorted(os.listdir(tmp_path / "outside")) == ["secret"]


def test_what_lies_there(folder: Folder) -> None:
    assert folder.names() == sorted(os.listdir(folder.path))
    for name, kind in (
        ("file", stat.S_ISREG),
        ("inner", stat.S_ISDIR),
        ("to file", stat.S_ISLNK),
        ("to nothing", stat.S_ISLNK),
    ):
        status = folder.status(name)
        assert status
        assert kind(status.st_mode)
    assert folder.status("none") is None
    for name in ("", "..", "a/b", "."):
        with pytest.raises(ValueError, match="is not the name of a file or folder"):
            folder.status(name)
    with pytest.raises(OSError, match="File name too long"):
        folder.status("x" * 300)


def test_folders_below(folder: Folder) -> None:
    with folder.below("inner", "deep") as deep:
        assert (deep.path, deep.names()) == (folder.path / "inner" / "deep", ["x"])
        assert not deep.is_same(folder)
        with folder.below("inner") as inner, inner.below("deep") as again:
            assert again.is_same(deep)
    with folder.below() as same:
        assert same.is_same(folder)
    for names, kind in (
        (("none",), FileNotFoundError),
        (("inner", "none"), FileNotFoundError),
        (("file",), NotADirectoryError),
    ):
        with pytest.raises(kind) as error:
            folder.below(*names)
        assert error.value.filename == str(folder.path.joinpath(*names))
    for name in ("..", ".", "", "inner/deep"):
        with pytest.raises(ValueError, match="is not the name of a file or folder"):
            folder.below(name)
    for name in ("to folder", "to nothing", "to file"):
        with pytest.raises(LinkError, match=f"{name}: a link, which imgclf does not follow here") as link:
            folder.below(name, make=True)
        assert link.value.reason.startswith("a link")
    with folder.below("new", "newer", make=True) as made:
        assert made.names() == []
    assert (folder.path / "new" / "newer").is_dir()
    with pytest.raises(NotADirectoryError):
        folder.below("file", "x", make=True)


def test_files_are_opened_only_as_files(folder: Folder) -> None:
    for name, words in (
        ("to file", "a link, which imgclf does not follow here: remove it"),
        ("to nothing", "a link, which imgclf does not follow here: remove it"),
        ("pipe", "not a regular file: move it away"),
        ("inner", "not a regular file: move it away"),
    ):
        for flags in (os.O_RDONLY, os.O_RDWR):
            with pytest.raises(LinkError, match=f"{name}: {words}"):
                folder.open(name, flags)
    with pytest.raises(FileNotFoundError) as error:
        folder.open("none")
    assert error.value.filename == str(folder.path / "none")
    os.close(folder.open("twice"))
    os.close(folder.open("twice", os.O_RDWR, several_names=True))
    for flags in (os.O_RDWR, os.O_WRONLY):
        with pytest.raises(LinkError, match=r"has several names \(hard links\), so imgclf does not write to it"):
            folder.open("twice", flags)
    assert folder.read("file", 5) == b"12345"
    with pytest.raises(ImgclfError, match="larger than 4 bytes, so it was not written by imgclf; move it away"):
        folder.read("file", 4)


def test_files_are_made_where_nothing_is(folder: Folder) -> None:
    for name in ("file", "inner", "pipe", "to file", "to nothing"):
        with pytest.raises(FileExistsError):
            folder.create(name)
    with open(folder.create("new"), "r+b") as file:
        file.write(b"new")
        file.seek(0)
        assert file.read() == b"new"
    with open(folder.open_or_create("new"), "r+b") as file:
        assert file.read() == b"new"
    with open(folder.open_or_create("newer"), "r+b") as file:
        assert file.write(b"x") == 1
    for name in ("to file", "to nothing", "pipe", "inner", "twice"):
        with pytest.raises(LinkError):
            folder.open_or_create(name)


def test_entries_are_moved_and_removed_as_they_are(folder: Folder) -> None:
    with folder.below("inner") as inner:
        folder.replace("file", "moved")
        folder.replace("moved", "moved", inner)
        assert inner.read("moved", 9) == b"12345"
        folder.replace("to nothing", "to file")
        assert os.readlink(folder.path / "to file") == "nowhere"
        inner.rename("moved", folder, "file")
        folder.link("file", inner, "twin")
        assert os.path.samefile(folder.path / "file", folder.path / "inner" / "twin")
        folder.link("to folder", inner, "link")
        assert os.path.islink(folder.path / "inner" / "link")
        for act in (lambda: folder.link("file", inner, "twin"), lambda: inner.symlink("x", "twin")):
            with pytest.raises(FileExistsError) as error:
                act()
            assert error.value.filename == str(folder.path / "inner" / "twin")
        inner.symlink("../file", "pointer")
        assert os.readlink(folder.path / "inner" / "pointer") == "../file"
        for name in ("twin", "pointer", "link"):
            inner.unlink(name)
        assert inner.names() == ["deep"]
        with pytest.raises(OSError, match="not empty") as full:
            inner.rmdir("deep")
        assert full.value.filename == str(folder.path / "inner" / "deep")
        with inner.below("deep") as deep:
            deep.unlink("x")
        inner.rmdir("deep")
        assert inner.names() == []
        for act in (lambda: inner.unlink("none"), lambda: inner.rmdir("none"), lambda: inner.rename("none", folder, "file")):
            with pytest.raises(FileNotFoundError):
                act()
        inner.sync()
    folder.sync()


def test_relative_paths(folder: Folder) -> None:
    with contained.parent(folder, "inner/deep/x") as (place, name):
        assert (place.path, name) == (folder.path / "inner" / "deep", "x")
    with contained.parent(folder, "new/er/x", make=True) as (place, name):
        assert (place.names(), name) == ([], "x")
    found = contained.status(folder, "inner/deep/x")
    assert found
    assert found.st_size == 1
    for path in ("none", "none/x", "to folder/secret", "file/x", f"{'x' * 300}/y"):
        assert contained.status(folder, path) is None


def test_other_errors_of_a_status_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Folder.named(tmp_path) as folder:
        monkeypatch.setattr(Folder, "status", failing)
        with pytest.raises(OSError, match="Input/output error"):
            contained.status(folder, "x")


def test_the_folder_of_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below `.imgclf` no link is followed; elsewhere the user's own are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path / "real" / "x", b"")
    (tmp_path / "link").symlink_to("real")
    with contained.at(tmp_path / "link") as folder:
        assert folder.names() == ["x"]
    with pytest.raises(FileNotFoundError):
        contained.at(tmp_path / "none" / "below")
    contained.make_folder(tmp_path / "none" / "below")
    assert (tmp_path / "none" / "below").is_dir()
    (tmp_path / "link" / ".imgclf").symlink_to(tmp_path / "none")
    for make in (False, True):
        with pytest.raises(LinkError):
            contained.at(tmp_path / "link" / ".imgclf" / "index", make=make)
    state = tmp_path / "new data" / ".imgclf" / "index"
    with pytest.raises(FileNotFoundError):
        contained.at(state)
    assert not (tmp_path / "new data").exists()
    with contained.at(state, make=True) as folder:
        assert (folder.path, folder.names()) == (state, [])
    contained.make_folder(state)
    place = tmp_path / "cache" / "imgclf" / "data" / "photos"
    contained.make_folder(place)
    assert place.is_dir()


def test_a_link_on_the_way_is_seen_without_descriptors_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanged after the folder was opened; the user's own folders above it may be links."""
    monkeypatch.setattr(contained, "BY_DESCRIPTOR", False)
    write(tmp_path / "real" / "inner" / "x", b"x")
    (tmp_path / "link").symlink_to("real")
    with Folder.named(tmp_path / "link") as folder, folder.below("inner") as inner:
        assert inner.read("x", 9) == b"x"
        (tmp_path / "real" / "inner").rename(tmp_path / "real" / "other")
        (tmp_path / "real" / "inner").symlink_to("other")
        for act in (lambda: inner.read("x", 9), lambda: inner.unlink("x"), lambda: inner.create("y")):
            with pytest.raises(LinkError, match="a link, which imgclf does not follow here"):
                act()
    assert sorted(os.listdir(tmp_path / "real" / "other")) == ["x"]


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="folders are opened to be entered only on Linux")
def test_a_folder_that_may_only_be_entered_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x", b"x")
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with Folder(tmp_path, descriptor, tmp_path) as folder:
        assert folder.read("x", 1) == b"x"
        with pytest.raises(PermissionError, match="Permission denied") as error:
            folder.names()
        assert error.value.filename == str(tmp_path)
        folder.sync()
    with pytest.raises(OSError, match="Not a directory"), Folder.named(tmp_path / "x"):
        pass

    def failing(*_arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Folder.named(tmp_path) as folder:
        monkeypatch.setattr(os, "listdir", failing)
        with pytest.raises(OSError, match="Input/output error"):
            folder.names()


def test_temporary_names_are_hidden_and_keep_the_ending() -> None:
    names = {contained.temporary_name("model.keras") for _round in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"\.model\.[0-9a-f]{12}\.tmp\.keras", name) for name in names)
    assert re.fullmatch(r"\.bare\.[0-9a-f]{12}\.tmp", contained.temporary_name("bare"))


def test_new_entries_below_the_state_folder_get_the_permissions_of_the_data(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    umask, before = os.umask(0o077), descriptors()
    try:
        with contained.at(tmp_path / ".imgclf" / "index", make=True) as folder:
            os.close(folder.create("file"))
        with contained.at(tmp_path / "elsewhere", make=True) as folder:
            os.close(folder.create("file"))
    finally:
        os.umask(umask)
    assert descriptors() == before
    modes = {path.relative_to(tmp_path).as_posix(): oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*")}
    assert modes == {
        ".imgclf": "0o777", ".imgclf/index": "0o777", ".imgclf/index/file": "0o666", "elsewhere": "0o700",
        "elsewhere/file": "0o600",
    }  # fmt: skip
