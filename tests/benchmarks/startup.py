"""Measure the time of whole commands and of plain alternatives, alternating.

    python tests/benchmarks/startup.py PHOTO RUN_FOLDER [--pairs 7]

`imgclf --help`, and `imgclf predict PHOTO` compared with a Keras script that loads the same model and predicts the same photo.
The runs alternate, so that other work on the machine affects both. Prints medians and ranges.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

KERAS = """
import sys, keras, numpy
model = keras.models.load_model(sys.argv[1])
image = keras.utils.load_img(sys.argv[2], target_size=model.input_shape[1:3])
print(model.predict(keras.utils.img_to_array(image)[None], verbose=0))
"""


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--pairs", type=int, default=7)
    options = parser.parse_args()
    imgclf = str(Path(sys.executable).with_name("imgclf"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "imgclf --help": [imgclf, "--help"],
        "imgclf predict": [imgclf, "predict", str(options.photo), "--run", str(options.run)],
        "plain Keras script": [sys.executable, "-c", KERAS, str(options.run / "model.keras"), str(options.photo)],
    }
    for command in commands.values():
        seconds(command)  # warm the file cache
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.pairs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {options.pairs} runs each, seconds"
    )
    for name, values in times.items():
        print(f"{name:20} median {statistics.median(values):6.3f}   {min(values):6.3f} to {max(values):6.3f}")
    ratio = statistics.median(times["imgclf predict"]) / statistics.median(times["plain Keras script"])
    print(f"imgclf predict / plain Keras script: {ratio:.3f}")


if __name__ == "__main__":
    main()
