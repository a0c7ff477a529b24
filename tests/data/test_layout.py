"""Which files a data folder holds: of which class and subset, and what is refused."""

import os
from pathlib import Path

import pytest
from conftest import tree, write

from imgclf.core.errors import ImgclfError
from imgclf.data import layout
from imgclf.data.layout import DataFile, scan


def made(root: Path, *paths: str) -> Path:
    for path in paths:
        write(root / path, b"")
    return root


def test_every_file_is_named_with_its_class_or_the_rule_that_leaves_it_out(tmp_path: Path) -> None:
    root = made(tmp_path, "b/2.png", "a/1.png", "a/deep/er/3.png", "a/.hidden.png", "a/.cache/4.png", "a/@eaDir/x/5.png",
                ".git/6.png", "loose.png", "Thumbs.db", ".imgclf/index/7", "b/.imgclf/8")  # fmt: skip
    folder = "in a hidden or system folder"
    assert scan(root) == [
        DataFile(".git/6.png", None, None, folder),
        DataFile("Thumbs.db", None, None, "a system file"),
        DataFile("a/.cache/4.png", "a", None, folder),
        DataFile("a/.hidden.png", "a", None, "a hidden file"),
        DataFile("a/1.png", "a", None, ""),
        DataFile("a/@eaDir/x/5.png", "a", None, folder),
        DataFile("a/deep/er/3.png", "a", None, ""),
        DataFile("b/2.png", "b", None, ""),
        DataFile("loose.png", None, None, "not in a class folder"),
    ]
    assert layout.class_folders(root) == ["a", "b"]
    assert layout.subset_folders(root) == {}


def test_a_folder_that_is_split(tmp_path: Path) -> None:
    root = made(tmp_path, "Training/a/1.png", "Training/loose.png", "Training/.DS_Store", "Training/.git/2", "dev/a/3.png",
                "test/4.png", "loose.png")  # fmt: skip
    assert layout.subset_folders(root) == {"Training": "train", "dev": "val"}
    assert scan(root) == [
        DataFile("Training/.DS_Store", None, "train", "a hidden file"),
        DataFile("Training/.git/2", None, "train", "in a hidden or system folder"),
        DataFile("Training/a/1.png", "a", "train", ""),
        DataFile("Training/loose.png", None, "train", "not in a class folder"),
        DataFile("dev/a/3.png", "a", "val", ""),
        DataFile("loose.png", None, None, "not in a class folder"),
        DataFile("test/4.png", None, None, "not in a class folder"),
    ]
    assert layout.unlabelled_note(root) == [
        f"{root / 'test'} has no class folders, so its images are not used; classify them with `imgclf predict`"
    ]
    assert layout.class_folders(root) == ["a"]


@pytest.mark.parametrize(
    ("name", "subset"),
    [
        *((name, subset) for name, subset in layout.SUBSET_NAMES.items()),
        ("TRAIN", "train"), ("train1", "train"), ("train2017", "train"), ("training_set", "train"), ("val-images", "val"),
        ("test set 3", "test"), ("testset", "test"), ("trained", None), ("tests", None), ("set", None), ("train.old", None),
    ],
)  # fmt: skip
def test_names_of_parts(name: str, subset: str | None) -> None:
    assert layout._subset_named(name) == subset


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("train/a/1", "val/a/1", "cats/1"), "{split}, but cats in the same folder does not;"),
        (("train/a/1", "val/a/1", "b/1", "c/1", "d/1", "e/1"), "{split}, but b, c, d in the same folder do not;"),
        (("train/a/1", "train2/a/1", "val/a/1"), "train and train2 are the same subset of the split (train); keep one of them"),
        (
            ("train/a/1", "val/a/1", "test/a/1", "test1/b/1"),
            "test and test1 are the same subset of the split (test); keep one of them",
        ),
        (("train/1.png", "val/2.png"), "{none}; {root}/train/1.png is not in a class folder"),
        (("train/.x", "val/2.png"), "{none}"),
        (("a/train/1", "a/test/1", "b/1"), "{inside}; move them to train/a and so on, or rename them if they are not a split"),
    ],
)
def test_what_is_neither_split_nor_classes(paths: tuple[str, ...], words: str, tmp_path: Path) -> None:
    root = made(tmp_path, *paths)
    with pytest.raises(ImgclfError) as error:
        scan(root)
    said = words.format(
        root=root,
        split="train, val look like the folders of a split",
        none=f"no class folders in train, val; expected {root}/train/<class>/<image>",
        inside="a/test and a/train look like the folders of a split inside a class",
    )
    assert str(error.value).startswith(f"{root}: {said}")
    assert words != "{none}" or str(error.value) == f"{root}: {said}"


def test_classes_that_are_called_like_parts(tmp_path: Path) -> None:
    assert layout.subset_folders(made(tmp_path / "1", "train1/1.png", "train2/1.png")) == {}
    assert layout.subset_folders(made(tmp_path / "2", "train/1.png", "cars/1.png")) == {}
    assert layout.subset_folders(made(tmp_path / "3", "test/a/1.png", "val/a/1.png")) == {}
    assert layout.subset_folders(made(tmp_path / "4", "train/a/1", "test/a/1", "test2/2.png")) == {
        "train": "train",
        "test": "test",
    }
    inside = made(tmp_path / "5", "a/train/1", "a/train2/2")
    assert [file.label for file in scan(inside)] == ["a", "a"], "no split without another subset"


def test_folders_in_a_loop_are_walked_once(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "a/1.png", "a/deep/2.png", "b/3.png")
    (root / "a/deep/loop").symlink_to("..")
    (root / "a/deep/self").symlink_to("self")
    (root / "b/again").symlink_to("../a/deep")
    assert [file.path for file in scan(root)] == [
        "a/1.png", "a/deep/2.png", "a/deep/self", "b/3.png", "b/again/2.png", "b/again/loop/1.png", "b/again/self",
    ]  # fmt: skip
    write(tmp_path / "elsewhere/4.png", b"")
    (root / "a/.hidden").symlink_to(tmp_path / "elsewhere")
    assert "a/.hidden/4.png" not in {file.path for file in scan(root)}, "links in hidden folders are not followed"


def test_what_is_linked(tmp_path: Path) -> None:
    root = made(tmp_path / "data", "a/1.png", "a/deep/2.png")
    (root / "a/one.png").symlink_to("1.png")
    (root / "b").symlink_to("a")
    expected = {"a/1.png": False, "a/deep/2.png": False, "a/one.png": True, "b/1.png": True, "b/deep/2.png": True, "c": False}
    assert {path: layout.is_linked(root, path) for path in expected} == expected
    (tmp_path / "link").symlink_to("data")
    assert not layout.is_linked(tmp_path / "link", "a/1.png"), "the data folder itself may be one"


def test_no_classes_and_one_class(tmp_path: Path) -> None:
    with pytest.raises(ImgclfError, match=r"no class folders; it is empty\. Expected"):
        layout.classes(tmp_path)
    made(tmp_path, ".hidden.png")
    with pytest.raises(ImgclfError, match=r"no class folders; it is empty\. Expected"):
        layout.classes(tmp_path)
    made(tmp_path, "b.png", "a.png")
    with pytest.raises(ImgclfError, match=r"no class folders; it contains files such as a\.png directly\. Expected"):
        layout.classes(tmp_path)
    made(tmp_path, "animals/1.png")
    assert layout.classes(tmp_path) == ["animals"]
    with pytest.raises(ImgclfError, match=r"only one class \(animals\); a classifier needs at least two class folders$"):
        layout.classes(tmp_path, 2)
    made(tmp_path, "animals/d/1", "animals/c/1", "animals/b/1", "animals/a/1")
    with pytest.raises(ImgclfError, match=r"if the classes are the folders in .*/animals \(a, b, c\.\.\.\), use that folder$"):
        layout.classes(tmp_path, 2)
    split = made(tmp_path / "split", "train/a/x/1", "test/a/x/1")
    with pytest.raises(ImgclfError, match=r"at least two class folders$"):
        layout.classes(split, 2)
    assert layout.classes(made(tmp_path / "split", "test/b/1"), 2) == ["a", "b"]


def test_subfolders_that_are_merged_are_named(tmp_path: Path) -> None:
    one = made(tmp_path / "one", "a/1", "a/x/1")
    assert layout.merged_note(one, ["a/1"]) == []
    assert layout.merged_note(one, ["a/1", "a/x/1"]) == ["1 class; 1 subfolder was merged into it, such as a/x"]
    two = made(tmp_path / "two", "train/a/1", "test/b/1")
    assert layout.merged_note(two, ["train/a/1"]) == []
    merged = ["train/a/y/1", "train/a/x/1", "train/a/x/2"]
    assert layout.merged_note(two, merged) == ["2 classes; 2 subfolders were merged into them, such as train/a/x"]


def test_two_spellings_of_a_class_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path, "caf\u00e9/1", "cafe\u0301/1")
    for ask in (scan, layout.class_folders):
        with pytest.raises(ImgclfError, match="have the same name, caf\u00e9, in two Unicode forms"):
            ask(root)


def test_what_went_away_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(tmp_path, "a/1.png", "a/deep/2.png", "b/3.png")
    usual = layout._top_level

    def late(folder: Path) -> tuple[list[str], list[str]]:
        found = usual(folder)
        if folder == root / "a":
            for path in tree(root / "a" / "deep"):
                (root / "a" / "deep" / path).unlink()
            if (root / "a" / "deep").exists():
                os.rmdir(root / "a" / "deep")
        return found

    monkeypatch.setattr(layout, "_top_level", late)
    assert [file.path for file in scan(root)] == ["a/1.png", "b/3.png"]
