"""Compare models on many image sets: accuracy, macro-F1, calibration error, log loss and time, over several seeds.

    python tests/benchmarks/battery.py SETS --fashion FOLDER --work FOLDER          # everything: a night
    python tests/benchmarks/battery.py SETS --fashion FOLDER --work FOLDER --quick  # few sets and models: half an hour
    python tests/benchmarks/battery.py SETS --fashion FOLDER --work FOLDER --table  # only print the table

SETS contains the image sets of battery_sets.py. --fashion: the unpacked Debian package dataset-fashion-mnist. Every seed draws
another split by groups and is the seed of the training. Results are appended to
WORK/results.jsonl. A result that the file has is not measured again, so that an interrupted battery continues. The confirmation
sets are skipped unless --confirm is given. Calibration error: 15 bins of equal width of the largest probability (Guo et al.,
On Calibration of Modern Neural Networks, 2017).
"""

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from battery_models import MODELS, QUICK, ROOT, VERSION_ONE, Outcome, Trial
from battery_sets import SETS, listed, prepare
from numpy.typing import NDArray

QUICK_SETS = ("brain-scans", "chess", "smiles-uneven", "flowers-uneven")
METRICS = ("accuracy", "f1", "balanced", "ece", "log_loss", "seconds")


def scores(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Return the metrics of probabilities (n, classes) for true class numbers (n,)."""
    from sklearn.metrics import balanced_accuracy_score, f1_score

    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = predicted == true
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [
        abs(right[bins == one].mean() - confidence[bins == one].mean()) * (bins == one).mean() for one in set(bins.tolist())
    ]
    chosen = np.clip(probabilities[np.arange(len(true)), true], 1e-7, 1)
    return {
        "accuracy": float(right.mean()),
        "f1": float(f1_score(true, predicted, average="macro", zero_division=0)),
        "balanced": float(balanced_accuracy_score(true, predicted)),
        "ece": float(sum(gaps)),
        "log_loss": float(-np.log(chosen).mean()),
    }


def measure(name: str, seed: int, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train one model on one split of one set, and return its record."""
    folder = prepare(SETS[name], seed, options.sets_folder, options.fashion, options.work)
    work = options.work / "trial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    outcome: Outcome = MODELS[model](Trial(folder, seed, work, options.work / "version-one"))
    true = np.array(listed(folder, "test")[1])
    record = {"set": name, "seed": seed, "model": model, "images": len(true), "note": outcome.note}
    return record | scores(true, outcome.probabilities) | {"seconds": outcome.seconds}


def unpack_version_one(target: Path) -> None:
    """Write the package of version one from the history of this repository."""
    if not target.exists():
        packed = subprocess.run(["git", "archive", VERSION_ONE, "imgclf"], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(target, filter="data")


def table(records: list[dict[str, Any]]) -> str:
    """Return one line per set and model: the mean of each metric and, for the accuracy, its standard deviation over seeds."""
    lines = ["| set | role | model | seeds | accuracy | macro-F1 | balanced | ECE | log loss | seconds |", "|---" * 10 + "|"]
    for name in SETS:
        for model in MODELS:
            own = [one for one in records if one["set"] == name and one["model"] == model]
            if own:
                mean = {metric: statistics.mean(one[metric] for one in own) for metric in METRICS}
                spread = statistics.stdev(one["accuracy"] for one in own) if len(own) > 1 else 0.0
                lines.append(
                    f"| {name} | {SETS[name].role} | {model} | {len(own)} | {mean['accuracy']:.3f} ± {spread:.3f} | "
                    f"{mean['f1']:.3f} | {mean['balanced']:.3f} | {mean['ece']:.3f} | {mean['log_loss']:.3f} | "
                    f"{mean['seconds']:.0f} |"
                )
    return "\n".join([*lines, "", *_error_ratios(records)])


def _error_ratios(records: list[dict[str, Any]]) -> list[str]:
    """Return the geometric mean, over sets of each role, of the error of `train` divided by that of version one."""
    lines = []
    for role in ("tuning", "confirmation"):
        for rival in ("version 1", "version 1 lite0"):
            ratios = []
            for name, one in SETS.items():
                errors = []
                for model in ("train", rival):
                    own = [r for r in records if r["set"] == name and r["model"] == model]
                    images = sum(r["images"] for r in own)
                    if one.role == role and images:  # half an image more, so that no error is 0
                        errors.append((sum((1 - r["accuracy"]) * r["images"] for r in own) + 0.5) / (images + 0.5))
                if len(errors) == 2:
                    ratios.append(errors[0] / errors[1])
            if ratios:
                mean = float(np.exp(np.mean(np.log(ratios))))
                lines.append(f"error of `train` / error of {rival}, geometric mean of {len(ratios)} {role} sets: {mean:.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets_folder", type=Path, metavar="SETS")
    parser.add_argument("--fashion", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS))
    parser.add_argument("--models", nargs="+", choices=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--confirm", action="store_true", help="measure the confirmation sets too")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.work = options.work.absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    results = options.work / "results.jsonl"
    records = [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []
    if not options.table:
        unpack_version_one(options.work / "version-one")
        names = options.sets or (QUICK_SETS if options.quick else [name for name, one in SETS.items() if one.role == "tuning"])
        names = [*names, *(name for name, one in SETS.items() if options.confirm and one.role == "confirmation")]
        models = options.models or (QUICK if options.quick else list(MODELS))
        done = {(one["set"], one["seed"], one["model"]) for one in records}
        todo = [(name, seed, model) for seed in options.seeds for name in names for model in models]
        for name, seed, model in todo:
            if (name, seed, model) in done:
                continue
            began = time.perf_counter()
            try:
                record = measure(name, seed, model, options)
            except RuntimeError as error:
                print(f"{name}, seed {seed}, {model}: {error}", file=sys.stderr, flush=True)
                continue
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            records.append(record)
            whole = time.perf_counter() - began
            print(f"{name}, seed {seed}, {model}: accuracy {record['accuracy']:.3f}, {whole:.0f} s", flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
