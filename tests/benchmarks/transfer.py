"""Measure transfer learning and audit with whole commands.

    python tests/benchmarks/transfer.py PHOTOS [PHOTOS ...]           # folders with one folder per class
    python tests/benchmarks/transfer.py PHOTOS --parts audit

train: `imgclf train --model efficientnet-lite0` for --seeds seeds, each with its own 80/10/10 split, scored on the test set.
The first training starts with an empty cache (no backbone, features or prepared images). It is repeated with everything cached
and another seed on the same split. With --scratch, each is compared with plain `imgclf train` on the same seed and split.
folds (--folds 5): for sets too small for one test set; every image is in the test set of one fold. With --scratch, plain
`imgclf train` runs on the same folds.
audit: 5% of the images are moved to another class. Counts how many of them are among the first 7% of the ranking.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imgclf.evaluation.intervals import wilson_interval


def run(folder: Path, *arguments: object) -> tuple[float, str]:
    """Run an imgclf command with a separate cache folder; return (seconds, stdout)."""
    started = time.perf_counter()
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "imgclf", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return time.perf_counter() - started, done.stdout


def score(folder: Path, name: str) -> tuple[float, int, str]:
    """Score a run on its test set; return (accuracy, images, both as text with the interval and the baseline)."""
    result = json.loads(run(folder, "evaluate", "--run", name, "--json")[1])
    (low, high), baseline = result["interval"], result["baseline"]["accuracy"]
    words = f"test accuracy {result['accuracy']:.4f} ({low:.3f} to {high:.3f}) of {result['images']}, baseline {baseline:.4f}"
    return result["accuracy"], result["images"], words


def train(folder: Path, model: str, seeds: int, scratch: bool, options: list[str]) -> None:
    scores: dict[str, list[float]] = {model: []}
    for seed in range(seeds):
        run(folder, "split", "data", "--train", 80, "--val", 10, "--test", 10, "--seed", seed, "--force")
        taken, _out = run(folder, "train", "--model", model, "--seed", seed, "--run-dir", f"run-{seed}", *options)
        accuracy, _images, words = score(folder, f"run-{seed}")
        scores[model].append(accuracy)
        known = json.loads((folder / f"run-{seed}" / "evaluation-test.json").read_text())
        error = f"calibration error {known['uncalibrated_error']:.4f} before, {known['calibration_error']:.4f} after"
        print(f"seed {seed}: {words}, {error}, {taken:.1f} s", flush=True)
        if seed == 0:
            again, _out = run(folder, "train", "--model", model, "--seed", 100, "--run-dir", "again", *options)
            print(f"again, everything cached, seed 100: {score(folder, 'again')[2]}, {again:.1f} s", flush=True)
        if scratch:
            taken, _out = run(folder, "train", "--seed", seed, "--run-dir", f"scratch-{seed}", *options)
            accuracy, _images, words = score(folder, f"scratch-{seed}")
            scores.setdefault("cnn", []).append(accuracy)
            print(f"seed {seed}, imgclf train (cnn): {words}, {taken:.0f} s", flush=True)
    for name, found in scores.items():
        print(f"{name}: mean test accuracy {statistics.mean(found):.4f} over {seeds} seeds")


def folds(folder: Path, model: str, count: int, scratch: bool, options: list[str]) -> None:
    run(folder, "split", "data", "--folds", count, "--force")
    for name in (model, "cnn") if scratch else (model,):
        right = images = 0
        started = time.perf_counter()
        for fold in range(1, count + 1):
            run(folder, "train", "--model", name, "--fold", fold, "--run-dir", f"fold-{name}-{fold}", *options)
            accuracy, tested, _words = score(folder, f"fold-{name}-{fold}")
            right, images = right + round(accuracy * tested), images + tested
        taken = time.perf_counter() - started
        low, high = wilson_interval(right, images)
        words = f"{right} of {images} correct, {right / images:.4f} ({low:.3f} to {high:.3f})"
        print(f"{name}, {count} folds: {words}; {taken:.0f} s", flush=True)


def audit(folder: Path, model: str, seeds: int) -> None:
    for seed in range(seeds):
        data = folder / f"flipped-{seed}"
        shutil.copytree(folder / "photos", data)
        classes = sorted(path.name for path in data.iterdir() if path.is_dir())
        files = sorted(path for name in classes for path in (data / name).rglob("*") if path.is_file())
        chance = random.Random(seed)
        flipped = set()
        for path in chance.sample(files, round(0.05 * len(files))):
            other = chance.choice([name for name in classes if name != path.relative_to(data).parts[0]])
            target = data / other / f"flipped-{path.name}"
            path.rename(target)
            flipped.add(target.relative_to(data).as_posix())
        program = (
            "import json, sys; from pathlib import Path; from imgclf.api import AuditConfig, audit; "
            f"found = audit(Path(sys.argv[1]), AuditConfig({model!r})); "
            "named = found.by_check(); "
            "print(json.dumps([found.ranked, [one.path for one in named['label']], *(len(named[one]) for one in named)]))"
        )
        started = time.perf_counter()
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", program, str(data)], capture_output=True, text=True, check=True, env=environment
        )
        seconds = time.perf_counter() - started
        ranked, labels, _labels, outliers, copies = json.loads(done.stdout)
        first = set(ranked[: round(0.07 * len(ranked))])
        print(
            f"audit, seed {seed}: {len(first & flipped)} of {len(flipped)} flipped labels among the first {len(first)} "
            f"({len(first & flipped) / len(flipped):.1%}); it reports {len(labels)} as wrong, {len(set(labels) & flipped)} "
            f"of them flipped; {outliers} outliers, {copies} near-duplicates; {seconds:.1f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--parts", nargs="+", default=["train", "audit"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scratch", action="store_true")
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="options of imgclf train")
    chosen = parser.parse_args()
    for photos in chosen.photos:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(photos, folder / "photos", ignore=shutil.ignore_patterns(".*", "*.md", "*.txt", "*.csv"))
            shutil.copytree(folder / "photos", folder / "data")
            print(f"-- {photos.name}", flush=True)
            if chosen.folds:
                folds(folder, chosen.model, chosen.folds, chosen.scratch, chosen.options)
                continue
            if "train" in chosen.parts:
                train(folder, chosen.model, chosen.seeds, chosen.scratch, chosen.options)
            if "audit" in chosen.parts:
                audit(folder, chosen.model, chosen.seeds)


if __name__ == "__main__":
    main()
