"""The files of a run for fuzz_files.py: bundle.json, config.json, evaluation-test.json, the checkpoint, the LiteRT file."""

import contextlib
import copy
import json
import random
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import photo
from tiny import SIDE, signed, tiny_run

from imgclf import runs
from imgclf.core.config import Preprocessing, TrainConfig
from imgclf.models import evaluations
from imgclf.models.bundle import Bundle
from imgclf.train import checkpoint, setup
from imgclf.train.state import CHECKPOINT, Epoch

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 25_000, 10**9, 1 << 63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "64", "..",
    "a/b", "a\0b", ".imgclf", "\x1b[31m", "\ud800", "x" * 5000, [], {}, [[]], ["a", "a"], [1], {"a": 1}, [None] * 3,
]  # fmt: skip


def other_value(content: bytes, generator: random.Random) -> bytes:
    """Return a JSON document with one or two values replaced, removed or added."""
    whole = json.loads(content)
    for _change in range(generator.choice((1, 1, 2))):
        inner, key = whole, generator.choice(list(whole))
        while isinstance(inner[key], dict | list) and inner[key] and generator.random() < 0.8:
            inner = inner[key]
            key = generator.choice(list(inner)) if isinstance(inner, dict) else generator.randrange(len(inner))
        kind = generator.randrange(8)
        if kind == 0 and isinstance(inner, dict) and len(whole) > 1:
            del inner[key]
        elif kind == 1 and isinstance(inner, dict):
            inner[generator.choice(("x", "../x", ""))] = copy.deepcopy(generator.choice(VALUES))
        else:
            inner[key] = copy.deepcopy(generator.choice(VALUES))  # a copy, because the second change may alter it
    return json.dumps(whole).encode()


def targets(folder: Path, changed: Callable[[bytes, random.Random], bytes]) -> list[tuple[Any, ...]]:
    """Return (extension, valid files, reader, path, how to alter) for each kind of file. changed: alters bytes."""
    run = tiny_run(folder / "runs" / "tiny")
    other = tiny_run(folder / "runs" / "other")
    image = np.asarray(photo(1, SIDE, SIDE))

    def either_change(content: bytes, generator: random.Random) -> bytes:
        return (other_value if generator.random() < 0.7 else changed)(content, generator)

    def load_and_predict(_path: Path) -> None:
        found = Bundle.load(run)
        assert abs(found.probability(image).sum() - 1) < 1e-3
        runs.show(found)

    def resigned(path: Path) -> None:
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
            path.write_text(json.dumps(signed(json.loads(path.read_bytes()), run)))
        assert [one.name for one in runs.runs(folder / "runs") if one.state == "finished" and one.name == "other"] == ["other"]
        load_and_predict(path)

    def network(path: Path) -> None:
        info = json.loads((other / "bundle.json").read_bytes())
        (other / "bundle.json").write_text(json.dumps(signed(info, other)))
        assert abs(Bundle.load(other).probability(image).sum() - 1) < 1e-3

    def evaluation(path: Path) -> None:
        assert len(runs.runs(folder / "runs")) == 2
        evaluations.read(path)

    unfinished = folder / "unfinished"
    unfinished.mkdir()
    setup.write_config(unfinished, setup.Stored(TrainConfig(), Preprocessing(32, 32), folder, np.ones(3, np.float32)))
    (folder / "begun").mkdir()
    work = _work(folder / "begun")
    trainer: Any = types.SimpleNamespace(state=lambda: {"0000": np.zeros((3, 4), np.float32), "0001": np.int64(3)[...]})
    checkpoint.write_checkpoint(work, trainer)
    baseline = {"class_name": "red", "accuracy": 0.5, "interval": [0.2, 0.7], "verdict": "better"}
    scored = {"images": 9, "accuracy": 0.5, "interval": [0.2, 0.7], "baseline": baseline, "groups": None, "data": "/data"}
    tested, state = run / evaluations.TEST, folder / "begun" / CHECKPOINT
    return [
        (".json", [(run / "bundle.json").read_bytes()], resigned, run / "bundle.json", either_change),
        (".json", [json.dumps(scored).encode()], evaluation, tested, either_change),
        (".json", [(unfinished / "config.json").read_bytes()], lambda path: setup.read_config(path.parent),
         unfinished / "config.json", either_change),
        (".npz", [state.read_bytes()], lambda _path: checkpoint.restore(work), state, changed),
        (".tflite", [(other / "model.tflite").read_bytes()], network, other / "model.tflite", changed),
    ]  # fmt: skip


def _work(run: Path) -> Any:
    """Make an object with the attributes of a training that a checkpoint needs."""
    prepared = types.SimpleNamespace(
        files={"train": ("red/0",)}, class_names=("blue", "red"), preprocessing=Preprocessing(32, 32)
    )
    history = [Epoch(1, 0.5, 0.5, 0.5, 0.5, 100.0, 1.0, True)]
    best = [np.ones((3, 4), np.float32)]
    return types.SimpleNamespace(
        prepared=prepared, run_dir=run, epochs=3, factor=1.0, tuned_from=None, history=history, best=best
    )
