"""Make a finished run in milliseconds without TensorFlow: two files and a LiteRT network of four operators."""

import dataclasses
import datetime
import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imgclf.core.config import Preprocessing, TrainConfig
from imgclf.evaluation import baseline
from imgclf.models import bundle, inference, litert_head, run_info
from imgclf.models.bundle import Bundle
from imgclf.models.run_info import RunInfo

CLASSES = ("blue", "green", "red")
SIDE = 8


def network(classes: int = len(CLASSES), side: int = SIDE) -> bytes:
    """Make a LiteRT file with a convolution, the mean over all pixels, a dense layer and a softmax."""
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, model.subgraphs = 3, b"tiny", [graph]
    model.buffers, model.operatorCodes, graph.tensors, graph.operators = [schema.BufferT()], [], [], []

    def tensor(name: str, shape: list[int], content: Any = None, kind: int = schema.TensorType.FLOAT32) -> int:
        one = schema.TensorT()
        one.name, one.shape, one.type, one.buffer = name.encode(), shape, kind, 0
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content.tobytes(), np.uint8)
            model.buffers.append(buffer)
            one.buffer = len(model.buffers) - 1
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
        known, one = schema.OperatorCodeT(), schema.OperatorT()
        known.builtinCode, known.deprecatedBuiltinCode, known.version = code, code, 1
        model.operatorCodes.append(known)
        one.opcodeIndex, one.inputs, one.outputs = len(model.operatorCodes) - 1, inputs, [output]
        one.builtinOptionsType, one.builtinOptions = kind, options
        graph.operators.append(one)

    random = np.random.default_rng(0)
    image = tensor("image", [1, side, side, 3])
    kernel = tensor("kernel", [4, 3, 3, 3], random.normal(0, 0.01, (4, 3, 3, 3)).astype("<f4"))
    bias, axes = tensor("bias", [4], np.zeros(4, "<f4")), tensor("axes", [2], np.array([1, 2], "<i4"), schema.TensorType.INT32)
    found, mean = tensor("found", [1, side, side, 4]), tensor("mean", [1, 4])
    convolution, reducer, kinds = schema.Conv2DOptionsT(), schema.ReducerOptionsT(), schema.BuiltinOptions
    convolution.strideW = convolution.strideH = 1
    operator(schema.BuiltinOperator.CONV_2D, [image, kernel, bias], found, kinds.Conv2DOptions, convolution)
    operator(schema.BuiltinOperator.MEAN, [found, axes], mean, kinds.ReducerOptions, reducer)
    graph.inputs, graph.outputs = [image], [mean]
    head = random.normal(0, 0.1, (4, classes)).astype(np.float32)
    return litert_head.with_head(litert_head._packed(model, 4096), head, np.zeros(classes, np.float32))


def tiny_run(path: Path, classes: tuple[str, ...] = CLASSES) -> Path:
    """Make the run folder `path`. Its model.keras is not a valid file."""
    path.mkdir(parents=True)
    (path / inference.LITERT).write_bytes(network(len(classes)))
    (path / bundle.MODEL).write_bytes(b"no network")
    share, groups = [0.5, 1.0], {"images": 12, "groups": 12, "largest": 1}
    finish(
        path,
        {
            "imgclf": "0.1.0", "task": "categorical", "model": "cnn", "class_names": list(classes),
            "preprocessing": dataclasses.asdict(Preprocessing(SIDE, SIDE)),
            "metrics": {
                "best_epoch": 1, "epochs": 1, "train_loss": 0.5, "train_accuracy": 0.5, "val_loss": 0.5, "val_accuracy": 0.75,
                "val_interval": share, "val_groups": groups,
                "val_baseline": dataclasses.asdict(baseline.baseline(classes[0], 4, 9, 12)),
            },
            "data": {
                "path": str(path.parent / "data"), "fingerprint": "8927e49459e0", "split_hash": "23b2f2c7f2d8",
                "images": {"train": 51, "val": 12}, "skipped": [],
            },
            "seed": 0, "precision": "float32", "devices": "1 device",
            "config": dataclasses.asdict(TrainConfig(image_size=32)), "patience": 10, "class_weights": None, "parameters": 127,
            "weights_sha256": None,
            "packages": {"keras": "3.0.0"}, "litert_difference": 0.0,
            "calibration": {
                "temperature": 1.0, "fitted": 1.0, "gain": 0.0, "images": 12, "error_before": 0.1, "error_after": 0.1,
                "thresholds": [[0.5, 1.0, 1.0]],
            },
        },
    )  # fmt: skip
    return path


def finish(run: Path, document: dict[str, Any]) -> Bundle:
    """Write the bundle.json of a run folder with this content and the hashes of its current files."""
    files = {name: dataclasses.asdict(file) for name, file in bundle.saved_files(run).items()}
    info = RunInfo.from_dict({**document, "files": files, "finished": datetime.datetime.now(datetime.UTC).isoformat()})
    return bundle.write(run, info)


def signed(info: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return the content of a bundle.json with matching hashes, as an attacker would write it."""
    info = dict(info)
    if isinstance(info.get("preprocessing"), dict):
        preprocessing = object.__new__(Preprocessing)
        for name in (field.name for field in dataclasses.fields(Preprocessing)):
            object.__setattr__(preprocessing, name, info["preprocessing"].get(name))
        info["preprocessing_hash"] = preprocessing.hash
    if isinstance(info.get("files"), dict) and isinstance(info["files"].get(inference.LITERT), dict):
        content = (run / inference.LITERT).read_bytes()
        info["files"][inference.LITERT] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    info["checksum"] = run_info.checksum(info)
    return info


def rewrite(run: Path, change: Callable[[dict[str, Any]], object] = lambda info: None) -> None:
    """Change bundle.json and write matching hashes, as an attacker would."""
    info = json.loads((run / "bundle.json").read_bytes())
    change(info)
    (run / "bundle.json").write_text(json.dumps(signed(info, run)))


def special(path: Path, kind: str) -> None:
    """Replace a file by a pipe, a folder, a socket or a link."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            here = Path.cwd()
            os.chdir(path.parent)  # because the path of a socket must be short
            one.bind(path.name)
            os.chdir(here)
    else:
        path.symlink_to(kind)


SPECIAL = ["pipe", "folder", "socket", "/dev/zero", "/dev/tty"]
