"""Runs from someone else: one line for whatever is wrong with them, little memory, nothing that hangs."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, encoded, make_classes, photo, write
from tiny import CLASSES, SIDE, network, signed, tiny_run

from imgclf import evaluations, runs, split
from imgclf.base import reading, shape
from imgclf.base.errors import ImgclfError
from imgclf.bundle import Bundle
from imgclf.learning import litert, probe
from imgclf.train import checkpoint, setup

IMAGE = np.asarray(photo(1, SIDE, SIDE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, `good` and `bad`, and a photo."""
    monkeypatch.chdir(tmp_path)
    tiny_run(tmp_path / "runs/good")
    shutil.copytree("runs/good", "runs/bad")
    write(tmp_path / "photo.png", encoded(photo(1), "PNG"))
    return tmp_path


def rewrite(run: Path, change: Callable[[dict[str, Any]], object] = lambda info: None) -> None:
    """Change bundle.json and sign it as a stranger would."""
    info = json.loads((run / "bundle.json").read_bytes())
    change(info)
    (run / "bundle.json").write_text(json.dumps(signed(info, run)))


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


def special(path: Path, kind: str) -> None:
    """Replace a file by something that is none."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            here = Path.cwd()
            os.chdir(path.parent)  # the path of a socket is short
            one.bind(path.name)
            os.chdir(here)
    else:
        path.symlink_to(kind)


SPECIAL = ["pipe", "folder", "socket", "/dev/zero", "/dev/tty"]


# -- bundle.json ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("recipe", "width", by=25_000), "recipe: width must be a whole number, 1 to 1024, not 25000"),
        (replaced("recipe", "width", by="64"), "recipe: width must be a whole number, 1 to 1024, not '64'"),
        (replaced("recipe", "height", by=-5), "recipe: height must be a whole number, 1 to 1024, not -5"),
        (replaced("calibration", "temperature", by=float("nan")), "cannot be read: NaN is no finite number"),
        (replaced("calibration", "temperature", by=float("inf")), "cannot be read: Infinity is no finite number"),
        (replaced("calibration", "temperature", by="1"), 'temperature is missing or wrong: "1", but must be a number'),
        (replaced("calibration", "thresholds", by=[[0.5, 1]]), "calibration.thresholds[0] is missing or wrong: a list of 2"),
        (replaced("calibration", "thresholds", 0, 0, by=1.5), "calibration.thresholds[0][0] is missing or wrong: 1.5"),
        (replaced("class_names", by="blue"), 'class_names is missing or wrong: "blue", but must be a list'),
        (replaced("class_names", by=["blue", "blue", "red"]), "class_names is missing or wrong: a name occurs twice"),
        (replaced("class_names", 1, by=".imgclf"), "class_names is missing or wrong: '.imgclf' cannot be the name of a folder"),
        (replaced("class_names", 1, by=".."), "class_names is missing or wrong: '..' cannot"),
        (replaced("class_names", 1, by="a/b"), "class_names is missing or wrong: 'a/b' cannot"),
        (replaced("class_names", 1, by=""), "class_names is missing or wrong: '' cannot"),
        (replaced("class_names", 1, by="a\nb"), "class_names is missing or wrong: 'a\\nb' cannot"),
        (replaced("class_names", 1, by="\ud800"), "class_names is missing or wrong: '\\ud800' is no text"),
        (replaced("data", "path", by="\ud800"), "data.path is missing or wrong: '\\ud800' is no text"),
        (replaced("metrics", "epochs", by=10**400), "metrics.epochs is missing or wrong: "),
        (replaced("metrics", "val_interval", by=[0, "1"]), 'metrics.val_interval[1] is missing or wrong: "1"'),
        (replaced("metrics", "val_baseline", "interval", by=None), "metrics.val_baseline.interval is missing or wrong: null"),
        (replaced("metrics", "val_baseline", "class_name", by="cat"), "metrics.val_baseline.class_name is missing or wrong"),
        (replaced("data", "pictures", by=[]), "data.pictures is missing or wrong: a list of 0, but must be an object"),
        (replaced("class_weights", by=[1.0]), "class_weights is missing or wrong: there must be one for each class"),
        (replaced("files", "../../x", by={"bytes": 1, "sha256": "0" * 64}), "files.../../x is unknown"),
        (replaced("packages", by={"keras": 3}), "packages.keras is missing or wrong: 3, but must be text"),
        (replaced("parameters", by=True), "parameters is missing or wrong: true, but must be a whole number, 1 or more"),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong(folder: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
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
def test_a_network_of_25000_pixels_costs_no_memory(command: str, folder: Path) -> None:
    """It took 1.9 GB for one photo, and 7.3 GB for thirty."""
    rewrite(folder / "runs/bad", lambda info: info["recipe"].update(width=25_000, height=25_000))
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'imgclf', *sys.argv[1:]], capture_output=True, text=True)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1000, done.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS[command]], capture_output=True, text=True, timeout=120)
    exit_code, megabytes, said = done.stdout.split(" ", 2)
    assert exit_code == "1"
    assert int(megabytes) < 150
    assert "runs/bad/bundle.json: recipe: height must be a whole number, 1 to 1024, not 25000" in said
    assert said.strip().count("\n") == 0


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", ["bundle.json", "model.tflite", "model.keras", "evaluation-test.json"])
def test_what_is_no_file_is_not_waited_for(name: str, kind: str, folder: Path) -> None:
    """A pipe named bundle.json hung; a link to /dev/zero was read without end."""
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
        assert "runs/bad/bundle.json: cannot be read: no regular file" in done.stderr or command != "list"
        assert "good" in done.stdout or command == "rm"
    else:
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "runs/bad" in done.stderr


def test_json_is_bounded_before_it_takes_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for content, words in (
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' + b"9" * 5_000 + b"}", "Exceeds the limit"),
        (b'{"a":1e999}', "1e999 is no finite number"),
        (b'{"a":-Infinity}', "-Infinity is no finite number"),
        (b'{"a":"\xff"}', "codec can't decode"),
        (b"[]", "no JSON object"),
        (b"", "Expecting value"),
        (b'{"a":[' + b"{}," * (1 << 20) + b"1]}", "more than 2,097,152 values, the most that is read of such a file"),
        (b" " * ((1 << 24) + 1), "larger than 16,777,216 bytes"),
    ):
        file.write_bytes(content)
        with pytest.raises(ImgclfError) as raised:
            reading.read_json(file)
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)


# -- model.tflite -----------------------------------------------------------------------------------------------------------


def changed(change: Callable[[Any], object]) -> bytes:
    """The network of `tiny_run` with a change to its parts."""
    from ai_edge_litert import schema_py_generated as schema

    content = network()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model)
    return litert._packed(model, 2 * len(content))


def _outputs(model: Any) -> None:
    model.subgraphs[0].outputs = [0, 9]


def _graphs(model: Any) -> None:
    model.subgraphs.append(model.subgraphs[0])


def _not_a_number(model: Any) -> None:
    model.buffers[-1].data = np.full(3, np.nan, "<f4").view(np.uint8)


def _kernel(model: Any) -> None:
    model.subgraphs[0].tensors[1].shape = [1 << 22, 3, 3, 3]


def _inputs(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = [0, 5, 2]


NETWORKS: list[tuple[Callable[[], bytes], str]] = [
    (lambda: network()[:1000], "not a valid Flatbuffer"),
    (lambda: b"", "cannot be used: "),
    (lambda: network(4), r"its output is float32 \(1, 4\), where it must be float32 \(1, 3\)"),
    (lambda: network(3, 16), r"its input is float32 \(1, 16, 16, 3\), where it must be float32 \(1, 8, 8, 3\)"),
    (lambda: changed(_kernel), "cannot be used: "),
    (lambda: changed(_inputs), "cannot be used: "),
    (lambda: changed(_outputs), "2 outputs, where there must be one"),
    (lambda: changed(_graphs), "2 graphs, where there must be one"),
    (lambda: changed(_not_a_number), "it gives no probabilities"),
]


@pytest.mark.parametrize(("make", "words"), NETWORKS)
def test_a_network_that_is_not_ours(make: Callable[[], bytes], words: str, folder: Path) -> None:
    run = folder / "runs/bad"
    (run / "model.tflite").write_bytes(make())
    rewrite(run)
    with pytest.raises(ImgclfError, match=words) as raised:
        Bundle.load(run).probability(IMAGE)
    assert str(raised.value).startswith(f"{run}/model.tflite: broken bundle, ")
    assert "\n" not in str(raised.value)


def test_what_crashes_litert_crashes_a_child(folder: Path, imgclf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT ends the process for some files; which ones, changes with its versions, so the child ends itself here."""
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "imgclf/probed")
    for death in ("os.abort()", "x = bytearray(1 << 40)", "[0 for _ in iter(int, 1)]"):
        site = write(
            folder / "site/sitecustomize.py",
            f"import os, sys\nif any('_child' in word for word in sys.orig_argv):\n    import imgclf.learning.probe as p\n"
            f"    def unfit(*_): {death}\n    p.unfit = unfit\n".encode(),
        )
        done = imgclf("predict", "photo.png", "--run", "bad", env={**os.environ, "PYTHONPATH": str(site.parent)})
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("imgclf: error: runs/bad/model.tflite: broken bundle, the model cannot be used: ")
        assert done.stderr.count("\n") == 1


def test_a_network_is_tried_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []
    real = probe._tried

    def counted(file: Path, side: tuple[int, int], outputs: int) -> str:
        tried.append(file)
        return real(file, side, outputs)

    monkeypatch.setattr(probe, "_tried", counted)
    own, good = tiny_run(folder / "own"), Path("runs/good")
    assert Bundle.load(own).probability(IMAGE).shape == (len(CLASSES),)
    assert Bundle.load(good).probability(IMAGE).shape == (len(CLASSES),)
    assert tried == []  # made by this user
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "imgclf/probed")
    for _twice in range(2):
        Bundle.load(good).probabilities([IMAGE] * 20)
    assert tried == [good / "model.tflite"]
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "imgclf/probed")
    write(Path(os.environ["XDG_CACHE_HOME"]) / "imgclf/probed", b"")  # a cache that cannot be written
    for _twice in range(2):
        Bundle.load(good).probability(IMAGE)
    assert len(tried) == 3


# -- config.json, evaluations and the checkpoint ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SPECIAL)
def test_an_unfinished_run_that_is_no_file(kind: str, folder: Path) -> None:
    (folder / "runs/half").mkdir()
    special(folder / "runs/half/config.json", kind)
    found = {one.name: one for one in runs.runs()}
    assert (found["half"].state, found["good"].state) == ("broken", "finished")
    assert found["half"].problem.startswith("runs/half/config.json: cannot be read: ")
    with pytest.raises(ImgclfError, match=r"half/config.json: cannot be read: "):
        setup.read_config(folder / "runs/half")


def test_an_evaluation_with_wrong_values(folder: Path) -> None:
    file = folder / "runs/bad" / evaluations.TEST
    beside = {"class_name": "blue", "accuracy": 0.25, "interval": [0.2, 0.3], "verdict": "better"}
    right = {"accuracy": 0.5, "interval": [0.4, 0.6], "baseline": beside}
    for change, words in (
        ({"accuracy": "0.5"}, 'accuracy is missing or wrong: "0.5", but must be a number, 0 to 1'),
        ({"accuracy": 2}, "accuracy is missing or wrong: 2"),
        ({"interval": [0.1]}, "interval is missing or wrong: a list of 1"),
        ({"baseline": {**beside, "verdict": "best"}}, "baseline.verdict is missing or wrong"),
        ({"baseline": {**beside, "x": 1}}, "baseline.x is unknown"),
    ):
        file.write_text(json.dumps(right | change))
        (one,) = (one for one in runs.runs() if one.name == "bad")
        assert (one.state, one.test_accuracy) == ("finished", None)
        assert words in one.problem
        assert "remove it, or run `imgclf evaluate` again" in one.problem
    file.write_text(json.dumps(right))
    (one,) = (one for one in runs.runs() if one.name == "bad")
    assert (one.test_accuracy, one.test_interval, one.problem) == (0.5, (0.4, 0.6), "")


def test_a_checkpoint_of_a_stranger(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
    from fuzz_runs import _work

    work = _work(tmp_path)
    file = tmp_path / "checkpoint.npz"
    state = {"content": checkpoint.content(work), "epochs": 3, "factor": 1.0, "tuned_from": None}
    state["history"] = [checkpoint.dataclasses.asdict(entry) for entry in work.history]

    def save(arrays: dict[str, Any] | None = None, compress: bool = False, **changes: Any) -> None:
        text = np.array(json.dumps({**state, **changes}))
        (np.savez_compressed if compress else np.savez)(file, **({"state": text, "best-0000": np.ones(3)} | (arrays or {})))

    save({"network-0000": np.ones(2)})
    assert list(checkpoint.restore(work)) == ["network-0000"]
    first = state["history"][0]
    for arrays, compress, changes, words in (
        ({}, True, {}, "its arrays are compressed"),
        ({"../x": np.ones(1)}, False, {}, "an array named '../x.npy'"),
        ({"best-0001": np.array([{}], object)}, False, {}, "an array of object"),
        ({"state": np.ones(3)}, False, {}, "its state is no text"),
        ({}, False, {"epochs": True}, "state: epochs must be a whole number, 1 to 1000000, not True"),
        ({}, False, {"factor": 0}, "state: factor must be a number, above 0 and up to 1, not 0"),
        ({}, False, {"tuned_from": 7}, "tuned_from is beyond its history"),
        ({}, False, {"history": []}, "its history and its weights do not belong together"),
        ({}, False, {"history": [{**first, "loss": "x"}]}, "history: loss must be a number"),
        ({}, False, {"history": [{**first, "is_best": 1}]}, "history: is_best must be true or false, not 1"),
        ({}, False, {"history": 3}, "history: expected a list"),
        ({}, False, {"x": 3}, "state: x is unknown"),
    ):
        save(arrays, compress, **changes)
        with pytest.raises(ImgclfError) as raised:
            checkpoint.restore(work)
        assert str(raised.value).startswith(f"{file}: cannot be used (")
        assert words in str(raised.value)
        assert "\n" not in str(raised.value)
    for kind in SPECIAL:
        shutil.rmtree(file) if file.is_dir() else special(file, "pipe")
        special(file, kind)
        with pytest.raises(ImgclfError, match=r"cannot be used .*cannot be read"):
            checkpoint.restore(work)


def test_a_schema_in_our_own_hand() -> None:
    """The few keywords, against the package that knows them all: tests/test_schemas.py holds what is written against it."""
    with pytest.raises(shape.MismatchError, match=r"^height is missing or wrong: it is not there$"):
        shape.check({}, "bundle", "recipe")
    with pytest.raises(shape.MismatchError, match="interval is missing or wrong: a list of 3, but must be a list of 2 items"):
        shape.check([0, 1, 1], "bundle", "interval", place="interval")
    shape.check([0, 1], "bundle", "interval")


# -- files that options name ------------------------------------------------------------------------------------------------


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
def test_an_option_that_takes_a_file(words: list[str], kind: str, folder: Path, imgclf: Run) -> None:
    split.split(make_classes(folder / "data", {"a": 6, "b": 6}, size=16))
    special(folder / "odd", kind)
    done = imgclf(*words, "odd")
    assert done.returncode in (1, 2), done.stderr
    assert done.stderr.splitlines()[-1].startswith("imgclf: error: ")
    assert "odd" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
