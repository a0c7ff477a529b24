"""Test runs: the list, the best run, and removal without loss."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import Run, write

from imgclf import runs
from imgclf.core.errors import ImgclfError
from imgclf.core.files import locks
from imgclf.evaluation.baseline import Baseline
from imgclf.models import registry
from imgclf.models.bundle import Bundle
from imgclf.models.run_info import checksum


def copy(project: Path, name: str, accuracy: float, finished: str) -> Path:
    """Copy `toy`, or change it, with another validation accuracy and time."""
    path = project / "runs" / name
    if not path.exists():
        shutil.copytree(project / "runs" / "toy", path)
    info = json.loads((path / "bundle.json").read_text())
    info["metrics"]["val_accuracy"], info["finished"] = accuracy, finished
    info["checksum"] = checksum(info)
    (path / "bundle.json").write_text(json.dumps(info))
    return path


@pytest.fixture
def folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make five runs: `toy`, two equally good better ones, an unfinished and a broken one; and a file and an empty folder."""
    copy(project, "toy", 0.9, "2029-01-01")
    copy(project, "better", 0.995, "2030-01-01")
    copy(project, "equal", 0.995, "2031-01-01")
    broken = copy(project, "broken", 1.0, "2032-01-01")
    write(broken / "model.tflite", b"x")
    write(project / "runs" / "half" / "config.json", b'{"model": "vgg16", "data": "/photos"}')
    write(project / "runs" / "notes.txt", b"milk")
    (project / "runs" / "empty").mkdir()
    for number, name in enumerate(("toy", "better", "equal", "broken", "half")):
        os.utime(project / "runs" / name / "config.json", (number, number))
    monkeypatch.chdir(project)
    return project / "runs"


def test_list_shows_every_run(folder: Path) -> None:
    beside = {"class_name": "blue", "accuracy": 0.25, "interval": [0.2, 0.3], "verdict": "better"}
    tested = {"accuracy": 0.5, "interval": [0.4, 0.6], "baseline": beside}
    write(folder / "toy" / "evaluation-test.json", json.dumps(tested).encode())
    write(folder / "equal" / "evaluation-test.json", b'{"accuracy": 0.5}')
    found = {run.name: run for run in runs.runs(folder)}
    assert list(found) == ["half", "broken", "equal", "better", "toy"]
    assert found["half"] == runs.Run("half", str(folder / "half"), "unfinished", "vgg16", data="/photos")
    assert (found["toy"].state, found["toy"].model, found["toy"].epochs, found["toy"].test_accuracy) == (
        "finished",
        "cnn",
        3,
        0.5,
    )
    assert (found["toy"].test_interval, found["toy"].test_baseline) == ((0.4, 0.6), Baseline.from_dict(beside))
    assert (found["equal"].test_accuracy, found["equal"].test_interval, found["equal"].test_baseline) == (None, None, None)
    assert (found["better"].val_accuracy, found["better"].test_accuracy) == (0.995, None)
    assert (found["broken"].state, found["broken"].val_accuracy) == ("broken", None)
    assert "copy the run folder again" in found["broken"].problem
    with pytest.raises(ImgclfError, match="nowhere: no such folder; give --in the folder of runs"):
        runs.runs(folder / "nowhere")


def test_best_is_the_newest_of_equally_good_runs(folder: Path) -> None:
    assert registry.find("best").path == Path("runs/equal")
    shutil.rmtree(folder / "equal")
    assert registry.find("best").path == Path("runs/better")
    with pytest.raises(ImgclfError, match="no finished run here"):
        registry.find("best", folder / "empty")


def test_runs_on_other_splits_are_not_compared(folder: Path, imgclf: Run) -> None:
    """The accuracy of a run on an older split is not comparable with that on the newest split."""
    for name, accuracy, finished in (("other", 0.999, "2030-06-01"), ("newest", 0.6, "2033-01-01")):
        path = copy(folder.parent, name, accuracy, finished)
        info = json.loads((path / "bundle.json").read_text())
        info["data"]["split_hash"] = name
        info["checksum"] = checksum(info)
        (path / "bundle.json").write_text(json.dumps(info))
    words = "newest is the best of 1 on the newest run's split; runs on other splits, not compared: 4"
    assert (registry.find("best").path, registry.best(folder)[1]) == (Path("runs/newest"), words)
    done = imgclf("runs", "best")
    assert (done.stdout, done.stderr) == ("runs/newest\n", f"{words}\n")
    assert words in imgclf("info", "best").stderr
    shutil.rmtree(folder / "newest")
    assert registry.best(folder)[0].path.name == "equal"


def test_a_broken_newest_run_is_an_error(folder: Path) -> None:
    with pytest.raises(
        ImgclfError, match=r"it is the newest run: move it away with `imgclf runs rm broken`, or give --run another"
    ):
        registry.find("latest")
    runs.remove("broken")
    registry.find("latest")


def test_removed_runs_are_kept_in_the_trash(folder: Path) -> None:
    """This holds for two runs of the same name. A run in training is not removed."""
    files = {path.name: path.read_bytes() for path in (folder / "toy").iterdir()}
    shutil.copytree(folder / "toy", folder / "again")
    first = runs.remove("toy", folder)
    os.rename(folder / "again", folder / "toy")
    second = runs.remove(str(folder / "toy"), folder)
    assert (first, second) == (folder.resolve() / ".trash/toy", folder.resolve() / ".trash/toy-2")
    for place in (first, second):
        assert {path.name: path.read_bytes() for path in place.iterdir()} == files
    assert "toy" not in {run.name for run in runs.runs(folder)}
    Bundle.load(first)
    with (
        locks.held(folder / "half" / "config.json", ""),
        pytest.raises(ImgclfError, match="another process is training this run"),
    ):
        runs.remove("half", folder)
    for name in ("toy", "empty", "..", ""):
        with pytest.raises(ImgclfError, match="not a run; `imgclf runs list` shows"):
            runs.remove(name, folder)


def test_commands(folder: Path, imgclf: Run) -> None:
    done = imgclf("runs", "list")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:6]] == ["run", "half", "broken", "equal", "better", "toy"]
    assert "5 runs in runs" in done.stderr
    assert "runs/broken/model.tflite: broken run: the file was changed after training" in done.stderr
    assert {run["name"] for run in json.loads(imgclf("runs", "list", "--json").stdout)} >= {"toy", "half"}
    assert imgclf("runs", "best").stdout == "runs/equal\n"
    known = json.loads(imgclf("info", "toy", "--json").stdout)
    assert known["class_names"] == ["blue", "green", "red"]
    assert known["calibration"]["images"] == 12
    shown = imgclf("runs", "show", "best").stdout
    assert "metrics.val_accuracy" in shown
    assert "blue, green, red" in shown
    done = imgclf("predict", "data/red/000.png", "--run", "best", "--json")
    assert done.returncode == 0
    done = imgclf("runs", "rm", "toy", "half")
    assert done.returncode == 0
    assert not (folder / "toy").exists()
    assert "moved toy to " in done.stderr
    done = imgclf("runs", "rm", "toy")
    assert (done.returncode, done.stdout) == (1, "")
