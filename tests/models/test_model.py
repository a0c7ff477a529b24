"""The Sequential builder, and the network that trains in its stead."""

import keras
import numpy as np
import pytest

from imgclf.core.config import Model
from imgclf.models import cnn
from imgclf.train import devices, precision, trainer
from imgclf.train.trainer import Trainer

STOCK = {
    "InputLayer", "Rescaling", "Conv2D", "MaxPooling2D", "BatchNormalization", "ReLU", "GlobalAveragePooling2D", "Dropout",
    "Dense",
}  # fmt: skip


@pytest.mark.parametrize(("side", "blocks"), [(16, 2), (32, 3), (48, 3), (64, 4), (96, 4), (128, 5), (224, 5)])
def test_depth_follows_the_size(side: int, blocks: int) -> None:
    network = cnn.build("cnn", 2, (side, side), seed=0)
    assert isinstance(network, keras.Sequential)
    assert sum(isinstance(layer, keras.layers.MaxPooling2D) for layer in network.layers) == blocks
    assert {type(layer).__name__ for layer in network.layers} <= STOCK
    small, large = (cnn.build(name, 2, (side, side), seed=0).count_params() for name in ("cnn-small", "cnn-large"))
    assert small < network.count_params() < large


@pytest.mark.parametrize(
    ("classes", "units", "activation", "loss"),
    [(2, 1, "sigmoid", "binary_crossentropy"), (3, 3, "softmax", "categorical_crossentropy")],
)
def test_head_and_loss(classes: int, units: int, activation: str, loss: str) -> None:
    network = cnn.build("cnn", classes, (32, 32), seed=0)
    cnn.compile(network, 1e-3)
    assert network.output_shape == (None, units)
    assert network.layers[-1].activation.__name__ == activation
    assert network.loss == loss
    assert isinstance(network.optimizer, keras.optimizers.Adam)


def test_one_class_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 or more, not 1"):
        cnn.build("cnn", 1, (32, 32), seed=0)


@pytest.mark.parametrize("for_training", [None, "float32"])
def test_the_seed_decides_the_weights(for_training: str | None) -> None:
    def weights(seed: int) -> np.ndarray:
        network = cnn.build("cnn", 3, (32, 32), seed=seed, for_training=for_training)
        return np.concatenate([w.ravel() for w in network.get_weights()])

    np.testing.assert_array_equal(weights(1), weights(1))
    assert (weights(1) != weights(2)).any()


# -- the network that trains, and the one that is saved ---------------------------------------------------------------


def both(name: Model = "cnn", side: int = 32, policy: str = "float32") -> tuple[keras.Sequential, keras.Sequential]:
    network = cnn.build(name, 3, (side, side), seed=4, dropout=0.0, for_training=policy)
    exported = cnn.build(name, 3, (side, side), seed=4, dropout=0.0)
    return network, exported


def test_their_weights_fit_and_they_answer_the_same() -> None:
    network, exported = both()
    assert [(w.name, w.shape) for w in network.weights] == [(w.name, w.shape) for w in exported.weights]
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3)).astype(np.float32)
    for weight in network.weights:
        weight.assign(np.random.default_rng(1).uniform(0.5, 1.5, weight.shape))
    exported.set_weights(network.get_weights())
    np.testing.assert_allclose(network(pixels, training=False), exported(pixels, training=False), atol=1e-6)


def test_training_steps_are_those_of_the_exported_network() -> None:
    """Fused normalisation against Keras' own: weights and moving statistics after two steps of Adam.

    From the third on rounding decides, which differs by processor: Adam makes a whole step of a gradient next to nothing.
    """
    network, exported = both(side=24)
    reference = cnn.build("cnn", 3, (24, 24), seed=4, dropout=0.0)
    reference.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy")
    trainer = Trainer(network, exported, devices.choose(None), weight_decay=0.0, ema=0.0, loss_scaling=False)
    random = np.random.default_rng(0)
    batches = [
        (
            random.integers(0, 256, (8, 24, 24, 3), np.uint8),
            np.eye(3, dtype=np.float32)[random.integers(0, 3, 8)],
            np.ones(8, np.float32),
        )
        for _number in range(2)
    ]
    trainer.epoch(batches, iter([0.01] * 2))
    trainer.update_exported()
    for pixels, targets, _weights in batches:
        reference.train_on_batch(pixels.astype(np.float32), targets)
    for one, other in zip(exported.weights, reference.weights, strict=True):
        np.testing.assert_allclose(np.array(one), np.array(other), atol=1e-4, err_msg=one.path)


def test_a_state_taken_up_goes_on_bit_for_bit() -> None:
    def batches(seed: int) -> list[trainer.Batch]:
        random = np.random.default_rng(seed)
        pixels, labels = random.integers(0, 256, (4, 8, 24, 24, 3), np.uint8), random.integers(0, 3, (4, 8))
        return [(pixels[n], np.eye(3, dtype=np.float32)[labels[n]], np.ones(8, np.float32)) for n in range(4)]

    def make() -> Trainer:
        network = cnn.build("cnn", 3, (24, 24), seed=4, for_training="mixed_bfloat16")
        exported = cnn.build("cnn", 3, (24, 24), seed=4)
        return Trainer(network, exported, devices.choose(None), weight_decay=0.01, ema=0.9, loss_scaling=False)

    whole, first, second = make(), make(), make()
    for seed in (1, 2):
        whole.epoch(batches(seed), iter([0.01] * 4))
    first.epoch(batches(1), iter([0.01] * 4))
    second.restore(first.state())
    second.epoch(batches(2), iter([0.01] * 4))
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, second.state()[name], err_msg=name)
    with pytest.raises(ValueError, match="arrays for"):
        second.restore({"0000": np.zeros(3)})


def test_images_that_weigh_nothing_teach_nothing() -> None:
    random = np.random.default_rng(0)
    pixels, targets = random.integers(0, 256, (8, 24, 24, 3), np.uint8), np.eye(3, dtype=np.float32)[random.integers(0, 3, 8)]
    for weight, moves in ((0.0, False), (1.0, True)):
        network, exported = both(side=24)
        before = np.array(network.layers[-1].kernel)
        trainer = Trainer(network, exported, devices.choose(None), weight_decay=0.0, ema=0.0, loss_scaling=False)
        trainer.epoch([(pixels, targets, np.full(8, weight, np.float32))], iter([0.01]))
        assert (np.array(network.layers[-1].kernel) != before).any() == moves


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in [
        ({"avx2"}, "float32"),
        ({"amx_bf16"}, "bfloat16"),
        ({"avx512_bf16"}, "bfloat16"),
        (set(), "float32"),
    ]:
        monkeypatch.setattr(precision, "_cpu_flags", lambda flags=flags: frozenset(flags))
        assert precision.choose("auto")[0] == expected
    assert precision.choose("bfloat16")[0] == "bfloat16"
    from imgclf.core.errors import UsageError

    with pytest.raises(UsageError, match="needs a GPU"):
        precision.choose("float16")
