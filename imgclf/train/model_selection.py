"""Compare a frozen backbone with a network from scratch on small samples, for `--model auto` and for a hint after training."""

import dataclasses
import math
import random
from functools import partial
from pathlib import Path

import numpy as np

from imgclf.core.config import SCRATCH, Model, Preprocessing, Subset, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files.state_folder import command
from imgclf.data import allocation, dataset, file_index, prepared_images
from imgclf.data.loader import Feed
from imgclf.data.manifest import Manifest, load_subsets
from imgclf.evaluation import label_errors
from imgclf.evaluation.intervals import wilson_interval
from imgclf.images import preprocess
from imgclf.models import backbones, features
from imgclf.train import devices, schedule
from imgclf.train.state import Listener, Silent, TrainingState
from imgclf.train.strategies import Scratch

SAMPLE = 400  # images that the backbone is scored on, or ten for each class if that is more
GOOD_ENOUGH = 0.95  # accuracy from which a model is not compared with another
HINT_FROM, HINT_BELOW = 100, 10_000  # numbers of training images for which `hint` compares the network with the backbone
# A full training reaches about 0.6 times the error of a short one. The error is proportional to the number of images to the
# power of -0.08 (frozen backbone) or -0.2 (from scratch). Measured errors on a sample and on all images: flowers 0.29 and 0.24
# frozen, 0.35 and 0.18 from scratch; cats and dogs 0.02 and 0.01 frozen, 0.33 and 0.14 from scratch; Fashion-MNIST 0.21 and
# 0.07 from scratch.
FULL_TO_SHORT_ERROR, EXPONENT_FROZEN, EXPONENT_SCRATCH = 0.6, 0.08, 0.2
SHORT_NEEDS = 500  # training images: the result of a short training on fewer is too uncertain
SHORT_IMAGES, SHORT_EPOCHS, SHORT_SIDE = 1500, 8, 64  # at most so many images; side in pixels


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Number of correct predictions of a candidate model on `images` held-out training images."""

    right: int
    images: int
    trained_on: int  # number of images

    @property
    def accuracy(self) -> float:
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Wilson interval of the accuracy."""
        return wilson_interval(self.right, self.images)


def try_backbone(
    data: Path, manifest: Manifest, config: TrainConfig, listener: Listener, training_set: dataset.Dataset | None = None
) -> Candidate | None:
    """Score a linear classifier on backbone features of a sample of the training set, by five-fold cross-validation.

    Each group stays in one fold. The features are stored for a later training; images with stored features are not decoded.

    Args:
        training_set: The training set, if it is already loaded.

    Returns:
        None if there are too few usable images.
    """
    training_set = training_set or _training_set(data, manifest, listener)
    chosen = _sample(training_set, max(SAMPLE, 10 * len(training_set.class_names)), config.seed)
    name = backbones.OFFLINE
    side = config.image_size or backbones.BACKBONES[name].side
    preprocessing = Preprocessing(side, side, config.aspect)
    hashes = file_index.content_hashes(data, [sample.path for sample in chosen])
    existing = [sample for sample in chosen if sample.path in hashes]
    if _too_few(existing, training_set):
        return None
    listener.stage(f"preparing {name}")
    extractor, store = features.opened(data, name, preprocessing)
    images = [(hashes[sample.path], partial(preprocess.load, preprocessing, data / sample.path)) for sample in existing]
    unreadable: list[int] = []
    (values,) = features.extract(extractor, store, images, progress=listener.computing, unreadable=unreadable)
    readable = np.setdiff1d(np.arange(len(existing)), unreadable)
    usable = [existing[position] for position in readable.tolist()]
    if _too_few(usable, training_set):
        return None
    group_of = {row.path: row.group for row in manifest.rows}
    groups = np.unique([group_of.get(sample.path) or sample.path for sample in usable], return_inverse=True)[1]
    labels = np.array([training_set.class_names.index(sample.label or "") for sample in usable], np.int64)
    probabilities = label_errors.held_out_probabilities(values[readable], labels, groups, seed=config.seed)
    return Candidate(int((probabilities.argmax(axis=1) == labels).sum()), len(usable), len(usable) * 4 // 5)


def _training_set(data: Path, manifest: Manifest, listener: Listener) -> dataset.Dataset:
    subsets, _notes = load_subsets(data, manifest, listener.preparing)
    return subsets["train"]


def _too_few(usable: list[dataset.Sample], training_set: dataset.Dataset) -> bool:
    return len(usable) < 20 or len({sample.label for sample in usable}) < len(training_set.class_names)


def _sample(training_set: dataset.Dataset, count: int, seed: int) -> list[dataset.Sample]:
    """Draw about `count` images in random order: from each class in proportion to its size, but at least five."""
    draw = random.Random(seed)
    chosen = []
    for name in training_set.class_names:
        own = [sample for sample in training_set.samples if sample.label == name]
        quota = max(5, math.ceil(count * len(own) / max(1, len(training_set.samples))))
        chosen += draw.sample(own, min(quota, len(own)))
    return draw.sample(chosen, len(chosen))


def choose(
    data: Path, manifest: Manifest, config: TrainConfig, machine: devices.Devices, listener: Listener
) -> tuple[TrainConfig, float | None]:
    """Choose the model for `--model auto`, and send the listener the reason.

    Take the backbone if its accuracy is at least GOOD_ENOUGH, or if there are few images. Otherwise take the model with the
    higher accuracy expected on all training images, see `expected`.

    Returns:
        The config with that model, and the expected accuracy if it is a network from scratch.

    Raises:
        UsageError: There are several machines.
    """
    if machine.workers > 1:
        raise UsageError("--model auto works on one machine, but TF_CONFIG names several; give --model a model")
    count = sum(1 for row in manifest.rows if row.split == "train")
    training_set = _training_set(data, manifest, listener)
    frozen = try_backbone(data, manifest, config, listener, training_set)
    if frozen and (frozen.accuracy >= GOOD_ENOUGH or count < SHORT_NEEDS):
        why = f"; {count} training images are too few to try cnn" if frozen.accuracy < GOOD_ENOUGH else ""
        listener.note(f"--model auto: {backbones.OFFLINE}; {backbones.OFFLINE} {_describe(frozen)}{why}")
        return dataclasses.replace(config, model=backbones.OFFLINE), None
    scratch = try_scratch(data, manifest, config, machine, listener, training_set)
    accuracies = expected(frozen, scratch, count)
    chosen: Model = backbones.OFFLINE if accuracies[0] >= accuracies[1] else "cnn"
    own = f"{backbones.OFFLINE} {_describe(frozen)}" if frozen else f"too few images for {backbones.OFFLINE}"
    both = f"{backbones.OFFLINE} {accuracies[0]:.2f}, " if frozen else ""
    listener.note(
        f"--model auto: {chosen}; {own}, a short training of cnn {_describe(scratch)}; "
        f"expected accuracy with all {count:,} training images: {both}cnn {accuracies[1]:.2f}"
    )
    return dataclasses.replace(config, model=chosen), accuracies[1] if chosen in SCRATCH else None


def expected(frozen: Candidate | None, scratch: Candidate, count: int) -> tuple[float, float]:
    """Extrapolate the accuracies of both candidates to a training on `count` images, by power laws fitted to past trainings."""
    accuracies = []
    for candidate, factor, exponent in (
        (frozen, 1.0, EXPONENT_FROZEN),
        (scratch, FULL_TO_SHORT_ERROR, EXPONENT_SCRATCH),
    ):
        error = factor * (1 - candidate.accuracy) if candidate else 1.0
        growth = max(1.0, count / candidate.trained_on) if candidate else 1.0
        accuracies.append(1 - error * growth**-exponent)
    return accuracies[0], accuracies[1]


def hint(state: TrainingState) -> None:
    """After a training from scratch, recommend a frozen backbone if that is clearly better, with the command.

    Takes two seconds, plus ten seconds once for the backbone, in addition to a time budget. Skipped with many images, for a
    good network, and if the user stopped the training. After `--model auto`, the note admits that the choice was wrong.
    """
    config, validation = state.config, len(state.prepared.files["val"])
    best = max(entry.val_accuracy for entry in state.history if entry.is_best)
    own = Candidate(round(best * validation), validation, len(state.prepared.files["train"]))
    few = HINT_FROM <= len(state.prepared.files["train"]) < HINT_BELOW
    if config.model not in SCRATCH or not few or state.stopped or best >= GOOD_ENOUGH or state.machine.workers > 1:
        return
    try:
        usual = dataclasses.replace(config, image_size=None)  # the recommended command names no size either
        frozen = try_backbone(state.data, state.manifest, usual, state.listener)
    except (ImgclfError, OSError):  # the training has succeeded: an optional hint must not end it with an error
        return
    if frozen and frozen.interval[0] > own.interval[1]:
        lead = "a pretrained network is better with so few images"
        if state.expected is not None:
            lead = f"--model auto chose wrong: it expected an accuracy of {state.expected:.2f} from this network"
        better = command("train", state.data, "--model", backbones.OFFLINE)
        state.listener.note(
            f"{lead}: {backbones.OFFLINE}, frozen, {_describe(frozen)}, this network reaches "
            f"{own.accuracy:.3f} on the validation images (95%: {own.interval[0]:.3f} to {own.interval[1]:.3f}); try {better}"
        )


def _describe(candidate: Candidate) -> str:
    low, high = candidate.interval
    return (
        f"reaches an accuracy of {candidate.accuracy:.3f} on {candidate.images} held-out training images "
        f"(95%: {low:.3f} to {high:.3f})"
    )


def try_scratch(
    data: Path,
    manifest: Manifest,
    config: TrainConfig,
    machine: devices.Devices,
    listener: Listener,
    training_set: dataset.Dataset | None = None,
) -> Candidate:
    """Train the network from scratch for a few epochs on a sample of the training set, and score it on a held-out fifth.

    training_set: the training set, if it is already loaded.
    """
    training_set = training_set or _training_set(data, manifest, listener)
    chosen = _sample(training_set, SHORT_IMAGES, config.seed)
    group_of = {row.path: row.group for row in manifest.rows}
    groups = {sample.path: group_of.get(sample.path) or sample.path for sample in chosen}
    fractions: dict[Subset, float] = {"train": 0.8, "val": 0.2}
    subset_of = allocation.allocate(chosen, groups, fractions, config.seed)
    held_out, inside = ([path for path, own in subset_of.items() if own == subset] for subset in ("val", "train"))
    side = min(SHORT_SIDE, config.image_size or dataset.auto_image_size(training_set, config.seed))
    short = dataclasses.replace(config, model="cnn", epochs=SHORT_EPOCHS, image_size=side, progressive=False, ema=0.0)
    subsets: dict[Subset, dataset.Dataset] = {"train": training_set.subset(inside), "val": training_set.subset(held_out)}
    prepared = prepared_images.prepare(data, subsets, Preprocessing(side, side, config.aspect), listener.preparing)
    if not all(prepared.files.values()):
        raise ImgclfError(f"{data}: too few usable images for --model auto; name a model")
    state = TrainingState(data, short, manifest, prepared, None, Path(), Silent(), machine, SHORT_EPOCHS)
    listener.stage("trying a network from scratch")
    strategy = Scratch(state)
    steps = math.ceil(len(strategy.images) / config.batch_size)
    rates = (schedule.rate("cosine", config.learning_rate, step, SHORT_EPOCHS * steps) for step in range(SHORT_EPOCHS * steps))
    count = len(strategy.images)
    feed = Feed(strategy.change(count), smoothing=config.label_smoothing)
    for epoch in range(1, SHORT_EPOCHS + 1):
        batches = strategy.images.shuffled(config.batch_size, seed=config.seed, epoch=epoch, feed=feed)
        strategy.trainer.epoch(batches, rates)
        listener.batch(epoch, count, count)
    strategy.trainer.update_exported()
    score = strategy.trainer.evaluate(strategy.validation.in_order())
    return Candidate(round(score.accuracy * len(strategy.validation)), len(strategy.validation), count)
