"""Measure time and memory of every command for 1,000, 10,000 and 100,000 generated JPEG images of 96 x 72 pixels.

    python tests/benchmarks/scale.py --folder /somewhere/with/8GB

One image in fifty is a changed copy of another. Each command runs as a separate process; memory is the peak resident size of
any of its processes (clean uses one more per core).

`audit` runs on synthetic, memory-mapped features: 1,280 per image, one class per hundred images, 5% wrong labels. Its memory
excludes the features. To run it alone:

    python tests/benchmarks/scale.py --folder /somewhere --only audit
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

COUNTS = (1_000, 10_000, 100_000)


def make(root: Path, count: int) -> None:
    """Make `count` small images in ten classes; every fiftieth is a recompressed, smaller or cropped copy."""
    for number in range(count):
        random = np.random.default_rng(number - 1 if number % 50 == 49 else number)
        small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(small, (96, 72), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, random.integers(0, 20, image.shape, dtype=np.uint8))
        if number % 50 == 49:
            image = (image, cv2.resize(image, (72, 54)), image[2:-2, 3:-3])[number // 50 % 3]
        path = root / f"class{number % 50 % 10}" / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = 60 if number % 50 == 49 else 90
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


PREPARE = """
import sys
from pathlib import Path
from imgclf.core.config import Preprocessing
from imgclf.data import prepared_images
from imgclf.data.manifest import load_subsets, manifest_path, read_manifest
root = Path(sys.argv[1])
subsets, _notes = load_subsets(root, read_manifest(manifest_path(root)))
print(len(prepared_images.prepare(root, subsets, Preprocessing(72, 72)).files["train"]))
"""


AUDIT = """
import resource, sys, tempfile
import numpy as np
from imgclf.audit import auditing as audit
count = int(sys.argv[1])
classes, random = max(2, count // 100), np.random.default_rng(0)
true = np.concatenate([np.repeat(np.arange(classes), 2), random.integers(0, classes, count - 2 * classes)])
given = np.where(random.random(count) < 0.05, random.integers(0, classes, count), true)
middles = random.normal(0, 0.4, (classes, 1280)).astype(np.float32)
with tempfile.TemporaryFile(dir=".") as file:
    features = np.memmap(file, np.float32, "w+", shape=(count, 1280))
    for top in range(0, count, 1000):
        labels = true[top : top + 1000]
        features[top : top + 1000] = middles[labels] + random.standard_normal((len(labels), 1280), np.float32)
    features.flush()
    _near, _alike, errors = audit.compare(features, given, 0)
wrong, peak = given != true, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
found, right, size = np.mean(errors.wrong[wrong]), np.mean(wrong[errors.wrong]), features.nbytes / 2**20
beyond = f"in addition to {size:.0f} MB of features {peak - size:.0f} MB"
print(f"{found:.3f} of the wrong labels found, {right:.3f} of the found labels wrong; " + beyond)
"""


def measure(words: list[str], cwd: Path) -> tuple[float, float, str]:
    """Run one Python process; return (seconds, peak MB, stdout)."""
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, *words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    assert child.stderr
    with tempfile.TemporaryFile() as errors:  # a thread reads stderr, so that neither pipe fills up
        reader = threading.Thread(target=shutil.copyfileobj, args=(child.stderr, errors))
        reader.start()
        output = child.stdout.read()
        reader.join()
        _pid, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            raise SystemExit(f"{words} failed with exit code {child.returncode}: {errors.read().decode()[-2000:]}")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, output.decode()


def commands(root: str, count: int) -> dict[str, list[str]]:
    """Return the measured commands in order; each uses the results of earlier ones."""
    imgclf = ["-m", "imgclf"]
    return {
        "clean": [*imgclf, "clean", root, "--json"],
        "clean again": [*imgclf, "clean", root, "--json"],
        "split": [*imgclf, "split", root, "--json"],
        "preview": [*imgclf, "preview", root],
        "preview --html": [*imgclf, "preview", root, "--html", f"{root}.html"],
        "prepare": ["-c", PREPARE, root],
        "train --epochs 1": [*imgclf, "train", root, "--epochs", "1", "--image-size", "72", "--run-dir", f"run-{root}"],
        "evaluate": [*imgclf, "evaluate", "--run", f"run-{root}"],
        "predict --jsonl": [*imgclf, "predict", root, "--jsonl", "--run", f"run-{root}"],
        "audit": ["-c", AUDIT, str(count)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--only", help="measure only this command; the commands that it needs must have run before")
    options = parser.parse_args()
    table: dict[str, list[str]] = {}
    for count in options.counts:
        root = options.folder / f"scale-{count}"
        if not root.exists() and options.only != "audit":
            make(root, count)
        if not options.only:
            shutil.rmtree(root / ".imgclf", ignore_errors=True)
            shutil.rmtree(options.folder / f"run-{root.name}", ignore_errors=True)
        for name, words in commands(root.name, count).items():
            if options.only not in (None, name):
                continue
            seconds, memory, output = measure(words, options.folder)
            about = ""
            if name == "clean":
                found = json.loads(output)["checks"]
                copies = sum(found.get(one, 0) for one in ("near-duplicate", "mirrored")) + found.get("conflict", 0) // 2
                about = f"{copies:,} of {count // 50:,} copies found"
            elif name == "audit":
                about = output.strip()
                memory = float(about.rsplit(" ", 2)[1])
            elif name == "predict --jsonl":
                about = f"{output.count(chr(10)):,} records"
            table.setdefault(name, []).append(f"{seconds:.1f} s, {memory:.0f} MB")
            print(
                f"{count:>9,} {name:<18} {seconds:>8.2f} s {memory:>6.0f} MB {count / seconds:>7.0f} images/s  {about}",
                flush=True,
            )
        (options.folder / f"{root.name}.html").unlink(missing_ok=True)
    print("\n| whole commands |", " | ".join(f"{count:,}" for count in options.counts), "|")
    for name, cells in table.items():
        print(f"| `{name}` |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
