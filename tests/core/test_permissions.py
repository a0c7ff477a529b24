"""Folders that several users share: whoever may write the data may write what imgclf keeps in it, and nobody else may."""

import concurrent.futures
import itertools
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import encoded, make_classes, photo, write
from team import ANNE, BEN, PIXELS, TEAM, Team, users

from imgclf.core.files import atomic, contained, locks, permissions


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs root: commands are run as two other users")
    with users() as found:
        yield found


@pytest.fixture
def data(team: Team) -> Iterator[Path]:
    """Two classes of Anne's, with a page and a copy in each; open to nobody yet."""
    data = team.folder / "data"
    make_classes(data, {"a": 9, "b": 9})
    for name in "ab":
        write(data / name / "page.jpg", b"<html>" + name.encode())
        write(data / name / "copy.png", (data / name / "000.png").read_bytes())
    for path in (data, *data.rglob("*")):
        os.chown(path, ANNE, ANNE)
    yield data
    shutil.rmtree(data)


def open_up(data: Path, sharing: str) -> None:
    folders = (data, data / "a", data / "b")
    for folder in folders:
        if sharing == "2775":
            os.chown(folder, ANNE, TEAM)
        folder.chmod({"0777": 0o777, "2775": 0o2775, "0700": 0o700}.get(sharing, 0o755))
    if "acl" in sharing:
        rules = f"u:{ANNE}:rwx,u:{BEN}:rwx"
        set_acl("-m", rules, *folders)
        if sharing == "default acl":
            set_acl("-d", "-m", rules, *folders)


def set_acl(*words: object) -> None:
    if not shutil.which("setfacl"):
        pytest.skip("setfacl is not installed (Debian: apt-get install acl)")
    done = subprocess.run(["setfacl", *map(str, words)], capture_output=True, text=True)
    if "not supported" in done.stderr:
        pytest.skip(f"no ACLs here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


def write_as(user: int, path: Path) -> None:
    """An image that is new."""
    write(path, encoded(photo(user), "PNG"))
    os.chown(path, user, user)


TURNS = (
    ("clean",), ("split",), ("clean", "--undo"), ("split", "--check"), ("clean", "--dry-run"), ("preview",), ("clean",),
    ("split", "--force", "--seed", "7"), ("split", "--folds", "3", "--force"), ("clean", "--shard", "1/2"), ("clean", "--undo"),
    ("clean", "--history"),
)  # fmt: skip


@pytest.mark.parametrize("umask", [0o002, 0o077])
@pytest.mark.parametrize("sharing", ["0777", "2775", "default acl", "acl"])
def test_two_users_take_turns(team: Team, data: Path, sharing: str, umask: int) -> None:
    open_up(data, sharing)
    for user, words in zip(itertools.cycle((ANNE, BEN)), TURNS, strict=False):
        code, said = team.run(user, umask, words[0], data, *words[1:])
        assert code == 0, (user, words, said)
        assert "read-only" not in said
        assert "could not" not in said
    for user in (ANNE, BEN):
        write_as(user, data / "a" / f"{user}.png")
        assert team.run(user, umask, "python", PIXELS, data) == (0, "")
    assert {path.parent.name for path in data.rglob("page.jpg")} == {"a", "b"}  # back in place
    state = data / ".imgclf"
    ours = [state, *(path for path in state.rglob("*") if "quarantine" not in path.parts or path.is_dir())]
    assert {path.stat().st_uid for path in ours} == {ANNE, BEN}
    for path in ours:
        assert team.can_write(ANNE, path), path
        assert team.can_write(BEN, path), path
        mode = path.stat().st_mode
        assert stat.S_ISDIR(mode) or not mode & 0o111, path
        if sharing == "0777":
            assert mode & 0o777 == (0o777 if stat.S_ISDIR(mode) else 0o666), path
        else:
            assert not mode & 0o002, path
        if sharing == "2775":
            assert path.stat().st_gid == TEAM


@pytest.mark.parametrize("umask", [0o002, 0o077])
def test_what_only_one_user_may_write_stays_hers(team: Team, data: Path, umask: int) -> None:
    open_up(data, "0700")
    for words in TURNS[:4]:
        code, said = team.run(ANNE, umask, words[0], data, *words[1:])
        assert code == 0, said
    for path in (data / ".imgclf").rglob("*"):
        if "quarantine" not in path.parts or path.is_dir():
            assert not path.stat().st_mode & 0o077, path
    code, said = team.run(BEN, 0o022, "clean", data)
    assert code in (1, 2), said
    assert "Traceback" not in said


def test_who_may_only_read_the_data_may_read_no_more_than_the_umask_leaves(team: Team, data: Path) -> None:
    """Thumbnails and prepared pixels of private images must not be open because the folder above them is."""
    open_up(data, "0755")
    for folder in (data / "a", data / "b"):
        folder.chmod(0o700)
    for words in TURNS[:2]:
        assert team.run(ANNE, 0o077, words[0], data, *words[1:])[0] == 0
    for path in (data / ".imgclf").rglob("*"):
        if "quarantine" not in path.parts or path.is_dir():
            assert not path.stat().st_mode & 0o077, path


def test_a_group_that_is_not_the_folders_gets_what_others_get(team: Team, data: Path) -> None:
    """Ben may write as one of the others, or by an ACL, and is not in the team: his own group must not take its place."""
    open_up(data, "2775")
    for folder in (data, data / "a", data / "b"):
        folder.chmod(0o2770)
        set_acl("-m", f"u:{BEN}:rwx", folder)
    code, said = team.run(BEN, 0o002, "clean", data, team=False)
    assert code == 0, said
    for path in (data / ".imgclf").rglob("*"):
        if "quarantine" not in path.parts or path.is_dir():
            assert not path.stat().st_mode & 0o007, path
            assert team.can_write(BEN, path), path


def test_what_root_makes_in_a_users_folder_is_the_users(team: Team, data: Path) -> None:
    open_up(data, "0755")
    assert team.run(0, 0o022, "clean", data)[0] == 0
    code, said = team.run(ANNE, 0o022, "clean", data, "--undo")
    assert code == 0, said
    assert {path.stat().st_uid for path in (data / ".imgclf").rglob("*")} == {ANNE}


def test_an_index_that_may_not_be_written_is_said_and_left_alone(team: Team, data: Path) -> None:
    open_up(data, "0777")
    assert team.run(ANNE, 0o022, "clean", data, "--dry-run")[0] == 0
    (index,) = (data / ".imgclf" / "index").iterdir()
    index.chmod(0o600)
    write(data / "a" / "new.png", b"<html>")
    before = index.read_bytes()
    code, said = team.run(BEN, 0o022, "clean", data, "--dry-run")
    assert code == 1
    assert f"{index} belongs to user {ANNE}, and you have no access" in said
    assert "in use" not in said
    assert "damaged" not in said
    assert index.read_bytes() == before
    assert [path.name for path in index.parent.iterdir()] == [index.name]


@pytest.mark.parametrize("sharing", ["2775", "0777"])
def test_what_is_closed_names_its_owner(team: Team, data: Path, sharing: str) -> None:
    """Folders and files that Anne closed, or made before she shared the data: Ben reads whose they are and what she can do."""
    open_up(data, sharing)
    for words in TURNS[:2]:
        assert team.run(ANNE, 0o077, words[0], data, *words[1:])[0] == 0
    state = data / ".imgclf"
    (index,) = (state / "index").glob("*.sqlite")
    (plan,) = (state / "journal").glob("*.json")
    command = f"chmod -R g+rwX {state}"
    if sharing == "0777":
        command = f"chgrp -R GROUP {state} && {command}"
    for closed, commands in (
        (state, (("clean",), ("clean", "--undo"), ("clean", "--history"), ("split", "--check"))),
        (state / "lock", (("clean",), ("clean", "--undo"))),
        (state / "index", (("clean", "--dry-run"), ("split",))),
        (index, (("clean", "--dry-run"), ("split",))),
        (state / "journal", (("clean",), ("clean", "--undo"), ("clean", "--history"))),
        (plan, (("clean", "--undo"), ("clean", "--history"))),
        (state / "split.csv", (("split",), ("split", "--check"))),
    ):
        before = closed.stat().st_mode
        closed.chmod(0o700 if closed.is_dir() else 0o600)
        for words in commands:
            code, said = team.run(BEN, 0o027, words[0], data, *words[1:])
            assert code == 1 or (closed == state and "XDG" in said), (closed, words, said)
            assert f"{closed} belongs to user {ANNE}, and you have no access; ask user {ANNE} to run `{command}`" in said, (
                words,
                said,
            )
            assert not [
                word for word in ("Traceback", "read-only", "make room", "damaged", "choose another") if word in said
            ], said
        closed.chmod(before)
    assert team.run(BEN, 0o077, "clean", data, "--undo")[0] == 0


def test_folders_that_threads_make_at_once_follow_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is there and does not follow yet when another thread makes a folder in it."""
    tmp_path.chmod(0o777)
    mkdir = os.mkdir

    def slow(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(path, mode, dir_fd=dir_fd)
        time.sleep(0.01)

    monkeypatch.setattr(os, "mkdir", slow)
    before = os.umask(0o077)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(contained.make_folder, [tmp_path / ".imgclf" / "a" / "b" / str(number) for number in range(8)]))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")} == {0o777}


def test_permissions_that_cannot_be_set_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAT, some network folders, a file of another owner."""

    def refuse(*_arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(permissions.os, "fchmod", refuse)
    monkeypatch.setattr(permissions.os, "fchown", refuse)
    tmp_path.chmod(0o777)
    contained.make_folder(tmp_path / ".imgclf" / "below")
    atomic.write_atomic(tmp_path / ".imgclf" / "below" / "x.json", "{}")
    with locks.locked(tmp_path / ".imgclf", "clean"):
        pass
    assert (tmp_path / ".imgclf" / "below" / "x.json").read_text() == "{}"


def test_only_what_is_ours_follows(tmp_path: Path) -> None:
    """Reports and exports are the user's, and made as the umask says; a link is not followed."""
    tmp_path.chmod(0o777)
    before = os.umask(0o077)
    try:
        contained.make_folder(tmp_path / "runs" / "a")
        atomic.write_atomic(tmp_path / "runs" / "a" / "x.json", "{}")
        contained.make_folder(tmp_path / ".imgclf")
        victim = write(tmp_path / "victim", b"")
        victim.chmod(0o600)
        (tmp_path / ".imgclf" / "lock").symlink_to(victim)
        with contained.at(tmp_path / ".imgclf") as folder:
            folder.give_permissions("lock")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"runs": 0o700, "a": 0o700, "x.json": 0o600, ".imgclf": 0o777, "victim": 0o600, "lock": 0o600}


@pytest.mark.skipif(os.name == "nt", reason="no permissions")
def test_a_link_put_in_the_place_of_a_new_file_is_left_alone(tmp_path: Path) -> None:
    """Or who may write the folder could have an administrator's file opened to everybody."""
    state = tmp_path / "data" / ".imgclf"
    state.parent.mkdir()
    state.parent.chmod(0o777)
    contained.make_folder(state)
    secret = write(tmp_path / "secret", b"x")
    secret.chmod(0o600)
    os.link(secret, state / "new")
    with contained.at(state) as folder:
        folder.give_permissions("new")
    assert secret.stat().st_mode & 0o777 == 0o600
