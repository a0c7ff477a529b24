"""Measure the speed of clean, compared with pure decoding and, if a Python with it is given, with CleanVision.

    python tests/benchmarks/cleaning.py PHOTOS --times 5 --cleanvision /path/to/python

PHOTOS are copied `--times` times into a temporary folder (with a number before each name). The rates exclude the start-up of
Python and imports, but include the start of clean's worker processes. All use every core: clean and CleanVision (`n_jobs`) one
process per core, decoding a pool of threads. Prints medians of `--rounds` alternating runs.
"""

import argparse
import concurrent.futures
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from imgclf.clean import cleaning
from imgclf.core.parallel import cpu_count

CLEANVISION = """
import sys, time, contextlib, io
from cleanvision import Imagelab
if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Imagelab(data_path=sys.argv[1])
        started = time.perf_counter()
        lab.find_issues(n_jobs=int(sys.argv[2]), verbose=False)
        seconds = time.perf_counter() - started
    print(seconds)
"""


def decode_all(paths: list[Path]) -> float:
    def decode(path: Path) -> None:
        cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(cpu_count()) as pool:
        for _done in pool.map(decode, paths):
            pass
    return time.perf_counter() - started


def clean_all(root: Path) -> float:
    started = time.perf_counter()
    cleaning.clean(root, policy="report")
    return time.perf_counter() - started


def cleanvision(python: Path, root: Path) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(CLEANVISION)
        script.flush()
        command = [str(python), script.name, str(root), str(cpu_count())]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cleanvision", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        for source in options.photos.rglob("*"):
            if source.is_file() and not source.name.startswith("."):
                for number in range(options.times):
                    place = root / source.relative_to(options.photos).parent / f"{number} {source.name}"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, place)
        paths = [path for path in root.rglob("*") if path.is_file()]
        seconds: dict[str, list[float]] = {"decode": [], "clean": [], "clean again": [], "cleanvision": []}
        for _round in range(options.rounds):
            seconds["decode"].append(decode_all(paths))
            shutil.rmtree(root / ".imgclf", ignore_errors=True)
            seconds["clean"].append(clean_all(root))
            seconds["clean again"].append(clean_all(root))
            shutil.rmtree(root / ".imgclf", ignore_errors=True)
            if options.cleanvision:
                seconds["cleanvision"].append(cleanvision(options.cleanvision, root))
        print(f"{len(paths):,} files, {cpu_count()} cores of {os.uname().machine}, medians of {options.rounds}")
        rates = {name: len(paths) / statistics.median(values) for name, values in seconds.items() if values}
        for name, rate in rates.items():
            low, high = min(seconds[name]), max(seconds[name])
            ratio = rates["clean"] / rate
            print(f"{name:>12}: {rate:>8.0f} images/s ({low:.2f} to {high:.2f} s), clean is {ratio:.2f} times as fast")


if __name__ == "__main__":
    sys.exit(main())
