"""What the page and a client may know of a run."""

import dataclasses
from pathlib import Path
from typing import Any

import imgclf
from imgclf.core.errors import ImgclfError
from imgclf.models import evaluations
from imgclf.models.bundle import Bundle
from imgclf.serve import bodies, uploads


def card(bundle: Bundle, threshold: float) -> dict[str, Any]:
    """What the page and a client may know of a run: names and metrics, no path of this machine."""
    info = bundle.info
    try:
        tested = evaluations.read(bundle.path / evaluations.TEST, ("accuracy", "interval", "baseline", "images"))
        accuracy = {
            "value": tested["accuracy"], "interval": tested["interval"], "baseline": tested["baseline"],
            "images": tested["images"], "on": "test",
        }  # fmt: skip
    except ImgclfError:
        known = info.metrics
        accuracy = {
            "value": known.val_accuracy, "interval": known.val_interval, "baseline": dataclasses.asdict(known.val_baseline),
            "images": info.data.images["val"], "on": "validation",
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
