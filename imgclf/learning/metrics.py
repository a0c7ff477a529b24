"""How good a classifier is: pure functions of true class numbers and probabilities."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """One class: precision, recall and F1 in 0..1 (0 where undefined), and how many pictures truly are of it."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


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
        scores.append(ClassScore(name, precision, recall, f1, support))
    return scores


def cross_entropy(true: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean of -log p(true class), as Keras' losses compute it (probabilities clipped at 1e-7); NaN for none."""
    if not len(true):
        return math.nan
    chosen = probabilities[np.arange(len(true)), true]
    return float(-np.log(np.clip(chosen, 1e-7, 1 - 1e-7)).mean())


def wilson_interval(hits: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927), which stays sensible for few pictures and near 0 or 1."""
    if total == 0:
        return (0.0, 1.0)
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return (max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))
