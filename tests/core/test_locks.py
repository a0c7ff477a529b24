"""One command at a time on one folder."""

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
