"""What the page and a client may know of a run."""

from pathlib import Path
from typing import Any

import imgclf
from imgclf.core.errors import ImgclfError
from imgclf.models import evaluations
from imgclf.models.bundle import Bundle
from imgclf.serve import bodies, uploads


def card(bundle: Bundle, threshold: float) -> dict[str, Any]:
    """What the page and a client may know of a run: names and metrics, no path of this machine."""
    try:
        tested = evaluations.read(bundle.path / evaluations.TEST, ("accuracy", "interval", "baseline", "images"))
        accuracy = {
            "value": tested["accuracy"], "interval": tested["interval"], "baseline": tested["baseline"],
            "images": tested["images"], "on": "test",
        }  # fmt: skip
    except ImgclfError:
        known = bundle.info["metrics"]
        count = bundle.info.get("data", {}).get("images", {}).get("val")
        accuracy = {
            "value": known["val_accuracy"], "interval": known["val_interval"], "baseline": known["val_baseline"],
            "images": count, "on": "validation",
        }  # fmt: skip
    preprocessing = bundle.preprocessing
    return {
        "schema": "serve-model/1",
        "run": bundle.path.resolve().name,
        "model": bundle.info.get("model"),
        "classes": list(bundle.class_names),
        "accuracy": accuracy,
        "trained": bundle.info.get("finished"),
        "data": Path(str(bundle.info.get("data", {}).get("path", ""))).name or None,
        "images": bundle.info.get("data", {}).get("images"),
        "preprocessing": {"width": preprocessing.width, "height": preprocessing.height, "aspect": preprocessing.aspect},
        "parameters": bundle.info.get("parameters"),
        "calibrated": "calibration" in bundle.info,
        "threshold": threshold or None,
        "limits": {
            "file_bytes": bodies.MAX_FILE, "request_bytes": bodies.MAX_REQUEST, "files": bodies.MAX_FILES,
            "pixels": uploads.MAX_PIXELS,
        },
        "imgclf": imgclf.__version__,
    }  # fmt: skip
