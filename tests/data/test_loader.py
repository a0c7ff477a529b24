"""What the network is fed of images and features that lie in memory."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import encoded, write
from numpy.typing import NDArray
from PIL import Image

from imgclf.core.config import Preprocessing
from imgclf.data import dataset, loader, prepared_images
from imgclf.data.prepared_images import Prepared
from imgclf.images import preprocess


def prepared(classes: int, files: int) -> Prepared:
    """Files whose classes take turns, and whose names are in another order than those of their sources."""
    class_names = tuple("abcdef"[:classes])
    names = {f"{class_names[number % classes]}/{99 - number:064d}.bmp": f"source {number}" for number in range(files)}
    return Prepared(Path("none"), Preprocessing(4, 4), class_names, (), 0, {"train": names})


def vectors(classes: int = 3, files: int = 7, views: int = 1) -> loader.Vectors:
    values = np.arange(views * files * 2, dtype=np.float32).reshape(views, files, 2)
    return loader.Vectors(prepared(classes, files), "train", values)


def images(values: NDArray[np.uint8]) -> loader.Images:
    made = loader.Images.__new__(loader.Images)
    loader.Labelled.__init__(made, np.zeros(len(values), np.int64), 3)
    made.pixels = values
    return made


def test_labels_are_in_the_order_of_classes_and_names() -> None:
    some = vectors(3, 7)
    assert loader.names_in_order(prepared(3, 7), "train")[:4] == [f"a/{n:064d}.bmp" for n in (93, 96, 99)] + [
        f"b/{95:064d}.bmp"
    ]
    assert some.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert (len(some), some.outputs) == (7, 3)
    assert some.targets(np.array([0, 3, 6])).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    two = vectors(2, 4)
    assert two.outputs == 1
    assert two.targets(np.array([0, 3])).tolist() == [[0], [1]]
    assert two.targets(np.array([0])).dtype == some.targets(np.array([0])).dtype == np.float32


def test_every_image_in_order() -> None:
    some = vectors(files=7, views=2)
    batches = list(some.in_order(3))
    assert [len(fed) for fed, _targets, _weights in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([fed for fed, _targets, _weights in batches]), some.values[0])
    np.testing.assert_array_equal(np.concatenate([targets for _fed, targets, _weights in batches]), np.eye(3)[some.labels])
    assert np.concatenate([weights for _fed, _targets, weights in batches]).tolist() == [1.0] * 7
    assert [len(fed) for fed, _targets, _weights in vectors(files=65).in_order()] == [64, 1]


def epoch(some: loader.Labelled, size: int = 3, **options: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    feed = loader.Feed(**{name: options.pop(name) for name in ("change", "weights", "smoothing", "side") if name in options})
    batches = list(some.shuffled(size, **{"seed": 1, "epoch": 2, "feed": feed, **options}))
    assert all(len(fed) == size for fed, _targets, _weights in batches[:-1])
    fed, targets, weights = (np.concatenate(column) for column in zip(*batches, strict=True))
    return fed, targets, weights


def test_the_order_follows_from_seed_epoch_and_shard() -> None:
    some = vectors(files=40)
    order = np.random.default_rng((1, 2, 0)).permutation(40)
    fed, targets, weights = epoch(some)
    np.testing.assert_array_equal(fed, some.values[0][order])
    np.testing.assert_array_equal(targets, np.eye(3)[some.labels[order]])
    assert weights.tolist() == [1.0] * 40
    for other in ({"seed": 2}, {"epoch": 3}, {"shard": 1}):
        assert (epoch(some, **other)[0] != fed).any()
        assert sorted(epoch(some, **other)[0].tolist()) == sorted(fed.tolist())
    np.testing.assert_array_equal(epoch(some, count=7)[0], fed[:7])


def test_each_image_is_drawn_a_view_and_changed_by_a_seed_of_its_own() -> None:
    some = vectors(files=40, views=3)
    random = np.random.default_rng((1, 2, 0))
    order, seeds = random.permutation(40), random.integers(0, 2**62, 40)
    np.testing.assert_array_equal(epoch(some)[0], some.values[(seeds % 3)[order], order])
    told: list[int] = []

    def change(fed: NDArray[Any], targets: NDArray[Any], seeds: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        told.extend(seeds.tolist())
        return fed + 1000, targets[:, ::-1]

    fed, targets, _weights = epoch(some, 64, change=change)
    assert told == seeds[order].tolist()
    np.testing.assert_array_equal(fed, some.values[(seeds % 3)[order], order] + 1000)
    np.testing.assert_array_equal(targets, np.eye(3)[some.labels[order]][:, ::-1])


@pytest.mark.parametrize(("classes", "shared"), [(2, 0.05), (3, 0.1 / 3)])
def test_smoothing_and_weights(classes: int, shared: float) -> None:
    """A tenth of each target goes to all classes alike; an image counts by its class, before smoothing."""
    some = vectors(classes, 12)
    worth = np.array([0.5, 2.0, 4.0][:classes], np.float32)
    _fed, targets, weights = epoch(some, smoothing=0.1, weights=worth)
    order = np.random.default_rng((1, 2, 0)).permutation(12)
    own = some.labels[order]
    plain = own[:, None] if classes == 2 else np.eye(classes)[own]
    np.testing.assert_allclose(targets, plain * 0.9 + shared, atol=1e-6)
    assert weights.tolist() == worth[own].tolist()
    mixed = np.array([[0.25]] if classes == 2 else [[0.75, 0.25, 0.0]], np.float32)
    assert loader._image_weights(mixed, worth).tolist() == [0.875]


def test_images_are_made_smaller_only_when_asked() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    some = images(pixels)
    for side in (None, 8):
        np.testing.assert_array_equal(some.inputs(np.array([3, 1]), None, side), pixels[[3, 1]])
    expected = [preprocess.resize(pixels[number], 4, 4) for number in (3, 1)]
    np.testing.assert_array_equal(some.inputs(np.array([3, 1]), None, 4), expected)
    assert epoch(some, side=4)[0].shape == (5, 4, 4, 3)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 20])
def test_batches_are_made_ahead_in_order_and_no_more_than_three(count: int) -> None:
    made: list[int] = []
    lock, read = threading.Lock(), 0

    def make(item: int) -> int:
        with lock:
            made.append(item)
        assert item <= read + 3
        return 10 * item

    results = loader.prefetched(make, range(count))
    for expected in range(count):
        assert next(results) == 10 * expected
        read = expected + 1
    assert list(results) == []
    assert sorted(made) == list(range(count))


def test_memory_for_images_is_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"MemTotal: 9 kB\nMemAvailable:   8000 kB\n": 2_048_000, "MemTotal: 9 kB\n": 1 << 30, "MemAvailable: x\n": 1 << 30}
    for text, expected in texts.items():
        monkeypatch.setattr(loader, "open", lambda *_place, text=text, **_options: io.StringIO(text), raising=False)
        assert loader.memory_budget() == expected


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_keras_reads_every_prepared_image_into_its_place(memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 130 images in batches of 64, image n has the colour (n, 100, 255 - n); in memory and in a file."""
    monkeypatch.setattr(loader, "memory_budget", lambda: memory)
    for number in range(130):
        colour = (number, 100, 255 - number)
        write(tmp_path / "ab"[number % 2] / f"{number}.png", encoded(Image.new("RGB", (4, 4), colour), "PNG"))
    everything, _skipped = dataset.index(tmp_path)
    made = prepared_images.prepare(tmp_path, {"train": everything}, Preprocessing(4, 4))
    told: list[tuple[int, int]] = []
    some = loader.Images(made, "train", lambda *step: told.append(step))
    assert told == [(64, 130), (128, 130), (130, 130)]
    sources = [made.files["train"][name] for name in loader.names_in_order(made, "train")]
    numbers = [int(Path(source).stem) for source in sources]
    assert some.labels.tolist() == [number % 2 for number in numbers] == [0] * 65 + [1] * 65
    expected = np.array([(number, 100, 255 - number) for number in numbers], np.uint8)
    np.testing.assert_array_equal(some.pixels, np.broadcast_to(expected[:, None, None], (130, 4, 4, 3)))
    assert isinstance(some.pixels, np.memmap) == (memory == 0)
    again = loader.Images(made, "train", lambda *step: told.append(step))
    np.testing.assert_array_equal(again.pixels, some.pixels)
    assert len(told) == (3 if memory == 0 else 6), "the file is read, and not made again"
