"""Files and folders that are whole or not there."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tree, write

from imgclf.core.files import atomic, contained


def test_atomic_writes_leave_the_old_file_when_they_fail(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", b"old")
    with pytest.raises(RuntimeError), atomic.atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.json", b"old")]
    atomic.write_atomic(path, "new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.json", b"new")]


def test_a_folder_takes_its_name_whole_or_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    write(path / "old", b"old")
    with pytest.raises(RuntimeError), atomic.atomic_folder(path) as temporary:
        write(temporary / "half", b"")
        raise RuntimeError
    assert tree(tmp_path) == {"folder/old": b"old"}

    replace, calls = os.replace, []

    def fails_at_the_second(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "no")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, "replace", fails_at_the_second)
        with pytest.raises(PermissionError), atomic.atomic_folder(path) as temporary:
            write(temporary / "new", b"new")
    assert tree(tmp_path) == {"folder/old": b"old"}

    with atomic.atomic_folder(path) as temporary:
        write(temporary / "below" / "new", b"new")
    assert tree(tmp_path) == {"folder/below/new": b"new"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """One process is killed within each writer; names that only look alike stay."""
    code = (
        "import os, signal; from pathlib import Path; from imgclf.core.files import atomic\n"
        "with atomic.atomic_path(Path('{name}')) as path:\n    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for name in ("model.keras", "checkpoint.npz", "bare"):
        assert subprocess.run([sys.executable, "-c", code.format(name=name)], cwd=tmp_path).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3
    others = [
        write(tmp_path / name, b"mine")
        for name in (".hidden.tmp", "a.1.tmp.npz", ".a.x.tmp", ".a.1.tmp", "model.keras", ".1.tmp")
    ]
    with contained.at(tmp_path) as folder:
        atomic.remove_leftovers(folder)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_writers_leave_nothing_open_and_write_what_they_are_given(tmp_path: Path) -> None:
    """Line ends, names that are no UTF-8 and accents stay; of a folder every file is there."""
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    name = os.fsdecode(b"caf\xc3\xa9 \xff")
    atomic.write_atomic(tmp_path / "text", f"{name}\r\n")
    atomic.write_lines(tmp_path / "lines", (f"{name}\n", "b\r\n"))
    atomic.write_json(tmp_path / "json", {"name": name, "more": [1]})
    with atomic.atomic_path(tmp_path / "path.npz") as temporary:
        assert temporary.suffix == ".npz"
        temporary.unlink()
        temporary.write_bytes(b"another file in its place")
    with atomic.atomic_file(tmp_path / "file") as file:
        file.write(b"x")
    assert tree(tmp_path) == {
        "text": b"caf\xc3\xa9 \xff\r\n", "lines": b"caf\xc3\xa9 \xff\nb\r\n", "path.npz": b"another file in its place",
        "file": b"x", "json": b'{\n  "name": "caf\xc3\xa9 \\udcff",\n  "more": [\n    1\n  ]\n}\n',
    }  # fmt: skip
    assert json.loads((tmp_path / "json").read_bytes())["name"] == name
    assert atomic.json_text({"a": "\u00e9"}) == '{"a": "\u00e9"}'
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
