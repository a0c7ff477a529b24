"""The Sequential builder."""

import keras
import numpy as np
import pytest

from imgclf import model

STOCK = {
    "InputLayer",
    "Rescaling",
    "Conv2D",
    "MaxPooling2D",
    "BatchNormalization",
    "ReLU",
    "GlobalAveragePooling2D",
    "Dropout",
    "Dense",
}


@pytest.mark.parametrize(("side", "blocks"), [(16, 1), (32, 2), (48, 3), (64, 3), (96, 4), (128, 4), (224, 4)])
def test_depth_follows_the_size(side: int, blocks: int) -> None:
    network = model.build(2, side, side, seed=0)
    assert isinstance(network, keras.Sequential)
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in network.layers) == blocks
    assert sum(isinstance(layer, keras.layers.MaxPooling2D) for layer in network.layers) == blocks
    assert {type(layer).__name__ for layer in network.layers} <= STOCK


@pytest.mark.parametrize(
    ("classes", "units", "activation", "loss"),
    [(2, 1, "sigmoid", "binary_crossentropy"), (3, 3, "softmax", "categorical_crossentropy")],
)
def test_head_and_loss(classes: int, units: int, activation: str, loss: str) -> None:
    network = model.build(classes, 32, 32, seed=0)
    model.compile(network, learning_rate=1e-3, steps=10)
    assert network.output_shape == (None, units)
    assert network.layers[-1].activation.__name__ == activation
    assert network.loss == loss
    assert isinstance(network.optimizer, keras.optimizers.Adam)


def test_one_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 or more, not 1"):
        model.build(1, 32, 32, seed=0)


def test_the_seed_decides_the_weights() -> None:
    def weights(seed: int) -> np.ndarray:
        return np.concatenate([w.ravel() for w in model.build(3, 32, 32, seed=seed).get_weights()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()


def test_the_rate_climbs_and_falls() -> None:
    network = model.build(2, 32, 32, seed=0)
    model.compile(network, learning_rate=0.01, steps=200)
    rate = [float(network.optimizer._learning_rate(step)) for step in range(201)]
    assert rate[0] == pytest.approx(0.001)
    assert rate[10] == pytest.approx(0.01)
    assert rate[105] == pytest.approx(0.01 * (0.01 + 0.99 / 2))
    assert rate[200] == pytest.approx(0.0001)
    assert max(rate) == pytest.approx(0.01)
