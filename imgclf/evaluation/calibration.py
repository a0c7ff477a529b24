"""Calibration: measure how well confidence matches accuracy, and fit a temperature that corrects the probabilities."""

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
    """Compute the reliability diagram: mean confidence and accuracy in bins of equal width.

    Args:
        true: (n,) class numbers.
        probabilities: (n, classes).
        bins: number of bins between confidence 0 and 1. Each bin excludes its lower bound and includes its upper bound, as in
            Guo et al., 2017.

    Returns:
        (number of images, mean confidence, accuracy), each (bins,); the last two are NaN in empty bins.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    divisor = np.where(counts, counts, math.nan)
    return counts, np.bincount(bin_of, confidence, bins) / divisor, np.bincount(bin_of, correct, bins) / divisor


def calibration_error(true: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = BINS) -> float:
    """Compute the expected calibration error (Guo et al., 2017); NaN without images.

    It is the absolute difference between mean confidence and accuracy in each bin, averaged over images.
    """
    if not len(true):
        return math.nan
    counts, confidence, accuracies = reliability(true, probabilities, bins)
    return float(np.nansum(counts * np.abs(confidence - accuracies)) / len(true))


def apply_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the probabilities (..., classes) that the network gives if its logits are divided by a temperature.

    The predicted classes do not change.
    """
    if temperature == 1:
        return probabilities
    logits = np.log(np.clip(probabilities, 1e-12, 1)) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def fit_temperature(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Fit the temperature that minimises the cross-entropy (Guo et al., On Calibration of Modern Neural Networks, 2017).

    The range is 0.05 to 20: the best of 40 points on a logarithmic grid, refined by golden-section search. Two terms keep the
    result sensible for few images. Targets are smoothed as if each class that occurs had one more image (Platt, 1999), so
    that a few correct predictions do not make the network infallible. A standard normal prior on the logarithm of the
    temperature ensures that a few errors do not make the predictions useless.

    Args:
        true: (n,) class numbers.
        probabilities: (n, classes).
    """
    low, high = math.log(0.05), math.log(20)
    golden = (math.sqrt(5) - 1) / 2
    occurs = np.bincount(true, minlength=probabilities.shape[1]) > 0
    targets = (np.eye(len(occurs))[true] * len(true) + occurs) / (len(true) + occurs.sum())

    def loss(log_temperature: float) -> float:
        scaled = np.maximum(apply_temperature(probabilities, math.exp(log_temperature)), 1e-300)
        return float(-(targets * np.log(scaled)).sum(axis=1).mean()) + log_temperature * log_temperature / (2 * len(true))

    grid = np.linspace(low, high, 40).tolist()
    best = min(range(40), key=lambda number: loss(grid[number]))
    low, high = grid[max(0, best - 1)], grid[min(39, best + 1)]
    left, right = high - golden * (high - low), low + golden * (high - low)
    left_loss, right_loss = loss(left), loss(right)
    while high - low > 1e-6:
        if left_loss <= right_loss:
            high, right, right_loss = right, left, left_loss
            left = high - golden * (high - low)
            left_loss = loss(left)
        else:
            low, left, left_loss = left, right, right_loss
            right = low + golden * (high - low)
            right_loss = loss(right)
    return math.exp((low + high) / 2)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A fitted temperature and its effect on held-out images.

    Attributes:
        fitted: the temperature fitted on all images.
        gain: decrease of the log loss in cross-validation, in nats per image; negative if the log loss increases.
    """

    fitted: float
    gain: float

    @property
    def temperature(self) -> float:
        """The temperature to use: `fitted` if it improves the predictions on held-out images, else 1 (no change)."""
        return self.fitted if self.gain > 0 else 1.0


def calibrate(
    true: NDArray[np.int64], probabilities: NDArray[np.float64], groups: NDArray[np.int64], *, count: int = 5, seed: int = 0
) -> Calibration:
    """Fit a temperature and cross-validate it, because a temperature fitted on few images can increase the log loss.

    Args:
        true: (n,) class numbers.
        probabilities: (n, classes).
        groups: (n,) group numbers. All images of a group are in one fold.
        count: number of folds.
        seed: seed of the assignment to folds.
    """
    fold_of = assign_folds(true, groups, count, seed)
    held_out = probabilities.copy()
    for fold in range(count):
        outside = fold_of == fold
        if outside.any() and not outside.all():
            fitted = fit_temperature(true[~outside], probabilities[~outside])
            held_out[outside] = apply_temperature(probabilities[outside], fitted)
    gain = cross_entropy(true, probabilities) - cross_entropy(true, held_out)
    return Calibration(fit_temperature(true, probabilities), gain)


def risk_coverage(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Compute coverage and accuracy at each confidence threshold (El-Yaniv and Wiener, 2010; accuracy is 1 - risk).

    Returns:
        (thresholds, coverage, accuracy), each (k,), with the highest threshold first. Coverage is the fraction of images
        whose confidence is at least the threshold; accuracy is the accuracy on these images.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)  # equal confidences share a threshold
    return confidence[order][ends], (ends + 1) / len(order), np.cumsum(correct[order])[ends] / (ends + 1)


def useful_thresholds(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """Return the thresholds whose accuracy is higher than at every lower threshold.

    Returns:
        (threshold, accuracy, coverage) of each, with the lowest threshold first. Accuracy increases and coverage decreases.
    """
    found: list[tuple[float, float, float]] = []
    thresholds, coverage, accuracies = risk_coverage(true, probabilities)
    for point in zip(thresholds[::-1].tolist(), accuracies[::-1].tolist(), coverage[::-1].tolist(), strict=True):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found
