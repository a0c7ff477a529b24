"""THE Sequential builder: every network that imgclf trains is a `keras.Sequential` of built-in layers, built here."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from imgclf.core.config import Model
from imgclf.models import backbones, keras_settings, seeds

if TYPE_CHECKING:
    import keras

_WIDTH = {"cnn-small": 16, "cnn": 32, "cnn-large": 48}  # channels of the first block
_MOMENTUM, _EPSILON = 0.9, 1e-3
DROPOUT = 0.3  # fraction of the features dropped before the last layer


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Channels and convolutions of each block, from the image to the head. Each block halves both sides."""

    channels: tuple[int, ...]
    convolutions: tuple[int, ...]


def blocks(name: Model, height: int, width: int) -> Blocks:
    """Plan the blocks for images of height x width pixels.

    One block for each halving until about 4.5 pixels are left, at most five. Channels double up to eight times the first. From
    the third block on, there are two convolutions each: depth helps where images are small already.
    """
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
    """Build a convolutional network from scratch: Rescaling, then blocks of Conv2D, MaxPooling2D, BatchNormalization, ReLU.

    Pooling comes first so that the slow normalisation and ReLU layers work on a quarter of the values. With two classes, the
    output is one sigmoid unit, the probability of the second class; with more classes, softmax.

    Args:
        size: (height, width) of the images, which have 3 channels of 0..255.
        for_training: A Keras dtype policy such as mixed_bfloat16, or None for the network to save. With a policy, the network
            computes in it, accepts images of any size, and has fused batch normalisation. The weights of both networks have
            the same shapes and order.
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
    """Build a classifier for (width,) features: dropout and one dense layer."""
    import keras

    with seeds.seeded(seed):
        return keras.Sequential(
            [keras.Input((width,), name="features"), *_head(num_classes, DROPOUT, seed, {})], name="imgclf_head"
        )


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone for (side, side, 3) images of 0..255.

    trainable: number of trainable blocks, from the top. policy: the Keras dtype policy to compute in.
    """

    name: Model
    side: int
    weights: backbones.Weights
    trainable: int = 0
    policy: str = "float32"


def transferred(backbone: Pretrained, num_classes: int, *, seed: int) -> "keras.Sequential":
    """Build a pretrained backbone with a new head: backbone, pooling, dropout, dense."""
    side = backbone.side
    with keras_settings.pinned(backbone.policy):  # keras.applications takes the policy only from the global setting
        import keras

        with seeds.seeded(seed):
            inputs = keras.Input((side, side, 3), name="image", dtype="float32")
            body = backbones.layers(backbone.name, side, backbone.weights, backbone.trainable)
            return keras.Sequential([inputs, *body, *_head(num_classes, DROPOUT, seed, {})], name="imgclf_transfer")


@keras_settings.pinned()
def compile(network: "keras.Sequential", learning_rate: float) -> None:
    """Compile with Adam, accuracy, and the cross-entropy for the last layer, so that Keras can train the saved file further."""
    import keras

    binary = network.output_shape[-1] == 1
    network.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss="binary_crossentropy" if binary else "categorical_crossentropy",
        metrics=["accuracy"],
    )
    network.optimizer.build(network.trainable_variables)  # otherwise Keras warns when it loads the saved network
