"""Set up a training: check the options, prepare the images at the network's size, and compare the workers."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import SCRATCH, Preprocessing, Subset, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import wrong_content
from imgclf.core.files import atomic, reading
from imgclf.core.files.state_folder import command
from imgclf.data import dataset, prepared_images
from imgclf.data.manifest import Manifest, elsewhere_note, fold_paths, load_subsets, manifest_path
from imgclf.models import backbones
from imgclf.train import devices, precision
from imgclf.train.class_weights import class_weights
from imgclf.train.state import Listener, TrainingState, content

SCHEMA = "config/1"


def check(config: TrainConfig) -> None:
    """Raise UsageError for conflicting options. TrainConfig has already checked each option alone."""
    is_pretrained = config.model in backbones.BACKBONES
    if not is_pretrained and (config.weights != "imagenet" or config.views != 1 or config.fine_tune):
        raise UsageError(f"--weights, --views and --fine-tune are for pretrained backbones, not for --model {config.model}")
    if is_pretrained:
        backbones.weights(config.weights)
        if config.views > 1 and config.augment == "none":
            raise UsageError(f"--views {config.views} needs --augment light or strong")
        blocks = backbones.BACKBONES[config.model].blocks
        if config.fine_tune > blocks:
            raise UsageError(f"--fine-tune must be 0 to {blocks} (blocks of {config.model}), not {config.fine_tune}")
        least = 32 if backbones.BACKBONES[config.model].application else 16  # keras.applications refuses smaller sizes
        if config.image_size is not None and config.image_size < least:
            raise UsageError(f"--image-size must be {least} to 1024 pixels for {config.model}, not {config.image_size}")
    if config.fine_tune_epochs is not None and not config.fine_tune:
        raise UsageError(f"--fine-tune-epochs {config.fine_tune_epochs} needs --fine-tune")


@dataclasses.dataclass(frozen=True)
class Stored:
    """The content of a run's config.json. data: the data folder. weights: loss weight of each class, None for equal weights."""

    config: TrainConfig
    preprocessing: Preprocessing
    data: Path
    weights: NDArray[np.float32] | None


def write_config(run_dir: Path, stored: Stored) -> None:
    """Write config.json for `--resume`."""
    values = dataclasses.asdict(stored.config)
    if stored.config.weights not in ("imagenet", "none"):
        values["weights"] = str(Path(stored.config.weights).resolve())  # resuming must work from any folder
    values |= {"preprocessing": dataclasses.asdict(stored.preprocessing), "data": str(stored.data)}
    weights = None if stored.weights is None else stored.weights.tolist()
    atomic.write_json(run_dir / "config.json", {"schema": SCHEMA, **values, "weights_of_classes": weights})


def read_config(run_dir: Path) -> Stored:
    """Read config.json. Raises ImgclfError for content that this version would not write."""
    file = run_dir / "config.json"
    try:
        values = reading.read_json(file)
        schema, data, weights = values.pop("schema"), Path(values.pop("data")), values.pop("weights_of_classes")
        preprocessing = values.pop("preprocessing")
        with np.errstate(over="ignore"):  # the check below refuses infinite values
            weights = None if weights is None else np.array(weights, np.float32)
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r}, but this version of imgclf reads {SCHEMA}")
        if weights is not None and not (weights.ndim == 1 and np.isfinite(weights).all() and (weights > 0).all()):
            raise ValueError("weights_of_classes must be positive numbers")
        os.fsencode(data)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ImgclfError(f"{file}: cannot be read ({error}); train again") from error
    try:
        stored = Stored(TrainConfig.from_dict(values), Preprocessing.from_dict(preprocessing), data, weights)
        check(stored.config)
    except UsageError as error:
        raise wrong_content(file, error) from error
    except ImgclfError as error:
        raise ImgclfError(f"{file}: {error}") from error
    return stored


def chosen_manifest(data: Path, fold: int | None) -> Path:
    """Return the path of the split manifest, or of one fold's. Raises ImgclfError if there is no such fold."""
    if fold is None:
        return manifest_path(data)
    folds = fold_paths(data)
    if not folds:
        raise ImgclfError(f"{data}: no folds yet; create them with {command('split', data, '--folds', '5')}")
    if not 1 <= fold <= len(folds):
        raise ImgclfError(f"--fold {fold}: no such fold; use 1 to {len(folds)}")
    return folds[fold - 1]


def prepare(
    data: Path, manifest: Manifest, config: TrainConfig, machine: devices.Devices, listener: Listener
) -> tuple[prepared_images.Prepared, TrainConfig]:
    """Prepare the images at the network's size, and return them with the config, in which that size is set.

    The chief prepares the images first; the other workers wait and reuse them.

    Raises:
        UsageError: The batch size or the precision does not suit the devices.
        ImgclfError: A subset or a class has no usable images.
    """
    batch = config.batch_size
    if batch % machine.workers or batch < machine.count:
        least = machine.workers * math.ceil(max(batch, machine.count) / machine.workers)
        raise UsageError(
            f"--batch-size {batch} is the total of {machine} and cannot be divided among them; try --batch-size {least}"
        )
    precision.choose(config.precision)  # raises UsageError before any image is decoded
    if not machine.is_chief:
        machine.broadcast([0])
    subsets, notes = load_subsets(data, manifest, listener.preparing)
    for note in elsewhere_note(data) + notes:
        listener.note(note)
    chosen: Mapping[Subset, dataset.Dataset] = {"train": subsets["train"], "val": subsets["val"]}
    if config.model in SCRATCH:
        side = config.image_size or dataset.auto_image_size(subsets["train"], config.seed)
    else:
        side = config.image_size or backbones.BACKBONES[config.model].side
        config = dataclasses.replace(config, progressive=False)
    preprocessing = Preprocessing(height=side, width=side, aspect=config.aspect)
    prepared = prepared_images.prepare(data, chosen, preprocessing, listener.preparing)
    for path, reason in prepared.skipped:
        listener.note(f"skipped {path}: {reason}")
    _check_subsets(data, prepared)
    if machine.is_chief:
        machine.broadcast([0])
    return prepared, dataclasses.replace(config, image_size=side)


def weigh(config: TrainConfig, prepared: prepared_images.Prepared) -> NDArray[np.float32] | None:
    """Return the loss weight of each class, or None for equal weights. See `class_weights`."""
    labels = [name.split("/", 1)[0] for name in prepared.files["train"]]
    return class_weights(config.class_weights, prepared.class_names, [labels.count(name) for name in prepared.class_names])


def _check_subsets(data: Path, prepared: prepared_images.Prepared) -> None:
    for subset in ("train", "val"):
        if not prepared.files[subset]:
            raise ImgclfError(
                f"{data}: the {subset} set has no usable images; add images or give it a larger fraction: "
                f"{command('split', data, f'--{subset}', '0.8' if subset == 'train' else '0.3', '--force')}"
            )
    labels = {name.split("/", 1)[0] for name in prepared.files["train"]}
    for name in prepared.class_names:
        if name not in labels:
            raise ImgclfError(
                f"{data}: class {name} has no usable training images; restore some, or remove its folder and run "
                f"{command('split', data, '--force')} to train without it"
            )


def check_agreement(state: TrainingState) -> None:
    """Raise ImgclfError unless all workers have the same images, split, options, class weights, number format and epoch.

    Also raise it if a subset has fewer images than there are devices.
    """
    machine = state.machine
    few = min((len(files), subset) for subset, files in state.prepared.files.items())
    if few[0] < machine.count:
        raise ImgclfError(f"{state.data}: {few[0]} images in the {few[1]} subset are too few for {machine}; use fewer devices")
    kind = precision.choose(state.config.precision)[0]
    text = repr((content(state), state.config, kind, state.weights is not None and state.weights.tolist(), state.history))
    digest = hashlib.sha256(text.encode()).digest()
    differ = not np.array_equal(machine.broadcast(list(digest)), list(digest))
    others = int(machine.total([differ])[0])
    if others:
        raise ImgclfError(
            f"{others} of {machine.workers} workers have other images, another split, other options, another epoch or another "
            "number format than the chief; start all with the same command, and the same data and run folder or equal copies"
        )
