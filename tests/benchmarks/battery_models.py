"""The models of the battery: each trains on a prepared folder and predicts its test set."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from battery_sets import class_names, listed
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
VERSION_ONE = "0da5f9e"  # the last commit of version one
LIMIT = 400  # seconds for one training


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training. folder: the prepared image set. work: an empty folder for its files. one: the code of version one."""

    folder: Path
    seed: int
    work: Path
    one: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Probabilities of the test images (n, classes), and the seconds of the training. note: text, such as the chosen model."""

    probabilities: NDArray[np.float64]
    seconds: float
    note: str = ""


def largest(trial: Trial) -> Outcome:
    """Always predict the largest class of the training set, with the frequencies of the classes as probabilities."""
    labels = np.array(listed(trial.folder, "train")[1])
    frequencies = np.bincount(labels) / len(labels)
    return Outcome(np.tile(frequencies, (len(listed(trial.folder, "test")[0]), 1)), 0.0)


def logistic(trial: Trial) -> Outcome:
    """Logistic regression on standardised features of EfficientNet-Lite0 at 224 pixels, C by cross-validation."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from imgclf.core.config import Preprocessing
    from imgclf.core.parallel import ordered_map
    from imgclf.images import preprocess
    from imgclf.models import backbones, features

    began = time.perf_counter()
    rule = Preprocessing(224, 224)
    extractor = features.Extractor(backbones.extractor("efficientnet-lite0", 224, "imagenet", 0), 1280)

    def vectors(subset: str) -> NDArray[np.float32]:
        files, _labels = listed(trial.folder, subset)
        return np.stack(list(ordered_map(lambda file: extractor.vector(preprocess.load(rule, file)), files)))

    labels = [label for subset in ("train", "val") for label in listed(trial.folder, subset)[1]]
    known = np.concatenate([vectors("train"), vectors("val")])  # it needs no validation set of its own
    folds = max(2, min(3, int(np.bincount(labels).min())))
    search = LogisticRegressionCV(
        Cs=np.geomspace(1e-5, 1, 6), cv=folds, scoring="neg_log_loss", max_iter=300, use_legacy_attributes=False, l1_ratios=(0,)
    )
    model = make_pipeline(StandardScaler(), search).fit(known, labels)
    seconds = time.perf_counter() - began
    return Outcome(model.predict_proba(vectors("test")), seconds, f"C {float(np.ravel(model[-1].C_)[0]):g}")


def keras_example(side: int) -> Callable[[Trial], Outcome]:
    """Keras' example of image classification from scratch, at this size in pixels."""

    def run(trial: Trial) -> Outcome:
        result = trial.work / "result.npy"
        script = Path(__file__).with_name("battery_keras.py")
        arguments = [str(trial.folder), str(result), "--side", str(side), "--seconds", str(LIMIT), "--seed", str(trial.seed)]
        seconds, out = _run([sys.executable, str(script), *arguments], trial.work)
        return Outcome(np.load(result), seconds, f"{out.count('Epoch ')} epochs")

    return run


def plain_script(trial: Trial) -> Outcome:
    """The plain script that version one was compared with: plain_keras.py, 30 epochs."""
    result = trial.work / "result.npy"
    script = Path(__file__).with_name("plain_keras.py")
    arguments = [str(trial.folder), "--seconds", str(LIMIT), "--seed", str(trial.seed), "--probabilities", str(result)]
    seconds, out = _run([sys.executable, str(script), *arguments], trial.work)
    return Outcome(np.load(result), seconds, f"best of {json.loads(out.splitlines()[-1])['epochs']} epochs")


def imgclf(*options: str, version_one: bool = False) -> Callable[[Trial], Outcome]:
    """`imgclf train` with these options, of this version or of version one."""

    def run(trial: Trial) -> Outcome:
        source = trial.one if version_one else ROOT
        data = trial.work / "data"
        shutil.copytree(trial.folder, data, copy_function=os.link)
        command = [sys.executable, "-m", "imgclf"]
        _run([*command, "split", "data"], trial.work, source)
        fit = [*command, "train", "data", "--seed", str(trial.seed), "--run-dir", "run", *options]
        seconds, _out = _run(fit, trial.work, source)
        names = class_names(trial.folder)
        given = [*command, "predict", "data/test", "--run", "run", "--jsonl", "--top", str(len(names))]
        found = {}
        for line in _run(given, trial.work, source)[1].splitlines():
            record = json.loads(line)
            of = {one["label"]: one["probability"] for one in record["top"]}
            found[Path(record["input"]).relative_to("data/test").as_posix()] = [of[name] for name in names]
        files, _labels = listed(trial.folder, "test")
        order = [path.relative_to(trial.folder / "test").as_posix() for path in files]
        model = json.loads((trial.work / "run" / "bundle.json").read_text("utf-8"))["model"]
        return Outcome(np.array([found[name] for name in order], np.float64), seconds, str(model))

    return run


def _run(command: list[str], folder: Path, source: Path | None = None) -> tuple[float, str]:
    """Run a command in a folder, with the imgclf of `source`; return its seconds and stdout."""
    began = time.perf_counter()
    environment = os.environ | {"XDG_CACHE_HOME": str(folder.parent / "cache"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    if source:
        environment["PYTHONPATH"] = str(source)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return time.perf_counter() - began, done.stdout


MODELS: dict[str, Callable[[Trial], Outcome]] = {
    "largest class": largest,
    "logistic on lite0": logistic,
    "Keras example 180": keras_example(180),
    "Keras example 96": keras_example(96),
    "plain script": plain_script,
    "version 1": imgclf(version_one=True),
    "version 1 lite0": imgclf("--model", "efficientnet-lite0", version_one=True),
    "train": imgclf(),
    "cnn": imgclf("--model", "cnn"),
    "lite0": imgclf("--model", "efficientnet-lite0"),
}
# Minutes instead of a night: no baselines from scratch by others.
QUICK = ("largest class", "version 1", "version 1 lite0", "train")
