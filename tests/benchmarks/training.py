"""Measure the speed and accuracy of training, compared with a plain Keras tutorial script. Three parts, chosen by --parts:

    python tests/benchmarks/training.py PHOTOS                      # all three
    python tests/benchmarks/training.py PHOTOS --parts throughput

throughput: images/s from the second epoch on of imgclf's network and input pipeline, in the number format that it chooses and
in float32; of the same network on one constant batch; and of the same layers in the usual order (convolution, normalisation,
ReLU, pooling) in float32, with Keras' loader and random layers. Also the fraction of a step that augmentation takes.
preparation: seconds of `prepared_images.prepare` (list, decode, resize, store), of reading its files with Keras' loader, and
of decoding and resizing alone in a pool of threads.
accuracy: `imgclf train` with default options for --seeds seeds, each with its own 80/10/10 split, scored on the test set. Each
is compared with `plain_keras.py` on the same split and seed, for the same number of epochs or the same time (--plain time).
Both keep their best epoch by validation accuracy. Prints 95% intervals, the baseline and the wall time of whole commands.
"""

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imgclf.core.config import Preprocessing, SplitConfig, TrainConfig
from imgclf.core.parallel import cpu_count
from imgclf.data import dataset, loader, prepared_images
from imgclf.data.manifest import load_subsets, manifest_path, read_manifest
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import preprocess
from imgclf.models import cnn
from imgclf.split import splitting
from imgclf.train import Silent, devices, strategies
from imgclf.train.state import TrainingState
from imgclf.train.trainer import Trainer

HERE = Path(__file__).parent


def prepared(data: Path, config: TrainConfig) -> prepared_images.Prepared:
    manifest = read_manifest(manifest_path(data))
    subsets, _notes = load_subsets(data, manifest)
    side = config.image_size or dataset.auto_image_size(subsets["train"], 0)
    return prepared_images.prepare(data, {"train": subsets["train"], "val": subsets["val"]}, Preprocessing(side, side))


def throughput(data: Path) -> None:
    config = TrainConfig()
    made = prepared(data, config)
    side = made.preprocessing.height
    manifest, machine = read_manifest(manifest_path(data)), devices.choose(None)

    def begun(config: TrainConfig) -> strategies.Strategy:
        return strategies.begin(TrainingState(data, config, manifest, made, None, Path(), Silent(), machine, config.epochs))

    strategy = begun(config)
    trainer, kind, images = strategy.trainer, strategy.kind, strategy.images
    plain = begun(dataclasses.replace(config, precision="float32")).trainer
    change = strategy.change(len(images))
    feed = loader.Feed(change)

    def epoch(number: int, trainer: Trainer = trainer) -> float:
        started = time.perf_counter()
        batches = images.shuffled(config.batch_size, seed=0, epoch=number, feed=feed)
        trainer.epoch(batches, iter([1e-3] * len(images)))
        return len(images) / (time.perf_counter() - started)

    def constant() -> float:
        batch = next(iter(images.shuffled(config.batch_size, seed=0, epoch=1, feed=feed)))
        started = time.perf_counter()
        steps = len(images) // config.batch_size
        trainer.epoch([batch] * steps, iter([1e-3] * steps))
        return steps * config.batch_size / (time.perf_counter() - started)

    usual = usual_training(made, config)
    epoch(1), epoch(1, plain), constant(), usual()
    ours, ours32, fixed, theirs = [], [], [], []
    for number in range(2, 6):
        ours.append(epoch(number))
        ours32.append(epoch(number, plain))
        fixed.append(constant())
        theirs.append(usual())
    started = time.perf_counter()
    order = np.arange(config.batch_size)
    for _time in range(20):
        assert change
        change(images.pixels[order], images.targets(order), order)
    augmenting = (time.perf_counter() - started) / 20
    step = config.batch_size / statistics.median(fixed)
    about = f"{config.model}, batches of {config.batch_size}, {kind}, medians of 4 alternating epochs"
    print(f"{len(images):,} images at {side} px, {about}")
    for name, rates in (
        ("imgclf", ours), ("imgclf in float32", ours32), ("a constant batch", fixed), ("usual, float32, Keras input", theirs)
    ):  # fmt: skip
        print(f"{name:>34}: {statistics.median(rates):6.0f} images/s ({min(rates):.0f} to {max(rates):.0f})")
    print(f"imgclf is {statistics.median(ours) / statistics.median(fixed):.1%} of its constant batch, "
          f"{statistics.median(ours) / statistics.median(theirs):.2f} times the usual, "
          f"in float32 {statistics.median(ours32) / statistics.median(theirs):.2f} times")  # fmt: skip
    share = augmenting / step / cpu_count()
    print(f"augmentation: {augmenting * 1e3:.2f} ms a batch on one thread, {share:.1%} of a step's processor time")


def usual_training(made: prepared_images.Prepared, config: TrainConfig) -> "object":
    """Return a function that trains the usual network for one epoch and returns its images/s."""
    import keras
    from keras import layers

    side, plan = made.preprocessing.height, cnn.blocks(config.model, made.preprocessing.height, made.preprocessing.width)
    network = keras.Sequential([keras.Input((side, side, 3)), layers.Rescaling(1 / 127.5, offset=-1.0)])
    network.add(layers.RandomFlip("horizontal"))
    network.add(layers.RandomRotation(15 / 360))
    network.add(layers.RandomZoom(0.15))
    network.add(layers.RandomTranslation(0.1, 0.1))
    network.add(layers.RandomContrast(0.2))
    for channels, convolutions in zip(plan.channels, plan.convolutions, strict=True):
        for _number in range(convolutions):
            network.add(layers.Conv2D(channels, 3, padding="same", use_bias=False))
            network.add(layers.BatchNormalization())
            network.add(layers.ReLU())
        network.add(layers.MaxPooling2D())
    network.add(layers.GlobalAveragePooling2D())
    network.add(layers.Dropout(0.3))
    network.add(layers.Dense(1, activation="sigmoid"))
    network.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    data = keras.utils.image_dataset_from_directory(
        made.folder / "train", label_mode="binary", image_size=(side, side), batch_size=config.batch_size, verbose=False
    ).prefetch(2)
    count = len(made.files["train"])

    def epoch() -> float:
        started = time.perf_counter()
        network.fit(data, epochs=1, verbose=0, shuffle=False)
        return count / (time.perf_counter() - started)

    return epoch


def preparation(data: Path) -> None:
    config = TrainConfig()
    made = prepared(data, config)
    paths = [data / source for files in made.files.values() for source in files.values()]

    def one(path: Path) -> None:
        preprocess.load(made.preprocessing, path)

    def alone() -> float:
        started = time.perf_counter()
        with ThreadPoolExecutor(cpu_count()) as pool:
            for _done in pool.map(one, paths):
                pass
        return time.perf_counter() - started

    def whole(number: int) -> tuple[float, float]:
        # Rename instead of remove: the disk would still free these files while it writes the next ones.
        made.folder.parent.rename(data.parent / f"away-{number}")
        started = time.perf_counter()
        prepared_again = prepared(data, config)
        done = time.perf_counter()
        loader.Images(prepared_again, "train")
        loader.Images(prepared_again, "val")
        return done - started, time.perf_counter() - done

    times = [(alone(), *whole(number)) for number in range(5)]
    bare, making, reading = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{len(paths):,} images: decode and resize {bare:.2f} s, preparation {making:.2f} s: {making / bare:.2f} times, "
          f"Keras' loader {reading:.2f} s, {(making + reading) / bare:.2f} times with it; medians of 5 runs")  # fmt: skip
    started = time.perf_counter()
    prepared(data, config)
    print(f"preparation again, nothing changed: {time.perf_counter() - started:.2f} s")


def accuracy(data: Path, folder: Path, seeds: int, options: list[str], plain: str) -> None:
    def run(*arguments: object) -> tuple[float, str]:
        started = time.perf_counter()
        done = subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=True)
        return time.perf_counter() - started, done.stdout

    def score(seed: int, name: str, share: float, images: int, seconds: float, about: str) -> None:
        low, high = wilson_interval(round(share * images), images)
        scores.setdefault(name, []).append((share, seconds))
        accuracy = f"test accuracy {share:.4f} ({low:.3f} to {high:.3f}) of {images} images"
        print(f"seed {seed}, {name}: {accuracy}, {seconds:.0f} s; {about}", flush=True)

    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        run("-m", "imgclf", "split", data, "--train", 80, "--val", 10, "--test", 10, "--seed", seed, "--force")
        run("-m", "imgclf", "split", data, "--export", folder / f"plain-{seed}")
        place = folder / f"run-{seed}"
        seconds, printed = run("-m", "imgclf", "train", data, "--seed", seed, "--run-dir", place, "--json", *options)
        trained = json.loads(printed)
        result = json.loads(run("-m", "imgclf", "evaluate", "--run", place, "--json")[1])
        about = f"best of {trained['metrics']['epochs']} epochs; baseline {result['baseline']['accuracy']:.4f}"
        score(seed, " ".join(["imgclf train", *options]), result["accuracy"], result["images"], seconds, about)
        if plain == "none":
            continue
        limit = ["--epochs", trained["config"]["epochs"]] if plain == "epochs" else ["--epochs", 1000, "--seconds", seconds]
        taken, printed = run(HERE / "plain_keras.py", folder / f"plain-{seed}", "--seed", seed, *limit)
        other = json.loads(printed.splitlines()[-1])
        about = f"best of {other['epochs']} epochs at 256 px"
        score(seed, f"plain_keras.py, same {plain}", other["accuracy"], other["images"], taken, about)
    for name, found in scores.items():
        shares, times = zip(*found, strict=True)
        print(f"{name}: mean test accuracy {statistics.mean(shares):.4f}, mean {statistics.mean(times):.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--parts", nargs="+", default=["throughput", "preparation", "accuracy"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--plain", choices=("epochs", "time", "none"), default="epochs", help="what both trainings have in common"
    )
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="options of imgclf train")
    chosen = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        shutil.copytree(chosen.photos, data, ignore=shutil.ignore_patterns(".*"))
        splitting.split(data, SplitConfig(0.8, 0.1, 0.1))
        if "throughput" in chosen.parts:
            throughput(data)
        if "preparation" in chosen.parts:
            preparation(data)
        if "accuracy" in chosen.parts:
            shutil.rmtree(data / ".imgclf", ignore_errors=True)
            accuracy(data, Path(folder), chosen.seeds, chosen.options, chosen.plain)


if __name__ == "__main__":
    main()
