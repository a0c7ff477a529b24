"""A second process that repeatedly replaces a folder by a link to another one, while files are moved out of it."""

import subprocess
import sys
import time
from pathlib import Path

from conftest import tree, write

from imgclf.core.files import operations
from imgclf.core.files.plans import Move
from imgclf.core.files.state_folder import state_folder
from imgclf.core.files.undo import undo_operations

_SWAP = """
import contextlib, os, random, sys, time
data, out = sys.argv[1:]
here, away = data + "/a/z", data + "/a/away"

def back():
    try:
        os.rename(away, here)
    except OSError:  # an undo has made the folder again meanwhile
        for name in os.listdir(away):
            os.rename(away + "/" + name, here + "/" + name)
        os.rmdir(away)

print("ready", flush=True)
while True:
    time.sleep(random.random() / 500)
    for act in (lambda: os.rename(here, away), lambda: os.symlink(out, here), lambda: os.unlink(here), back):
        with contextlib.suppress(OSError):
            act()
"""


def race(folder: Path, rounds: int, files: int = 20) -> tuple[int, int]:
    """Move files in and out of quarantine in each round; return the numbers of moves made and refused.

    Raises:
        AssertionError: if a file outside the data folder was moved, or a file from outside was moved into it.
    """
    data, out = folder / "data", folder / "out"
    names = [f"{number}.jpg" for number in range(files)]
    for name in names:
        write(data / "a/z" / name, b"ours")
        write(out / name, b"theirs")
    state = state_folder(data)
    before = tree(out)
    made = refused = 0
    with subprocess.Popen([sys.executable, "-c", _SWAP, str(data), str(out)], stdout=subprocess.PIPE) as swapping:
        assert swapping.stdout
        swapping.stdout.readline()
        try:
            for number in range(1, rounds + 1):
                moves = [Move(f"a/z/{name}", f".imgclf/quarantine/{number:04d}/{name}") for name in names]
                failures = operations.apply(data, state, "clean", moves)
                assert tree(out) == before, f"round {number}: a file outside was moved"
                taken = {path.read_bytes() for path in (state / "quarantine").rglob("*.jpg")}
                assert taken <= {b"ours"}, f"round {number}: a file from outside was taken"
                made, refused = made + files - len(failures), refused + len(failures)
                deadline = time.monotonic() + 30
                while (state / "quarantine").exists() and any((state / "quarantine").rglob("*.jpg")):
                    undo_operations(data, state)
                    assert tree(out) == before, f"round {number}: a file was put outside"
                    assert time.monotonic() < deadline, f"round {number}: files stay in quarantine"
        finally:
            swapping.kill()
    return made, refused
