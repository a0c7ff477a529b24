"""How good a classifier is: pure functions of true class numbers and probabilities."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.folds import assign_folds


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """Scores of one class: precision, recall and F1 in 0..1 (0 if undefined), and its number of images.

    The intervals are 95% Wilson intervals; 0 to 1 if undefined.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    precision_interval: tuple[float, float]
    recall_interval: tuple[float, float]


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """(num_classes, num_classes) counts: rows are the true class, columns the predicted one."""
    flat = np.bincount(true * num_classes + predicted, minlength=num_classes * num_classes)
    return flat.reshape(num_classes, num_classes)


def accuracy(matrix: NDArray[np.int64]) -> float:
    """Share of pictures on the diagonal of a confusion matrix; NaN for none."""
    total = int(matrix.sum())
    return float(np.trace(matrix)) / total if total else math.nan


def class_scores(matrix: NDArray[np.int64], class_names: tuple[str, ...]) -> list[ClassScore]:
    """Precision, recall and F1 a class from a confusion matrix."""
    scores = []
    for number, name in enumerate(class_names):
        hits = int(matrix[number, number])
        predicted, support = int(matrix[:, number].sum()), int(matrix[number].sum())
        precision = hits / predicted if predicted else 0.0
        recall = hits / support if support else 0.0
        f1 = 2 * hits / (predicted + support) if predicted + support else 0.0
        between = wilson_interval(hits, predicted), wilson_interval(hits, support)
        scores.append(ClassScore(name, precision, recall, f1, support, *between))
    return scores


def cross_entropy(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean of -log p(true class), as Keras' losses compute it (probabilities clipped at 1e-7); NaN for none."""
    if not len(true):
        return math.nan
    chosen = probabilities[np.arange(len(true)), true]
    return float(-np.log(np.clip(chosen, 1e-7, 1 - 1e-7)).mean())


def top_k(true: NDArray[np.int64], probabilities: NDArray[np.float64], k: int) -> float:
    """Share of pictures whose class is among the k likeliest; NaN for none."""
    if not len(true):
        return math.nan
    own = probabilities[np.arange(len(true)), true]
    return float(((probabilities > own[:, None]).sum(axis=1) < k).mean())


def f1_scores(matrices: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(macro, weighted) F1 of confusion matrices (..., classes, classes): the mean over classes, and the mean over images.

    Only classes that occur as a label or a prediction count, as in scikit-learn without `labels`.
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    return _means_of_f1(hits, support, predicted)


def _means_of_f1(
    hits: NDArray[Any], support: NDArray[Any], predicted: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(macro, weighted) F1 from the counts of each class (last axis)."""
    f1 = 2 * hits / np.maximum(1, support + predicted)
    occurring = (support + predicted > 0).sum(axis=-1)
    weighted = (f1 * support).sum(axis=-1) / np.maximum(1, support.sum(axis=-1))
    return f1.sum(axis=-1) / np.maximum(1, occurring), weighted


def bootstrap_f1(
    matrix: NDArray[np.int64], *, seed: int = 0, rounds: int = 2000
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95% percentile intervals (Efron, 1979) of macro and weighted F1, from drawing each class's pictures again.

    With replacement, and as many as the class has, so that no draw lacks a class. F1 needs no more of an image than its cell
    in the confusion matrix, so cells are drawn: a multinomial for each row. Where all are right, or none, no draw could be
    otherwise: then the interval is that of the accuracy, which is the same metric. For the same reason, classes whose images
    all have the same prediction share one extra image, whose prediction may be any class that occurs.
    """
    total = int(matrix.sum())
    support = matrix.sum(axis=1)
    if (right := int(np.trace(matrix))) in (0, total):
        interval = wilson_interval(right, total)
        return interval, interval
    random = np.random.default_rng(seed)
    hits, predicted = np.zeros((rounds, len(matrix))), np.zeros((rounds, len(matrix)))
    alike = int(((matrix > 0).sum(axis=1) == 1).sum())
    occurring = np.flatnonzero(support + matrix.sum(axis=0))
    for number, row in enumerate(matrix):
        cells = np.flatnonzero(row)
        if len(cells):
            rates = row[cells] / support[number]
            if len(cells) == 1:
                cells = occurring
                rates = (row[cells] + 1 / (alike * len(cells))) / (support[number] + 1 / alike)
            drawn = random.multinomial(support[number], rates, size=rounds)
            predicted[:, cells] += drawn
            hits[:, number] = drawn[:, cells == number].sum(axis=1)
    found = _means_of_f1(hits, support, predicted)
    macro, weighted = (tuple(np.percentile(values, [2.5, 97.5]).tolist()) for values in found)
    return macro, weighted


def roc_auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, ties half; NaN without one of the two.

    By ranks (Mann and Whitney, 1947).
    """
    yes = int(positive.sum())
    no = len(positive) - yes
    if not yes or not no:
        return math.nan
    _values, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    return float((ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Precision at each threshold, weighed by the recall that it adds; NaN without a positive."""
    if not positive.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores share a threshold
    recall = hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0) * hits[ends] / (ends + 1)).sum())


def one_against_rest(
    true: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    measure: Callable[[NDArray[np.bool_], NDArray[np.float64]], float],
) -> float:
    """Mean of a binary metric over the classes that have images; with two classes, the metric of the second.

    NaN if all images are of one class.
    """
    present = np.unique(true)
    if len(present) < 2:
        return math.nan
    if probabilities.shape[1] == 2:
        return measure(true == 1, probabilities[:, 1])
    return float(np.mean([measure(true == number, probabilities[:, number]) for number in present]))


def note_on_absent(support: NDArray[np.int64], class_names: tuple[str, ...], shown: int = 4) -> str:
    """A note on classes without images, which are not part of the means over classes; "" if there are none."""
    names = [name for name, count in zip(class_names, support.tolist(), strict=True) if not count]
    if not names:
        return ""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (
        f"classes without images here: {', '.join(names[:shown])}{more}; ROC-AUC and average precision are means over the "
        "other classes, F1 over the classes that occur as a label or a prediction"
    )


BINS = 15  # of confidence, as in Guo et al., 2017


def reliability(
    true: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(pictures, mean confidence, accuracy) in each of equally wide bins of confidence; NaN in an empty one."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # (low, high], as there
    counts = np.bincount(place, minlength=bins)
    some = np.where(counts, counts, math.nan)
    return counts, np.bincount(place, confidence, bins) / some, np.bincount(place, right, bins) / some


def calibration_error(true: NDArray[np.int64], probabilities: NDArray[np.float64], bins: int = BINS) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart in a bin, on average over pictures."""
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
        answers = np.maximum(tempered(probabilities, math.exp(place)), 1e-300)
        return float(-(targets * np.log(answers)).sum(axis=1).mean()) + place * place / (2 * len(true))

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
    """(thresholds, coverage, accuracy) when only answers at least so sure are given, one for each confidence, the surest first.

    El-Yaniv and Wiener, 2010; accuracy is one less their risk.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)  # equal ones are answered together
    return confidence[order][ends], (ends + 1) / len(order), np.cumsum(right[order])[ends] / (ends + 1)


def useful_thresholds(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """(threshold, accuracy, coverage), both rising but coverage: those that no lower one beats in accuracy."""
    found: list[tuple[float, float, float]] = []
    thresholds, coverage, accurate = risk_coverage(true, probabilities)
    for point in zip(thresholds[::-1].tolist(), accurate[::-1].tolist(), coverage[::-1].tolist(), strict=True):
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found


def mcnemar(only_first: int, only_second: int) -> float:
    """How likely two equally good classifiers differ at least so much: exact, two-sided (McNemar, 1947).

    Of the pictures that one gets right and the other does not, each would be either's with probability one half.
    """
    total, least = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for k in range(least):
        term = term * (total - k) // (k + 1)
        tail += term
    return float(min(1.0, 2 * tail / 2**total))


def paired_interval(only_first: int, only_second: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """95% interval of (second - first) accuracy on the same pictures (Bonett and Price, 2012).

    Wald's, with one more picture of each kind of disagreement. Drawing the pictures again would say plus or minus nothing of
    two classifiers that agree on the five pictures at hand.
    """
    first, second = (only_first + 1) / (total + 2), (only_second + 1) / (total + 2)
    spread = z * math.sqrt((first + second - (second - first) ** 2) / (total + 2))
    return max(-1.0, second - first - spread), min(1.0, second - first + spread)


def wilson_interval(hits: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927), which stays sensible for few pictures and near 0 or 1."""
    if total == 0:
        return (0.0, 1.0)
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # Exactly, where rounding would leave the share itself outside.
    return (0.0 if hits == 0 else (centre - spread) / scale, 1.0 if hits == total else (centre + spread) / scale)
