"""Training batches: prepared pixels through `keras.utils.image_dataset_from_directory` into tf.data."""

import os
from typing import TYPE_CHECKING

from imgclf.base.config import Part
from imgclf.dataset.prepared import Prepared
from imgclf.pixels import augment

if TYPE_CHECKING:
    import tensorflow as tf


def augment_seeds(seed: int) -> int:
    """The seed of the stream of augmentation seeds that belongs to a run's seed."""
    return seed + 1


def memory_budget() -> int:
    """Bytes that may hold decoded pictures: a quarter of the memory available now, or 1 GiB where that is not told."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):
        return 1 << 30


def batches(
    prepared: Prepared, part: Part, *, batch_size: int, seed: int | None = None, augmentation: str = "none"
) -> "tf.data.Dataset":
    """One prepared part as batches of ((n, h, w, 3) uint8 RGB, labels (n, 1) for two classes, else (n, classes) one-hot).

    Read by `keras.utils.image_dataset_from_directory`, kept in memory when it fits the budget. With a seed the order is new
    every epoch and the same for the same seed; without one it is the order of the file names.
    """
    import keras
    import tensorflow as tf

    recipe = prepared.recipe
    count = len(prepared.files[part])
    data = keras.utils.image_dataset_from_directory(
        prepared.folder / part,
        label_mode="binary" if len(prepared.class_names) == 2 else "categorical",
        class_names=list(prepared.class_names),
        batch_size=None,
        image_size=(recipe.height, recipe.width),
        shuffle=False,
        verbose=False,
    )
    # Files are at the model's size already, so the loader's resize is the identity and its floats are whole numbers.
    data = data.map(lambda image, label: (tf.cast(image, tf.uint8), label), num_parallel_calls=tf.data.AUTOTUNE)
    if count * recipe.height * recipe.width * 3 <= memory_budget():
        data = data.cache()
    if seed is not None:
        data = data.shuffle(min(count, 20_000), seed=seed, reshuffle_each_iteration=True)
    if augmentation == "none" or seed is None:
        return data.batch(batch_size).prefetch(2)
    seeds = tf.data.Dataset.random(seed=augment_seeds(seed), rerandomize_each_iteration=True)

    def change(sample: "tuple[tf.Tensor, tf.Tensor]", seeds: "tf.Tensor") -> "tuple[tf.Tensor, tf.Tensor]":
        pictures, labels = sample
        changed = tf.numpy_function(augment.light_batch, [pictures, seeds], tf.uint8)
        changed.set_shape(pictures.shape)
        return changed, labels

    return tf.data.Dataset.zip((data, seeds)).batch(batch_size).map(change, num_parallel_calls=2).prefetch(2)
