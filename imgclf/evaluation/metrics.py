"""Classification metrics: pure functions of true class numbers, probabilities and confusion matrices."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.evaluation.intervals import wilson_interval


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """Scores of one class: precision, recall and F1 from 0 to 1 (0 if undefined), and support, its number of images.

    The intervals are 95% Wilson intervals; (0, 1) if undefined.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    precision_interval: tuple[float, float]
    recall_interval: tuple[float, float]


def confusion(true: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count the images of each true class (rows) and predicted class (columns).

    Args:
        true: (n,) class numbers.
        predicted: (n,) class numbers.
        num_classes: number of classes.

    Returns:
        (num_classes, num_classes) counts.
    """
    flat = np.bincount(true * num_classes + predicted, minlength=num_classes * num_classes)
    return flat.reshape(num_classes, num_classes)


def accuracy(matrix: NDArray[np.int64]) -> float:
    """Return the fraction of images on the diagonal of a confusion matrix; NaN without images."""
    total = int(matrix.sum())
    return float(np.trace(matrix)) / total if total else math.nan


def class_scores(matrix: NDArray[np.int64], class_names: tuple[str, ...]) -> list[ClassScore]:
    """Compute precision, recall and F1 of each class from a confusion matrix."""
    scores = []
    for number, name in enumerate(class_names):
        hits = int(matrix[number, number])
        predicted, support = int(matrix[:, number].sum()), int(matrix[number].sum())
        precision = hits / predicted if predicted else 0.0
        recall = hits / support if support else 0.0
        f1 = 2 * hits / (predicted + support) if predicted + support else 0.0
        intervals = wilson_interval(hits, predicted), wilson_interval(hits, support)
        scores.append(ClassScore(name, precision, recall, f1, support, *intervals))
    return scores


def cross_entropy(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Return the mean of -log p(true class) in nats; NaN without images.

    Probabilities are clipped to 1e-7 and 1 - 1e-7, as in the losses of Keras.

    Args:
        true: (n,) class numbers.
        probabilities: (n, classes).
    """
    if not len(true):
        return math.nan
    own = probabilities[np.arange(len(true)), true]
    return float(-np.log(np.clip(own, 1e-7, 1 - 1e-7)).mean())


def top_k_accuracy(true: NDArray[np.int64], probabilities: NDArray[np.float64], k: int) -> float:
    """Return the fraction of images whose true class is among the k most probable ones; NaN without images.

    Of equal probabilities, that of the true class ranks first.
    """
    if not len(true):
        return math.nan
    own = probabilities[np.arange(len(true)), true]
    return float(((probabilities > own[:, None]).sum(axis=1) < k).mean())


def f1_scores(matrices: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute macro F1 (mean over classes) and weighted F1 (mean over images).

    Macro F1 includes only classes that occur as a label or a prediction, as scikit-learn does without `labels`.

    Args:
        matrices: (..., classes, classes) confusion matrices.

    Returns:
        (macro, weighted), each (...).
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    support, predicted = matrices.sum(axis=-1), matrices.sum(axis=-2)
    return _means_of_f1(hits, support, predicted)


def _means_of_f1(
    hits: NDArray[Any], support: NDArray[Any], predicted: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute (macro, weighted) F1, each (...), from counts of each class: (..., classes), or (classes,) for `support`."""
    f1 = 2 * hits / np.maximum(1, support + predicted)
    occurring = (support + predicted > 0).sum(axis=-1)
    weighted = (f1 * support).sum(axis=-1) / np.maximum(1, support.sum(axis=-1))
    return f1.sum(axis=-1) / np.maximum(1, occurring), weighted


def bootstrap_f1(
    matrix: NDArray[np.int64], *, seed: int = 0, rounds: int = 2000
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Compute 95% percentile intervals (Efron, 1979) of macro and weighted F1 by a stratified bootstrap.

    Each round resamples the images of each class with replacement, so that every class keeps its size. F1 depends only on the
    confusion matrix, so each row is drawn from a multinomial distribution.

    Rows with a single nonzero cell never vary between rounds, which would make the interval too narrow. These rows share one
    extra image, whose prediction is any class that occurs. If all predictions are correct, or none is, the result is the
    Wilson interval of the accuracy, which is equal to both F1 scores.

    Args:
        matrix: (classes, classes) confusion matrix.
        seed: seed of the resampling.
        rounds: number of bootstrap rounds.

    Returns:
        The intervals of (macro, weighted) F1, each (low, high).
    """
    total = int(matrix.sum())
    support = matrix.sum(axis=1)
    if (correct := int(np.trace(matrix))) in (0, total):
        interval = wilson_interval(correct, total)
        return interval, interval
    random = np.random.default_rng(seed)
    hits, predicted = np.zeros((rounds, len(matrix))), np.zeros((rounds, len(matrix)))
    single_cell_rows = int(((matrix > 0).sum(axis=1) == 1).sum())
    occurring = np.flatnonzero(support + matrix.sum(axis=0))
    for number, row in enumerate(matrix):
        cells = np.flatnonzero(row)
        if len(cells):
            rates = row[cells] / support[number]
            if len(cells) == 1:
                cells = occurring
                rates = (row[cells] + 1 / (single_cell_rows * len(cells))) / (support[number] + 1 / single_cell_rows)
            drawn = random.multinomial(support[number], rates, size=rounds)
            predicted[:, cells] += drawn
            hits[:, number] = drawn[:, cells == number].sum(axis=1)
    scores = _means_of_f1(hits, support, predicted)
    macro, weighted = (tuple(np.percentile(values, [2.5, 97.5]).tolist()) for values in scores)
    return macro, weighted


def roc_auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Compute the area under the ROC curve by ranks (Mann and Whitney, 1947); NaN without positives or without negatives.

    It is the probability that a positive scores higher than a negative; a tie counts one half.

    Args:
        positive: (n,) whether each image is of the class.
        scores: (n,) its score for the class.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return math.nan
    _values, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the mean of the precision at each threshold, weighted by the increase in recall; NaN without positives.

    This is the definition of scikit-learn's `average_precision_score`, without interpolation.
    """
    if not positive.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores share a threshold
    recall = hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0) * hits[ends] / (ends + 1)).sum())


def one_versus_rest(
    true: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    measure: Callable[[NDArray[np.bool_], NDArray[np.float64]], float],
) -> float:
    """Return the one-versus-rest mean of a binary metric over the classes that have images.

    With two classes, return the metric of the second class. NaN if all images are of one class.

    Args:
        true: (n,) class numbers.
        probabilities: (n, classes).
        measure: the metric of (whether each image is of the class, its probability), such as `roc_auc`.
    """
    present = np.unique(true)
    if len(present) < 2:
        return math.nan
    if probabilities.shape[1] == 2:
        return measure(true == 1, probabilities[:, 1])
    return float(np.mean([measure(true == number, probabilities[:, number]) for number in present]))


def note_on_absent_classes(support: NDArray[np.int64], class_names: tuple[str, ...], shown: int = 4) -> str:
    """Return a note that the means exclude the classes without images, or "" if every class has images.

    Args:
        support: (classes,) number of images of each class.
        class_names: names of the classes.
        shown: maximum number of names in the note.
    """
    names = [name for name, count in zip(class_names, support.tolist(), strict=True) if not count]
    if not names:
        return ""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (
        f"classes without images here: {', '.join(names[:shown])}{more}; ROC-AUC and average precision are means over the "
        "other classes, F1 over the classes that occur as a label or a prediction"
    )
