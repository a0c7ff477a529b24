"""Test split: subsets are disjoint, complete, stratified, and the same for the same seed."""

import collections
import csv
import dataclasses
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import keras
import pytest
from conftest import Run, encoded, make_classes, photo, tree, write
from PIL import Image
from planted import COPIES, cropped, mirrored, recompressed, resized, scene

from imgclf.core.config import SUBSETS, Link, SplitConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.data import allocation
from imgclf.data.dataset import Sample
from imgclf.data.manifest import Manifest, fold_paths, load_subsets, read_manifest
from imgclf.split import class_folders, splitting, subsets
from imgclf.split.leakage import find_leakage

DEFAULT = {"train": 0.70, "val": 0.15, "test": 0.15}


def test_fractions() -> None:
    assert subsets.fractions(None, None, None) == pytest.approx(DEFAULT)
    assert subsets.fractions(80, 10, 10) == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1})
    assert subsets.fractions(None, None, 0.2) == pytest.approx({"train": 0.8 * 70 / 85, "val": 0.8 * 15 / 85, "test": 0.2})
    assert subsets.fractions(0.9, 0.1, None) == pytest.approx({"train": 0.9, "val": 0.1, "test": 0.0})
    for bad in [
        (0.5, 0.2, 0.2),
        (0.9, 0.2, None),
        (-0.1, None, None),
        (0, 0.5, 0.5),
        (float("nan"), None, None),
        (90, 20, None),
    ]:
        with pytest.raises(UsageError):
            subsets.fractions(*bad)


# -- on disk ----------------------------------------------------------------------------------------------------------


def test_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    made = make_classes(tmp_path / "data", {"a,b": 6, 'c"d': 6, "猫": 6}, size=8)
    write(made / "a,b" / os.fsdecode(b'caf\xe9\n\r"x\r.png'), encoded(photo(1), "PNG"))
    result = splitting.split(made)
    assert result.changed
    assert read_manifest(result.path) == result.manifest
    again = splitting.split(made)
    assert not again.changed
    assert again.manifest == result.manifest


def test_an_existing_manifest_is_replaced_only_with_force(tmp_path: Path) -> None:
    made = make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=8)
    first = splitting.split(made)
    old = first.path.read_bytes()
    with pytest.raises(
        ImgclfError, match=r"the data folder has another split \(0 images are new, 0 are missing, \d+ would move"
    ):
        splitting.split(made, SplitConfig(seed=1))
    assert first.path.read_bytes() == old
    second = splitting.split(made, SplitConfig(seed=1), force=True)
    assert second.manifest != first.manifest
    assert (first.path.parent / "split-1.csv").read_bytes() == old


def test_of_two_splits_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imgclf: Run) -> None:
    """The second one starts while the first one, which found no split, is about to write one."""
    made = make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=8)
    allocate, second = allocation.allocate, []

    def slow(*arguments: Any) -> Any:
        second.append(imgclf("split", "--seed", "1"))
        return allocate(*arguments)

    monkeypatch.setattr(allocation, "allocate", slow)
    result = splitting.split(made)
    assert second[0].returncode == 1
    assert "in use by imgclf split" in second[0].stderr
    assert sorted(path.name for path in result.path.parent.glob("split*")) == ["split.csv"]


def test_files_that_are_not_images_are_skipped_and_named(tmp_path: Path) -> None:
    made = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    write(made / "a" / "notes.txt", b"milk")
    write(made / "a" / "empty.png", b"")
    write(made / "a" / "image-without-a-name", encoded(photo(1)))
    result = splitting.split(made)
    assert result.skipped == (("a/empty.png", "the file has zero bytes"), ("a/notes.txt", "not an image"))
    assert "a/image-without-a-name" in {row.path for row in result.manifest.rows}


def test_identical_files_in_two_classes_are_reported(tmp_path: Path) -> None:
    made = make_classes(tmp_path / "data", {"a": 5, "b": 5}, size=8)
    write(made / "b" / "copy.png", (made / "a" / "000.png").read_bytes())
    assert "2 identical files are in different classes: a/000.png, b/copy.png" in splitting.split(made).notes


def test_existing_subsets_stay_unchanged(tmp_path: Path) -> None:
    for subset in ("train", "Validation", "test"):
        make_classes(tmp_path / subset, {"a": 3, "b": 2}, size=8)
    result = splitting.split(tmp_path)
    assert {row.path.split("/")[0].lower()[:3] + row.split for row in result.manifest.rows} == {"tratrain", "valval", "testest"}
    assert result.manifest.counts() == {name: dict.fromkeys(SUBSETS, n) for name, n in (("a", 3), ("b", 2))}
    # The same files in all three subsets: that is leakage, and it is said.
    assert "leakage: groups (duplicates, near-duplicates or your own) in more than one subset of this folder: 5" in result.notes


def test_groups_divided_by_subset_folders_are_counted(tmp_path: Path) -> None:
    for subset in ("train", "val", "test"):
        for number, label in enumerate("abab"):
            write(
                tmp_path / subset / label / f"patient{number}-{subset}.png", encoded(photo(hash((subset, number)) % 999), "PNG")
            )
    notes = splitting.split(tmp_path, SplitConfig(group_by="patient([0-9])")).notes
    assert "leakage: groups (duplicates, near-duplicates or your own) in more than one subset of this folder: 4" in notes
    assert not any("kept together" in note for note in notes)


def test_an_unknown_folder_beside_subset_folders_is_named(tmp_path: Path) -> None:
    for subset in ("train", "test"):
        make_classes(tmp_path / subset, {"a": 3, "b": 3}, size=8)
    (tmp_path / "__MACOSX").mkdir()
    assert splitting.split(tmp_path).manifest.class_names == ("a", "b")
    (tmp_path / "unlabeled").mkdir()
    with pytest.raises(
        ImgclfError, match="test, train look like the folders of a split, but unlabeled in the same folder does not"
    ):
        splitting.split(tmp_path)


def test_export_of_the_current_split(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=8)
    imgclf("split", "--seed", "5")
    before = (tmp_path / "data/.imgclf/split.csv").read_bytes()
    assert imgclf("split", "--export", "out").returncode == 0
    assert (tmp_path / "data/.imgclf/split.csv").read_bytes() == before
    rows = [line.split(",") for line in before.decode().splitlines()[1:]]
    assert set(tree(tmp_path / "out")) == {f"{row[2]}/{row[0]}" for row in rows}


def test_a_missing_validation_set_is_taken_from_the_training_set(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"a": 17, "b": 17}, size=8)
    for index in range(4):
        write(tmp_path / "test" / "ab"[index % 2] / f"{index}.png", encoded(photo(index), "PNG"))
    result = splitting.split(tmp_path)
    assert result.manifest.counts() == {name: {"train": 14, "val": 3, "test": 2} for name in "ab"}
    assert all(row.path.startswith("test/") == (row.split == "test") for row in result.manifest.rows)


@pytest.mark.parametrize(
    ("counts", "words"),
    [({"a": 5}, "only one class"), ({"a": 5, "b": 0}, "the class folder b has no images")],
)
def test_unusable_folders_are_named(counts: dict[str, int], words: str, tmp_path: Path) -> None:
    make_classes(tmp_path, counts, size=8)
    for name in counts:
        (tmp_path / name).mkdir(exist_ok=True)
    with pytest.raises(ImgclfError, match=words):
        splitting.split(tmp_path)


def test_subset_folders_without_class_folders(tmp_path: Path) -> None:
    for subset in ("train", "test"):
        write(tmp_path / subset / "1.jpg", encoded(photo(1)))
    with pytest.raises(ImgclfError, match="no class folders in test, train"):
        splitting.split(tmp_path)


def test_a_class_without_training_images(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"a": 5, "b": 5}, size=8)
    make_classes(tmp_path / "test", {"a": 5, "c": 5}, size=8)
    with pytest.raises(ImgclfError, match="class c: the train set has no image of it"):
        splitting.split(tmp_path)


SHA = 64 * "0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n", "not a split manifest"),
        (f"path,label,split,group,sha256\na/1.jpg,a,nowhere,x,{SHA}\n", "line 2: expected"),
        ("path,label,split,group,sha256\na/1.jpg,a\n", "line 2: expected"),
        (f"path,label,split,group,sha256\na/../../1.jpg,a,test,x,{SHA}\n", "line 2: expected"),
        (f"path,label,split,group,sha256\na/1.jpg,..,test,x,{SHA}\n", "line 2: expected"),
        (f"path,label,split,group,sha256\na/1,a,test,x,{SHA}\na/1,a,train,x,{SHA}\n", "line 3: expected .* each path once"),
        ("path,label,split,group,sha256\n" + '"' + "x" * 200_000, "line 2: not CSV"),
    ],
)
def test_a_broken_manifest_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ImgclfError, match=words):
        read_manifest(write(tmp_path / "split.csv", text.encode()))


def test_group_by_and_groups_file_agree(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 30, "b": 30}, size=8)
    by_regex = splitting.split(data, SplitConfig(group_by=r"(\d\d)\d\.png$"))
    assert "groups from --group-by or --groups: 3" in by_regex.notes
    lines = [f"{row.path},{row.path[2:4]}" for row in by_regex.manifest.rows]
    table = write(tmp_path / "groups.csv", "\n".join(["path,group", *lines]).encode())
    by_file = splitting.split(data, SplitConfig(groups=str(table)))
    assert by_file.manifest == by_regex.manifest
    subsets = collections.defaultdict(set)
    for row in by_file.manifest.rows:
        subsets[row.path[2:4]].add(row.split)
    assert sorted(map(len, subsets.values())) == [1, 1, 1]
    write(table, table.read_bytes() + b"\na/30.png,03\nb/x.png,03\n")
    note = f"rows of {table} without a usable image: 2, the first is 'a/30.png'"
    assert note in splitting.split(data, SplitConfig(groups=str(table))).notes  # a typo would split a group


def test_groups_too_large_for_every_subset_are_refused(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 30, "b": 30}, size=8)
    with pytest.raises(ImgclfError, match=r"2, the largest has 40 images\): no image is left for (val|test)"):
        splitting.split(data, SplitConfig(group_by=r"/0(2?)"))
    two_subsets = splitting.split(data, SplitConfig(train=0.7, val=0.3, test=0, group_by=r"/0(2?)"))
    assert {row.split for row in two_subsets.manifest.rows} == {"train", "val"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SplitConfig(group_by="("), "is not a valid regular expression"),
        (SplitConfig(group_by="a/"), "has no capture group"),
        (SplitConfig(group_by="(patient)"), "matches none of the 8 paths; the first one is 'a/000.png'"),
        (SplitConfig(groups="missing.csv"), "missing.csv: cannot be read: No such file"),
        (SplitConfig(group_by="(a)", groups="x.csv"), "--group-by and --groups cannot be used together"),
    ],
)
def test_invalid_groups_are_named(config: SplitConfig, words: str, tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    with pytest.raises(ImgclfError, match=words):
        splitting.split(data, config)


@pytest.mark.parametrize(
    ("text", "words"),
    [("file,group\nx,1\n", "needs the columns path and group, has file, group"), ("", "has none"),
     ("path,group\na/000.png,1\na/000.png,2\n", "line 3: a/000.png is in two groups, 1 and 2"),
     ("path,group\na/000.png,1\na/0,01.png,2\n", "line 3: 3 fields where the header has 2"),
     ("path,group\nx.png,1\n", "none of its paths, such as 'x.png', is in the data folder; paths must look like 'a/000.png'")],
)  # fmt: skip
def test_invalid_group_files_are_named(text: str, words: str, tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    with pytest.raises(ImgclfError, match=words):
        splitting.split(data, SplitConfig(groups=str(write(tmp_path / "groups.csv", text.encode()))))


def test_a_class_without_images_in_a_subset_is_named(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 20, "b": 20, "c": 2}, size=8)
    lines = ["path,group", *(f"b/{number:03d}.png,one" for number in range(20))]
    groups = write(tmp_path / "groups.csv", "\n".join(lines).encode())
    result = splitting.split(data, SplitConfig(groups=str(groups)))
    assert result.manifest.counts()["b"] == {"train": 20, "val": 0, "test": 0}
    assert result.manifest.counts()["c"] == {"train": 1, "val": 1, "test": 0}, "b has left val and test short"
    assert result.notes[1:] == (
        "classes without an image in the val set, so its scores do not cover them: b",
        "classes without an image in the test set, so its scores do not cover them: b, c",
    )


# -- export -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_an_image_that_vanishes_during_an_export_stops_it(link: Link, tmp_path: Path) -> None:
    made = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    manifest = splitting.split(made).manifest
    with pytest.raises(ImgclfError, match=r"export failed at .*b/003.png: No such file or directory; check the spelling"):
        class_folders.export(
            manifest, made, tmp_path / "out", link, lambda _done, _total: (made / "b/003.png").unlink(missing_ok=True)
        )
    assert not (tmp_path / "out").exists()


def test_an_export_skips_images_changed_since_the_split(tmp_path: Path) -> None:
    """A test image that was copied over a training image would leak."""
    made = make_classes(tmp_path / "data", {"a": 10, "b": 10}, size=8)
    manifest = splitting.split(made).manifest
    train, gone = [row.path for row in manifest.rows if row.split == "train"][:2]
    test = next(row.path for row in manifest.rows if row.split == "test")
    (made / train).write_bytes((made / test).read_bytes())
    (made / gone).unlink()
    notes = class_folders.export(manifest, made, tmp_path / "out", "hard")
    assert notes == [
        f"images of the split that no longer exist (skipped): 1 ({gone}); make a new split without them: "
        f"`imgclf split {made} --force`",
        f"images skipped because they changed after the split: 1 ({train}); make a new split with them: "
        f"`imgclf split {made} --force`",
    ]
    kept = {f"{row.split}/{row.path}" for row in manifest.rows if row.path not in (train, gone)}
    assert set(tree(tmp_path / "out")) == kept


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_keras_sees_the_manifest_in_an_export(link: str, tmp_path: Path) -> None:
    """Keras' own loader finds the class names, counts and files of the manifest."""
    made = make_classes(tmp_path / "data", {"b 2": 12, "a": 7, "c10": 20}, size=8)
    write(made / "a" / "deep" / "000.png", encoded(photo(1), "PNG"))
    before = tree(made)
    result = splitting.split(made)
    class_folders.export(result.manifest, made, tmp_path / "out", link)
    for subset in SUBSETS:
        seen = keras.utils.image_dataset_from_directory(
            tmp_path / "out" / subset, image_size=(8, 8), shuffle=False, verbose=False, follow_links=True
        )
        rows = [row for row in result.manifest.rows if row.split == subset]
        assert tuple(seen.class_names) == result.manifest.class_names
        found = {os.path.relpath(path, tmp_path / "out" / subset) for path in seen.file_paths}
        assert found == {row.path for row in rows}
        assert sum(len(labels) for _images, labels in seen) == len(rows)
        for path in seen.file_paths:
            inside = os.path.relpath(path, tmp_path / "out" / subset)
            assert Path(path).read_bytes() == before[inside]
            assert Path(path).is_symlink() == (link == "symlink")
    assert tree(made) == before


def test_export_never_mixes_with_other_files(tmp_path: Path) -> None:
    made = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    manifest = splitting.split(made).manifest
    write(tmp_path / "out" / "mine.txt", b"x")
    for target, words in [
        (tmp_path / "out", "not an empty folder"),
        (made / "out", "inside the data folder"),
        (made, "exists"),
    ]:
        with pytest.raises(ImgclfError, match=words):
            class_folders.export(manifest, made, target, "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_export_of_a_folder_with_subset_folders(tmp_path: Path) -> None:
    for seed, subset in enumerate(("train", "val", "test")):
        for label in "ab":
            write(tmp_path / "data" / subset / label / "1.png", encoded(photo(seed * 2 + ord(label)), "PNG"))
    manifest = splitting.split(tmp_path / "data").manifest
    class_folders.export(manifest, tmp_path / "data", tmp_path / "out", "copy")
    assert tree(tmp_path / "out") == tree(tmp_path / "data")


# -- the command ------------------------------------------------------------------------------------------------------


def test_command(imgclf: Run, tmp_path: Path) -> None:
    make_classes(tmp_path / "data", {"a": 20, "b": 40}, size=8)
    done = imgclf("split", "data/", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["counts"] == {"a": {"train": 14, "val": 3, "test": 3}, "b": {"train": 28, "val": 6, "test": 6}}
    with open(tmp_path / document["manifest"], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "split", "group", "sha256"]
    assert len(rows) == 60
    done = imgclf("split")
    *table, together = done.stdout.splitlines()
    assert [line.split() for line in table] == [
        ["class", "train", "val", "test", "all"], ["a", "14", "3", "3", "20"], ["b", "28", "6", "6", "40"],
        ["all", "42", "9", "9", "60"],
    ]  # fmt: skip
    assert together == "groups of images kept together: 0 (0 images), no leakage between subsets"
    assert done.stderr == "unchanged: data/.imgclf/split.csv\n"
    done = imgclf("split", "--test", "0.5")
    assert done.returncode == 1
    assert "add --force to replace it" in done.stderr
    done = imgclf("split", "--test", "1.5", "--val", "0.4")
    assert done.returncode == 2
    done = imgclf("split", "--train", "1", "--val", "0", "--test", "0", "--force")
    assert "the val set is empty: training cannot choose the best epoch" in done.stderr


def test_only_ten_skipped_files_are_named(imgclf: Run, tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    for index in range(13):
        write(data / "a" / f"{index}.txt", b"milk")
    lines = imgclf("split").stderr.splitlines()
    assert sum(line.startswith("skipped a/") for line in lines) == 10
    assert "skipped 3 more; `imgclf clean` lists and quarantines unusable files" in lines


# -- near-duplicates -----------------------------------------------------------------------------------------------------


def near_duplicates(root: Path, count: int) -> dict[str, str]:
    """Make class folders with `count` changed copies; return the path of the original by that of the copy."""
    original_of = {}
    for number in range(count):
        label = "ab"[number % 2]
        image = scene(number, 128, 96)
        change = COPIES[number % len(COPIES)]
        write(root / label / f"{number:03d}.png", encoded(image, "PNG"))
        write(root / label / f"copy {number:03d}.jpg", change(image))
        original_of[f"{label}/copy {number:03d}.jpg"] = f"{label}/{number:03d}.png"
    return original_of


def separated_copies(manifest: Manifest, original_of: dict[str, str]) -> int:
    subset = {row.path: row.split for row in manifest.rows}
    return sum(subset[copy] != subset[original] for copy, original in original_of.items())


def test_300_planted_near_duplicates_do_not_leak(tmp_path: Path) -> None:
    """Copies are recompressed, resized, cropped by 3%, brightened, or all at once. A plain random split separates many."""
    original_of = near_duplicates(tmp_path, 300)
    made = splitting.split(tmp_path, SplitConfig(seed=3))
    assert separated_copies(made.manifest, original_of) == 0
    assert made.groups() == (300, 600, 0)
    counts = made.manifest.counts()
    assert all(abs(counts[label][subset] - 300 * share) <= 2 for label in "ab" for subset, share in DEFAULT.items())
    # The same images, each in its own group:
    samples_ = [Sample(row.path, row.label) for row in made.manifest.rows]
    alone = {sample.path: sample.path for sample in samples_}
    subsets = allocation.allocate(samples_, alone, DEFAULT, 3)
    assert sum(subsets[copy] != subsets[original] for copy, original in original_of.items()) > 100
    folds = splitting.folds(tmp_path, 3)
    assert [separated_copies(fold.manifest, original_of) for fold in folds] == [0, 0, 0]


# -- stable ---------------------------------------------------------------------------------------------------------------


def test_images_added_later_do_not_move_earlier_ones(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 40, "b": 40}, size=40)
    first = splitting.split(tmp_path, SplitConfig(stable=True))
    before = {row.path: row.split for row in first.manifest.rows}
    counts = collections.Counter(before.values())
    assert counts["train"] > counts["val"] + counts["test"] > 10
    (tmp_path / ".imgclf" / "split.csv").unlink()  # the same without the manifest, as on another machine
    assert splitting.split(tmp_path, SplitConfig(stable=True)).manifest == first.manifest
    image = scene(77)
    write(tmp_path / "a" / "new.png", encoded(image, "PNG"))
    write(tmp_path / "a" / "new copy.jpg", COPIES[0](image))
    write(tmp_path / "b" / "copy of 3.jpg", encoded(Image.open(tmp_path / "b" / "003.png"), quality=95))
    second = splitting.split(tmp_path, SplitConfig(stable=True))
    after = {row.path: row.split for row in second.manifest.rows}
    assert {path: after[path] for path in before} == before
    assert after["a/new.png"] == after["a/new copy.jpg"]
    assert after["b/copy of 3.jpg"] == before["b/003.png"]
    assert "the existing split stays unchanged; images added to it: 3" in second.notes
    assert second.groups() == (2, 4, 0)
    assert splitting.split(tmp_path, SplitConfig(stable=True)).changed is False


# -- folds ----------------------------------------------------------------------------------------------------------------


def test_every_image_is_tested_once(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 25, "b": 50})
    made = splitting.folds(tmp_path, 5, SplitConfig(group_by=r"/(\d\d)\d"))
    tested = [row.path for one in made for row in one.manifest.rows if row.split == "test"]
    assert len(tested) == len(set(tested)) == 75
    for number, one in enumerate(made, 1):
        assert one.path == tmp_path / ".imgclf" / "folds" / f"fold-{number}-of-5.csv"
        assert read_manifest(one.path) == one.manifest
        assert len(one.manifest.rows) == 75
        assert one.groups()[2] == 0
    assert [one.changed for one in splitting.folds(tmp_path, 5, SplitConfig(group_by=r"/(\d\d)\d"))] == [False] * 5
    with pytest.raises(ImgclfError, match="contains other folds"):
        splitting.folds(tmp_path, 4)
    assert len(splitting.folds(tmp_path, 4, force=True)) == 4
    assert len(fold_paths(tmp_path)) == 4


def test_folds_are_stratified(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 25, "b": 50})
    for one in splitting.folds(tmp_path, 5):
        counts = one.manifest.counts()
        assert {label: counts[label]["test"] for label in "ab"} == {"a": 5, "b": 10}
        assert {label: counts[label]["val"] for label in "ab"} == {"a": 4, "b": 7}


def test_impossible_folds_are_refused(tmp_path: Path) -> None:
    make_classes(tmp_path / "few", {"a": 3, "b": 9})
    for count, words in ((1, "the minimum is 2"), (4, "a class has only 3 images")):
        with pytest.raises(UsageError, match=words):
            splitting.folds(tmp_path / "few", count)
    for subset in ("train", "test"):
        make_classes(tmp_path / "subsets" / subset, {"a": 4, "b": 4})
    with pytest.raises(UsageError, match="which stay unchanged"):
        splitting.folds(tmp_path / "subsets", 2)
    with pytest.raises(UsageError, match="--stable"):
        splitting.split(tmp_path / "subsets", SplitConfig(stable=True))


def test_folds_exclude_the_option_test(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    done = imgclf("split", "--folds", "2", "--test", "0.5")
    assert (done.returncode, done.stderr.count("with --folds 2 each image is in one test set; remove --test")) == (2, 1)
    assert fold_paths(tmp_path / "data") == []


def test_a_problem_of_any_fold_is_named(tmp_path: Path) -> None:
    """A fold with all images of b in its test set has none to train on; two groups are too few for three folds."""
    data = make_classes(tmp_path / "data", {"a": 30, "b": 10}, size=8)
    rows = [f"a/{number:03d}.png,one" for number in range(12)] + ["a/012.png,two"]
    rows += [f"b/{number:03d}.png,two" for number in range(10)]
    two = [f"{label}/{number:03d}.png,{number % 2}" for label, count in (("a", 30), ("b", 10)) for number in range(count)]
    for lines, words in (
        (rows, "class b: the train set has no image of it"),
        (two, "--folds 3: the groups are too few or too large: fold [123] has no test image; use fewer folds"),
    ):
        groups = write(tmp_path / "groups.csv", "\n".join(["path,group", *lines]).encode())
        with pytest.raises(ImgclfError, match=words):
            splitting.folds(data, 3, SplitConfig(groups=str(groups)))
    assert fold_paths(data) == []


# -- leakage --------------------------------------------------------------------------------------------------------------


def test_leakage_of_a_folder_with_subset_folders(tmp_path: Path, imgclf: Run) -> None:
    root = tmp_path / "data"
    for number in range(12):
        for subset in ("train", "test"):
            write(root / subset / "ab"[number % 2] / f"{number}.png", encoded(scene(100 * (subset == "test") + number), "PNG"))
    done = imgclf("split", "--check")
    assert (done.returncode, done.stdout) == (0, "train 12, test 12; leakage: 0 images\n")
    write(root / "test" / "a" / "exact.png", encoded(scene(0), "PNG"))
    write(root / "test" / "b" / "near.jpg", cropped(scene(1)))
    write(root / "test" / "a" / "turned.jpg", mirrored(scene(2)))
    write(root / "test" / "b" / "other class.jpg", recompressed(scene(4)))
    write(root / "test" / "a" / "broken.jpg", b"")
    done = imgclf("split", "--check", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["images"] == {"train": 12, "val": 0, "test": 16}
    assert document["skipped"] == [["test/a/broken.jpg", "the file has zero bytes"]]
    found = {tuple(sorted((leak["path"], leak["other"]))): leak for leak in document["leaks"]}
    assert found.keys() == {
        ("test/a/exact.png", "train/a/0.png"), ("test/b/near.jpg", "train/b/1.png"), ("test/a/turned.jpg", "train/a/2.png"),
        ("test/b/other class.jpg", "train/a/4.png"),
    }  # fmt: skip
    assert [leak["exact"] for pair, leak in sorted(found.items())] == [True, False, False, False]
    assert all({leak["subset"], leak["other_subset"]} == {"train", "test"} for leak in found.values())
    text = imgclf("split", "--check")
    assert text.returncode == 1
    assert text.stdout.splitlines()[-1] == "train 12, test 16; leakage: 4 images, 1 of them exact"
    assert re.search(r"exact.png +exact|train/a/0.png +exact", text.stdout)
    assert not (root / ".imgclf" / "split.csv").exists(), "--check writes nothing"


def test_every_member_of_a_group_outside_its_first_subset_leaks(tmp_path: Path) -> None:
    """One image has three copies in train (an exact one, and one in another class) and one in test."""
    data = tmp_path / "data"
    for seed in range(6):
        write(data / ("train" if seed < 4 else "test") / "ab"[seed % 2] / f"{seed}.jpg", encoded(scene(seed)))
    image = scene(50)
    write(data / "test" / "a" / "it.jpg", encoded(image))
    write(data / "train" / "a" / "it.jpg", encoded(image))
    write(data / "train" / "a" / "small.jpg", resized(image))
    write(data / "train" / "b" / "crop.jpg", cropped(image))
    leakage = find_leakage(data)
    assert [(leak.path, leak.other, leak.exact) for leak in leakage.leaks] == [
        ("train/a/it.jpg", "test/a/it.jpg", True),
        ("train/a/small.jpg", "test/a/it.jpg", False),
        ("train/b/crop.jpg", "test/a/it.jpg", False),
    ]
    assert all(0.95 < leak.similarity <= 1 for leak in leakage.leaks)


def test_images_without_a_subset_neither_leak_nor_hide_a_leak(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12}, size=16)
    write(data / "a" / "it.jpg", encoded(scene(50)))
    write(data / "a" / "small.jpg", resized(scene(50)))
    manifest = splitting.split(data).manifest
    rows = {row.path: row for row in manifest.rows}
    own = rows["a/it.jpg"].split
    other = "train" if own == "test" else "test"
    rows["a/small.jpg"] = dataclasses.replace(rows["a/small.jpg"], split=other)
    (data / ".imgclf" / "split.csv").write_text(Manifest(tuple(rows.values())).to_csv())
    write(data / "a" / "0 new, the best.png", encoded(scene(50), "PNG"))
    (leak,) = find_leakage(data).leaks
    assert {leak.path, leak.other} == {"a/it.jpg", "a/small.jpg"}


def test_leakage_of_a_manifest(tmp_path: Path) -> None:
    original_of = near_duplicates(tmp_path, 10)
    made = splitting.split(tmp_path)
    assert find_leakage(tmp_path).leaks == ()
    rows = [dataclasses.replace(row, split="test" if row.path in original_of else "train") for row in made.manifest.rows]
    made.path.write_text(Manifest(tuple(rows)).to_csv())
    leakage = find_leakage(tmp_path)
    assert {leak.path for leak in leakage.leaks} | {leak.other for leak in leakage.leaks} == {
        *original_of,
        *original_of.values(),
    }
    assert leakage.images == {"train": 10, "val": 0, "test": 10}


def test_a_folder_without_a_split_has_no_leakage_to_check(tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(ImgclfError, match="not split: it has no train and test folders and no manifest"):
        find_leakage(tmp_path)


def test_options_that_exclude_each_other(tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 4, "b": 4})
    for options, words in (
        (["--check", "--force"], "--check cannot be combined"),
        (["--check", "--seed", "3"], "--check cannot be combined"),
        (["--folds", "2", "--export", "x"], "--folds and --export exclude each other"),
        (["--folds", "2", "--stable"], "--stable and --folds cannot be used together"),
    ):
        done = imgclf("split", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


# -- changes after the split ---------------------------------------------------------------------------------------------


def test_an_image_saved_again_keeps_its_subset(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for seed in range(40):
        write(data / "ab"[seed % 2] / f"{seed:02d}.jpg", encoded(scene(seed, 96, 72)))
    before = {row.path: row.split for row in splitting.split(data, SplitConfig(stable=True)).manifest.rows}
    for path in before:
        content = (data / path).read_bytes()
        write(data / path, encoded(Image.open(io.BytesIO(content)), quality=60))
    write(data / "a" / "more.jpg", encoded(scene(99, 96, 72)))
    result = splitting.split(data, SplitConfig(stable=True))
    after = {row.path: row.split for row in result.manifest.rows}
    assert {path: after[path] for path in before} == before
    assert "the existing split stays unchanged; images added to it: 1" in result.notes
    assert "images with new content since the split, which keep their subset: 40" in result.notes


def test_an_image_renamed_after_the_split_is_recognised_by_its_content(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12}, size=16)
    manifest = splitting.split(data).manifest
    subsets = {row.path: row.split for row in manifest.rows}
    (data / "a" / "000.png").rename(data / "a" / "zebra.png")
    (data / "a" / "001.png").rename(data / "b" / "relabelled.png")
    datasets, notes = load_subsets(data, manifest)
    assert notes == ["images renamed or moved since the split: 2 (a/zebra.png, b/relabelled.png)"]
    where = {(sample.path, sample.label): subset for subset, own in datasets.items() for sample in own.samples}
    assert where["a/zebra.png", "a"] == subsets["a/000.png"]
    assert where["b/relabelled.png", "b"] == subsets["a/001.png"]
    assert len(where) == 24


def test_incomplete_folds_do_not_count(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12}, size=8)
    splitting.folds(data, 3)
    paths = fold_paths(data)
    assert [path.name for path in paths] == ["fold-1-of-3.csv", "fold-2-of-3.csv", "fold-3-of-3.csv"]
    paths[1].unlink()
    assert fold_paths(data) == []
    splitting.folds(data, 2)
    assert [path.name for path in fold_paths(data)] == ["fold-1-of-2.csv", "fold-2-of-2.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train", "1.5"], "must be fractions (0.7) or percentages (70)"),
        (["--link", "copy"], "--link needs --export DIR: it sets how --export creates files"),
    ],
)
def test_invalid_options_of_split(options: list[str], words: str, tmp_path: Path, imgclf: Run) -> None:
    make_classes(tmp_path / "data", {"a": 4, "b": 4}, size=8)
    done = imgclf("split", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
