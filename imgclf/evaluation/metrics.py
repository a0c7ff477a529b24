"""How good a classifier is: pure functions of true class numbers and probabilities."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.intervals import wilson_interval


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
    """Share of images on the diagonal of a confusion matrix; NaN for none."""
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
    """Share of images whose class is among the k likeliest; NaN for none."""
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
    """95% percentile intervals (Efron, 1979) of macro and weighted F1, from drawing each class's images again.

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
