"""Calibration: how far probabilities agree with accuracies, and a temperature that corrects them."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.folds import assign_folds
from imgclf.evaluation.metrics import cross_entropy

BINS = 15  # of confidence, as in Guo et al., 2017


def reliability(
    true: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(images, mean confidence, accuracy) in each of equally wide bins of confidence; NaN in an empty one."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # (low, high], as there
    counts = np.bincount(place, minlength=bins)
    some = np.where(counts, counts, math.nan)
    return counts, np.bincount(place, confidence, bins) / some, np.bincount(place, right, bins) / some


def calibration_error(true: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = BINS) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart in a bin, on average over images."""
    if not len(true):
        return math.nan
    counts, confidence, accurate = reliability(true, probabilities, bins)
    return float(np.nansum(counts * np.abs(confidence - accurate)) / len(true))


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities (..., classes) as if the network's logits had been divided by a temperature: labels stay as they are."""
    if temperature == 1:
        return probabilities
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def temperature(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """The temperature with the least cross-entropy (Guo et al., On Calibration of Modern Neural Networks, 2017).

    Golden-section search between 0.05 and 20, around the best of 40 points. Targets are slightly smoothed, as if every class
    that occurs had one more image (Platt, 1999), so a few correct images do not make the network infallible. A normal prior on
    the logarithm (mean 0, deviation 1) keeps a few errors from making the predictions worthless.
    """
    low, high = math.log(0.05), math.log(20)
    golden = (math.sqrt(5) - 1) / 2
    seen = np.bincount(true, minlength=probabilities.shape[1]) > 0
    targets = (np.eye(len(seen))[true] * len(true) + seen) / (len(true) + seen.sum())

    def loss(place: float) -> float:
        softened = np.maximum(tempered(probabilities, math.exp(place)), 1e-300)
        return float(-(targets * np.log(softened)).sum(axis=1).mean()) + place * place / (2 * len(true))

    places = np.linspace(low, high, 40).tolist()
    best = min(range(40), key=lambda number: loss(places[number]))
    low, high = places[max(0, best - 1)], places[min(39, best + 1)]
    left, right = high - golden * (high - low), low + golden * (high - low)
    below, above = loss(left), loss(right)
    while high - low > 1e-6:
        if below <= above:
            high, right, above = right, left, below
            left = high - golden * (high - low)
            below = loss(left)
        else:
            low, left, below = left, right, above
            right = low + golden * (high - low)
            above = loss(right)
    return math.exp((low + high) / 2)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A temperature. fitted: the temperature fitted on all images; it is used only if it improves the held-out log loss.

    gain: that improvement in nats per image, from cross-validation; negative if the log loss gets worse.
    """

    fitted: float
    gain: float

    @property
    def temperature(self) -> float:
        """The temperature to use: 1 (no change) unless the fitted one is better on held-out images."""
        return self.fitted if self.gain > 0 else 1.0


def calibration(
    true: NDArray[np.int64], probabilities: NDArray[np.float64], groups: NDArray[np.int64], *, count: int = 5, seed: int = 0
) -> Calibration:
    """Fit a temperature and cross-validate it: with few images it can do harm.

    groups: (n,) group number of each image; groups stay in one fold.
    """
    fold_of = assign_folds(true, groups, count, seed)
    held_out = probabilities.copy()
    for fold in range(count):
        outside = fold_of == fold
        if outside.any() and not outside.all():
            found = temperature(true[~outside], probabilities[~outside])
            held_out[outside] = tempered(probabilities[outside], found)
    gain = cross_entropy(true, probabilities) - cross_entropy(true, held_out)
    return Calibration(temperature(true, probabilities), gain)


def risk_coverage(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return (thresholds, coverage, accuracy) of the predictions at or above each confidence, the highest confidence first.

    El-Yaniv and Wiener, 2010; accuracy is one less their risk.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)  # equal confidences share a threshold
    return confidence[order][ends], (ends + 1) / len(order), np.cumsum(right[order])[ends] / (ends + 1)


def useful_thresholds(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """(threshold, accuracy, coverage), both rising but coverage: those that no lower one beats in accuracy."""
    found: list[tuple[float, float, float]] = []
    thresholds, coverage, accurate = risk_coverage(true, probabilities)
    for point in zip(thresholds[::-1].tolist(), accurate[::-1].tolist(), coverage[::-1].tolist(), strict=True):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found
