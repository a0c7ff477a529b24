"""Compute the loss weight of each class."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.core import csv_files
from imgclf.core.errors import ImgclfError
from imgclf.core.names import nfc
from imgclf.data import prepared_images

IMBALANCE = 1.5  # size of the largest class relative to the smallest, above which `auto` weights the classes


def class_weights(wanted: str, names: Sequence[str], images: Sequence[int]) -> NDArray[np.float32] | None:
    """Return the loss weight of each class, or None for equal weights.

    Args:
        wanted: `auto`, `none` or the path of a CSV file.
        names: The class names.
        images: Number of training images of each class.

    Returns:
        An array (classes,). The mean weight over all training images is 1.

    Raises:
        ImgclfError: The file does not exist, or does not give every class a weight.
    """
    counts = np.array(images, np.float64)
    if wanted == "none" or (wanted == "auto" and counts.max() <= IMBALANCE * counts.min()):
        return None
    if wanted != "auto" and not os.path.exists(wanted):
        raise ImgclfError(f"{wanted}: no such file; --class-weights takes auto, none or a CSV file")
    weights = 1 / counts if wanted == "auto" else _from_file(Path(wanted), names)
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), np.float32)


def _from_file(file: Path, names: Sequence[str]) -> NDArray[np.float64]:
    weights: dict[str, float] = {}
    for number, row in csv_files.records(file, "class", "weight"):
        name, text = nfc(row["class"].strip()), row["weight"].strip()
        if name not in names:
            raise ImgclfError(
                f"{file}, line {number}: unknown class {name!r}; the classes are {', '.join(names)}{csv_files.not_utf8(name)}"
            )
        if name in weights:
            raise ImgclfError(f"{file}, line {number}: class {name} is listed twice; keep one of the lines")
        weights[name] = _number(text)
        if not 0 < weights[name] < math.inf:
            raise ImgclfError(f"{file}, line {number}: a weight must be a number above 0, not {text or 'empty'}")
    missing = [name for name in names if name not in weights]
    if missing:
        raise ImgclfError(f"{file}: no weight for {', '.join(missing[:5])}; every class needs one")
    return np.array([weights[name] for name in names])


def _number(text: str) -> float:
    """Parse a number with a decimal point, or a decimal comma as in many European spreadsheets; NaN for other text."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def format_weights(weights: NDArray[np.float32], prepared: prepared_images.Prepared) -> str:
    """Return the weights of the first six classes as text."""
    shown = [f"{name} {weight:.2f}" for name, weight in zip(prepared.class_names, weights, strict=True)]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")
