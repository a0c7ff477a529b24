"""THE Sequential builder: every network imgclf trains is a `keras.Sequential` of stock layers, made here."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def build(num_classes: int, height: int, width: int, *, seed: int) -> "keras.Sequential":
    """A convolutional network for (height, width, 3) pictures of 0..255.

    Rescaling, then blocks of Conv2D, MaxPooling2D, BatchNormalization, ReLU: pooling first means that the two cheap-looking
    but slow layers work on a quarter of the values. One block a halving until about 8 pixels are left, four at most.
    Two classes: one sigmoid unit (the probability of the second class); more: softmax.
    """
    import keras
    from keras import layers

    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more, not {num_classes}")
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(name="imgclf_cnn")
    network.add(keras.Input((height, width, 3), name="image"))
    network.add(layers.Rescaling(1 / 127.5, offset=-1.0))
    blocks = max(1, min(4, int(math.log2(max(2, min(height, width) / 6)))))
    for filters in (32, 64, 128, 256)[:blocks]:
        network.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        network.add(layers.MaxPooling2D())
        network.add(layers.BatchNormalization(momentum=0.9))
        network.add(layers.ReLU())
    network.add(layers.GlobalAveragePooling2D())
    network.add(layers.Dropout(0.3))
    if num_classes == 2:
        network.add(layers.Dense(1, activation="sigmoid", name="probability"))
    else:
        network.add(layers.Dense(num_classes, activation="softmax", name="probabilities"))
    return network


def compile(network: "keras.Sequential", *, learning_rate: float, steps: int) -> None:
    """Adam, accuracy, and binary or categorical cross-entropy as the last layer asks.

    The rate climbs to `learning_rate` over the first twentieth of all `steps` and falls along a cosine to a hundredth of it.
    """
    import keras

    binary = network.output_shape[-1] == 1
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        learning_rate / 10,
        decay_steps=max(1, steps - warm_up),
        alpha=0.01,
        warmup_target=learning_rate,
        warmup_steps=warm_up,
    )
    network.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="binary_crossentropy" if binary else "categorical_crossentropy",
        metrics=["accuracy"],
    )
