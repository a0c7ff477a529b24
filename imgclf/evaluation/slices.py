"""Where a classifier does worse: its accuracy on images that share a size, a brightness, a folder."""

import collections
import dataclasses
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.intervals import wilson_interval

LEAST = 10  # images in a slice
BINS = 4


@dataclasses.dataclass(frozen=True)
class Slice:
    """Images that are alike in one way. by: which; value: its range, or the word; interval: of the accuracy, 95%, Wilson.

    is_worse: whether its accuracy is below that of all images by more than chance explains, however many slices were tried.
    """

    by: str
    value: str
    images: int
    accuracy: float
    interval: tuple[float, float]
    is_worse: bool


def slices(right: NDArray[np.bool_], columns: Mapping[str, NDArray[np.float64] | Sequence[str]]) -> list[Slice]:
    """Return the accuracy of slices of the images, the worst first within each column.

    Columns with one value, and slices of fewer than ten images, are skipped.

    Args:
        right: (n,) whether each prediction is correct.
        columns: (n,) values by name. Numbers are divided at their quartiles, and each word is a slice.
    """
    found = []
    for by, values in columns.items():
        members = _quarters(values) if isinstance(values, np.ndarray) else _words(values)
        members = [(name, chosen) for name, chosen in members if LEAST <= chosen.sum() < len(right)]
        found += [(by, name, int(chosen.sum()), int(right[chosen].sum())) for name, chosen in members]
    share = float(right.mean()) if len(right) else 0.0
    # Bonferroni correction: with many slices, some are below the mean by chance.
    strict = statistics.NormalDist().inv_cdf(1 - 0.025 / max(1, len(found)))
    made = [
        Slice(
            by,
            name,
            count,
            hits / count,
            wilson_interval(hits, count),
            hits / count < share and wilson_interval(hits, count, z=strict)[1] < share,
        )
        for by, name, count, hits in found
    ]
    order = list(columns)
    return sorted(made, key=lambda one: (order.index(one.by), one.accuracy))


def _quarters(values: NDArray[np.float64]) -> list[tuple[str, NDArray[np.bool_]]]:
    if not len(values):
        return []
    starts = np.unique(np.quantile(values, np.arange(BINS) / BINS, method="lower"))
    place = np.searchsorted(starts, values, side="right") - 1
    return [(_range(values[place == bin_]), place == bin_) for bin_ in range(len(starts))]


def _range(values: NDArray[np.float64]) -> str:
    low, high = (f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _words(values: Sequence[str]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Those with enough images: of a folder for each patient, say, there may be thousands."""
    array, counts = np.array(values, dtype=object), collections.Counter(values)
    return [(value, array == value) for value in sorted(counts) if counts[value] >= LEAST]
