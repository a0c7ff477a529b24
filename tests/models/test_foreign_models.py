"""Networks, checkpoints and settings from someone else: what crashes LiteRT crashes a child, and little memory is taken."""

import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, photo, write
from tiny import CLASSES, SIDE, SPECIAL, network, rewrite, special, tiny_run

from imgclf import runs
from imgclf.core import json_schema
from imgclf.core.config import Preprocessing, TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.models import evaluations, litert_head, litert_probe
from imgclf.models.bundle import Bundle
from imgclf.train import checkpoint, setup

IMAGE = np.asarray(photo(1, SIDE, SIDE))


# -- model.tflite -----------------------------------------------------------------------------------------------------------


def changed(change: Callable[[Any], object]) -> bytes:
    """The network of `tiny_run` with a change to its parts."""
    from ai_edge_litert import schema_py_generated as schema

    content = network()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model)
    return litert_head._packed(model, 2 * len(content))


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
    (lambda: network(4), r"its output is float32 \(1, 4\), but must be float32 \(1, 3\)"),
    (lambda: network(3, 16), r"its input is float32 \(1, 16, 16, 3\), but must be float32 \(1, 8, 8, 3\)"),
    (lambda: changed(_kernel), "cannot be used: "),
    (lambda: changed(_inputs), "cannot be used: "),
    (lambda: changed(_outputs), "it has 2 outputs, but must have exactly one"),
    (lambda: changed(_graphs), "it has 2 subgraphs, but must have exactly one"),
    (lambda: changed(_not_a_number), "its outputs are not probabilities"),
]


@pytest.mark.parametrize(("make", "words"), NETWORKS)
def test_a_network_that_is_not_ours(make: Callable[[], bytes], words: str, folder: Path) -> None:
    run = folder / "runs/bad"
    (run / "model.tflite").write_bytes(make())
    rewrite(run)
    with pytest.raises(ImgclfError, match=words) as raised:
        Bundle.load(run).probability(IMAGE)
    assert str(raised.value).startswith(f"{run}/model.tflite: broken run: ")
    assert "\n" not in str(raised.value)


def test_what_crashes_litert_crashes_a_child(folder: Path, imgclf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteRT ends the process for some files; which ones, changes with its versions, so the child ends itself here."""
    shutil.rmtree(Path(os.environ["XDG_CACHE_HOME"]) / "imgclf/probed")
    for death in ("os.abort()", "x = bytearray(1 << 40)", "[0 for _ in iter(int, 1)]"):
        site = write(
            folder / "site/sitecustomize.py",
            f"import os, sys\nif any('_child' in word for word in sys.orig_argv):\n    import imgclf.models.litert_probe as p\n"
            f"    def mismatch(*_): {death}\n    p.mismatch = mismatch\n".encode(),
        )
        done = imgclf("predict", "photo.png", "--run", "bad", env={**os.environ, "PYTHONPATH": str(site.parent)})
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("imgclf: error: runs/bad/model.tflite: broken run: the model cannot be used: ")
        assert done.stderr.count("\n") == 1


def test_a_network_is_tried_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Path] = []
    real = litert_probe._problem

    def counted(file: Path, side: tuple[int, int], outputs: int) -> str:
        tried.append(file)
        return real(file, side, outputs)

    monkeypatch.setattr(litert_probe, "_problem", counted)
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


# -- model.keras ------------------------------------------------------------------------------------------------------------


def test_a_keras_file_of_a_stranger(trained: Path, tmp_path: Path) -> None:
    """Of 359 changed copies 67 ended in a traceback."""
    run = shutil.copytree(trained / "runs/toy", tmp_path / "toy")
    file = run / "model.keras"
    with zipfile.ZipFile(file) as archive:
        good = {name: archive.read(name) for name in archive.namelist()}
    broken = bytearray(good["model.weights.h5"])
    broken[40:2000] = bytes(1960)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    for changes, how, words in (
        ({"model.weights.h5": bytes(broken)}, zipfile.ZIP_STORED, "cannot load this file"),
        ({"config.json": b"{}"}, zipfile.ZIP_STORED, "cannot load this file"),
        ({}, zipfile.ZIP_DEFLATED, "not a Keras file written by imgclf: the content is compressed"),
        ({"x.py": b""}, zipfile.ZIP_STORED, "not a Keras file written by imgclf: it contains other files than Keras writes"),
        (None, 0, "not a Keras file written by imgclf: model.weights.h5 is damaged"),
    ):
        if changes is None:
            file.write_bytes(content)
        else:
            with zipfile.ZipFile(file, "w", how) as archive:
                for name, data in (good | changes).items():
                    archive.writestr(name, data)
        kept = {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        rewrite(run, lambda info, kept=kept: info["files"].update({"model.keras": kept}))
        with pytest.raises(ImgclfError, match=words) as raised:
            Bundle.load(run).network()
        assert str(raised.value).startswith(f"{file}: ")
        assert "\n" not in str(raised.value)


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


@pytest.mark.parametrize("value", [[1e300, 1, 1], [10**400, 1, 1], [[1, 1, 1]], ["x"], {}, "auto", [-1, 1, 1]])
def test_wrong_weights_in_config_json(value: Any, tmp_path: Path) -> None:
    setup.write_config(tmp_path, setup.Stored(TrainConfig(), Preprocessing(32, 32), tmp_path, np.ones(3, np.float32)))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"weights_of_classes": value}))
    with pytest.raises(ImgclfError, match=r"config.json: cannot be read .*; train again") as raised:
        setup.read_config(tmp_path)
    assert "\n" not in str(raised.value)


def test_an_evaluation_with_wrong_values(folder: Path) -> None:
    file = folder / "runs/bad" / evaluations.TEST
    beside = {"class_name": "blue", "accuracy": 0.25, "interval": [0.2, 0.3], "verdict": "better"}
    right = {"accuracy": 0.5, "interval": [0.4, 0.6], "baseline": beside}
    for change, words in (
        ({"accuracy": "0.5"}, 'accuracy is invalid: it is "0.5", but must be a number, 0 to 1'),
        ({"accuracy": 2}, "accuracy is invalid: it is 2"),
        ({"interval": [0.1]}, "interval is invalid: it is a list of 1"),
        ({"baseline": {**beside, "verdict": "best"}}, "baseline.verdict is invalid"),
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
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
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
        ({}, True, {}, "the arrays are compressed"),
        ({"../x": np.ones(1)}, False, {}, "unexpected array '../x.npy'"),
        ({"best-0001": np.array([{}], object)}, False, {}, "invalid array of type object"),
        ({"state": np.ones(3)}, False, {}, "the state is not text"),
        ({}, False, {"epochs": True}, "state: epochs must be a whole number, 1 to 1000000, not True"),
        ({}, False, {"factor": 0}, "state: factor must be a number, above 0 and up to 1, not 0"),
        ({}, False, {"tuned_from": 7}, "tuned_from is larger than the number of epochs in the history"),
        ({}, False, {"history": []}, "the history does not match the weights"),
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
    with pytest.raises(json_schema.MismatchError, match=r"^height is missing$"):
        json_schema.check({}, "bundle", "preprocessing")
    with pytest.raises(
        json_schema.MismatchError, match="interval is invalid: it is a list of 3, but must be a list of 2 items"
    ):
        json_schema.check([0, 1, 1], "bundle", "interval", place="interval")
    json_schema.check([0, 1], "bundle", "interval")
