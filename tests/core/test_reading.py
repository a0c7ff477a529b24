"""What is read of files that may come from someone else, where imgclf keeps its own, and whose they are."""

import getpass
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import write

from imgclf.core.errors import ImgclfError
from imgclf.core.files import links, owners, paths, permissions, reading, seal


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("folder", "this is a folder, not a file: choose a file"),
        ("pipe", "not a regular file but a pipe or device; save its content to a file and use that file"),
        ("nothing", "No such file or directory; check the spelling, and that every folder in the path exists"),
        ("nul", "embedded null byte"),
    ],
)
def test_only_regular_files_are_read(kind: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / ("a\0b" if kind == "nul" else kind)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ImgclfError) as error:
        reading.opened(path)
    assert str(error.value) == f"{path}: cannot be read: {words}"


def test_a_file_that_becomes_a_folder_before_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays open either."""
    file, status = write(tmp_path / "file", b"x"), os.stat(write(tmp_path / "before", b"x"))
    file.unlink()
    file.mkdir()
    opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with monkeypatch.context() as patch:
        patch.setattr(reading.os, "stat", lambda _path: status)
        with pytest.raises(ImgclfError, match="this is a folder, not a file"):
            reading.opened(file)
    if opened:
        assert len(os.listdir("/proc/self/fd")) == opened


def test_a_file_of_the_limit_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = write(tmp_path / "file", b"12345")
    assert reading.read_bounded(path, 5) == b"12345"
    with pytest.raises(ImgclfError, match="larger than 4 bytes, the limit for such a file"):
        reading.read_bounded(path, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[1]", "not a JSON object"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "1e999 is not a finite number"),
        (b'{"a": 1' + b"0" * 30 + b".0e999}", "10000000000000000000 is not a finite number"),
        (b'{"a": \xff}', "cannot be read"),
        (b"", "Expecting value"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": [1, 2, 3, 4]}', "more than 4 values"),
    ],
)
def test_json_that_is_refused(content: bytes, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last has three commas, a list and an object."""
    if words.startswith("more than"):
        monkeypatch.setattr(reading, "JSON_VALUES", 4)
    path = write(tmp_path / "file.json", content)
    with pytest.raises(ImgclfError) as error:
        reading.read_json(path)
    assert str(error.value).startswith(f"{path}: cannot be read: ")
    assert words in str(error.value)


def test_json_that_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"a": [1, -2.5, "\u00e9", None, True, {"b": []}]}
    path = write(tmp_path / "file.json", json.dumps(value).encode())
    monkeypatch.setattr(reading, "JSON_VALUES", 9)
    assert reading.read_json(path) == value
    monkeypatch.setattr(reading, "JSON_BYTES", len(path.read_bytes()) - 1)
    with pytest.raises(ImgclfError, match="larger than"):
        reading.read_json(path)


# -- places -------------------------------------------------------------------------------------------------------------------


def test_the_cache_folder_of_each_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for system, place in (("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")):
        monkeypatch.setattr(sys, "platform", system)
        assert paths.cache_folder() == tmp_path / place / "imgclf"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert paths.cache_folder() == tmp_path / "local" / "imgclf"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(paths, "home", lambda: None)
    assert paths.cache_folder() == Path(tempfile.gettempdir()) / ".cache" / "imgclf"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    assert paths.home() == Path.home()
    monkeypatch.setattr(Path, "home", none)
    assert paths.home() is None


def test_below_which_folder_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data, cache = tmp_path / "data", tmp_path / "cache" / "imgclf"
    assert paths.root_of(data / ".imgclf" / "index" / "file") == data
    assert paths.root_of(data / ".imgclf") == data
    assert paths.root_of(data / ".imgclf" / "a" / ".imgclf" / "b") == data / ".imgclf" / "a"
    assert paths.root_of(cache / "data" / "photos-1" / "index") == cache
    assert paths.root_of(cache / "data") == cache
    for place in (cache / "backbones", data / "a.png", tmp_path):
        assert paths.root_of(place) is None


# -- authors and owners -------------------------------------------------------------------------------------------------------


def test_a_seal_is_of_this_user_for_this_folder_and_this_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    plan = seal.sealed(data, {"moves": [["a", "b"]]})
    assert sorted(plan) == ["by", "moves", "seal"]
    assert len(plan["seal"]) == 64
    assert seal.is_own(data, plan)
    assert seal.is_own(data, dict(reversed(plan.items()))), "the order of a file's fields does not matter"
    data.rename(tmp_path / "renamed")
    assert seal.is_own(tmp_path / "renamed", plan)
    deep: list[object] = []
    for _level in range(100_000):
        deep = [deep]
    for change in ({"moves": []}, {"by": "me"}, {"seal": ""}, {"seal": "\ud800"}, {"more": 1}, {"seal": None}, {"moves": deep}):
        assert not seal.is_own(tmp_path / "renamed", {**plan, **change})
    assert not seal.is_own(other, plan)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
    assert not seal.is_own(tmp_path / "renamed", plan)


def test_the_key_is_made_once_and_a_short_one_counts_as_none(tmp_path: Path) -> None:
    for length in (31, 33):
        cache = tmp_path / str(length)
        write(cache / "key", bytes(length))
        if length == 31:
            assert seal._key(cache) == b""
    made = seal._key(tmp_path / "new")
    assert len(made) == 32
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [("key", made)]
    assert os.stat(tmp_path / "new" / "key").st_mode & 0o777 == 0o600
    seal._key.cache_clear()
    assert seal._key(tmp_path / "new") == made


def test_an_author_is_shown_in_printable_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seal.author({"by": "anne\n\x1b[31m on a machine"}) == "anne[31m on a machine"
    assert seal.author({"by": "x" * 81}) == "x" * 80
    for nothing in ({}, {"by": ""}, {"by": None}, {"by": "\n"}):
        assert seal.author(nothing) == "an unknown user"
    monkeypatch.setattr(seal.platform, "node", lambda: "")
    monkeypatch.setattr(getpass, "getuser", lambda: "anne")
    assert seal._author() == "anne on an unknown machine"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 61001")

    monkeypatch.setattr(getpass, "getuser", nobody)
    monkeypatch.setattr(os, "getuid", lambda: 61001)
    assert seal._author() == "user 61001 on an unknown machine"
    monkeypatch.delattr(os, "getuid")
    assert seal._author() == "unknown on an unknown machine"


def test_whose_a_closed_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first place below `.imgclf` that is another user's and closed, with the command that opens it."""
    file = write(tmp_path / "my data" / ".imgclf" / "index" / "file", b"")
    state, folder = file.parents[1], file.parent
    closed_to_us: dict[Path, int] = {}
    monkeypatch.setattr(os, "access", lambda path, mode: not closed_to_us.get(Path(path), 0) & mode)
    assert owners.closed(file) == ""
    closed_to_us[file] = os.W_OK
    assert owners.closed(file) == "", "it is this user's own"
    monkeypatch.setattr(os, "geteuid", lambda: 61001)
    monkeypatch.setattr(owners, "name_of", lambda user: f"user {user}")
    command = f"chmod -R g+rwX '{state}'"
    assert owners.closed(file) == f"{file} belongs to user {os.getuid()}, and you have no access; ask user 0 to run `{command}`"
    closed_to_us[file] = os.X_OK
    assert owners.closed(file) == "", "a file need not be executed"
    closed_to_us[folder] = os.X_OK
    assert owners.closed(file).startswith(f"{folder} belongs to")
    closed_to_us[tmp_path / "my data"] = os.R_OK
    assert owners.closed(file).startswith(f"{folder} belongs to"), "what is above is not ours to open"
    monkeypatch.setattr(os, "getegid", lambda: 61002)
    monkeypatch.setattr(os, "getgroups", lambda: [])
    assert owners.closed(file).endswith(
        f"run `chgrp -R GROUP '{state}' && {command}`, where GROUP is a group that you are both in"
    )
    assert owners.closed(tmp_path / "none" / ".imgclf" / "file") == ""
    assert owners.closed(tmp_path) == ""


def test_users_without_a_name() -> None:
    assert owners.name_of(0) == "root"
    assert owners.name_of(61001) == "user 61001"


# -- links --------------------------------------------------------------------------------------------------------------------


def test_components(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", ".", "..", "a/b", "a\0b", "/", "\ud800"):
        assert not links.is_component(name)
        with pytest.raises(ValueError, match="is not the name of a file or folder"):
            links.check_component(name)
    for name in ("a", "...", ".a", "a\\b", "a:b", os.fsdecode(b"\xff")):
        assert links.is_component(name)
        links.check_component(name)
    monkeypatch.setattr(sys, "platform", "win32")
    assert [links.is_component(name) for name in ("a", "a\\b", "a:b")] == [True, False, False]


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="folders are opened to be entered only on Linux")
def test_a_folder_that_may_only_be_entered_is_opened_to_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "folder" / "file", b"x")
    (tmp_path / "link").symlink_to("folder")
    opened, by_path = os.open, os.O_PATH

    def closed(place: object, flags: int, **options: object) -> int:
        if not flags & by_path:
            raise PermissionError(13, "Permission denied")
        return opened(place, flags, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(links.os, "open", closed)
        descriptor = links.open_folder(tmp_path / "folder", None)
        with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
            links.open_folder(tmp_path / "link", None)
        os.close(links.open_folder(tmp_path / "link", None, follow=True))
        patch.delattr(os, "O_PATH")
        with pytest.raises(PermissionError):
            links.open_folder(tmp_path / "folder", None)
    assert os.stat("file", dir_fd=descriptor).st_size == 1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.listdir(descriptor)
    os.close(descriptor)


def test_links_and_the_names_in_errors(tmp_path: Path) -> None:
    file = write(tmp_path / "file", b"")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert [links.is_link(tmp_path / name) for name in ("file", "link", "dangling", "none")] == [False, True, True, False]
    assert links.not_regular(os.lstat(tmp_path / "link")).startswith("a link, which imgclf does not follow here")
    assert links.not_regular(os.stat(tmp_path)) == "not a regular file: move it away"
    with pytest.raises(FileNotFoundError) as error, links.naming(file):
        os.stat("none", dir_fd=None)
    assert error.value.filename == str(file)


# -- permissions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "made", "file", "folder"),
    [
        (0o700, 0o600, 0o600, 0o700),
        (0o777, 0o600, 0o666, 0o777),
        (0o775, 0o600, 0o660, 0o770),  # others may read what the umask left them, which is nothing
        (0o775, 0o644, 0o664, 0o774),
        (0o755, 0o600, 0o600, 0o700),
        (0o755, 0o666, 0o644, 0o744),
        (0o2770, 0o600, 0o660, 0o2770),
        (0o1777, 0o600, 0o666, 0o1777),
        (0o707, 0o600, 0o606, 0o707),
    ],
)
def test_new_files_get_what_the_data_folder_grants(tmp_path: Path, data: int, made: int, file: int, folder: int) -> None:
    """Classes of users that may write there get all it grants them; others keep what the umask left, within that."""
    root = tmp_path / "data"
    root.mkdir()
    root.chmod(data)
    for kind, mode, expected in (("file", made, file), ("folder", made | 0o100, folder)):
        path = root / kind
        if kind == "file":
            path.touch()
        else:
            path.mkdir()
        path.chmod(mode)
        descriptor = os.open(path, os.O_RDONLY)
        permissions._follow(descriptor, root)
        os.close(descriptor)
        assert oct(os.stat(path).st_mode & 0o7777) == oct(expected)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root: files of two groups")
@pytest.mark.parametrize(("data", "expected"), [(0o2770, 0o600), (0o2777, 0o666), (0o775, 0o600), (0o757, 0o606)])
def test_a_group_that_cannot_be_given_gets_what_others_get(
    tmp_path: Path, data: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    os.chown(root, -1, 61100)
    root.chmod(data)
    path = root / "file"
    path.touch()
    os.chown(path, -1, 0)
    path.chmod(0o600)

    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    descriptor = os.open(path, os.O_RDONLY)
    permissions._follow(descriptor, root)
    os.close(descriptor)
    assert oct(os.stat(path).st_mode & 0o7777) == oct(expected)


def test_the_owner_gets_an_entry_of_the_list() -> None:
    """An access list as Linux stores it: version 2, then tag, permissions and id of each entry, in that order."""

    def packed(*entries: tuple[int, int, int]) -> bytes:
        return (2).to_bytes(4, "little") + b"".join(
            tag.to_bytes(2, "little") + granted.to_bytes(2, "little") + who.to_bytes(4, "little")
            for tag, granted, who in entries
        )

    none = 0xFFFFFFFF
    before = packed((1, 7, none), (2, 5, 500), (4, 5, none), (16, 7, none), (32, 0, none))
    after = packed((1, 7, none), (2, 7, 400), (2, 5, 500), (4, 5, none), (16, 7, none), (32, 0, none))
    assert permissions._with_user(before, 400) == after
    assert permissions._with_user(before, 500) == before


def test_which_data_folder_a_file_belongs_to(tmp_path: Path) -> None:
    assert permissions.data_of(tmp_path / ".imgclf" / "a" / "b") == tmp_path
    assert permissions.data_of(tmp_path / ".imgclf") == tmp_path
    assert permissions.data_of(tmp_path / "a") is None
