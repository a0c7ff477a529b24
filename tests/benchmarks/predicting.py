"""Measure the speed of `imgclf predict` on folders, compared with its two stages alone, and its memory.

    python tests/benchmarks/predicting.py PHOTOS_FOLDER RUN_FOLDER [--rounds 5] [--inputs 1000 20000]

In each round: decoding and preprocessing alone, the network alone on prepared pixels, and both as in `predict`, on the same
photos and threads. Then whole commands that get their paths on stdin, with the peak memory of each.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imgclf.core.parallel import cpu_count, ordered_map
from imgclf.images import preprocess
from imgclf.images.sources import expand
from imgclf.models.bundle import Bundle
from imgclf.predict import predict


def rate(work: Callable[[], Iterable[Any]]) -> float:
    start = time.perf_counter()
    done = sum(1 for _ in work())
    return done / (time.perf_counter() - start)


def command(paths: list[str], run: Path) -> tuple[float, float, int]:
    """Run `imgclf predict -` in a separate process; return (seconds, peak MB, records)."""
    imgclf = Path(sys.executable).with_name("imgclf")
    start = time.perf_counter()
    child = subprocess.Popen(
        [imgclf, "predict", "-", "--jsonl", "--run", run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin
    assert child.stdout
    if os.fork() == 0:  # a second process writes, so that the two pipes cannot block each other
        child.stdin.write("\n".join(paths))
        child.stdin.close()
        os._exit(0)
    child.stdin.close()
    records = sum(json.loads(line)["error"] is None for line in child.stdout)
    _pid, status, usage = os.wait4(child.pid, 0)
    assert status == 0, status
    return time.perf_counter() - start, usage.ru_maxrss / 1024, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inputs", type=int, nargs="*", default=[1000, 20_000])
    options = parser.parse_args()
    run = Bundle.load(options.run)
    found = [source.name for source in expand([str(options.photos)])]
    paths = found[: max(1, min(len(found), 1000))]
    loaded = [preprocess.load(run.preprocessing, Path(path)) for path in paths[:128]]
    pixels = list(itertools.islice(itertools.cycle(loaded), len(paths)))
    variants: dict[str, Callable[[], Iterable[Any]]] = {
        "decode and resize alone": lambda: ordered_map(lambda path: preprocess.load(run.preprocessing, Path(path)), paths),
        "network alone": lambda: ordered_map(run.probability, pixels),
        "predict": lambda: predict(run, paths),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _round in range(options.rounds):
        for name, work in variants.items():
            rates[name].append(rate(work))
    side = f"{run.preprocessing.width} x {run.preprocessing.height}"
    print(
        f"{platform.machine()}, {cpu_count()} cores; {run.info.model} at {side}, "
        f"{len(paths)} photos, medians of {options.rounds} alternating rounds"
    )
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:24} {medians[name]:7.0f} images/s   {min(values):.0f} to {max(values):.0f}")
    slower = min(medians["decode and resize alone"], medians["network alone"])
    both = 1 / (1 / medians["decode and resize alone"] + 1 / medians["network alone"])
    print(
        f"predict / slower stage alone: {medians['predict'] / slower:.3f}; "
        f"predict / both stages in sequence: {medians['predict'] / both:.3f}"
    )
    for count in options.inputs:
        seconds, megabytes, records = command(list(itertools.islice(itertools.cycle(found), count)), options.run)
        print(f"imgclf predict - of {count:,} paths: {seconds:.1f} s, peak {megabytes:.0f} MB, {records:,} records")


if __name__ == "__main__":
    main()
