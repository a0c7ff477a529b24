"""Train on Fashion-MNIST from scratch for at most 20 epochs and score its own test set.

    python tests/benchmarks/fashion.py /usr/share/dataset-fashion-mnist --options --epochs 20

The folder contains the four files of Debian's package dataset-fashion-mnist. They are converted to class folders of PNG files,
train and test; a tenth of train becomes the validation set.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

NAMES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def read(path: Path) -> np.ndarray:
    """Read an IDX file (http://yann.lecun.com/exdb/mnist): a header with sizes, then bytes."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    sizes = [int.from_bytes(content[4 + 4 * n : 8 + 4 * n]) for n in range(content[3])]
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=["--epochs", "20"], help="options of imgclf train")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for subset, stem in (("train", "train"), ("test", "t10k")):
            images, labels = (next(chosen.dataset.glob(f"{stem}-{kind}*")) for kind in ("images", "labels"))
            for number, (image, label) in enumerate(zip(read(images), read(labels), strict=True)):
                path = data / subset / NAMES[label] / f"{number:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cv2.imencode(".png", image)[1].tobytes())

        def run(*arguments: object) -> tuple[float, str]:
            started = time.perf_counter()
            command = [sys.executable, "-m", "imgclf", *map(str, arguments)]
            done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
            return time.perf_counter() - started, done.stdout

        print(f"split: {run('split', data, '--train', 90, '--val', 10, '--test', 0)[0]:.0f} s", flush=True)
        seconds, _out = run("train", data, "--run-dir", "run", *chosen.options)
        result = json.loads(run("evaluate", "--run", "run", "--json")[1])
        low, high = result["interval"]
        print(
            f"imgclf train {' '.join(chosen.options)}: {seconds:.0f} s, test accuracy {result['accuracy']:.4f} ({low:.3f} to "
            f"{high:.3f}); baseline {result['baseline']['accuracy']:.4f}"
        )


if __name__ == "__main__":
    main()
