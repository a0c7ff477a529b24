"""Folders as people and systems leave them: system folders, names of every script, splits in many layouts."""

import contextlib
import os
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, encoded, make_classes, photo, tree, write

from imgclf.clean import applying, cleaning, undoing
from imgclf.core.config import SplitConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.files import placing
from imgclf.data import dataset, layout
from imgclf.data.layout import scan
from imgclf.data.manifest import current_manifest
from imgclf.images.sources import expand
from imgclf.preview import overview
from imgclf.split import class_folders, splitting
from imgclf.split.leakage import find_leakage

SYSTEM = (
    "lost+found", "System Volume Information", "$RECYCLE.BIN", "#recycle", "@eaDir", ".Trash-1000", ".ipynb_checkpoints",
    "__MACOSX",
)  # fmt: skip
FILES = ("Thumbs.db", ".DS_Store", "desktop.ini", "._x.jpg")


def nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.fixture
def littered(tmp_path: Path) -> Path:
    """Two classes; beside, in and below them every system folder, with an image in it, and every system file."""
    data = make_classes(tmp_path / "data", {"a": 8, "b": 8}, size=8)
    for place in (".", "a", "a/deep/er"):
        write(data / place / "x.png" if place.startswith("a/") else data / "a" / "deep" / "y.png", encoded(photo(5), "PNG"))
        for name in SYSTEM:
            write(data / place / name / "inner" / "photo.jpg", encoded(photo(6)))
            (data / place / name / "to the root").symlink_to("/")
        for name in FILES:
            write(data / place / name, encoded(photo(7)))
    return data


def test_system_folders_are_no_classes_and_hold_no_images(littered: Path) -> None:
    assert layout.class_folders(littered) == ["a", "b"]
    samples = {sample.path for sample in dataset.index(littered)[0].samples}
    assert len(samples) == 18
    assert {path for path in samples if "/deep" in path} == {"a/deep/y.png", "a/deep/er/x.png"}
    result = cleaning.clean(littered, dry_run=True)
    assert {file.path for file in result.files} == samples
    assert {path for path, _rule in result.ignored} | samples >= {path for path in tree(littered) if "to the root" not in path}
    assert len(splitting.split(littered).manifest.rows) == 18
    assert {source.name for source in expand([str(littered)])} == {str(littered / path) for path in samples}


@contextlib.contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """As a user who cannot read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o77 == 0 and above != Path("/"):
            above.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_only_a_folder_of_ones_own_must_be_readable(littered: Path) -> None:
    locked = littered / "b" / "locked"
    locked.mkdir()
    closed = [littered / place / name for place in (".", "a") for name in SYSTEM]
    for folder in closed:
        folder.chmod(0)
    try:
        with as_nobody(littered):
            assert len(dataset.index(littered)[0].samples) == 18
            assert not any(source.problem for source in expand([str(littered)]))
        locked.chmod(0)
        with as_nobody(littered):
            with pytest.raises(ImgclfError) as caught:
                dataset.index(littered)
            problems = [source for source in expand([str(littered)]) if source.problem]
    finally:
        for folder in [*closed, locked]:
            folder.chmod(0o700)
    words = "cannot be listed: Permission denied"
    remedy = "ask its owner for permission, or fix its permissions, or move it out of the data folder"
    assert str(caught.value) == f"{locked}: {words}; {remedy}"
    assert [(source.name, source.problem) for source in problems] == [(str(locked), words)]


# -- names -------------------------------------------------------------------------------------------------------------------

NAMES = ["山田　太郎", "می‌خواهم", "👩‍🚀", "🏴‍☠️ ahoy", "naïve café", nfd("Å ångström"), "a%b*c[d]#", "-dash", "x" * 200]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_folder_can_have_is_a_class(name: str, tmp_path: Path) -> None:
    make_classes(tmp_path, {name: 4, "other": 4}, size=8)
    manifest = splitting.split(tmp_path).manifest
    assert manifest.class_names == tuple(sorted([unicodedata.normalize("NFC", name), "other"]))
    assert sum((tmp_path / row.path).is_file() for row in manifest.rows) == 8


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bad\nname", "a control character \\(U\\+000A\\)"),
        ("a\u2028b", "a control character \\(U\\+2028\\)"),
        ("end ", "a space at the beginning or end"),
        (os.fsdecode(b"caf\xe9"), "bytes that are not UTF-8"),
    ],
)
def test_other_names_are_refused_for_what_is_wrong(name: str, words: str, tmp_path: Path) -> None:
    make_classes(tmp_path, {"a": 2, name: 2}, size=8)
    with pytest.raises(ImgclfError, match=f"contains {words}; rename the folder"):
        layout.classes(tmp_path)


def test_two_spellings_of_one_name_are_both_shown(tmp_path: Path, imgclf: Run) -> None:
    data = make_classes(tmp_path / "data", {"é": 3, nfd("é"): 3, "b": 3}, size=8)
    words = (
        "the class folders 'e\\u0301' and '\\xe9' have the same name, é, in two Unicode forms (composed and "
        "decomposed); move all images into one of them"
    )
    for verb in (overview.preview, cleaning.clean, splitting.split, dataset.index):
        with pytest.raises(ImgclfError) as caught:
            verb(data)
        assert str(caught.value) == f"{data}: {words}"
    done = imgclf("preview", "data")
    assert (done.returncode, done.stderr) == (1, f"imgclf: error: data: {words}\n")


def test_a_copy_in_another_spelling_is_the_same_data(tmp_path: Path) -> None:
    """As after a copy to a Mac and back: classes, manifest, groups, edited report and undo go on as before."""
    made = make_classes(tmp_path / "data", {"é": 10, "b": 10}, size=8)
    for path in sorted((made / "é").iterdir()):
        path.rename(path.with_name(f"ü{path.name}"))
    manifest = splitting.split(made).manifest
    report = write(tmp_path / "r.csv", "path,action,new_label\né/ü001.png,quarantine,\nb/002.png,relabel,é\n".encode())
    groups = write(tmp_path / "g.csv", b"path,group\n" + "".join(f"é/ü00{n}.png,{n // 5}\n" for n in range(10)).encode())

    other = tmp_path / "other"
    shutil.copytree(made / ".imgclf", other / ".imgclf")
    for name, content in tree(made).items():
        write(other / nfd(name), content)
    assert layout.class_folders(other) == ["b", "é"]
    now, notes = current_manifest(other, manifest)
    assert notes == []
    assert {row.path for row in now.rows} == {nfd(row.path) for row in manifest.rows}
    assert not splitting.split(other).changed
    assert find_leakage(other).images == find_leakage(made).images
    assert len({row.group for row in splitting.split(other, SplitConfig(groups=str(groups)), force=True).manifest.rows}) == 12

    before = tree(other)
    issues, _notes = applying.apply(other, report)
    assert [issue.action for issue in issues] == ["quarantined", "relabelled"]
    assert issues[1].moved_to == nfd("é/002.png")
    assert sorted(path.name for path in other.iterdir()) == [".imgclf", "b", nfd("é")]
    again, notes = applying.apply(other, write(report, report.read_bytes().replace("é/ü".encode(), nfd("é/ü").encode())))
    assert (again, notes) == ([], ["2 lines were carried out by an earlier --apply"])
    os.rename(other / nfd("é"), other / "é")  # and now the folder is spelled as on Linux
    _restored, problems, _notes = undoing.undo(other)
    assert problems == []
    assert {unicodedata.normalize("NFC", name) for name in tree(other)} == {unicodedata.normalize("NFC", n) for n in before}
    assert sorted(path.name for path in other.iterdir()) == [".imgclf", "b", "é"]


def test_sorting_goes_into_the_folder_that_is_there(tmp_path: Path) -> None:
    photo_ = write(tmp_path / "photo.jpg", encoded(photo(1)))
    (tmp_path / "sorted" / nfd("é")).mkdir(parents=True)
    placing.place(tmp_path / "sorted", [(str(photo_), "é")], "move")
    assert (tmp_path / "sorted" / nfd("é") / "photo.jpg").is_file()
    assert not (tmp_path / "sorted" / "é").exists()


# -- layouts -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "eval", "test"), ("training", "dev", "testing"), ("Train", "Valid", "holdout"),
        ("train2017", "val2017", "test2017"), ("training_set", "validation_set", "test_set"), ("train", "validation", "test1"),
    ],
)  # fmt: skip
def test_names_of_parts_that_people_use(train: str, val: str, test: str, tmp_path: Path) -> None:
    for number, name in enumerate((train, val, test), 3):
        make_classes(tmp_path / name, {"a": number, "b": number}, size=8)
    assert layout.subset_folders(tmp_path) == {train: "train", val: "val", test: "test"}
    assert splitting.split(tmp_path).manifest.counts() == {label: {"train": 3, "val": 4, "test": 5} for label in "ab"}


def test_train_and_eval_are_no_classes(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"a": 6, "b": 6}, size=8)
    make_classes(tmp_path / "eval", {"a": 2, "b": 2}, size=8)
    assert layout.class_folders(tmp_path) == ["a", "b"]


def test_a_contest_whose_images_have_no_class_folders(tmp_path: Path) -> None:
    for name in ("train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg"):
        write(tmp_path / name, encoded(photo(len(name))))
    for verb in (overview.preview, cleaning.clean, splitting.split, dataset.index):
        with pytest.raises(ImgclfError) as caught:
            verb(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: no class folders in test1, train; expected {tmp_path}/train/<class>/<image>; "
            f"{tmp_path}/train/cat.0.jpg is not in a class folder"
        )


def test_a_test_set_without_labels_is_named_and_not_used(tmp_path: Path) -> None:
    make_classes(tmp_path / "train", {"a": 10, "b": 10}, size=8)
    write(tmp_path / "test" / "1.jpg", encoded(photo(1)))
    result = splitting.split(tmp_path)
    assert (
        f"{tmp_path}/test has no class folders, so its images are not used; classify them with `imgclf predict`" in result.notes
    )
    assert len(result.manifest.rows) == 20
    assert [(file.path, file.ignored) for file in layout.scan(tmp_path) if file.ignored] == [
        ("test/1.jpg", "not in a class folder")
    ]


def test_a_split_inside_each_class_is_asked_about(tmp_path: Path) -> None:
    for label in ("cats", "dogs"):
        make_classes(tmp_path / label, {"train": 4, "test": 4}, size=8)
    with pytest.raises(ImgclfError, match="cats/test and cats/train look like the folders of a split inside a class; move"):
        splitting.split(tmp_path)


def test_one_folder_too_high_is_noticed(tmp_path: Path) -> None:
    make_classes(tmp_path / "archive", {"a": 4, "b": 4}, size=8)
    with pytest.raises(ImgclfError, match=r"only one class \(archive\).*if the classes are the folders in .*archive \(a, b"):
        splitting.split(tmp_path)


def test_what_was_merged_is_said(tmp_path: Path) -> None:
    for path in ("Fruit/Apple/Golden", "Fruit/Apple/Pink", "Fruit/Pear", "Milk/Oat"):
        make_classes(tmp_path / path, {".": 5}, size=8)
    words = "2 classes; 4 subfolders were merged into them, such as Fruit/Apple/Golden"
    assert words in cleaning.clean(tmp_path, dry_run=True).notes
    assert words in splitting.split(tmp_path).notes
    assert words in splitting.folds(tmp_path, 2)[0].notes
    assert words in overview.preview(tmp_path).notes
    assert layout.merged_note(make_classes(tmp_path / "flat", {"a": 3, "b": 3}, size=8), ["a/0.png"]) == []


def test_a_class_that_came_or_went_after_the_split_is_named(tmp_path: Path) -> None:
    data = make_classes(tmp_path, {"a": 10, "b": 10}, size=8)
    manifest = splitting.split(data).manifest
    make_classes(data, {"c": 7}, size=16)
    shutil.rmtree(data / "b")
    _now, notes = current_manifest(data, manifest)
    assert notes == [
        "images of the split that no longer exist (skipped): 10 (b/000.png, b/001.png, b/002.png, b/003.png, "
        f"b/004.png, ...); make a new split without them: `imgclf split {data} --force`",
        "classes of the split that no longer have images: 1 (b)",
        "class folders added after the split (not used for training): c (7 images); make a new split with them: "
        f"`imgclf split {data} --force`",
    ]


def test_an_export_is_whole_on_disks_that_ignore_case(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"a": 12, "b": 12}, size=8)
    for number, name in enumerate(("X.png", "x.png", "é.png", nfd("é.png"), "É.png", "Sub/1.png", "sub/1.png")):
        write(data / "a" / name, encoded(photo(number, 8, 8), "PNG"))
    manifest = splitting.split(data, SplitConfig(train=1, val=0, test=0)).manifest
    notes = class_folders.export(manifest, data, tmp_path / "out", "hard")
    assert notes == ["images renamed with a number because names differ only in case or Unicode form: 4"]
    found = tree(tmp_path / "out")
    assert sorted(found.values()) == sorted(tree(data).values())
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == len(found) == 31


def test_classes_that_differ_only_in_case_are_named(tmp_path: Path) -> None:
    data = make_classes(tmp_path / "data", {"Cat": 6, "cat": 6}, size=8)
    words = "the classes Cat and cat differ only in case, which macOS and Windows ignore"
    made = splitting.split(data)
    assert words in made.notes
    with pytest.raises(ImgclfError, match=words):
        class_folders.export(made.manifest, data, tmp_path / "out", "hard")
    assert not (tmp_path / "out").exists()


def test_classes_that_only_sound_like_parts_or_bins(tmp_path: Path) -> None:
    """Models of trains, and waste: there is nothing that they could be but classes."""
    for classes in (["train1", "train2"], ["train-1", "train-2", "train-3"], ["Recycled", "recycler"]):
        data = make_classes(tmp_path / classes[0], dict.fromkeys(classes, 2), size=8)
        assert [row.label for row in scan(data)] == sorted(classes * 2)
    make_classes(tmp_path / "train1" / "train2", {"a": 2}, size=8)
    with pytest.raises(ImgclfError, match="split"):
        scan(tmp_path / "train1")
