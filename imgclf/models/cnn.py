"""THE Sequential builder: every network imgclf trains is a `keras.Sequential` of stock layers, made here."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from imgclf.core.config import Model
from imgclf.models import backbones, keras_settings, seeds

if TYPE_CHECKING:
    import keras

# Channels of the first block, and convolutions a block from the third on: depth helps where images are small already.
_WIDTH = {"cnn-small": 16, "cnn": 32, "cnn-large": 48}
_MOMENTUM, _EPSILON = 0.9, 1e-3
DROPOUT = 0.3  # share of the features that are dropped before the last layer


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Channels and convolutions of each block, from the image to the head; a block halves both sides."""

    channels: tuple[int, ...]
    convolutions: tuple[int, ...]


def blocks(name: Model, height: int, width: int) -> Blocks:
    """A block for each halving until about 4.5 pixels are left, five at most; channels double up to eight times the first."""
    count = max(1, min(5, round(math.log2(min(height, width) / 4.5))))
    first = _WIDTH[name]
    channels = tuple(first * min(8, 2**number) for number in range(count))
    deep = 1 if name == "cnn-small" else 2
    shallow = 1 if min(height, width) > 48 else deep
    return Blocks(channels, tuple(shallow if number < 2 else deep for number in range(count)))


@keras_settings.pinned()
def build(
    name: Model,
    num_classes: int,
    size: tuple[int, int],
    *,
    seed: int,
    dropout: float = DROPOUT,
    for_training: str | None = None,
) -> "keras.Sequential":
    """A convolutional network from scratch for images of size (height, width), 3 channels of 0..255.

    Rescaling, then blocks of Conv2D, MaxPooling2D, BatchNormalization, ReLU: pooling first means that the two cheap-looking
    but slow layers work on a quarter of the values. Two classes: one sigmoid unit (the probability of the second class);
    more: softmax. for_training: a Keras dtype policy such as mixed_bfloat16; the network then computes in it, takes images of
    any size, with batch normalisation in one operation, and its weights fit the stock network that is built without.
    """
    import keras
    from keras import layers

    if num_classes < 2:
        raise ValueError(f"num_classes must be 2 or more, not {num_classes}")
    policy: dict[str, Any] = {"dtype": for_training or "float32"}

    def normalise() -> Any:
        if for_training:
            from imgclf.models import fused

            return fused.layer_class()(momentum=_MOMENTUM, epsilon=_EPSILON, **policy)
        return layers.BatchNormalization(momentum=_MOMENTUM, epsilon=_EPSILON, **policy)

    with seeds.seeded(seed):
        network = keras.Sequential(name="imgclf_cnn")
        network.add(keras.Input((None, None, 3) if for_training else (*size, 3), name="image"))
        network.add(layers.Rescaling(1 / 127.5, offset=-1.0, **policy))
        plan = blocks(name, *size)
        for channels, convolutions in zip(plan.channels, plan.convolutions, strict=True):
            for number in range(convolutions):
                network.add(layers.Conv2D(channels, 3, padding="same", use_bias=False, **policy))
                if number == 0:
                    network.add(layers.MaxPooling2D(**policy))
                network.add(normalise())
                network.add(layers.ReLU(**policy))
        network.add(layers.GlobalAveragePooling2D(**policy))
        for layer in _head(num_classes, dropout, seed, policy):
            network.add(layer)
    return network


def _head(num_classes: int, dropout: float, seed: int, policy: dict[str, Any]) -> list[Any]:
    from keras import layers

    if num_classes == 2:
        output = layers.Dense(1, activation="sigmoid", name="probability", dtype="float32")
    else:
        output = layers.Dense(num_classes, activation="softmax", name="probabilities", dtype="float32")
    return [layers.Dropout(dropout, seed=seed, **policy), output]


@keras_settings.pinned()
def head(num_classes: int, width: int, *, seed: int) -> "keras.Sequential":
    """What answers from (width,) features: dropout and one dense layer."""
    import keras

    with seeds.seeded(seed):
        return keras.Sequential(
            [keras.Input((width,), name="features"), *_head(num_classes, DROPOUT, seed, {})], name="imgclf_head"
        )


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone for (side, side, 3) images of 0..255.

    trainable: blocks of the backbone, from the top, that can be trained. policy: the Keras dtype policy to compute in.
    """

    name: Model
    side: int
    weights: backbones.Weights
    trainable: int = 0
    policy: str = "float32"


def transferred(backbone: Pretrained, num_classes: int, *, seed: int) -> "keras.Sequential":
    """A pretrained backbone with a new head: backbone, pooling, dropout, dense."""
    side = backbone.side
    with keras_settings.pinned(backbone.policy):  # keras.applications read the policy only from here
        import keras

        with seeds.seeded(seed):
            inputs = keras.Input((side, side, 3), name="image", dtype="float32")
            below = backbones.layers(backbone.name, side, backbone.weights, backbone.trainable)
            return keras.Sequential([inputs, *below, *_head(num_classes, DROPOUT, seed, {})], name="imgclf_transfer")


@keras_settings.pinned()
def compile(network: "keras.Sequential", learning_rate: float) -> None:
    """Adam, accuracy, and binary or categorical cross-entropy as the last layer asks: so that Keras can go on with it."""
    import keras

    binary = network.output_shape[-1] == 1
    network.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy" if binary else "categorical_crossentropy",
        metrics=["accuracy"],
    )
    network.optimizer.build(network.trainable_variables)  # or a saved network would load with a warning
