"""preview: figures and a sheet, checked pixel by pixel where it matters."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, encoded, photo, tree, write
from PIL import Image

from imgclf import preview, split
from imgclf.base.config import Recipe, TrainConfig
from imgclf.base.errors import ImgclfError
from imgclf.pixels import images
from imgclf.preview import GAP, TEXT, TILE, ClassSummary


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for index in range(6):
        write(root / "red" / f"{index}.png", encoded(Image.new("RGB", (100 + index, 50), (200, 0, 0)), "PNG"))
    write(root / "猫" / "1.jpg", encoded(photo(1, 300, 200)))
    write(root / "猫" / "2.webp", encoded(photo(2, 30, 20), "WEBP"))
    write(root / "猫" / "3.jpg", encoded(photo(3))[:150])
    return root


def test_figures(data: Path) -> None:
    result = preview.preview(data)
    assert result.classes == (
        ClassSummary("red", 6, 0, (102, 50), (100, 50), (105, 50), (("PNG", 6),)),
        ClassSummary("猫", 3, 1, (165, 110), (30, 20), (300, 200), (("JPEG", 1), ("WEBP", 1))),
    )
    assert result.imbalance == 2


def test_the_sheet_shows_the_pictures(data: Path) -> None:
    result = preview.preview(data, columns=3)
    written = images.decode(result.path.read_bytes())
    np.testing.assert_array_equal(written, result.sheet)
    assert written.shape == (2 * (TILE + 2 * GAP) + GAP, TEXT + 3 * (TILE + GAP) + GAP, 3)
    tile = written[GAP : GAP + TILE, TEXT : TEXT + TILE]
    assert tile[TILE // 2, TILE // 2].tolist() == [200, 0, 0]
    assert tile[2, TILE // 2].tolist() == [238, 238, 236], "a wide picture keeps its shape"
    name = written[GAP : GAP + TILE, 12 : TEXT - 10]
    assert (name < 100).any(), "the class name is drawn"


def test_the_sheet_is_the_same_for_the_same_seed(data: Path) -> None:
    first, again, other = (preview.preview(data, columns=2, seed=seed).sheet for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_fed_pictures_are_the_recipes(data: Path) -> None:
    result = preview.preview(data, columns=6, feed=TrainConfig(image_size=16, augment="none"))
    fed = {images.load(Recipe(16, 16), path).tobytes() for path in (data / "red").iterdir()}
    step = TILE // 16
    for column in range(6):
        tile = result.sheet[GAP : GAP + TILE, TEXT + column * (TILE + GAP) :][:, :TILE]
        assert tile[step // 2 :: step, step // 2 :: step].tobytes() in fed


def test_augmented_differs_and_is_seeded(data: Path) -> None:
    config = TrainConfig(image_size=32)
    plain = preview.preview(data, feed=TrainConfig(image_size=32, augment="none")).sheet
    first, again = (preview.preview(data, feed=config, seed=3).sheet for _ in range(2))
    assert (first != plain).any()
    np.testing.assert_array_equal(first, again)


def test_one_part_only(tmp_path: Path) -> None:
    for label in "ab":
        for index in range(10):
            write(tmp_path / "data" / label / f"{index}.jpg", encoded(photo(index * 2 + ord(label))))
    split.split(tmp_path / "data")
    result = preview.preview(tmp_path / "data", part="val")
    assert [info.count for info in result.classes] == [2, 2]


def test_the_data_stays_as_it_is(data: Path) -> None:
    before = tree(data)
    preview.preview(data)
    assert tree(data) == before


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("sheet.jpg", "written as PNG"),
        ("", "a folder; give --out a file name"),
        ("data/red/sheet.png", "lies inside the data folder"),
        ("data/sheet.png", "lies inside the data folder"),
        ("missing/sheet.png", "cannot be written: No such file or directory"),
        ("holiday.png", "exists and was not written by imgclf, so it is not overwritten"),
    ],
)
def test_bad_places_for_the_sheet(out: str, words: str, data: Path) -> None:
    write(data.parent / "holiday.png", encoded(photo(1), "PNG"))
    with pytest.raises(ImgclfError, match=words):
        preview.preview(data, out=data.parent / out)
    for _ in range(2):  # a sheet of our own is replaced
        preview.preview(data, out=data.parent / "sheet.png")


def test_command(data: Path, imgclf: Run) -> None:
    done = imgclf("preview", "data/", "--out", "sheet.png", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["sheet"], answer["imbalance"]) == ("sheet.png", 2)
    assert images.header((data.parent / "sheet.png").read_bytes()).format == "PNG"
    done = imgclf("preview", "data/")
    assert "JPEG 1, WEBP 1, unreadable 1" in done.stdout
    assert "9 pictures, 2 classes, imbalance 2.00" in done.stdout
    assert "data/.imgclf/preview.png" in done.stderr
    done = imgclf("preview", "--split", "train")
    assert (done.returncode, done.stderr) == (
        1, "imgclf: error: data/.imgclf/split.csv: no split yet; run `imgclf split` first\n")  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_show_without_a_display(data: Path, imgclf: Run) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = imgclf("preview", "--show", env=bare)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "imgclf: error: --show needs a display and there is none here; open the PNG instead"
    )
