"""The model card that /model returns."""

import dataclasses
from pathlib import Path
from typing import Any

import imgclf
from imgclf.core.errors import ImgclfError
from imgclf.models import evaluations
from imgclf.models.bundle import Bundle
from imgclf.serve import bodies, uploads


def card(bundle: Bundle, threshold: float) -> dict[str, Any]:
    """Return the model card of a run: names and metrics that clients may see, without paths of this machine."""
    info = bundle.info
    try:
        tested = evaluations.read(bundle.path / evaluations.TEST, ("accuracy", "interval", "baseline", "images"))
        accuracy = {
            "value": tested["accuracy"], "interval": tested["interval"], "baseline": tested["baseline"],
            "images": tested["images"], "on": "test",
        }  # fmt: skip
    except ImgclfError:
        metrics = info.metrics
        accuracy = {
            "value": metrics.val_accuracy, "interval": metrics.val_interval,
            "baseline": dataclasses.asdict(metrics.val_baseline), "images": info.data.images["val"], "on": "validation",
        }  # fmt: skip
    preprocessing = info.preprocessing
    return {
        "schema": "serve-model/1",
        "run": bundle.path.resolve().name,
        "model": info.model,
        "classes": list(bundle.class_names),
        "accuracy": accuracy,
        "trained": info.finished,
        "data": Path(info.data.path).name or None,
        "images": dict(info.data.images),
        "preprocessing": {"width": preprocessing.width, "height": preprocessing.height, "aspect": preprocessing.aspect},
        "parameters": info.parameters,
        "calibrated": True,
        "threshold": threshold or None,
        "limits": {
            "file_bytes": bodies.MAX_FILE, "request_bytes": bodies.MAX_REQUEST, "files": bodies.MAX_FILES,
            "pixels": uploads.MAX_PIXELS,
        },
        "imgclf": imgclf.__version__,
    }  # fmt: skip
