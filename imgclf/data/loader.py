"""Batches for training and scoring, read by `keras.utils.image_dataset_from_directory` in a reproducible order."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Subset
from imgclf.core.files import atomic
from imgclf.core.parallel import cpu_count
from imgclf.core.progress import Progress
from imgclf.data.prepared_images import Prepared
from imgclf.images import preprocess
from imgclf.images.augment import BatchAugmentation
from imgclf.models import keras_settings

T = TypeVar("T")
# Images (n, h, w, 3) or features (n, width), targets (n, outputs), weights (n,)
Batch = tuple[NDArray[np.uint8] | NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def memory_budget() -> int:
    """Return the bytes of memory for decoded images: a quarter of the available memory, or 1 GiB if that is unknown."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024 // 4
    except (OSError, ValueError, StopIteration):
        return 1 << 30


@dataclasses.dataclass(frozen=True)
class Feed:
    """How training batches are made from images.

    change: Augmentation of (pixels, targets, one random seed per image). It runs on threads, ahead of the training loop.
    weights: (classes,) loss weight of each class. The weight of a mixed image is the average weight of its targets.
    smoothing: Label smoothing, 0 to 1 (Szegedy et al., 2016), applied after `change`.
    side: Resize images to this many pixels a side before `change`; None keeps their size.
    """

    change: BatchAugmentation | None = None
    weights: NDArray[np.float32] | None = None
    smoothing: float = 0.0
    side: int | None = None


PLAIN = Feed()


class Labelled:
    """Base of `Images` and `Vectors`. labels: (n,) indices of the classes. outputs: number of outputs of the network."""

    def __init__(self, labels: NDArray[np.int64], classes: int) -> None:
        self.labels, self.outputs = labels, 1 if classes == 2 else classes

    def __len__(self) -> int:
        return len(self.labels)

    def targets(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (n, 1) with 1 for the second of two classes, or (n, classes) one-hot."""
        if self.outputs == 1:
            return self.labels[indices, None].astype(np.float32)
        return np.eye(self.outputs, dtype=np.float32)[self.labels[indices]]

    def inputs(self, indices: NDArray[np.int64], seeds: NDArray[np.int64] | None, side: int | None) -> NDArray[Any]:
        """Return the network's inputs for these indices. seeds: one per image to draw a view; None for the original images."""
        raise NotImplementedError

    def in_order(self, batch_size: int = 64) -> Iterator[Batch]:
        """Yield batches of the original images, in order."""
        for top in range(0, len(self), batch_size):
            indices = np.arange(top, min(len(self), top + batch_size))
            yield self.inputs(indices, None, None), self.targets(indices), np.ones(len(indices), np.float32)

    def shuffled(
        self,
        batch_size: int,
        *,
        seed: int,
        epoch: int,
        feed: Feed = PLAIN,
        count: int | None = None,
        shard: int = 0,
    ) -> Iterator[Batch]:
        """Yield batches of every image once, or of `count` images, in an order that depends only on seed, epoch and shard."""
        random = np.random.default_rng((seed, epoch, shard))
        order, seeds = random.permutation(len(self))[:count], random.integers(0, 2**62, len(self))

        def make(top: int) -> Batch:
            indices = order[top : top + batch_size]
            inputs, targets = self.inputs(indices, seeds[indices], feed.side), self.targets(indices)
            if feed.change:
                inputs, targets = feed.change(inputs, targets, seeds[indices])
            weights = np.ones(len(indices), np.float32) if feed.weights is None else _image_weights(targets, feed.weights)
            even = np.float32(feed.smoothing / max(2, targets.shape[1]))
            return inputs, targets * np.float32(1 - feed.smoothing) + even, weights

        return prefetched(make, range(0, len(order), batch_size))


def names_in_order(prepared: Prepared, subset: Subset) -> list[str]:
    """Return the prepared files of a subset in the order of Keras' loader: by class, then by name."""
    return sorted(prepared.files[subset], key=lambda name: (prepared.class_names.index(name.split("/", 1)[0]), name))


def _labels(prepared: Prepared, names: Sequence[str]) -> NDArray[np.int64]:
    return np.array([prepared.class_names.index(name.split("/", 1)[0]) for name in names], np.int64)


class Images(Labelled):
    """One prepared subset: pixels (n, h, w, 3) uint8 RGB in the order of file names.

    Keras' loader reads them once: into memory if they fit into `memory_budget`, else into a file beside the prepared images.
    """

    def __init__(self, prepared: Prepared, subset: Subset, progress: Progress | None = None) -> None:
        super().__init__(_labels(prepared, names_in_order(prepared, subset)), len(prepared.class_names))
        shape = (len(self.labels), prepared.preprocessing.height, prepared.preprocessing.width, 3)
        if int(np.prod(shape)) <= memory_budget():
            self.pixels = np.empty(shape, np.uint8)
            _read(prepared, subset, self.pixels, self.labels, progress)
            return
        file = prepared.folder / f"{subset}.npy"
        if not file.exists():
            with atomic.atomic_path(file) as temporary:
                pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
                # Reserve the space: a full disk raises OSError here, but SIGBUS when a page is written.
                if hasattr(os, "posix_fallocate"):
                    with open(temporary, "r+b") as whole:
                        os.posix_fallocate(whole.fileno(), 0, os.path.getsize(temporary))
                _read(prepared, subset, pixels, self.labels, progress)
                pixels.flush()
        self.pixels = np.load(file, mmap_mode="r")

    def inputs(self, indices: NDArray[np.int64], seeds: NDArray[np.int64] | None, side: int | None) -> NDArray[Any]:
        pixels = self.pixels[indices]
        if side and side != pixels.shape[1]:
            pixels = np.stack([preprocess.resize(image, side, side) for image in pixels])
        return pixels


class Vectors(Labelled):
    """One subset as features (views, n, width) float32, in the order of file names; view 0 is the original image."""

    def __init__(self, prepared: Prepared, subset: Subset, values: NDArray[np.float32]) -> None:
        super().__init__(_labels(prepared, names_in_order(prepared, subset)), len(prepared.class_names))
        self.values = values

    def inputs(self, indices: NDArray[np.int64], seeds: NDArray[np.int64] | None, side: int | None) -> NDArray[Any]:
        views = np.zeros(len(indices), np.int64) if seeds is None else seeds % len(self.values)
        return np.asarray(self.values[views, indices])


def _image_weights(targets: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n,): the mean class weight of each image, weighted by its targets, (n, 1) or (n, classes)."""
    fractions = np.hstack([1 - targets, targets]) if targets.shape[1] == 1 else targets
    return np.asarray(fractions @ weights, np.float32)


def prefetched(make: Callable[[int], T], items: range, *, depth: int = 3) -> Iterator[T]:
    """Yield `make(item)` for each item in order. Threads compute up to `depth` items in advance."""
    with concurrent.futures.ThreadPoolExecutor(min(2, cpu_count()), "batches") as pool:
        waiting = [pool.submit(make, item) for item in items[:depth]]
        for item in [*items[depth:], *[None] * min(depth, len(items))]:
            yield waiting.pop(0).result()
            if item is not None:
                waiting.append(pool.submit(make, item))


@keras_settings.pinned()
def _read(
    prepared: Prepared, subset: Subset, pixels: NDArray[np.uint8], labels: NDArray[np.int64], progress: Progress | None
) -> None:
    import keras
    import tensorflow as tf

    data = keras.utils.image_dataset_from_directory(
        prepared.folder / subset,
        label_mode="int",
        class_names=list(prepared.class_names),
        batch_size=64,
        image_size=(prepared.preprocessing.height, prepared.preprocessing.width),
        shuffle=False,
        verbose=False,
    )
    # Files are at the model's size already, so the loader's resize is the identity and its floats are whole numbers.
    top = 0
    for batch, numbers in data.map(lambda batch, numbers: (tf.cast(batch, tf.uint8), numbers)).prefetch(2):
        end = top + len(numbers)
        pixels[top:end], labels[top:end] = batch.numpy(), numbers.numpy()
        top = end
        if progress:
            progress(top, len(pixels))
    if top != len(pixels):
        raise ValueError(f"{prepared.folder / subset}: {top} images were read, {len(pixels)} expected")
