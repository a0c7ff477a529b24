"""Test preview: the table, and the contact sheet pixel by pixel."""

import base64
import collections
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, encoded, make_classes, photo, started, tree, write
from PIL import Image
from planted import recompressed, scene

from imgclf.core.config import Preprocessing, PreviewConfig, TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.images import decode, header, preprocess
from imgclf.preview import overview, page
from imgclf.preview.contact_sheet import GAP, TEXT, TILE
from imgclf.preview.summary import ClassSummary
from imgclf.reports import image_page
from imgclf.split import splitting


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for index in range(6):
        write(root / "red" / f"{index}.png", encoded(Image.new("RGB", (100 + index, 50), (200, 0, 0)), "PNG"))
    write(root / "猫" / "1.jpg", encoded(photo(1, 300, 200)))
    write(root / "猫" / "2.webp", encoded(photo(2, 30, 20), "WEBP"))
    write(root / "猫" / "3.jpg", encoded(photo(3))[:150])
    return root


def test_table(data: Path) -> None:
    result = overview.preview(data)
    assert result.classes == (
        ClassSummary("red", 6, 0, (102, 50), (100, 50), (105, 50), (("PNG", 6),)),
        ClassSummary("猫", 3, 1, (165, 110), (30, 20), (300, 200), (("JPEG", 1), ("WEBP", 1))),
    )
    assert result.imbalance == 2


def test_the_sheet_shows_the_images(data: Path) -> None:
    result = overview.preview(data, PreviewConfig(columns=3))
    written = decode.decode(result.path.read_bytes())
    np.testing.assert_array_equal(written, result.sheet)
    assert written.shape == (2 * (TILE + 2 * GAP) + GAP, TEXT + 3 * (TILE + GAP) + GAP, 3)
    tile = written[GAP : GAP + TILE, TEXT : TEXT + TILE]
    assert tile[TILE // 2, TILE // 2].tolist() == [200, 0, 0]
    assert tile[2, TILE // 2].tolist() == [238, 238, 236], "a wide image keeps its shape"
    name = written[GAP : GAP + TILE, 12 : TEXT - 10]
    assert (name < 100).any(), "the class name is drawn"


def test_the_sheet_is_the_same_for_the_same_seed(data: Path) -> None:
    first, again, other = (overview.preview(data, PreviewConfig(columns=2, seed=seed)).sheet for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_images_without_augmentation_equal_the_preprocessing(data: Path) -> None:
    result = overview.preview(data, PreviewConfig(columns=6), feed=TrainConfig(image_size=16, augment="none"))
    fed = {preprocess.load(Preprocessing(16, 16), path).tobytes() for path in (data / "red").iterdir()}
    step = TILE // 16
    for column in range(6):
        tile = result.sheet[GAP : GAP + TILE, TEXT + column * (TILE + GAP) :][:, :TILE]
        assert tile[step // 2 :: step, step // 2 :: step].tobytes() in fed


def test_augmented_images_differ_and_depend_on_the_seed(data: Path) -> None:
    config = TrainConfig(image_size=32)
    plain = overview.preview(data, feed=TrainConfig(image_size=32, augment="none")).sheet
    first, again = (overview.preview(data, PreviewConfig(seed=3), feed=config).sheet for _ in range(2))
    assert (first != plain).any()
    np.testing.assert_array_equal(first, again)


def test_one_subset_of_a_split(tmp_path: Path) -> None:
    for label in "ab":
        for index in range(10):
            write(tmp_path / "data" / label / f"{index}.jpg", encoded(photo(index * 2 + ord(label))))
    splitting.split(tmp_path / "data")
    result = overview.preview(tmp_path / "data", PreviewConfig("val"))
    assert [info.count for info in result.classes] == [2, 1]  # 15% of 20 images


def test_one_subset_of_a_folder_with_subset_folders(tmp_path: Path) -> None:
    for subset, count in (("train", 3), ("test", 2)):
        for label in "ab":
            for index in range(count):
                write(tmp_path / "data" / subset / label / f"{index}.jpg", encoded(photo(index * 2 + ord(label))))
    write(tmp_path / "data" / "train" / "a" / "notes.txt", b"milk")
    result = overview.preview(tmp_path / "data", PreviewConfig("train"), out=tmp_path / "sheet.png")
    assert [info.count for info in result.classes] == [3, 3]
    assert result.skipped == (("train/a/notes.txt", "not an image"),)
    assert overview.preview(tmp_path / "data", PreviewConfig("test"), out=tmp_path / "sheet.png").skipped == ()
    with pytest.raises(ImgclfError, match="no val folder with images; it has test, train"):
        overview.preview(tmp_path / "data", PreviewConfig("val"), out=tmp_path / "sheet.png")


def test_a_class_without_images_in_the_subset_does_not_count_in_the_imbalance(tmp_path: Path, imgclf: Run) -> None:
    for label, count in (("a", 20), ("b", 40), ("c", 1)):
        for index in range(count):
            write(tmp_path / "data" / label / f"{index}.jpg", encoded(photo(100 * ord(label) + index)))
    splitting.split(tmp_path / "data")
    done = imgclf("preview", "--split", "val")
    assert "9 images, 3 classes, imbalance 2.00 (largest / smallest with images)" in done.stdout


def test_the_data_is_not_changed(data: Path) -> None:
    before = tree(data)
    overview.preview(data)
    assert tree(data) == before


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("sheet.jpg", "written as PNG"),
        ("", "a folder; give --out a file name"),
        ("data/red/sheet.png", "is inside the data folder"),
        ("data/sheet.png", "is inside the data folder"),
        ("missing/sheet.png", "cannot be written: No such file or directory"),
        ("holiday.png", "exists and was not written by imgclf, so it is not overwritten"),
    ],
)
def test_invalid_paths_for_the_sheet(out: str, words: str, data: Path) -> None:
    write(data.parent / "holiday.png", encoded(photo(1), "PNG"))
    with pytest.raises(ImgclfError, match=words):
        overview.preview(data, out=data.parent / out)
    for _ in range(2):  # an earlier sheet is replaced
        overview.preview(data, out=data.parent / "sheet.png")


def test_command(data: Path, imgclf: Run) -> None:
    done = imgclf("preview", "data/", "--out", "sheet.png", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["sheet"], document["imbalance"]) == ("sheet.png", 2)
    assert header.header((data.parent / "sheet.png").read_bytes()).format == "PNG"
    done = imgclf("preview", "data/")
    assert "JPEG 1, WEBP 1, unreadable 1" in done.stdout
    assert "9 images, 2 classes, imbalance 2.00" in done.stdout
    assert "data/.imgclf/preview.png" in done.stderr
    done = imgclf("preview", "--split", "train")
    assert (done.returncode, done.stderr) == (
        1, "imgclf: error: data/.imgclf/split.csv: no split yet; run `imgclf split data` first\n")  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_show_without_a_display(data: Path, imgclf: Run) -> None:
    bare = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = imgclf("preview", "--show", env=bare)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("imgclf: error: --show needs a display, and none was found; open the PNG instead")


# -- the page, the plots, the strip ---------------------------------------------------------------------------------------


def content_of(path: Path) -> dict[str, Any]:
    found = re.search(r'type="application/json">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_the_page_has_every_image_with_issues_subsets_and_histograms(tmp_path: Path, imgclf: Run) -> None:
    data = tmp_path / "data"
    for number in range(10):
        write(data / "ab"[number % 2] / f"{number}.jpg", encoded(scene(number, 200, 100 + 50 * (number % 2))))
    write(data / "a" / "dark.png", encoded(Image.new("RGB", (200, 100), (9, 9, 9)), "PNG"))
    write(data / "b" / "copy.jpg", recompressed(scene(1, 200, 150)))
    write(data / "b" / "empty.jpg", b"")
    assert imgclf("split").returncode == 0
    done = imgclf("preview", "--html", "p.html", "--json")
    assert done.returncode == 0
    content = content_of(tmp_path / "p.html")
    images = {image["path"]: image for image in content["images"]}
    assert len(images) == 13
    assert {path for path, image in images.items() if image["issues"]} == {"a/dark.png", "b/copy.jpg", "b/empty.jpg"}
    assert images["b/copy.jpg"]["other"] == "b/1.jpg"
    assert images["b/copy.jpg"]["subset"] == images["b/1.jpg"]["subset"] != ""
    assert (images["a/0.jpg"]["width"], images["a/0.jpg"]["height"], images["a/0.jpg"]["format"]) == (200, 100, "JPEG")
    small = decode.decode(base64.b64decode(images["a/0.jpg"]["thumbnail"]))
    assert small.shape == (80, 160, 3)
    assert images["b/empty.jpg"]["thumbnail"] == ""
    assert (tmp_path / images["a/0.jpg"]["href"]).resolve() == (data / "a/0.jpg").resolve()
    assert content["about"] == "13 files, 3 with issues"
    assert {name: check["count"] for name, check in content["checks"].items()} == {"broken": 1, "near-duplicate": 1, "blank": 1}
    histograms = {one["label"]: one for one in content["histograms"]}
    assert (histograms["a"]["count"], histograms["b"]["count"]) == (6, 6)
    assert histograms["a"]["size"][image_page.SIZES.index(96)] == 6  # 100 pixels on the shorter side
    assert histograms["b"]["size"][image_page.SIZES.index(128)] == 6
    assert histograms["a"]["aspect"][image_page.ASPECTS.index(2)] == 6
    assert histograms["a"]["brightness"][0] == 1
    assert sum(histograms["a"]["brightness"]) == 6
    document = json.loads(done.stdout)
    assert [one["size"] for one in document["histograms"]["classes"]] == [histograms[name]["size"] for name in "ab"]


def test_the_page_of_one_subset_and_of_a_sample(tmp_path: Path) -> None:
    make_classes(tmp_path / "data", {"a": 40, "b": 10}, size=16)
    splitting.split(tmp_path / "data")
    survey = page.survey(tmp_path / "data", "val")
    page.write_page(survey, tmp_path / "p.html", limit=100, seed=0)
    assert {image["subset"] for image in content_of(tmp_path / "p.html")["images"]} == {"val"}
    page.write_page(page.survey(tmp_path / "data", None), tmp_path / "p.html", limit=12, seed=0)
    shown = content_of(tmp_path / "p.html")
    assert collections.Counter(image["label"] for image in shown["images"]) == {"a": 6, "b": 6}
    assert "12 files are shown, random samples of every class (raise --limit to show more)" in shown["about"]


def test_histograms_as_a_plot(data: Path, imgclf: Run) -> None:
    for _twice in range(2):  # an earlier plot is replaced
        assert imgclf("preview", "--histograms", "h.png").returncode == 0
    image = decode.decode((data.parent / "h.png").read_bytes())
    assert image.shape[1] > 1200
    write(data.parent / "holiday.png", encoded(photo(1), "PNG"))
    done = imgclf("preview", "--histograms", "holiday.png")
    assert done.returncode == 1
    assert "was not written by imgclf" in done.stderr


def test_strip_draws_on_a_terminal_and_prints_names_in_a_pipe(data: Path, imgclf: Run) -> None:
    plain = imgclf("preview", "--strip", "--samples", "2")
    lines = [line for line in plain.stdout.splitlines() if re.match(r"\w+: \w+/\d+\.\w+, \w+/\d+\.\w+$", line)]
    assert len(lines) == 2
    assert "\x1b" not in plain.stdout
    assert "▀" not in imgclf("preview").stdout
    import pty

    host, guest = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "60"}
    environment.pop("DISPLAY", None)
    environment.pop("WAYLAND_DISPLAY", None)
    command = [sys.executable, "-m", "imgclf", "preview"]
    with started(command, stdout=guest, stderr=subprocess.DEVNULL, cwd=data.parent, env=environment) as child:
        os.close(guest)
        chunks = []
        with contextlib.suppress(OSError):  # the terminal closes when the command ends
            while chunk := os.read(host, 65536):
                chunks.append(chunk)
        assert child.wait() == 0
    os.close(host)
    text = b"".join(chunks).decode()
    rows = [line for line in text.splitlines() if "▀" in line]
    assert len(rows) == 8 * len(lines)  # sixteen pixels, two a line
    assert {line.count("▀") for line in rows} == {3 * 16}  # three thumbnails fit into 60 columns
    assert re.search(r"\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m▀", text)
