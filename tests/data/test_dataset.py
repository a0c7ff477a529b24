"""The loader: what is indexed, how pixels are prepared, and what Keras is fed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import encoded, make_classes, photo, tree, write

from imgclf.core.config import Preprocessing
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import state_folder
from imgclf.data import dataset, file_index, loader, prepared_images
from imgclf.data.manifest import current_manifest, load_subsets
from imgclf.data.prepared_images import Prepared
from imgclf.images import augment, decode, preprocess
from imgclf.split import splitting

RECIPE = Preprocessing(16, 24)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = make_classes(tmp_path / "data", {"a": 8, "b": 8}, size=20)
    write(root / "a" / "photo.webp", encoded(photo(1), "WEBP"))
    write(root / "b" / "scan.tif", encoded(photo(2), "TIFF"))
    write(
        root / "b" / "turned.jpg",
        encoded(photo(3), exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"),
    )
    return root


def prepare(data: Path, preprocessing: Preprocessing = RECIPE) -> Prepared:
    manifest = splitting.split(data, force=True).manifest
    subsets, _notes = load_subsets(data, manifest)
    return prepared_images.prepare(data, subsets, preprocessing)


def test_prepared_files_are_the_preprocessing_pixels_bit_for_bit(data: Path) -> None:
    prepared = prepare(data)
    seen = 0
    for subset, files in prepared.files.items():
        for name, source in files.items():
            expected = preprocess.load(RECIPE, data / source)
            np.testing.assert_array_equal(decode.decode((prepared.folder / subset / name).read_bytes()), expected)
            assert name.split("/")[0] == source.split("/")[0]
            seen += 1
    assert seen == 19
    assert {"a/photo.webp", "b/scan.tif", "b/turned.jpg"} <= {s for files in prepared.files.values() for s in files.values()}


def test_keras_returns_exactly_those_pixels(data: Path) -> None:
    """The contract: what a network is fed is OpenCV's decode and the stored preprocessing, bit for bit."""
    prepared = prepare(data)
    for subset, files in prepared.files.items():
        fed = [image for pixels, _targets, _weights in loader.Images(prepared, subset).in_order(4) for image in pixels]
        assert len(fed) == len(files)
        for image, name in zip(fed, sorted(files), strict=True):
            np.testing.assert_array_equal(image, preprocess.load(RECIPE, data / files[name]))


def test_labels_follow_the_class_names(data: Path) -> None:
    prepared = prepare(data)
    labels = np.concatenate([targets for _pixels, targets, _weights in loader.Images(prepared, "train").in_order(4)])
    expected = [[float(name.startswith("b/"))] for name in sorted(prepared.files["train"])]
    np.testing.assert_array_equal(labels, expected)


def test_three_classes_are_one_hot(tmp_path: Path) -> None:
    prepared = prepare(make_classes(tmp_path, {"x": 5, "y": 5, "z": 5}, size=16))
    labels = np.concatenate([targets for _pixels, targets, _weights in loader.Images(prepared, "val").in_order(2)])
    np.testing.assert_array_equal(labels, np.eye(3))


def test_a_second_preparation_decodes_nothing(data: Path) -> None:
    first = prepare(data)
    assert first.made == 19
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.bmp")}
    second = prepare(data)
    assert (second.made, second.folder) == (0, first.folder)
    assert {path: path.stat().st_mtime_ns for path in second.folder.rglob("*.bmp")} == before


def test_another_split_or_name_decodes_nothing_and_another_size_everything(data: Path) -> None:
    prepare(data)
    os.rename(data / "a" / "000.png", data / "a" / "renamed.png")
    moved = prepare(data)
    assert moved.made == 0
    assert "a/renamed.png" in {source for files in moved.files.values() for source in files.values()}
    assert prepare(data, Preprocessing(8, 8)).made == 19


def test_an_edited_image_is_prepared_anew(data: Path) -> None:
    prepare(data)
    write(data / "a" / "000.png", encoded(photo(99), "PNG"))
    again = prepare(data)
    assert again.made == 1
    subset, name = next(
        (subset, name) for subset, files in again.files.items() for name, s in files.items() if s == "a/000.png"
    )
    np.testing.assert_array_equal(
        decode.decode((again.folder / subset / name).read_bytes()), preprocess.load(RECIPE, data / "a" / "000.png")
    )


def test_a_prepared_file_cut_short_is_made_again(data: Path) -> None:
    prepared = prepare(data)
    victim = next(path for path in prepared.folder.parent.joinpath("store").rglob("*.bmp"))
    victim.write_bytes(victim.read_bytes()[:100])  # a hard link: the file that Keras reads is cut short as well
    again = prepare(data)
    assert (again.made, again.folder) == (1, prepared.folder)
    assert len({path.stat().st_size for path in again.folder.rglob("*.bmp")}) == 1


def test_a_prepared_file_cut_short_is_made_again_for_every_split(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 4, "b": 4}, size=16)
    whole, _skipped = dataset.index(root)
    some = whole.subset([sample.path for sample in whole.samples][1:])
    one, other = (prepared_images.prepare(root, {"train": subset}, RECIPE) for subset in (whole, some))
    victim = other.folder / "train" / next(iter(other.files["train"]))
    victim.write_bytes(victim.read_bytes()[:100])
    again = prepared_images.prepare(root, {"train": whole}, RECIPE)
    assert (again.made, again.folder) == (1, one.folder)
    assert prepared_images.prepare(root, {"train": some}, RECIPE).folder == other.folder
    assert len({path.stat().st_size for path in root.rglob("*.bmp")}) == 1


def test_identical_images_are_all_there(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 4, "b": 4}, size=16)
    for copy in ("copy1.png", "copy2.png"):
        write(root / "a" / copy, (root / "a" / "000.png").read_bytes())
    prepared = prepare(root)
    assert sum(len(files) for files in prepared.files.values()) == 10
    assert sum(1 for _ in prepared.folder.rglob("*.bmp")) == 10


def test_damaged_images_are_skipped_with_their_names(data: Path) -> None:
    whole = (data / "a" / "003.png").read_bytes()
    write(data / "a" / "003.png", whole[: len(whole) // 2])
    made = splitting.split(data)
    assert made.skipped == (("a/003.png", "damaged or truncated PNG: it cannot be decoded to the end"),)
    subsets, notes = load_subsets(data, made.manifest)
    assert notes == []  # it is not called new at every training either
    everything = {"train": dataset.index(data)[0]}  # whoever prepares it all the same is told
    assert prepared_images.prepare(data, everything, RECIPE).skipped == made.skipped
    assert "a/003.png" not in prepared_images.prepare(data, subsets, RECIPE).files["train"].values()


def test_the_data_folder_gets_nothing_but_its_own_folder(data: Path) -> None:
    before = tree(data)
    prepare(data)
    assert tree(data) == before
    assert sorted(path.name for path in data.iterdir()) == [".imgclf", "a", "b"]


def test_changes_since_the_split_are_named(data: Path) -> None:
    manifest = splitting.split(data).manifest
    (data / "a" / "001.png").unlink()
    write(data / "b" / "new.png", encoded(photo(7), "PNG"))
    write(data / "b" / "notes.txt", b"milk")
    subsets, notes = load_subsets(data, manifest)
    assert notes == [
        f"images of the split that no longer exist (skipped): 1 (a/001.png); make a new split without them: "
        f"`imgclf split {data} --force`",
        f"images that are not in the split: 1 (b/new.png); make a new split with `imgclf split {data} --force`, "
        f"or add them without changing the subsets of the others: `imgclf split {data} --stable`",
    ]
    assert sum(len(subset.samples) for subset in subsets.values()) == 18


def test_images_edited_since_the_split_are_skipped(data: Path) -> None:
    manifest = splitting.split(data).manifest
    write(data / "a" / "001.png", encoded(photo(50), "PNG"))
    subsets, notes = load_subsets(data, manifest)
    assert notes == [
        "images skipped because they changed after the split: 1 (a/001.png); make a new split with them: "
        f"`imgclf split {data} --force`"
    ]
    assert sum(len(subset.samples) for subset in subsets.values()) == 18


def test_files_that_swap_their_names_are_hashed_anew(tmp_path: Path) -> None:
    for name, value in (("1.ppm", 10), ("2.ppm", 20)):
        os.utime(write(tmp_path / "a" / name, b"P6 1 1 255\n" + bytes([value] * 3)), ns=(10**18, 10**18))
    first = file_index.content_hashes(tmp_path, ["a/1.ppm", "a/2.ppm"])
    for old, new in (("1", "x"), ("2", "1"), ("x", "2")):
        os.rename(tmp_path / "a" / f"{old}.ppm", tmp_path / "a" / f"{new}.ppm")
    second = file_index.content_hashes(tmp_path, ["a/1.ppm", "a/2.ppm"])
    assert (second["a/1.ppm"], second["a/2.ppm"]) == (first["a/2.ppm"], first["a/1.ppm"])


def test_a_damaged_hash_cache_is_made_anew(data: Path) -> None:
    paths = [sample.path for sample in dataset.index(data)[0].samples]
    hashes = file_index.content_hashes(data, paths)
    (data / ".imgclf" / "hashes.csv").write_text('a/000.png,"' + "x" * 200_000)
    assert file_index.content_hashes(data, paths) == hashes


def test_order_and_augmentation_follow_seed_and_epoch(data: Path) -> None:
    images = loader.Images(prepare(data), "train")

    def epoch(seed: int, number: int) -> list[bytes]:
        batches = images.shuffled(4, seed=seed, epoch=number, feed=loader.Feed(augment.batch_augmentation("light", True, 1)))
        return [pixels.tobytes() for pixels, _targets, _weights in batches]

    first = epoch(3, 1)
    assert first != epoch(3, 2), "each epoch has its own order and changes"
    assert epoch(3, 1) == first, "whatever came before"
    assert epoch(4, 1) != first


def test_an_epoch_has_every_image_once_with_its_own_label(data: Path) -> None:
    images = loader.Images(prepare(data), "train")
    label_of = {image.tobytes(): label for image, label in zip(images.pixels, images.labels.tolist(), strict=True)}
    weights = np.array([1.0, 3.0], np.float32)
    seen = []
    for pixels, targets, own in images.shuffled(4, seed=1, epoch=1, feed=loader.Feed(weights=weights)):
        for image, target, weight in zip(pixels, targets[:, 0].tolist(), own.tolist(), strict=True):
            seen.append(image.tobytes())
            assert (target, weight) == (label_of[image.tobytes()], weights[label_of[image.tobytes()]])
    assert sorted(seen) == sorted(image.tobytes() for image in images.pixels)


def test_what_does_not_fit_into_memory_lies_beside_and_is_the_same(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imgclf.data import loader

    prepared = prepare(data)
    inside = loader.Images(prepared, "train")
    monkeypatch.setattr(loader, "memory_budget", lambda: 0)
    beside, again = loader.Images(prepared, "train"), loader.Images(prepared, "train")
    assert isinstance(again.pixels, np.memmap)
    for one, other, third in zip(*(p.shuffled(4, seed=2, epoch=5) for p in (inside, beside, again)), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[0], third[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("kind", ["light", "strong"])
def test_augmented_batches_are_the_augmentation_of_the_prepared_pixels(kind: str, data: Path) -> None:
    """What `preview --augmented` draws is what the network is fed: the same function of the same pixels."""
    images = loader.Images(prepare(data), "train")
    targets, seeds = images.targets(np.arange(len(images))), np.arange(len(images)) + 100
    for first in range(40):  # batches that are not mixed
        seeds[0] = first
        changed, same = augment.batch_augmentation(kind, True, 1)(images.pixels, targets, seeds)  # type: ignore[arg-type, misc]
        if np.array_equal(same, targets):
            break
    for image, source, seed in zip(changed, images.pixels, seeds.tolist(), strict=True):
        np.testing.assert_array_equal(image, augment.image_augmentation(kind, True, 1)(source, seed))  # type: ignore[arg-type]
    assert images.pixels.tobytes() != changed.tobytes()


def test_light_augmentation_is_a_function_of_its_seed() -> None:
    image = np.asarray(photo(1, 32, 32))
    np.testing.assert_array_equal(augment.light(image, 5), augment.light(image, 5))
    drawn = {augment.light(image, seed).tobytes() for seed in range(50)}
    assert len(drawn) == 50


def test_light_augmentation_flips_about_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROTATION", "ZOOM", "SHIFT", "BRIGHTNESS", "CONTRAST", "COLOUR"):
        monkeypatch.setattr(augment, name, 0.0)
    image = np.asarray(photo(1, 32, 24))
    drawn = {augment.light(image, seed).tobytes() for seed in range(20)}
    assert drawn == {image.tobytes(), np.ascontiguousarray(image[:, ::-1]).tobytes()}
    assert {augment.light(image, seed, flip=False).tobytes() for seed in range(20)} == {image.tobytes()}


@pytest.mark.parametrize(("side", "expected"), [(20, 32), (45, 40), (100, 96), (300, 96)])
def test_the_size_follows_small_images(side: int, expected: int, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for index in range(5):
        write(root / "a" / f"{index}.jpg", encoded(photo(index, side * 2, side)))
    assert dataset.auto_image_size(dataset.index(root)[0], seed=0) == expected


def test_counts_and_subset(data: Path) -> None:
    whole, skipped = dataset.index(data)
    assert skipped == []
    assert whole.counts() == {"a": 9, "b": 10}
    assert whole.subset(["a/000.png"]).counts() == {"a": 1, "b": 0}


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX users")
def test_a_read_only_folder_keeps_its_state_in_the_cache(tmp_path: Path) -> None:
    """In a child that drops root's rights, for which permission bits mean nothing."""
    root = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=16)
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    for path in [root, *root.iterdir()]:
        path.chmod(0o555)
    opened = {path: path.stat().st_mode for path in (tmp_path, *tmp_path.parents[:-2])}
    for path, mode in opened.items():
        path.chmod(mode | 0o055)
    child = """
import os, sys
from pathlib import Path
from imgclf.split import splitting
splitting.split(Path(sys.argv[2]))  # loads all that is imported late: the lesser user may not read our libraries
if os.getuid() == 0:
    os.seteuid(65534)
made = splitting.split(Path(sys.argv[1]))
print(made.path, made.notes[0], sep="\\n")
"""
    try:
        done = subprocess.run(
            [sys.executable, "-c", child, str(root), str(make_classes(tmp_path / "other", {"a": 4, "b": 4}, size=16))],
            capture_output=True, text=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        )  # fmt: skip
    finally:
        for path, mode in opened.items():
            path.chmod(mode)
        for path in [root, *root.iterdir()]:
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    where, note = done.stdout.splitlines()
    assert where.startswith(str(cache / "imgclf" / "data" / "data-"))
    assert note == f"{root} is read-only: imgclf stores its own files in {Path(where).parent}"
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]


def test_a_leftover_probe_does_not_make_a_folder_read_only(tmp_path: Path) -> None:
    (tmp_path / f".imgclf-probe-{os.getpid()}").touch()
    assert state_folder(tmp_path) == tmp_path / ".imgclf"


def test_copies_that_were_all_renamed_are_all_found(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 3, "b": 3}, size=16)
    write(root / "a" / "copy.png", (root / "a" / "000.png").read_bytes())
    manifest = splitting.split(root).manifest
    for path in (root / "a").iterdir():
        path.rename(path.with_name(f"new {path.name}"))
    now, notes = current_manifest(root, manifest)
    assert {row.path for row in now.rows if row.label == "a"} == {
        "a/new 000.png", "a/new 001.png", "a/new 002.png", "a/new copy.png"
    }  # fmt: skip
    assert len(notes) == 1 and notes[0].startswith("images renamed or moved since the split: 4 (")
    assert {row.sha256: row.split for row in now.rows} == {row.sha256: row.split for row in manifest.rows}


def test_a_file_in_the_place_of_the_state_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / ".imgclf", b"notes")
    with pytest.raises(ImgclfError, match=r"\.imgclf: a file where imgclf keeps its own folder; move it away"):
        state_folder(tmp_path)


def test_state_folder_is_inside_when_it_can_be(tmp_path: Path) -> None:
    assert state_folder(tmp_path) == tmp_path / ".imgclf"


def test_files_that_are_no_images_have_reasons(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 1}, size=12)
    os.mkfifo(root / "a/pipe.png")
    (root / "a/dangling.png").symlink_to("nowhere")
    write(root / "a/empty.png", b"")
    found, skipped = dataset.index(root)
    assert found.samples == (dataset.Sample("a/000.png", "a"),)
    assert dict(skipped) == {
        "a/pipe.png": "not a regular file", "a/dangling.png": "cannot be read: No such file or directory",
        "a/empty.png": "zero bytes",
    }  # fmt: skip
    (root / "b").mkdir()
    with pytest.raises(ImgclfError, match="the class folder b has no images; add some, or remove the folder"):
        dataset.index(root)


def test_the_size_of_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """96 pixels, and 128 from MANY on; the median of what can be read, in steps of 8."""
    for number in range(3):
        write(tmp_path / f"a/{number}.png", encoded(photo(number, 300, 200), "PNG"))
    some = dataset.Dataset(tmp_path, tuple(dataset.Sample(f"a/{number}.png", "a") for number in range(3)), ("a",))
    assert dataset.MANY == 10_000
    monkeypatch.setattr(dataset, "MANY", 4)
    assert dataset.auto_image_size(some, 0) == 96
    monkeypatch.setattr(dataset, "MANY", 3)
    assert dataset.auto_image_size(some, 0) == 128
    write(tmp_path / "a/0.png", encoded(photo(0, 90, 79), "PNG"))
    write(tmp_path / "a/1.png", b"nothing")
    write(tmp_path / "a/2.png", encoded(photo(0, 70, 90), "PNG"))
    assert dataset.auto_image_size(some, 0) == 72  # 74.5 in steps of 8
    for number in range(3):
        write(tmp_path / f"a/{number}.png", b"nothing")
    assert dataset.auto_image_size(some, 0) == 128
