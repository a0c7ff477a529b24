"""Which labels are likely wrong, and which pictures lie apart, from features; drawn at random are the folds alone."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from imgclf.learning import folding

_PENALTIES = np.geomspace(1e-3, 1e2, 11)  # of the ridge, as shares of the number of pictures
NEIGHBOURS = 10  # pictures whose distance says how far apart one lies


def held_out_probabilities(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], *, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """(n, classes) what a linear classifier says of each picture that was not trained on it or on its group.

    Ridge regression to one-hot targets on standardised features (n, width); then one temperature for all, which makes
    probabilities of the scores. The penalty and the temperature are those with the least log loss on the held-out scores.
    """
    values = features.astype(np.float64)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    targets = np.eye(int(labels.max()) + 1)[labels]
    scores = np.zeros((len(_PENALTIES), *targets.shape))
    fold_of = folding.folds(labels, groups, folds, seed)
    for fold in range(folds):
        inside, outside = fold_of != fold, fold_of == fold
        if not outside.any() or not inside.any():
            continue
        middle, share = values[inside].mean(axis=0), targets[inside].mean(axis=0)
        known, wanted = values[inside] - middle, targets[inside] - share
        strengths, directions = np.linalg.eigh(known.T @ known / len(known))
        turned, aim = (values[outside] - middle) @ directions, directions.T @ (known.T @ wanted) / len(known)
        for number, penalty in enumerate(_PENALTIES):
            scores[number, outside] = turned @ (aim / (np.maximum(strengths, 0) + penalty)[:, None]) + share
    temperatures = np.geomspace(0.02, 2, 40)
    tried = [
        (_log_loss(scores[number], labels, temperature), number, temperature)
        for number in range(len(_PENALTIES))
        for temperature in temperatures
    ]
    _loss, best, temperature = min(tried)
    return _softmax(scores[best] / temperature)


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _log_loss(scores: NDArray[np.float64], labels: NDArray[np.int64], temperature: float) -> float:
    own = _softmax(scores / temperature)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, 1e-12)).mean())


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """wrong: (n,) which labels are likely errors. order: (n,) all pictures, the most suspicious first. likelier: (n,) the class
    that each picture more likely shows, its own where no other does."""

    wrong: NDArray[np.bool_]
    order: NDArray[np.int64]
    likelier: NDArray[np.int64]


def label_errors(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> LabelErrors:
    """Confident learning (Northcutt, Jiang and Chuang, 2021): counted off the diagonal of the confident joint.

    A picture counts as class j when its probability of j is at least the mean probability of j among those labelled j, and the
    largest of such. Sorted by normalised margin: the probability of the label less the largest of another class.
    """
    count, classes = probabilities.shape
    own = probabilities[np.arange(count), labels]
    thresholds = np.array([own[labels == number].mean() if (labels == number).any() else 1.0 for number in range(classes)])
    sure = np.where(probabilities >= thresholds, probabilities, -1.0)
    confident = np.where(sure.max(axis=1) >= 0, sure.argmax(axis=1), labels)
    others = probabilities.copy()
    others[np.arange(count), labels] = -1.0
    margin = own - others.max(axis=1)
    wrong = confident != labels
    order = np.lexsort((margin, ~wrong))
    return LabelErrors(wrong, order, np.where(wrong, confident, np.where(margin < 0, others.argmax(axis=1), labels)))


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """nearest: (n,) the most similar other picture. similarity: (n,) cosine of the two, -1 to 1. tenth: (n,) that of the tenth
    nearest. apart: (n,) how far a picture lies from the ten nearest of all, in median deviations above the median."""

    nearest: NDArray[np.int64]
    similarity: NDArray[np.float64]
    tenth: NDArray[np.float64]
    apart: NDArray[np.float64]


def neighbours(features: NDArray[np.float32]) -> Neighbours:
    """Compare every picture with every other by the cosine of their centred features, a block at a time."""
    values = features - features.mean(axis=0)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    count = len(values)
    some = min(NEIGHBOURS, count - 1)
    nearest, best, tenth, distance = np.zeros(count, np.int64), np.full(count, -1.0), np.full(count, -1.0), np.zeros(count)
    for top in range(0, count, 1024):
        alike = values[top : top + 1024] @ values.T
        rows = np.arange(len(alike))
        alike[rows, top + rows] = -2.0
        nearest[top : top + 1024] = alike.argmax(axis=1)
        best[top : top + 1024] = alike[rows, alike.argmax(axis=1)]
        if some:
            ten = np.partition(alike, -some, axis=1)[:, -some:]
            tenth[top : top + 1024], distance[top : top + 1024] = ten.min(axis=1), 1 - ten.mean(axis=1)
    middle = np.median(distance)
    spread = np.median(np.abs(distance - middle))
    return Neighbours(nearest, best, tenth, (distance - middle) / max(float(spread), 1e-6))
