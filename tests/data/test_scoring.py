"""Which images a run is scored on, what is said of them, and what it answers: with a run that needs no training."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pytest
from conftest import encoded, photo, write
from tiny import CLASSES, rewrite, tiny_run

from imgclf.core.config import SUBSETS, Subset
from imgclf.core.errors import ImgclfError
from imgclf.data import scoring
from imgclf.data.manifest import Manifest, Row
from imgclf.evaluation import baseline, grouped
from imgclf.images import decode, preprocess, quality
from imgclf.models.bundle import Bundle

PLACES: tuple[Subset, ...] = ("train", "train", "val", "test", "test")  # of the images of each class


def picture(number: int) -> bytes:
    return encoded(photo(number, 60 + number, 40 + number), "PNG")


def made(root: Path, places: tuple[Subset, ...] = PLACES) -> Bundle:
    """Five images of each class in `data`, and a run with this split of them."""
    rows = []
    for number, label in enumerate(CLASSES):
        for index, subset in enumerate(places):
            content = picture(10 * number + index)
            write(root / "data" / label / f"{index}.png", content)
            digest = hashlib.sha256(content).hexdigest()
            rows.append(Row(f"{label}/{index}.png", label, subset, f"{label} {index // 2}", digest))
    return of_split(root, Manifest(tuple(rows)))


def of_split(root: Path, manifest: Manifest) -> Bundle:
    run = tiny_run(root / "run") if not (root / "run").exists() else root / "run"
    (run / scoring.MANIFEST).write_text(manifest.to_csv())
    rewrite(run, lambda info: info["data"].update(split_hash=manifest.hash))
    return Bundle.load(run)


def paths(found: scoring.Images) -> list[str]:
    return [sample.path for sample in found.samples]


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_part_of_the_runs_own_split(tmp_path: Path, subset: Subset) -> None:
    run = made(tmp_path)
    found = scoring.images(run, tmp_path / "data", subset)
    assert paths(found) == [f"{label}/{index}.png" for label in CLASSES for index in range(5) if PLACES[index] == subset]
    assert [sample.label for sample in found.samples] == [path.split("/")[0] for path in paths(found)]
    assert (found.root, found.name, found.skipped) == (tmp_path / "data", subset, ())
    assert found.on == f"the {subset} set of the run's own split"
    assert found.group_of == {path: f"{path.split('/')[0]} {int(path[-5]) // 2}" for path in paths(found)}
    assert [note.split(":")[0] for note in found.notes] == {
        "test": [],
        "val": ["images that were in the run's validation set, which chose its best epoch"],
        "train": ["the model was trained on these images"],
    }[subset]


def test_the_test_part_is_the_usual_one_and_the_validation_part_stands_in(tmp_path: Path) -> None:
    assert scoring.images(made(tmp_path)) == scoring.images(made(tmp_path), tmp_path / "data", "test")
    found = scoring.images(made(tmp_path / "two", ("train", "val", "val")))
    assert (found.name, len(found.samples)) == ("val", 6)
    assert found.notes == (
        "the split has no test set, so the validation set is scored",
        "images that were in the run's validation set, which chose its best epoch: 6 of 6; the score is too optimistic",
    )


def test_changes_since_the_split_are_named(tmp_path: Path) -> None:
    """A test image that is gone, one that was edited, one that was renamed; files that are new, of a class and of none."""
    run, data = made(tmp_path), tmp_path / "data"
    (data / "blue/3.png").unlink()
    write(data / "green/3.png", picture(90))
    (data / "red/4.png").rename(data / "red/other.png")
    write(data / "blue/new.png", picture(91))
    write(data / "zebra/1.png", picture(92))
    found = scoring.images(run)
    assert paths(found) == ["blue/4.png", "green/3.png", "green/4.png", "red/3.png", "red/other.png"]
    assert [note.replace(str(data), "DATA") for note in found.notes] == [
        "images renamed or moved since the split: 1 (red/other.png)",
        "class folders that this run was not trained on (not scored): zebra (1 image); to add them, run "
        "`imgclf split DATA --force` and train again",
        "images of the test set that are no longer in DATA: 1 of 6",
        "images that have changed since the run's split was made: 1, first green/3.png",
        "files in DATA that are not in the run's split and were not scored: 1",
    ]


def test_the_data_may_have_moved(tmp_path: Path) -> None:
    """A folder that holds more than half of the split's files under their paths is the run's own."""
    run = made(tmp_path)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(ImgclfError, match="the run's data folder no longer exists; give the folder"):
        scoring.images(run)
    assert scoring.images(run, tmp_path / "moved").name == "test"
    for name in [*(f"blue/{index}" for index in range(4)), *(f"red/{index}" for index in range(3))]:
        write(tmp_path / f"moved/{name}.png", picture(80))
    assert scoring.images(run, tmp_path / "moved").name == "test", "8 of 15 are as they were"
    write(tmp_path / "moved/red/3.png", picture(80))
    assert scoring.images(run, tmp_path / "moved").name == "other-moved"


def test_half_of_the_files_is_not_the_runs_own(tmp_path: Path) -> None:
    run = made(tmp_path, ("train", "test"))
    (tmp_path / "data").rename(tmp_path / "moved")
    for label in CLASSES:
        write(tmp_path / "moved" / label / "0.png", picture(80))
    found = scoring.images(run, tmp_path / "moved")
    assert (found.name, found.group_of) == ("other-moved", None)


def test_another_folder(tmp_path: Path) -> None:
    """All its images, with a note on those that the run knows by content, under whatever name."""
    run, other = made(tmp_path), tmp_path / "of mine!"
    for number, label in enumerate(CLASSES[:2]):
        write(other / label / "a.png", picture(70 + number))
    write(other / "blue/seen.png", picture(0))
    write(other / "blue/page.png", b"<html>")
    found = scoring.images(run, other)
    assert paths(found) == ["blue/a.png", "blue/seen.png", "green/a.png"]
    assert (found.name, found.on, found.group_of) == ("other-of-mine-", f"all images of {other}", None)
    assert [path for path, _reason in found.skipped] == ["blue/page.png"]
    assert found.notes == ("images that were in the run's training set: 1 of 3; the score is too optimistic",)
    with pytest.raises(ImgclfError, match="not the data this run was trained on, and it has no val folder; omit --split"):
        scoring.images(run, other, "val")
    write(other / "zebra/1.png", picture(75))
    with pytest.raises(ImgclfError, match="class zebra is unknown to this run; its classes are blue, green, red"):
        scoring.images(run, other)


def test_a_part_of_another_folder_that_is_split(tmp_path: Path) -> None:
    run, other = made(tmp_path), tmp_path / "other"
    for number, subset in enumerate(("train", "test")):
        write(other / subset / "blue/a.png", picture(60 + number))
        write(other / subset / "green/page.png", b"<html>")
        write(other / subset / "green/b.png", picture(65 + number))
    found = scoring.images(run, other, "test")
    assert paths(found) == ["test/blue/a.png", "test/green/b.png"]
    assert [path for path, _reason in found.skipped] == ["test/green/page.png"]
    assert (found.name, found.on) == ("other-other-test", f"the test folder of {other}")
    assert len(scoring.images(run, other).samples) == 4
    with pytest.raises(ImgclfError, match=r"no image to evaluate: the val folder"):
        scoring.images(run, other, "val")


def test_nothing_to_score(tmp_path: Path) -> None:
    run = made(tmp_path)
    for label in CLASSES:
        for index in (3, 4):
            (tmp_path / f"data/{label}/{index}.png").unlink()
    with pytest.raises(ImgclfError, match=r"no image to evaluate: the test set of the run's own split; images of the test"):
        scoring.images(run)


def test_answers_are_those_of_each_run_and_measures_those_of_the_image(tmp_path: Path) -> None:
    run = made(tmp_path)
    second = Bundle.load(tiny_run(tmp_path / "second"))
    write(tmp_path / "data/green/4.png", b"\x89PNG\r\n\x1a\n, and no more")
    on, told = scoring.images(run), []
    found = scoring.score([run, second], on, lambda done, total: told.append((done, total)))
    assert told == [(number, 6) for number in range(1, 7)]
    assert [sample.path for sample in found.samples] == ["blue/3.png", "blue/4.png", "green/3.png", "red/3.png", "red/4.png"]
    assert [path for path, _reason in found.skipped] == ["green/4.png"]
    assert found.true.tolist() == [0, 0, 1, 2, 2]
    for place, sample in enumerate(found.samples):
        for bundle, rows in zip((run, second), found.probabilities, strict=True):
            pixels = preprocess.load(bundle.preprocessing, on.root / sample.path)
            assert rows[place].tolist() == bundle.probability(pixels).tolist()
        image = decode.decode((on.root / sample.path).read_bytes())
        grey = preprocess.thumbnail(image, quality.SIDE)
        expected = {
            "size": min(image.shape[:2]),
            "brightness": quality.brightness(quality.levels(grey)),
            "blur": quality.blurry(grey),
        }
        assert dict(zip(scoring.MEASURES, found.measures[place].tolist(), strict=True)) == expected
    assert scoring.groups(on, found) == grouped.Groups(images=5, groups=5, largest=1)
    assert scoring.groups(dataclasses.replace(on, group_of=None), found) is None
    name = run.info.metrics.val_baseline.class_name
    assert scoring.baseline_of(run, found, 3) == baseline.baseline(name, 2, 3, 5)
    assert name == "blue"


def test_no_image_that_can_be_read(tmp_path: Path) -> None:
    run = made(tmp_path)
    on = scoring.images(run)
    shutil.rmtree(tmp_path / "data/green")
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(
        ImgclfError, match="none of the 6 images can be read \\(the test set of the run's own split\\); run `imgclf"
    ):
        scoring.score([run], on)


def test_a_run_whose_split_is_gone_or_another(tmp_path: Path) -> None:
    run = made(tmp_path)
    manifest = scoring.manifest_of(run)
    (run.path / scoring.MANIFEST).write_text(dataclasses.replace(manifest, rows=manifest.rows[1:]).to_csv())
    with pytest.raises(ImgclfError, match="the split was changed after training"):
        scoring.manifest_of(run)
    (run.path / scoring.MANIFEST).unlink()
    with pytest.raises(ImgclfError, match="broken run: the file is missing"):
        scoring.manifest_of(run)
