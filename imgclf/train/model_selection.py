"""What a frozen backbone and a network from scratch would come to: cheap looks before and after a training."""

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
from imgclf.train.strategies import Scratch
from imgclf.train.work import Listener, Silent, Work

SAMPLE = 400  # images that a backbone is judged by, or ten a class
SURE = 0.95  # accuracy of a backbone from which no network from scratch is tried beside it
FEWEST, MOST = 100, 10_000  # training images between which a network from scratch is held against a backbone
# A trial's error times 0.6 is what a whole training has come to, and errors fall with the number of images to the power of
# 0.08 and 0.2. Seen, of a sample and of all: flowers 0.29 and 0.24 frozen, 0.35 and 0.18 from scratch; cats and dogs 0.02 and
# 0.01, 0.33 and 0.14; Fashion-MNIST 0.21 and 0.07 from scratch.
TRIAL_TO_WHOLE, FALL_FROZEN, FALL_SCRATCH = 0.6, 0.08, 0.2
FEWEST_TRIED = 500  # training images: a trial on fewer says too little
TRIAL, TRIAL_EPOCHS, TRIAL_SIDE = 1500, 8, 64  # images at most, epochs and pixels a side of a trial


@dataclasses.dataclass(frozen=True)
class Candidate:
    """How many of some training images were right that the classifier had not been trained on."""

    right: int
    images: int
    trained_on: int  # images

    @property
    def accuracy(self) -> float:
        return self.right / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95%."""
        return wilson_interval(self.right, self.images)


def of_backbone(
    data: Path, manifest: Manifest, config: TrainConfig, listener: Listener, training: dataset.Dataset | None = None
) -> Candidate | None:
    """A linear classifier on the features of a sample of the training set, on five folds that tear no group.

    Features are stored for a later training; images with stored features are not decoded. training: the training set, if it is
    already loaded. Returns None if there are too few usable images.
    """
    training = training or _training(data, manifest, listener)
    chosen = _sample(training, max(SAMPLE, 10 * len(training.class_names)), config.seed)
    name = backbones.OFFLINE
    side = config.image_size or backbones.BACKBONES[name].side
    preprocessing = Preprocessing(side, side, config.aspect)
    hashes = file_index.content_hashes(data, [sample.path for sample in chosen])
    there = [sample for sample in chosen if sample.path in hashes]
    if _too_few(there, training):
        return None
    listener.stage(f"making {name} ready")
    extractor, store = features.opened(data, name, preprocessing)
    read = [(hashes[sample.path], partial(preprocess.load, preprocessing, data / sample.path)) for sample in there]
    unread: list[int] = []
    (values,) = features.extract(extractor, store, read, progress=listener.computing, unread=unread)
    good = np.setdiff1d(np.arange(len(there)), unread)
    usable = [there[place] for place in good.tolist()]
    if _too_few(usable, training):
        return None
    group_of = {row.path: row.group for row in manifest.rows}
    groups = np.unique([group_of.get(sample.path) or sample.path for sample in usable], return_inverse=True)[1]
    labels = np.array([training.class_names.index(sample.label or "") for sample in usable], np.int64)
    said = label_errors.held_out_probabilities(values[good], labels, groups, seed=config.seed)
    return Candidate(int((said.argmax(axis=1) == labels).sum()), len(usable), len(usable) * 4 // 5)


def _training(data: Path, manifest: Manifest, listener: Listener) -> dataset.Dataset:
    subsets, _notes = load_subsets(data, manifest, listener.preparing)
    return subsets["train"]


def _too_few(usable: list[dataset.Sample], training: dataset.Dataset) -> bool:
    return len(usable) < 20 or len({sample.label for sample in usable}) < len(training.class_names)


def _sample(training: dataset.Dataset, count: int, seed: int) -> list[dataset.Sample]:
    """Up to so many images, of every class its share and five at least, in a random order."""
    draw = random.Random(seed)
    chosen = []
    for name in training.class_names:
        own = [sample for sample in training.samples if sample.label == name]
        share = max(5, math.ceil(count * len(own) / max(1, len(training.samples))))
        chosen += draw.sample(own, min(share, len(own)))
    return draw.sample(chosen, len(chosen))


def choose(
    data: Path, manifest: Manifest, config: TrainConfig, machine: devices.Devices, listener: Listener
) -> tuple[TrainConfig, float | None]:
    """The config with the model chosen for `auto`, and the expected accuracy if it is a network from scratch.

    The listener gets the reason.

    The backbone if its accuracy is SURE or more, or if there are few images; else the model with the higher expected accuracy
    on all the training images, by how errors have been seen to fall with their number. Raises UsageError when there are
    several machines.
    """
    if machine.workers > 1:
        raise UsageError("--model auto chooses on one machine; name a model where TF_CONFIG names several")
    count = sum(1 for row in manifest.rows if row.split == "train")
    training = _training(data, manifest, listener)
    frozen = of_backbone(data, manifest, config, listener, training)
    if frozen and (frozen.accuracy >= SURE or count < FEWEST_TRIED):
        why = f"; {count} are too few to try a network from scratch on" if frozen.accuracy < SURE else ""
        listener.note(f"--model auto: {backbones.OFFLINE}, {_said(frozen)}{why}")
        return dataclasses.replace(config, model=backbones.OFFLINE), None
    scratch = of_scratch(data, manifest, config, machine, listener, training)
    hopes = expected(frozen, scratch, count)
    taken: Model = backbones.OFFLINE if hopes[0] >= hopes[1] else "cnn"
    own = f"{backbones.OFFLINE} {_said(frozen)}" if frozen else f"too few images for {backbones.OFFLINE}"
    both = f"{hopes[0]:.2f} and {hopes[1]:.2f}" if frozen else f"{hopes[1]:.2f}"
    listener.note(
        f"--model auto: {taken}; {own}, a short trial of cnn {_said(scratch)}; expected of all {count:,} training images: "
        f"{both}"
    )
    return dataclasses.replace(config, model=taken), hopes[1] if taken in SCRATCH else None


def expected(frozen: Candidate | None, scratch: Candidate, count: int) -> tuple[float, float]:
    """Accuracies of both when they are trained on so many images, by how errors have been seen to fall."""
    hopes = []
    for candidate, factor, fall in ((frozen, 1.0, FALL_FROZEN), (scratch, TRIAL_TO_WHOLE, FALL_SCRATCH)):
        error = factor * (1 - candidate.accuracy) if candidate else 1.0
        more = max(1.0, count / candidate.trained_on) if candidate else 1.0
        hopes.append(1 - error * more**-fall)
    return hopes[0], hopes[1]


def hint(work: Work) -> None:
    """After a training from scratch: say so when a frozen backbone clearly does better, and the command to type.

    It takes two seconds, plus ten seconds once for the backbone, in addition to a time budget. It is skipped with many images,
    with a good network, and if the user stopped the training. After `--model auto` the message says that the automatic choice
    was wrong.
    """
    config, validation = work.config, len(work.prepared.files["val"])
    best = max(entry.val_accuracy for entry in work.history if entry.is_best)
    own = Candidate(round(best * validation), validation, len(work.prepared.files["train"]))
    few = FEWEST <= len(work.prepared.files["train"]) < MOST
    if config.model not in SCRATCH or not few or work.stopped or best >= SURE or work.machine.workers > 1:
        return
    try:
        usual = dataclasses.replace(config, image_size=None)  # not this network's: the command below names none
        frozen = of_backbone(work.data, work.manifest, usual, work.listener)
    except (ImgclfError, OSError):  # the training is done, and this is an extra: what it lacks is no news here
        return
    if frozen and frozen.interval[0] > own.interval[1]:
        lead = "a pretrained network would do better on so few images"
        if work.expected is not None:
            lead = f"--model auto chose wrong: it expected an accuracy of {work.expected:.2f} from this network"
        better = command("train", work.data, "--model", backbones.OFFLINE)
        work.listener.note(
            f"{lead}: {backbones.OFFLINE}, frozen, is {_said(frozen)}, this "
            f"network on {own.accuracy:.3f} of the validation images (95%: {own.interval[0]:.3f} to {own.interval[1]:.3f}); "
            f"try {better}"
        )


def _said(candidate: Candidate) -> str:
    low, high = candidate.interval
    return f"right on {candidate.accuracy:.3f} of {candidate.images} held-out training images (95%: {low:.3f} to {high:.3f})"


def of_scratch(
    data: Path,
    manifest: Manifest,
    config: TrainConfig,
    machine: devices.Devices,
    listener: Listener,
    training: dataset.Dataset | None = None,
) -> Candidate:
    """Train the network from scratch for a few epochs on a small sample of the training set; a fifth of it is held out.

    training: the training set, if it is already loaded.
    """
    training = training or _training(data, manifest, listener)
    chosen = _sample(training, TRIAL, config.seed)
    group_of = {row.path: row.group for row in manifest.rows}
    groups = {sample.path: group_of.get(sample.path) or sample.path for sample in chosen}
    shares: dict[Subset, float] = {"train": 0.8, "val": 0.2}
    subset_of = allocation.allocate(chosen, groups, shares, config.seed)
    held_out, inside = ([path for path, own in subset_of.items() if own == subset] for subset in ("val", "train"))
    side = min(TRIAL_SIDE, config.image_size or dataset.auto_image_size(training, config.seed))
    trial = dataclasses.replace(config, model="cnn", epochs=TRIAL_EPOCHS, image_size=side, progressive=False, ema=0.0)
    views: dict[Subset, dataset.Dataset] = {"train": training.subset(inside), "val": training.subset(held_out)}
    prepared = prepared_images.prepare(data, views, Preprocessing(side, side, config.aspect), listener.preparing)
    if not all(prepared.files.values()):
        raise ImgclfError(f"{data}: too few usable images for --model auto; name a model")
    work = Work(data, trial, manifest, prepared, None, Path(), Silent(), machine, TRIAL_EPOCHS)
    listener.stage("trying a network from scratch")
    strategy = Scratch(work)
    steps = math.ceil(len(strategy.images) / config.batch_size)
    rates = (schedule.rate("cosine", config.learning_rate, step, TRIAL_EPOCHS * steps) for step in range(TRIAL_EPOCHS * steps))
    count = len(strategy.images)
    feed = Feed(strategy.change(count), smoothing=config.label_smoothing)
    for epoch in range(1, TRIAL_EPOCHS + 1):
        batches = strategy.images.shuffled(config.batch_size, seed=config.seed, epoch=epoch, feed=feed)
        strategy.trainer.epoch(batches, rates)
        listener.batch(epoch, count, count)
    strategy.trainer.freeze()
    score = strategy.trainer.evaluate(strategy.validation.in_order())
    return Candidate(round(score.accuracy * len(strategy.validation)), len(strategy.validation), count)
