"""How time and memory of clean and split grow: 1,000, 10,000 and 100,000 pictures made here, 96 x 72 pixels, JPEG.

    python tests/benchmarks/scale.py --folder /somewhere/with/2GB

One picture in fifty is a changed copy of another. Each command runs as a whole process; memory is the largest resident size of
any of its processes (clean uses one a core beside itself).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

COUNTS = (1_000, 10_000, 100_000)


def make(root: Path, count: int) -> None:
    """`count` different small pictures in ten classes; every fiftieth a recompressed, smaller or cropped copy."""
    for number in range(count):
        random = np.random.default_rng(number - 1 if number % 50 == 49 else number)
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(small, (96, 72), interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, random.integers(0, 20, picture.shape, dtype=np.uint8))
        if number % 50 == 49:
            picture = (picture, cv2.resize(picture, (72, 54)), picture[2:-2, 3:-3])[number // 50 % 3]
        path = root / f"class{number % 50 % 10}" / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = 60 if number % 50 == 49 else 90
        path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def measure(*arguments: str) -> tuple[float, float, str]:
    """(seconds, MB, stdout) of one command."""
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "imgclf", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout
    output = child.stdout.read()
    _pid, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{arguments} failed with exit code {child.returncode}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, output.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    options = parser.parse_args()
    names = ("clean s", "MB", "per s", "again s", "MB", "ratio", "split s", "MB")
    widths = (8, 5, 6, 8, 5, 6, 8, 5)
    print(f"{'pictures':>9}", *(f"{name:>{width}}" for name, width in zip(names, widths, strict=True)))
    for count in options.counts:
        root = options.folder / f"scale-{count}"
        if not root.exists():
            make(root, count)
        shutil.rmtree(root / ".imgclf", ignore_errors=True)
        first, first_memory, output = measure("clean", str(root), "--json")
        again, again_memory, _output = measure("clean", str(root), "--json")
        divided, split_memory, output_ = measure("split", str(root), "--json")
        found, groups = json.loads(output)["checks"], json.loads(output_)["groups"]
        copies = sum(found.get(name, 0) for name in ("near-duplicate", "mirrored")) + found.get("conflict", 0) // 2
        print(
            f"{count:>9,} {first:>8.2f} {first_memory:>5.0f} {count / first:>6.0f} {again:>8.2f} {again_memory:>5.0f} "
            f"{first / again:>6.1f} {divided:>8.2f} {split_memory:>5.0f}  "
            f"{copies:,} of {count // 50:,} copies found, {groups:,} groups kept together",
            flush=True,
        )


if __name__ == "__main__":
    main()
