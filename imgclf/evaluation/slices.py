"""Find subsets of the images, such as a size, a brightness or a folder, on which a classifier is less accurate."""

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.intervals import wilson_interval

MIN_IMAGES = 10  # images in a slice
BINS = 4


@dataclasses.dataclass(frozen=True)
class Slice:
    """A subset of the images that are similar in one property, and the accuracy on it.

    Attributes:
        by: name of the property.
        value: range of a numeric property, or the value of a text property.
        images: number of images.
        accuracy: fraction of them that is classified correctly.
        interval: 95% Wilson interval of `accuracy`.
        is_worse: whether `accuracy` is significantly below the accuracy on all images, corrected for the number of slices.
    """

    by: str
    value: str
    images: int
    accuracy: float
    interval: tuple[float, float]
    is_worse: bool


def slices(correct: NDArray[np.bool_], columns: Mapping[str, NDArray[np.float64] | Sequence[str]]) -> list[Slice]:
    """Return the accuracy on slices of the images, in the order of the columns and with the lowest accuracy first in each.

    Slices of fewer than `MIN_IMAGES` images and slices that contain all images are skipped.

    Args:
        correct: (n,) whether each prediction is correct.
        columns: (n,) values of each property. Numbers are split at their quartiles; each text value is a slice.
    """
    found = []
    for by, values in columns.items():
        members = _quarters(values) if isinstance(values, np.ndarray) else _by_text(values)
        members = [(name, chosen) for name, chosen in members if MIN_IMAGES <= chosen.sum() < len(correct)]
        found += [(by, name, int(chosen.sum()), int(correct[chosen].sum())) for name, chosen in members]
    overall = float(correct.mean()) if len(correct) else 0.0
    # Bonferroni correction: with many slices, some are below the mean by chance.
    z = statistics.NormalDist().inv_cdf(1 - 0.025 / max(1, len(found)))
    made = [
        Slice(by, name, count, hits / count, wilson_interval(hits, count), wilson_interval(hits, count, z=z)[1] < overall)
        for by, name, count, hits in found
    ]
    order = list(columns)
    return sorted(made, key=lambda one: (order.index(one.by), one.accuracy))


def _quarters(values: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Split numbers at their quartiles. Return (range, (n,) mask) for each bin; equal quartiles make one bin."""
    if not len(values):
        return []
    starts = np.unique(np.quantile(values, np.arange(BINS) / BINS, method="lower"))
    bins = np.searchsorted(starts, values, side="right") - 1
    return [(_range(values[bins == number]), bins == number) for number in range(len(starts))]


def _range(values: NDArray[np.float64]) -> str:
    """Return the smallest and largest value as text; one number if both have the same text."""
    low, high = (f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _by_text(values: Sequence[str]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return (value, (n,) mask) for each text value with enough images.

    Rare values are dropped before masks are made: with one folder for each patient, there may be thousands of them.
    """
    array, counts = np.array(values, dtype=object), collections.Counter(values)
    return [(value, array == value) for value in sorted(counts) if counts[value] >= MIN_IMAGES]
