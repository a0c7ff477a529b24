"""Any path that a user can have, in every command: as data folder, run folder, image and output."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, make_classes
from typer.testing import CliRunner

from imgclf.cli.app import app
from imgclf.core.config import ExportConfig
from imgclf.export import exporting, formats
from imgclf.models.bundle import Bundle

NAMES = {
    "shell": "-a  [1]* ?'\"%s%41{0}` #$HOME&;\\",
    "unicode": "~e\u0301te\u0301 📷👩‍🔬",
    "long": "x" * 200,
}


def run(*arguments: object) -> str:
    """stdout of a command that goes well."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.stdout


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_any_name_goes_through_every_quick_command(
    name: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, own, out = Path(name), Path("runs", name), Path("out", name)
    shutil.copytree(trained / "data", data)
    shutil.copytree(trained / "runs" / "toy", own)
    out.mkdir(parents=True)
    image = data / "red" / f"{name}.png"
    (data / "red" / "000.png").rename(image)
    folder = ["--", data]  # as for any program, where a name begins with a dash
    cleaned = json.loads(run("clean", "--json", f"--html={out / name}.html", f"--report={out / name}.csv", *folder))
    assert cleaned["files"] == 72
    assert json.loads(run("preview", "--json", f"--out={out / name}.png", f"--html={out / 'browse.html'}", *folder))
    run("split", "--json", "--force", f"--export={out / 'folders'}", *folder)
    run("split", "--check", *folder)
    assert run("evaluate", "--json", f"--run={own}", f"--html={out / 'page.html'}", *folder)
    for asked in (image, data / "red", f"{data}/red/*{'[0-9].png'}"):
        records = json.loads(run("predict", "--json", f"--run={own}", "--", asked))
        assert records and all(record["error"] is None for record in records), records
    (record,) = json.loads(run("predict", "--json", f"--run={own}", f"--link-to={out / 'sorted'}", "--", image))
    assert record["input"] == str(image)
    assert (out / "sorted" / record["label"] / f"{name}.png").exists()
    run("predict", f"--undo={out / 'sorted'}")
    run("explain", f"--run={own}", f"--out={out / 'seen'}", "--", image)
    assert json.loads(run("info", "--json", "--", own))
    files = sorted(path.name for path in out.iterdir())
    expected = [f"{name}.html", f"{name}.csv", f"{name}.png", "browse.html", "folders", "page.html", "sorted", "seen"]
    assert files == sorted(expected)


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=() if form == "saved-model" else pytest.mark.long) for form in formats.FORMATS]
)
def test_exports_into_folders_of_any_name(form: Any, trained: Path, tmp_path: Path) -> None:
    """TensorFlow takes [1] and the like anywhere in a path for a pattern."""
    if form == "onnx":
        pytest.importorskip("onnxruntime")
    bundle = Bundle.load(trained / "runs" / "toy")
    folder = tmp_path / NAMES["shell"]
    folder.mkdir()
    path = folder / f"{folder.name}{formats.FORMATS[form].ending}"
    done = exporting.export(bundle, ExportConfig(form), data=trained / "data", out=path)
    assert path.exists()
    assert done.difference < 1e-4
    assert [one.name for one in folder.iterdir()] == [path.name]


@pytest.mark.long
def test_training_in_a_folder_of_any_name(tmp_path: Path, imgclf: Run) -> None:
    name = NAMES["shell"]
    here = tmp_path / name
    make_classes(here / name, {"blue": 12, "red": 12})
    for words in (
        ["clean", f"./{name}"], ["split", f"./{name}"],
        ["train", f"./{name}", "--epochs", "1", "--tensorboard", "--run-dir", f"./runs/{name}"],
        ["train", f"./{name}", "--epochs", "1", "--model", "efficientnet-lite0", "--image-size", "32"],
        ["audit", f"./{name}", f"--html=./{name}.html"], ["export", "--run", f"./runs/{name}", "--format", "saved-model"],
        ["evaluate", "--run", f"./runs/{name}"],
    ):  # fmt: skip
        done = imgclf(*words, cwd=here)
        assert done.returncode == 0, (words, done.stderr)
