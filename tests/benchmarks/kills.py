"""Kill `imgclf clean` and `clean --undo` with signal 9 at random instants; nothing may be lost and the end must be consistent.

    python tests/benchmarks/kills.py --rounds 200

Each round runs a command in a process of its own and kills it after a random time: half of them drawn over all that the
command takes when it is left alone, half over the moment in which it moves files (from when its journal appears). After
each kill every file that was there at the beginning must be there once, whole, under its own name, its mended name or in
quarantine. At the end one `--undo` must bring the folder back byte for byte.
"""

import argparse
import collections
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import encoded, photo, write


def make(root: Path) -> None:
    """900 files in two classes, of which clean moves MOVED."""
    for number in range(100):
        write(root / "cats" / f"{number:03d}.jpg", encoded(photo(number)))
        write(root / "dogs" / f"{number:03d}", encoded(photo(1000 + number), "PNG"))
    for number in range(700):
        write(root / "cats" / f"broken {number:03d}.jpg", b"<html>" + str(number).encode())


MOVED = 800


def contents(root: Path) -> collections.Counter[str]:
    """Every file outside imgclf's own bookkeeping, quarantine included, by content."""
    found: collections.Counter[str] = collections.Counter()
    for path in root.rglob("*"):
        inside = path.relative_to(root).parts
        if path.is_file() and (inside[0] != ".imgclf" or inside[1] == "quarantine"):
            found[hashlib.sha256(path.read_bytes()).hexdigest()] += 1
    return found


def names(root: Path) -> dict[str, str]:
    """Every file outside .imgclf by name, with its content."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] != ".imgclf"
    }


def command(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "imgclf", "clean", str(root), *options]


def run(folder: Path, rounds: int, seed: int) -> dict[str, int]:
    """Raises AssertionError at the first loss; returns how many rounds, and in how many the command was killed under way."""
    root = folder / "data"
    make(root)
    first, whole = names(root), contents(root)
    started = time.perf_counter()
    subprocess.run(command(root), check=True, capture_output=True)
    length = time.perf_counter() - started
    subprocess.run(command(root, "--undo"), check=True, capture_output=True)
    chance = random.Random(seed)
    figures = {"rounds": 0, "killed": 0, "clean": 0, "undo": 0, "half done": 0, "two names": 0}
    for number in range(rounds):
        if chance.random() < 0.3:
            shutil.rmtree(root / ".imgclf" / "index", ignore_errors=True)  # the whole of clean, not only its end
        undo = number % 2 == 1
        process = subprocess.Popen(command(root, *(["--undo"] if undo else [])), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if chance.random() < 0.5:
                process.wait(chance.uniform(0.15, 1.0) * length)
            else:
                journal = root / ".imgclf" / "journal"
                while process.poll() is None and not any(path.name.endswith("doing.json") for path in journal.glob("*.json")):
                    time.sleep(0.001)
                process.wait(chance.uniform(0, 0.06))
        except subprocess.TimeoutExpired:
            process.kill()
            figures["killed"] += 1
            figures["undo" if undo else "clean"] += 1
        process.communicate()
        now = contents(root)
        # Between the link and the unlink of a move a file has two names for an instant; the next command takes one away.
        extra = now - whole
        assert whole - now == collections.Counter(), f"round {number}: lost {len(whole - now)} files"
        assert extra.total() <= 1, f"round {number}: {extra.total()} files too many"
        figures["two names"] += extra.total()
        moved = len(first.keys() - names(root).keys())
        figures["half done"] += 0 < moved < MOVED
        figures["rounds"] += 1
    subprocess.run(command(root), check=True, capture_output=True)
    assert contents(root) == whole
    subprocess.run(command(root, "--undo"), check=True, capture_output=True)
    assert names(root) == first
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), options.rounds, options.seed), "nothing lost, undone byte for byte")
