"""Test explain: sheets with saliency maps, one record per input, no file of the user is overwritten."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, encoded, write
from PIL import Image

from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.parallel import cpu_count
from imgclf.evaluation import saliency
from imgclf.explain import explain
from imgclf.images import header, preprocess
from imgclf.models.bundle import Bundle
from imgclf.models.grad_cam import grad_cam


def squares(root: Path) -> Path:
    """Make images of grey noise; those of class `marked` have a red square in the upper left quarter."""
    for name in ("marked", "plain"):
        for index in range(40):
            random = np.random.default_rng([index, name == "marked"])
            image = random.integers(80, 170, (48, 48, 3)).astype(np.uint8)
            if name == "marked":
                top, left = random.integers(2, 12, 2)
                image[top : top + 12, left : left + 12] = (240, 30, 30)
            write(root / name / f"{index:02d}.png", encoded(Image.fromarray(image), "PNG"))
    return root


@pytest.fixture(scope="module")
def square_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run that separates the two classes; with two classes it has one sigmoid unit."""
    from imgclf.core.config import TrainConfig
    from imgclf.split import splitting
    from imgclf.train import train

    root = tmp_path_factory.mktemp("squares")
    splitting.split(squares(root / "data"))
    config = TrainConfig(epochs=8, batch_size=8, image_size=48, augment="none", progressive=False)
    train(root / "data", config, run_dir=root / "runs" / "square")
    return root


def test_at_most_one_interpreter_per_core(square_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Explaining three images takes about 150 predictions each, but needs only one interpreter per core."""
    from ai_edge_litert import interpreter

    made: list[str] = []

    class Counted(interpreter.Interpreter):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(threading.current_thread().name)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(interpreter, "Interpreter", Counted)
    run = Bundle.load(square_run / "runs/square")
    inputs = [str(square_run / f"data/marked/{index:02d}.png") for index in range(3)]
    assert len(list(explain(run, inputs, tmp_path / "out"))) == 3
    assert 1 <= len(made) <= cpu_count()
    pixels = [preprocess.load(run.preprocessing, Path(path)) for path in inputs]
    for _again in range(3):
        run.probabilities(pixels)
    assert len(made) <= cpu_count()


def test_both_methods_mark_the_square(square_run: Path) -> None:
    """If the marked pixels are covered, the probability falls further than if random ones are."""
    import keras

    run = Bundle.load(square_run / "runs/square")
    network = keras.saving.load_model(run.path / "model.keras", compile=False)
    for index in range(3):
        fed = preprocess.load(run.preprocessing, square_run / f"data/marked/{index:02d}.png")
        assert run.probability(fed)[0] > 0.7
        random = np.random.default_rng([index, True])
        random.integers(80, 170, (48, 48, 3))
        top, left = random.integers(2, 12, 2)
        for heat in (saliency.occlusion(run.probability, fed, 0), grad_cam(network, fed, 0)):
            inside = heat[max(0, top - 6) : top + 18, max(0, left - 6) : left + 18].sum() / heat.sum()
            assert inside > 0.6
        found = saliency.fidelity(run.probability, fed, 0, saliency.occlusion(run.probability, fed, 0))
        assert found.marked[-1] < found.random[-1]


def test_sheets_and_records(square_run: Path, tmp_path: Path) -> None:
    """One record per input, also for errors; two inputs of the same name get two sheets; a file of the user stays."""
    run = Bundle.load(square_run / "runs/square")
    write(tmp_path / "a" / "x.png", (square_run / "data/marked/00.png").read_bytes())
    write(tmp_path / "b" / "x.png", (square_run / "data/plain/00.png").read_bytes())
    write(tmp_path / "a" / "broken.png", b"\x89PNG")
    mine = write(tmp_path / "out" / "x.png.png", b"mine")
    for _again in range(2):
        records = list(explain(run, [str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out"))
        assert [Path(record.input).name for record in records] == ["broken.png", "x.png", "x.png"]
        assert records[0].error
        assert [record.label for record in records[1:]] == ["marked", "plain"]
        sheets = [Path(record.sheet or "") for record in records[1:]]
        assert [sheet.name for sheet in sheets] == ["x.png-2.png", "x.png-3.png"]
        assert mine.read_bytes() == b"mine"
        assert len(list((tmp_path / "out").iterdir())) == 3
    for sheet in sheets:
        assert header.header(sheet.read_bytes()).format == "PNG"
    assert records[1].probability == run.probability(preprocess.load(run.preprocessing, tmp_path / "a/x.png")).max()
    with pytest.raises(UsageError, match="--class cow: no such class; the classes are marked, plain"):
        list(explain(run, [], tmp_path / "out", target="cow"))


def test_an_image_of_one_colour_has_no_saliency(square_run: Path, tmp_path: Path) -> None:
    """Blurring an area of one colour changes nothing, so nothing is marked and no probability falls."""
    flat = write(tmp_path / "flat.png", encoded(Image.new("RGB", (60, 40), (120, 120, 120)), "PNG"))
    [record] = explain(Bundle.load(square_run / "runs/square"), [str(flat)], tmp_path / "out")
    assert record.is_blank
    for probabilities in (record.marked, record.random):
        assert probabilities == pytest.approx((record.probability,) * 4)


def test_sheets_are_never_written_among_the_images(square_run: Path, tmp_path: Path) -> None:
    image = write(tmp_path / "in" / "x.png", (square_run / "data/marked/00.png").read_bytes())
    with pytest.raises(UsageError, match="this is the folder of the images; choose another"):
        list(explain(Bundle.load(square_run / "runs/square"), [str(image.parent)], image.parent))
    assert list(image.parent.iterdir()) == [image]
    with pytest.raises(ImgclfError, match="would become part of the data; choose a place outside it for --out"):
        list(explain(Bundle.load(square_run / "runs/square"), [str(image)], square_run / "data" / "marked" / "new"))
    assert not (square_run / "data" / "marked" / "new").exists()


def test_command(square_run: Path, imgclf: Run, tmp_path: Path) -> None:
    shutil.copytree(square_run, tmp_path, dirs_exist_ok=True)
    done = imgclf("explain", "data/marked/00.png", "none.png", "--json", "--class", "plain")
    assert done.returncode == 1
    first, second = json.loads(done.stdout)
    assert (first["label"], first["target"]) == ("marked", "plain")
    assert list(first["marked"]) == ["0.05", "0.1", "0.2", "0.3"]
    assert second["error"] == "no such file"
    done = imgclf("explain", "data/marked/00.png", "--method", "grad-cam", "--out", "cam")
    assert done.returncode == 0, done.stderr
    assert "with 30% of the pixels covered: marked" in done.stdout
    assert "cam/00.png.png" in done.stdout
    write(tmp_path / "file", b"")
    done = imgclf("explain", "data/marked/00.png", "--out", "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot create this folder" in done.stderr
