"""model.keras: what it says of a network, so that other versions of Keras 3 read it. `tests/versions.sh` has them do so."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny import finish

from imgclf.core.errors import ImgclfError
from imgclf.models import cnn, keras_file
from imgclf.models.bundle import Bundle

# Fields that every Keras from 3.12 on knows. What a later one adds must not be written.
KNOWN = {
    "InputLayer": {"batch_shape", "dtype", "name", "sparse", "ragged"},
    "Rescaling": {"name", "trainable", "dtype", "scale", "offset"},
    "Conv2D": {
        "name", "trainable", "dtype", "filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups",
        "activation", "use_bias",
    },
    "MaxPooling2D": {"name", "trainable", "dtype", "pool_size", "padding", "strides", "data_format"},
    "BatchNormalization": {"name", "trainable", "dtype", "axis", "momentum", "epsilon", "center", "scale"},
    "ReLU": {"name", "trainable", "dtype", "max_value", "negative_slope", "threshold"},
    "GlobalAveragePooling2D": {"name", "trainable", "dtype", "data_format", "keepdims"},
    "Dropout": {"name", "trainable", "dtype", "rate", "seed"},
    "Dense": {"name", "trainable", "dtype", "units", "activation", "use_bias"},
    "DTypePolicy": {"name"},
    "Adam": {"name", "learning_rate", "beta_1", "beta_2", "epsilon", "amsgrad"},
}  # fmt: skip


def described(path: Path) -> list[tuple[str, set[str]]]:
    """(class, its fields) of each layer, policy and optimizer that a .keras file describes."""
    found = []

    def look(value: object) -> None:
        if isinstance(value, dict) and isinstance(value.get("config"), dict) and "class_name" in value:
            found.append((value["class_name"], set(value["config"])))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(inner)

    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        look(json.loads(archive.read("config.json")))
    return found


def test_a_saved_network_has_no_field_that_older_versions_refuse(trained: Path) -> None:
    for name in ("model.keras", "last.keras"):
        found = described(trained / "runs" / "toy" / name)
        assert {one for one, _ in found} == {*KNOWN, "Sequential"}
        strange = {(one, field) for one, fields in found if one in KNOWN for field in fields - KNOWN[one]}
        assert strange == set()


def test_a_saved_network_is_the_network(tmp_path: Path) -> None:
    """Answers, weights, layers and optimizer, also where a value is not the usual one."""
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, groups=1, activation="relu", kernel_initializer="he_normal", kernel_regularizer="l2"),
            keras.layers.BatchNormalization(epsilon=0.1, momentum=0.5, scale=False),
            keras.layers.ReLU(max_value=6.0),
            keras.layers.Flatten(),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    cnn.compile(network, 0.004)
    keras_file.save(network, tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    pixels = np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32)
    assert np.array_equal(network(pixels, training=False), again(pixels, training=False))
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]
    normal = again.layers[1]
    assert (normal.epsilon, normal.momentum, normal.scale, again.layers[2].max_value) == (0.1, 0.5, False, 6.0)
    assert float(again.optimizer.learning_rate) == pytest.approx(0.004)
    text = zipfile.ZipFile(tmp_path / "network.keras").read("config.json").decode()
    assert "initializer" not in text


def test_what_another_keras_has_written_is_not_called_broken(project: Path) -> None:
    run = project / "runs" / "toy"
    path = run / "model.keras"
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["config.json"] = content["config.json"].replace(b'"filters"', b'"brand_new": 1, "filters"', 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    with pytest.raises(ImgclfError, match=r"model\.keras: broken run: the file was changed after training"):
        Bundle.load(run).network()  # found by its content: its size may be that of the file that was written
    info = json.loads((run / "bundle.json").read_text())
    info["packages"]["keras"] = "3.99.0"
    with pytest.raises(
        ImgclfError, match=rf"Keras {keras.__version__} cannot load this file, which was written by Keras 3.99.0"
    ):
        finish(run, info).network()
