"""explain: sheets of where a run looks, one record an input, nothing of the user's overwritten."""

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
    """Grey noise, of which the class `marked` has a red square in its upper left quarter."""
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
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells the two apart, of two classes, and so of one sigmoid unit."""
    from imgclf.core.config import TrainConfig
    from imgclf.split import splitting
    from imgclf.train import train

    root = tmp_path_factory.mktemp("squares")
    splitting.split(squares(root / "data"))
    config = TrainConfig(epochs=8, batch_size=8, image_size=48, augment="none", progressive=False)
    train(root / "data", config, run_dir=root / "runs" / "square")
    return root


def test_no_more_interpreters_than_work_at_once(learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images and some 150 predictions of each: one for a core, and one for the thread that asks."""
    from ai_edge_litert import interpreter

    made: list[str] = []

    class Counted(interpreter.Interpreter):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append(threading.current_thread().name)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(interpreter, "Interpreter", Counted)
    run = Bundle.load(learnt / "runs/square")
    inputs = [str(learnt / f"data/marked/{index:02d}.png") for index in range(3)]
    assert len(list(explain(run, inputs, tmp_path / "out"))) == 3
    assert 1 <= len(made) <= cpu_count()
    pixels = [preprocess.load(run.preprocessing, Path(path)) for path in inputs]
    for _again in range(3):
        run.probabilities(pixels)
    assert len(made) <= cpu_count()


def test_both_methods_look_at_the_square(learnt: Path) -> None:
    """On the photographs of the class with it; covering what they mark undoes the answer, and chance does not."""
    import keras

    run = Bundle.load(learnt / "runs/square")
    network = keras.saving.load_model(run.path / "model.keras", compile=False)
    for index in range(3):
        fed = preprocess.load(run.preprocessing, learnt / f"data/marked/{index:02d}.png")
        assert run.probability(fed)[0] > 0.7
        random = np.random.default_rng([index, True])
        random.integers(80, 170, (48, 48, 3))
        top, left = random.integers(2, 12, 2)
        for heat in (saliency.occlusion(run.probability, fed, 0), grad_cam(network, fed, 0)):
            inside = heat[max(0, top - 6) : top + 18, max(0, left - 6) : left + 18].sum() / heat.sum()
            assert inside > 0.6
        found = saliency.fidelity(run.probability, fed, 0, saliency.occlusion(run.probability, fed, 0))
        assert found.marked[-1] < found.random[-1]


def test_sheets_and_records(learnt: Path, tmp_path: Path) -> None:
    """One record an input, failures too; two of one name have two sheets; a file of the user's stays."""
    run = Bundle.load(learnt / "runs/square")
    write(tmp_path / "a" / "x.png", (learnt / "data/marked/00.png").read_bytes())
    write(tmp_path / "b" / "x.png", (learnt / "data/plain/00.png").read_bytes())
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
    with pytest.raises(UsageError, match="--class cow: no such class; there are marked, plain"):
        list(explain(run, [], tmp_path / "out", target="cow"))


def test_an_image_in_which_nothing_counts(learnt: Path, tmp_path: Path) -> None:
    """To blur a part of one colour changes nothing: no mark, and no figure falls."""
    flat = write(tmp_path / "flat.png", encoded(Image.new("RGB", (60, 40), (120, 120, 120)), "PNG"))
    [record] = explain(Bundle.load(learnt / "runs/square"), [str(flat)], tmp_path / "out")
    assert record.is_blank
    for figures in (record.marked, record.random):
        assert figures == pytest.approx((record.probability,) * 4)


def test_sheets_never_lie_among_the_images(learnt: Path, tmp_path: Path) -> None:
    image = write(tmp_path / "in" / "x.png", (learnt / "data/marked/00.png").read_bytes())
    with pytest.raises(UsageError, match="the folder that the images come from; choose another"):
        list(explain(Bundle.load(learnt / "runs/square"), [str(image.parent)], image.parent))
    assert list(image.parent.iterdir()) == [image]
    with pytest.raises(ImgclfError, match="would become part of the data; choose a place outside it for --out"):
        list(explain(Bundle.load(learnt / "runs/square"), [str(image)], learnt / "data" / "marked" / "new"))
    assert not (learnt / "data" / "marked" / "new").exists()


def test_command(learnt: Path, imgclf: Run, tmp_path: Path) -> None:
    shutil.copytree(learnt, tmp_path, dirs_exist_ok=True)
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
