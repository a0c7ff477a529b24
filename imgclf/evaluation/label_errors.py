"""Find likely label errors and outliers from features. Only the folds are random."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Progress
from imgclf.evaluation.folds import assign_folds

_PENALTIES = np.geomspace(1e-3, 1e2, 11)  # ridge penalties, as shares of the number of images
_TEMPERATURES = np.geomspace(0.02, 2, 40)
_ROWS = 1024  # images at a time: full n x classes or n x n arrays are never allocated
_BLOCK = 64e6  # maximum bytes of a block of the n x n similarities
NEIGHBOURS = 10  # neighbours whose distances make an outlier score

Probabilities = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # (rows,) image indices -> (rows, classes)


def held_out_probabilities(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], *, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """(n, classes) the probabilities of `held_out` for all images at once."""
    return held_out(features, labels, groups, folds=folds, seed=seed)(np.arange(len(labels)))


def held_out(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Probabilities:
    """Out-of-fold probabilities of a linear classifier: never trained on the image or its group. Computed when called.

    Ridge regression to one-hot targets on standardised features (n, width), which may be memory-mapped. A single temperature
    turns the scores into probabilities. The penalty and the temperature minimise the log loss of the held-out scores. Memory
    beyond the features: about 24 arrays of (width, classes).
    """
    tell = progress or (lambda done, total: None)
    tell(0, 3 * folds)
    scale = _Scale(features)
    fold_of = assign_folds(labels, groups, folds, seed)
    sums, ridges = [], []
    for fold in range(folds):
        sums.append(_Sums.of(scale, np.flatnonzero(fold_of == fold), labels))
        tell(fold + 1, 3 * folds)
    for fold in range(folds):
        ridges.append(_Ridge.fit([one for number, one in enumerate(sums) if number != fold]))
        tell(folds + fold + 1, 3 * folds)
    del sums
    losses = np.zeros((len(_PENALTIES), len(_TEMPERATURES)))
    for fold, ridge in enumerate(ridges):
        for loss in ordered_map(_lost(scale, ridge, labels), _blocks(np.flatnonzero(fold_of == fold))):
            losses += loss
        tell(2 * folds + fold + 1, 3 * folds)
    best, temperature = np.unravel_index(losses.argmin(), losses.shape)
    chosen = [ridge.weights(_PENALTIES[best]) for ridge in ridges]

    def probabilities(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = np.zeros((len(rows), int(labels.max()) + 1))
        for fold, (ridge, weights) in enumerate(zip(ridges, chosen, strict=True)):
            own = fold_of[rows] == fold
            scores[own] = (scale.values(rows[own]) - ridge.middle) @ weights + ridge.share
        return _softmax(scores / _TEMPERATURES[temperature])

    return probabilities


def _lost(scale: "_Scale", ridge: "_Ridge", labels: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """A function that returns the summed log loss of held-out rows, (penalties, temperatures)."""
    weights = [ridge.weights(penalty) for penalty in _PENALTIES]

    def lost(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        values = scale.values(rows) - ridge.middle
        return np.array([_losses(values @ one + ridge.share, labels[rows]) for one in weights])

    return lost


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Blocks of at most _ROWS rows."""
    return (rows[top : top + _ROWS] for top in range(0, len(rows), _ROWS))


class _Scale:
    """Standardise features to mean 0 and deviation 1, one block of rows at a time."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self._features = features
        count, width = features.shape
        self._mean, squares = np.zeros(width), np.zeros(width)
        for rows in _blocks(np.arange(count)):
            self._mean += self._read(rows).sum(axis=0) / count
        for rows in _blocks(np.arange(count)):
            squares += np.square(self._read(rows) - self._mean).sum(axis=0) / count
        self._deviation = np.sqrt(squares) + 1e-6

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._features[rows].astype(np.float64)

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((self._read(rows) - self._mean) / self._deviation)


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Sums over some images: count, total (width,), products (width, width), by class (classes, width), counts."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]
    by_class: NDArray[np.float64]
    of_class: NDArray[np.int64]

    @classmethod
    def of(cls, scale: _Scale, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> "_Sums":
        classes, width = int(labels.max()) + 1, scale.values(rows[:0]).shape[1]
        products, by_class = np.zeros((width, width)), np.zeros((classes, width))
        for block in _blocks(rows[np.argsort(labels[rows], kind="stable")]):  # sorted by class
            values = scale.values(block)
            products += values.T @ values
            starts = np.flatnonzero(np.diff(labels[block], prepend=-1))
            by_class[labels[block][starts]] += np.add.reduceat(values, starts, axis=0)
        of_class = np.bincount(labels[rows], minlength=classes)
        return cls(len(rows), by_class.sum(axis=0), products, by_class, of_class)


@dataclasses.dataclass(frozen=True)
class _Ridge:
    """Ridge regression for any penalty. middle: (width,) mean of the values. share: (classes,) share of each class."""

    middle: NDArray[np.float64]
    share: NDArray[np.float64]
    strengths: NDArray[np.float64]
    directions: NDArray[np.float64]
    aim: NDArray[np.float64]

    @classmethod
    def fit(cls, sums: Sequence[_Sums]) -> "_Ridge":
        """Fit on all images of these sums. Without images, every score is 0."""
        count = max(1, sum(one.count for one in sums))
        middle = np.asarray(sum((one.total for one in sums), np.float64(0)) / count)
        share = np.asarray(sum((one.of_class for one in sums), np.float64(0)) / count)
        products = sum((one.products for one in sums), np.float64(0)) / count - np.outer(middle, middle)
        strengths, directions = np.linalg.eigh(products)
        aim = sum((one.by_class for one in sums), np.float64(0)).T / count - np.outer(middle, share)
        return cls(middle, share, strengths, directions, directions.T @ aim)

    def weights(self, penalty: float) -> NDArray[np.float64]:
        """(width, classes)."""
        return np.asarray(self.directions @ (self.aim / (np.maximum(self.strengths, 0) + penalty)[:, None]))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _losses(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(temperatures,) log loss at each of _TEMPERATURES, summed over images."""
    scores = scores - scores.max(axis=1, keepdims=True)
    own, powers = scores[np.arange(len(labels)), labels], np.empty_like(scores)
    losses = np.empty(len(_TEMPERATURES))
    for number, temperature in enumerate(_TEMPERATURES):
        np.divide(scores, temperature, out=powers)
        np.exp(powers, out=powers)
        losses[number] = -np.log(np.maximum(np.exp(own / temperature) / powers.sum(axis=1), 1e-12)).sum()
    return losses


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """wrong: (n,) mask of likely label errors. order: (n,) all images, most suspicious first. likelier: (n,) the class that is
    more likely than the label, or the label itself. predicted: (n,) the class with the highest probability. kept, likely: (n,)
    the probabilities of the label and of `likelier`."""

    wrong: NDArray[np.bool_]
    order: NDArray[np.int64]
    likelier: NDArray[np.int64]
    predicted: NDArray[np.int64]
    kept: NDArray[np.float64]
    likely: NDArray[np.float64]


def label_errors(probabilities: Probabilities, labels: NDArray[np.int64], progress: Progress | None = None) -> LabelErrors:
    """Confident learning (Northcutt, Jiang and Chuang, 2021): counted off the diagonal of the confident joint.

    An image counts as class j if its probability of j is at least the mean probability of j among images labelled j, and the
    largest of those. Sorted by normalised margin: the probability of the label minus the largest of another class.
    Probabilities are computed twice, one block of rows at a time.
    """
    kept, likely, margin = np.empty(len(labels)), np.empty(len(labels)), np.empty(len(labels))
    predicted, confident, likelier = np.empty_like(labels), np.empty_like(labels), np.empty_like(labels)
    for rows in _blocks(np.arange(len(labels))):
        found = probabilities(rows)
        kept[rows], predicted[rows] = found[np.arange(len(rows)), labels[rows]], found.argmax(axis=1)
    sizes = np.bincount(labels, minlength=found.shape[1])
    thresholds = np.where(sizes, np.bincount(labels, kept, len(sizes)) / np.maximum(1, sizes), 1.0)
    for rows in _blocks(np.arange(len(labels))):
        found, own = probabilities(rows), labels[rows]
        each = np.arange(len(rows))
        sure = np.where(found >= thresholds, found, -1.0)
        confident[rows] = np.where(sure.max(axis=1) >= 0, sure.argmax(axis=1), own)
        others = found.copy()
        others[each, own] = -1.0
        margin[rows] = kept[rows] - others.max(axis=1)
        likelier[rows] = np.where(
            confident[rows] != own, confident[rows], np.where(margin[rows] < 0, others.argmax(axis=1), own)
        )
        likely[rows] = found[each, likelier[rows]]
        if progress:
            progress(int(rows[-1]) + 1, len(labels))
    wrong = confident != labels
    return LabelErrors(wrong, np.lexsort((margin, ~wrong)), likelier, predicted, kept, likely)


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """nearest: (n,) the most similar other image. similarity: (n,) cosine of the two, -1 to 1. tenth: (n,) that of the tenth
    nearest. apart: (n,) how far an image lies from the ten nearest of all, in median deviations above the median."""

    nearest: NDArray[np.int64]
    similarity: NDArray[np.float64]
    tenth: NDArray[np.float64]
    apart: NDArray[np.float64]


def neighbours(features: NDArray[np.float32], progress: Progress | None = None) -> Neighbours:
    """Compare every image with every other by the cosine of their centred features, a block at a time."""
    values = features - features.mean(axis=0)
    count = len(values)
    for rows in _blocks(np.arange(count)):
        values[rows] /= np.maximum(np.linalg.norm(values[rows], axis=1, keepdims=True), 1e-12)
    some, step = min(NEIGHBOURS, count - 1), max(1, min(_ROWS, int(_BLOCK / 4 / count)))
    nearest, best, tenth, distance = np.zeros(count, np.int64), np.full(count, -1.0), np.full(count, -1.0), np.zeros(count)
    for top in range(0, count, step):
        alike = values[top : top + step] @ values.T
        rows = np.arange(len(alike))
        own = slice(top, top + len(rows))
        alike[rows, top + rows] = -2.0
        nearest[own] = alike.argmax(axis=1)
        best[own] = alike[rows, nearest[own]]
        if some:
            alike.partition(count - some, axis=1)
            ten = alike[:, -some:]
            tenth[own], distance[own] = ten.min(axis=1), 1 - ten.mean(axis=1)
        if progress:
            progress(min(top + step, count), count)
    middle = np.median(distance)
    spread = np.median(np.abs(distance - middle))
    return Neighbours(nearest, best, tenth, (distance - middle) / max(float(spread), 1e-6))
