"""How much a picture of each class counts in training."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgclf.base.errors import ImgclfError

IMBALANCE = 1.5  # largest class to smallest, from which on `auto` weighs the classes


def class_weights(wanted: str, names: Sequence[str], pictures: Sequence[int]) -> NDArray[np.float32] | None:
    """(classes,) how much a picture of each class counts, 1 on average over all pictures; None where all count the same.

    wanted: `auto`, `none` or a CSV file. Raises ImgclfError for a file that does not give every class a weight.
    """
    counts = np.array(pictures, np.float64)
    if wanted == "none" or (wanted == "auto" and counts.max() <= IMBALANCE * counts.min()):
        return None
    weights = 1 / counts if wanted == "auto" else _from_file(Path(wanted), names)
    return np.asarray(weights * counts.sum() / (weights * counts).sum(), np.float32)


def _from_file(file: Path, names: Sequence[str]) -> NDArray[np.float64]:
    try:
        with open(file, newline="", encoding="utf-8-sig", errors="surrogateescape") as text:
            rows = csv.DictReader(text)
            if not {"class", "weight"} <= set(rows.fieldnames or []):
                raise ImgclfError(
                    f"{file}: needs the columns class and weight, has {', '.join(rows.fieldnames or []) or 'none'}"
                )
            found = {row["class"]: float(row["weight"] or "") for row in rows}
    except OSError as error:
        raise ImgclfError(
            f"{file}: cannot be read: {error.strerror}; --class-weights takes auto, none or a CSV file"
        ) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise ImgclfError(f"{file}: a weight is no number ({error})") from error
    if set(found) != set(names) or not all(0 < value < math.inf for value in found.values()):
        raise ImgclfError(f"{file}: needs one weight above 0 for each class: {', '.join(names)}")
    return np.array([found[name] for name in names])
