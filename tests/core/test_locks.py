"""One command at a time on one folder."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgclf.core.errors import ImgclfError
from imgclf.core.files import locks


def test_the_lock_names_its_owner_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path; from imgclf.core.files import locks\n"
         "with locks.locked(Path(sys.argv[1]), 'clean'):\n print('held', flush=True); time.sleep(60)", str(tmp_path)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout
    holder.stdout.readline()
    with (
        pytest.raises(ImgclfError, match=rf"in use by imgclf clean \(process {holder.pid}, since "),
        locks.locked(tmp_path, "split"),
    ):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            with locks.locked(tmp_path, "split"):
                break
        except ImgclfError:
            assert time.monotonic() < deadline


def test_a_full_disk_keeps_no_command_back(tmp_path: Path) -> None:
    """Nothing can be written into the lock, and an undo needs no room."""
    code = (
        "import resource, sys; from pathlib import Path; from imgclf.core.files import locks\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "with locks.locked(Path(sys.argv[1]), 'clean --undo'):\n    print('held')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("held\n", "")
    assert (tmp_path / "lock").read_bytes() == b""


def test_the_lock_says_who_holds_it_and_is_empty_afterwards(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"x" * 300)
    with locks.locked(tmp_path, "clean"):
        said = (tmp_path / "lock").read_text()
        assert re.fullmatch(rf"imgclf clean \(process {os.getpid()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\)", said)
        (tmp_path / "lock").write_bytes(b"z" + b"y" * 300)
        with pytest.raises(locks.InUseError) as error, locks.locked(tmp_path, "split"):
            pass
        assert str(error.value) == f"{tmp_path.parent}: in use by z{'y' * 199}; wait for it to finish and try again"
        (tmp_path / "lock").write_bytes(b"  ")
        with pytest.raises(locks.InUseError, match="in use by another command; wait"), locks.locked(tmp_path, "split"):
            pass
    assert (tmp_path / "lock").read_bytes() == b""
    with pytest.raises(ZeroDivisionError), locks.locked(tmp_path, "clean"):
        raise ZeroDivisionError
    with locks.locked(tmp_path, "clean"):
        pass


def test_a_file_is_held_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"content")
    (tmp_path / "twin").hardlink_to(tmp_path / "plan")
    with locks.held(tmp_path / "plan", "in use here"):
        assert (tmp_path / "plan").read_bytes() == b"content"
        with pytest.raises(locks.InUseError, match=r"^in use here$"), locks.held(tmp_path / "plan", "in use here"):
            pass
    with locks.held(tmp_path / "plan", "in use here"):
        pass
    assert (tmp_path / "plan").read_bytes() == b"content"
