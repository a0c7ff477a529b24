"""Prepared pixels on disk: shards, files of other runs, and a full disk."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import encoded, make_classes, photo, write

from imgclf.core.config import SUBSETS, Preprocessing
from imgclf.core.errors import ImgclfError
from imgclf.data import dataset, prepared_images
from imgclf.data.dataset import Dataset
from imgclf.data.prepared_images import Prepared

PREPROCESSING = Preprocessing(8, 12)


def prepared(root: Path, count: int = 6) -> Prepared:
    """The first half of each class in train, the rest in val."""
    if not root.exists():
        make_classes(root, {"a": count, "b": count}, size=12)
    everything, _skipped = dataset.index(root)
    subsets = {"train": [], "val": []}  # type: ignore[var-annotated]
    for sample in everything.samples:
        subsets["train" if int(sample.path[2:5]) < count // 2 else "val"].append(sample)
    parted = {subset: Dataset(root, tuple(samples), everything.class_names) for subset, samples in subsets.items()}
    return prepared_images.prepare(root, parted, PREPROCESSING)  # type: ignore[arg-type]


def listed(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.bmp"))


def test_shards_are_folders_of_every_nth_file_and_together_all(tmp_path: Path) -> None:
    whole = prepared(tmp_path / "data")
    assert prepared_images.shard(whole, 0, 1) is whole
    shards = [prepared_images.shard(whole, index, 4) for index in range(4)]
    assert len({shard.folder for shard in [whole, *shards]}) == 5
    assert {shard.folder.parent for shard in shards} == {whole.folder.parent}
    for subset in ("train", "val"):
        names = sorted(whole.files[subset])
        for index, shard in enumerate(shards):
            assert listed(shard.folder / subset) == sorted(shard.files[subset]) == names[index::4]
            assert all(shard.files[subset][name] == whole.files[subset][name] for name in shard.files[subset])
            for name in shard.files[subset]:
                assert os.path.samefile(shard.folder / subset / name, whole.folder / subset / name)
            assert sorted(path.name for path in (shard.folder / subset).iterdir()) == ["a", "b"]
    again = prepared_images.shard(whole, 2, 4)
    assert again == shards[2]


def test_what_another_run_is_making_is_left_alone(tmp_path: Path) -> None:
    """A damaged file is made anew under all its names, but in a folder that has its final name."""
    whole = prepared(tmp_path / "data")
    name = sorted(whole.files["train"])[0]
    good = (whole.folder / "train" / name).read_bytes()
    stored = prepared_images.stored(tmp_path / "data", PREPROCESSING, prepared_images.content_of(name))
    assert os.path.samefile(stored, whole.folder / "train" / name)
    base = whole.folder.parent
    others = [base / folder / "train" / name for folder in (".0123456789ab.view.1234.tmp", "0123456789ab.view", "0123456789ab")]
    for other in others:
        write(other, b"of another run")
    stored.unlink()
    write(stored, b"cut short")
    assert prepared(tmp_path / "data").made == 1
    assert [other.read_bytes() for other in others] == [b"of another run", b"of another run", good]
    assert (whole.folder / "train" / name).read_bytes() == stored.read_bytes() == good


def test_progress_and_what_cannot_be_used(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 3}, size=12)
    write(root / "a/broken.png", encoded(photo(1), "PNG")[:200])
    paths = ["a/000.png", "a/broken.png", "a/001.png", "a/000.png"]
    told: list[tuple[int, int]] = []
    usable, fresh, skipped = prepared_images.store_pixels(root, paths, PREPROCESSING, lambda *step: told.append(step))
    assert told == [(number, 4) for number in range(1, 5)]
    assert sorted(usable) == ["a/000.png", "a/001.png"]
    assert fresh == set(usable.values())
    assert [path for path, _reason in skipped] == ["a/broken.png"]
    assert prepared_images.store_pixels(root, paths, PREPROCESSING)[1] == set()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_told_in_megabytes(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 x 12 pixels a bitmap has 54 bytes of header and rows of 36; 10,000 images are 3.42 MB."""
    root = make_classes(tmp_path, {"a": 1}, size=12)

    def full(*_arguments: object) -> Iterator[tuple[str, bool, str]]:
        raise OSError(number, os.strerror(number))
        yield

    monkeypatch.setattr(prepared_images, "process_map", full)
    monkeypatch.setattr(prepared_images, "content_hashes", lambda *_arguments, **_options: {})
    with pytest.raises(ImgclfError if number != errno.EIO else OSError) as error:
        prepared_images.store_pixels(root, ["a/000.png"] * 10_000, PREPROCESSING)
    if number != errno.EIO:
        assert ": the disk is full: 10,000 prepared images take 3 MB there; free some space" in str(error.value)


def test_parts_without_images_have_folders_too(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 2, "b": 1}, size=12)
    everything, _skipped = dataset.index(root)
    subsets = {subset: everything.subset(["a/000.png"] if subset == "train" else []) for subset in SUBSETS}
    made = prepared_images.prepare(root, subsets, PREPROCESSING)
    assert sorted(path.relative_to(made.folder).as_posix() for path in made.folder.rglob("*") if path.is_dir()) == [
        "test", "test/a", "test/b", "train", "train/a", "train/b", "val", "val/a", "val/b",
    ]  # fmt: skip
    assert (made.class_names, made.made, len(listed(made.folder))) == (("a", "b"), 1, 1)
