"""Test runs from someone else: every problem gives a one-line error, memory stays small, and nothing hangs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, make_classes
from tiny import SPECIAL, rewrite, special

from imgclf import runs
from imgclf.core.errors import ImgclfError
from imgclf.core.files import reading
from imgclf.models.bundle import Bundle
from imgclf.split import splitting


def replaced(*way: str | int, by: Any) -> Callable[[dict[str, Any]], None]:
    def change(info: Any) -> None:
        for key in way[:-1]:
            info = info[key]
        info[way[-1]] = by

    return change


COMMANDS = {
    "predict": ["predict", "photo.png", "--run", "bad"],
    "evaluate": ["evaluate", "--run", "bad"],
    "explain": ["explain", "photo.png", "--run", "bad"],
    "export": ["export", "--run", "bad"],
    "info": ["info", "bad"],
    "serve": ["serve", "bad", "--port", "0"],
    "compare": ["compare", "good", "bad"],
}


# -- bundle.json ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("preprocessing", "width", by=25_000), "preprocessing: width must be a whole number, 1 to 1024, not 25000"),
        (replaced("preprocessing", "width", by="64"), "preprocessing: width must be a whole number, 1 to 1024, not '64'"),
        (replaced("preprocessing", "height", by=-5), "preprocessing: height must be a whole number, 1 to 1024, not -5"),
        (replaced("calibration", "temperature", by=float("nan")), "cannot be read: NaN is not a finite number"),
        (replaced("calibration", "temperature", by=float("inf")), "cannot be read: Infinity is not a finite number"),
        (replaced("calibration", "temperature", by="1"), 'temperature is invalid: it is "1", but must be a number'),
        (replaced("calibration", "thresholds", by=[[0.5, 1]]), "calibration.thresholds[0] is invalid: it is a list of 2"),
        (replaced("calibration", "thresholds", 0, 0, by=1.5), "calibration.thresholds[0][0] is invalid: it is 1.5"),
        (replaced("class_names", by="blue"), 'class_names is invalid: it is "blue", but must be a list'),
        (replaced("class_names", by=["blue", "blue", "red"]), "class_names is invalid: a name occurs twice"),
        (replaced("class_names", 1, by=".imgclf"), "class_names is invalid: '.imgclf' cannot be the name of a folder"),
        (replaced("class_names", 1, by=".."), "class_names is invalid: '..' cannot"),
        (replaced("class_names", 1, by="a/b"), "class_names is invalid: 'a/b' cannot"),
        (replaced("class_names", 1, by=""), "class_names is invalid: '' cannot"),
        (replaced("class_names", 1, by="a\nb"), "class_names is invalid: 'a\\nb' cannot"),
        (replaced("class_names", 1, by="\ud800"), "class_names is invalid: '\\ud800' is not text"),
        (replaced("data", "path", by="\ud800"), "data.path is invalid: '\\ud800' is not text"),
        (replaced("metrics", "epochs", by=10**400), "metrics.epochs is invalid: it is "),
        (replaced("metrics", "val_interval", by=[0, "1"]), 'metrics.val_interval[1] is invalid: it is "1"'),
        (replaced("metrics", "val_baseline", "interval", by=None), "metrics.val_baseline.interval is invalid: it is null"),
        (replaced("metrics", "val_baseline", "class_name", by="cat"), "metrics.val_baseline.class_name is invalid"),
        (replaced("data", "images", by=[]), "data.images is invalid: it is a list of 0, but must be an object"),
        (replaced("class_weights", by=[1.0]), "class_weights is invalid: there must be one for each class"),
        (replaced("files", "../../x", by={"bytes": 1, "sha256": "0" * 64}), "files.../../x is unknown"),
        (replaced("packages", by={"keras": 3}), "packages.keras is invalid: it is 3, but must be text"),
        (replaced("parameters", by=True), "parameters is invalid: it is true, but must be a whole number, 1 or more"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused(folder: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    run = folder / "runs/bad"
    rewrite(run, change)
    with pytest.raises(ImgclfError) as raised:
        Bundle.load(run)
    assert str(raised.value).startswith(f"{run}/bundle.json: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 1
    assert [(one.name, one.state) for one in runs.runs()] in (
        [("bad", "broken"), ("good", "finished")],
        [("good", "finished"), ("bad", "broken")],
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_preprocessing_of_25000_pixels_takes_no_memory(command: str, folder: Path) -> None:
    """Before the check, predict took 1.9 GB for one image and 7.3 GB for thirty."""
    rewrite(folder / "runs/bad", lambda info: info["preprocessing"].update(width=25_000, height=25_000))
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'imgclf', *sys.argv[1:]], capture_output=True, text=True)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1000, done.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS[command]], capture_output=True, text=True, timeout=120)
    exit_code, megabytes, errors = done.stdout.split(" ", 2)
    assert exit_code == "1"
    assert int(megabytes) < 150
    assert "runs/bad/bundle.json: preprocessing: height must be a whole number, 1 to 1024, not 25000" in errors
    assert errors.strip().count("\n") == 0


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["bundle.json", "model.tflite", "model.keras", "evaluation-test.json"])
def test_pipes_and_devices_in_place_of_files_are_refused(name: str, kind: str, folder: Path) -> None:
    """Before the check, a pipe named bundle.json blocked the command, and a link to /dev/zero was read for ever."""
    run = folder / "runs/bad"
    special(run / name, kind)
    found = {one.name: one for one in runs.runs()}
    assert found["good"].state == "finished"
    assert f"runs/bad/{name}: " in found["bad"].problem
    assert found["bad"].state == ("finished" if name == "evaluation-test.json" else "broken")
    with pytest.raises(ImgclfError, match=f"runs/bad/{name}: ") as raised:
        runs.show(Bundle.load(Path("runs/bad")))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("command", [*COMMANDS, "list", "best", "rm", "resume"])
def test_no_command_waits_for_a_pipe(command: str, folder: Path, imgclf: Run) -> None:
    special(folder / "runs/bad/bundle.json", "pipe")
    words = {
        "list": ["runs", "list"],
        "best": ["runs", "best"],
        "rm": ["runs", "rm", "bad"],
        "resume": ["train", "--resume", "bad"],
    }
    done = imgclf(*(COMMANDS | words)[command])
    if command in ("list", "best", "rm"):
        assert done.returncode == 0
        assert "runs/bad/bundle.json: cannot be read: not a regular file" in done.stderr or command != "list"
        assert "good" in done.stdout or command == "rm"
    else:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "runs/bad" in done.stderr


def test_json_is_limited_before_it_takes_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for content, words in (
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5_000 + b"}", "Exceeds the limit"),
        (b'{"a":1e999}', "1e999 is not a finite number"),
        (b'{"a":-Infinity}', "-Infinity is not a finite number"),
        (b'{"a":"\xff"}', "codec can't decode"),
        (b"[]", "not a JSON object"),
        (b"", "Expecting value"),
        (b'{"a":[' + b"{}," * (1 << 21) + b"1]}", "more than 4,194,304 values, the limit for such a file"),
        (b" " * ((1 << 26) + 1), "larger than 67,108,864 bytes"),
    ):
        file.write_bytes(content)
        with pytest.raises(ImgclfError) as raised:
            reading.read_json(file)
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)


# -- files given to options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize(
    "words",
    [
        ["clean", "data", "--apply"], ["train", "data", "--class-weights"],
        ["train", "data", "--model", "efficientnet-lite0", "--weights"],
        ["split", "data", "--groups"], ["predict", "--merge"], ["predict", "photo.png", "--run"], ["info"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_option_that_takes_a_file_refuses_everything_else(words: list[str], kind: str, folder: Path, imgclf: Run) -> None:
    splitting.split(make_classes(folder / "data", {"a": 6, "b": 6}, size=16))
    special(folder / "odd", kind)
    done = imgclf(*words, "odd")
    assert done.returncode in (1, 2), done.stderr
    assert done.stderr.splitlines()[-1].startswith("imgclf: error: ")
    assert "odd" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
