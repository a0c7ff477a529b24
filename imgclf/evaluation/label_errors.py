"""Find likely label errors, near-duplicates and outliers from image features. Only the assignment to folds is random."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from imgclf.core.parallel import ordered_map
from imgclf.core.progress import Progress
from imgclf.evaluation.folds import assign_folds

_PENALTIES = np.geomspace(1e-3, 1e2, 11)  # ridge penalties, divided by the number of images
_TEMPERATURES = np.geomspace(0.02, 2, 40)
_ROWS = 1024  # images in a block: no n x classes or n x n array is allocated
_BLOCK = 64e6  # maximum size in bytes of a block of the n x n similarities
NEIGHBOURS = 10  # nearest images whose mean distance gives the outlier score

Probabilities = Callable[[NDArray[np.int64]], NDArray[np.float64]]  # (rows,) image indices -> (rows, classes)


def held_out_probabilities(
    features: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], *, folds: int = 5, seed: int = 0
) -> NDArray[np.float64]:
    """Return the probabilities of `held_out` for all images: (n, classes)."""
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
    """Cross-validate a linear classifier: each image is predicted by a classifier that is not trained on it or its group.

    The classifier is a ridge regression on standardised features with one-hot targets, and a softmax with a temperature. The
    penalty and the temperature minimise the held-out log loss. Memory: the features and about 24 arrays (width, classes).

    Args:
        features: (n, width), may be memory-mapped.
        labels, groups: (n,) class and group numbers. All images of a group are in one of the `folds`, assigned with `seed`.
        progress: called with (steps done, steps in total); each fold has three steps.

    Returns:
        A function from image indices (rows,) to probabilities (rows, classes). It computes them when it is called.
    """
    report = progress or (lambda done, total: None)
    report(0, 3 * folds)
    scale = _Scale(features)
    fold_of = assign_folds(labels, groups, folds, seed)
    sums, ridges = [], []
    for fold in range(folds):
        sums.append(_Sums.of(scale, np.flatnonzero(fold_of == fold), labels))
        report(fold + 1, 3 * folds)
    for fold in range(folds):
        ridges.append(_Ridge.fit([one for number, one in enumerate(sums) if number != fold]))
        report(folds + fold + 1, 3 * folds)
    del sums
    losses = np.zeros((len(_PENALTIES), len(_TEMPERATURES)))
    for fold, ridge in enumerate(ridges):
        for loss in ordered_map(_summed_loss(scale, ridge, labels), _blocks(np.flatnonzero(fold_of == fold))):
            losses += loss
        report(2 * folds + fold + 1, 3 * folds)
    best, temperature = np.unravel_index(losses.argmin(), losses.shape)
    chosen = [ridge.weights(_PENALTIES[best]) for ridge in ridges]

    def probabilities(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = np.zeros((len(rows), int(labels.max()) + 1))
        for fold, (ridge, weights) in enumerate(zip(ridges, chosen, strict=True)):
            own = fold_of[rows] == fold
            scores[own] = (scale.values(rows[own]) - ridge.mean) @ weights + ridge.fractions
        return _softmax(scores / _TEMPERATURES[temperature])

    return probabilities


def _summed_loss(
    scale: "_Scale", ridge: "_Ridge", labels: NDArray[np.int64]
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Return a function from held-out rows to their summed log loss, (penalties, temperatures)."""
    weights = [ridge.weights(penalty) for penalty in _PENALTIES]

    def loss(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        values = scale.values(rows) - ridge.mean
        return np.array([_losses(values @ one + ridge.fractions, labels[rows]) for one in weights])

    return loss


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Split rows into blocks of at most _ROWS rows."""
    return (rows[top : top + _ROWS] for top in range(0, len(rows), _ROWS))


class _Scale:
    """Standardise features to mean 0 and standard deviation 1, one block of rows at a time."""

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
        """Return the standardised features of these rows: (rows, width)."""
        return np.asarray((self._read(rows) - self._mean) / self._deviation)


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Sums of standardised features over a set of images. Ridge regression needs nothing else."""

    count: int  # number of images
    total: NDArray[np.float64]  # (width,) sum of the features
    products: NDArray[np.float64]  # (width, width) sum of the outer products of the features
    by_class: NDArray[np.float64]  # (classes, width) sum of the features of each class
    of_class: NDArray[np.int64]  # (classes,) number of images of each class

    @classmethod
    def of(cls, scale: _Scale, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> "_Sums":
        """Compute the sums over these rows."""
        classes, width = int(labels.max()) + 1, scale.values(rows[:0]).shape[1]
        products, by_class = np.zeros((width, width)), np.zeros((classes, width))
        for block in _blocks(rows[np.argsort(labels[rows], kind="stable")]):  # reduceat needs them sorted by class
            values = scale.values(block)
            products += values.T @ values
            starts = np.flatnonzero(np.diff(labels[block], prepend=-1))
            by_class[labels[block][starts]] += np.add.reduceat(values, starts, axis=0)
        of_class = np.bincount(labels[rows], minlength=classes)
        return cls(len(rows), by_class.sum(axis=0), products, by_class, of_class)


@dataclasses.dataclass(frozen=True)
class _Ridge:
    """Ridge regression, solved for any penalty from one eigendecomposition of the covariance matrix."""

    mean: NDArray[np.float64]  # (width,) of the features
    fractions: NDArray[np.float64]  # (classes,) fraction of the images that are of each class
    eigenvalues: NDArray[np.float64]  # (width,) of the covariance matrix
    eigenvectors: NDArray[np.float64]  # (width, width), in columns
    targets: NDArray[np.float64]  # (width, classes) covariance of features and one-hot targets, in the eigenvector basis

    @classmethod
    def fit(cls, sums: Sequence[_Sums]) -> "_Ridge":
        """Fit on the images of all these sums. Without images, every score is 0."""
        count = max(1, sum(one.count for one in sums))
        mean = np.asarray(sum((one.total for one in sums), np.float64(0)) / count)
        fractions = np.asarray(sum((one.of_class for one in sums), np.float64(0)) / count)
        products = sum((one.products for one in sums), np.float64(0)) / count - np.outer(mean, mean)
        eigenvalues, eigenvectors = np.linalg.eigh(products)
        targets = sum((one.by_class for one in sums), np.float64(0)).T / count - np.outer(mean, fractions)
        return cls(mean, fractions, eigenvalues, eigenvectors, eigenvectors.T @ targets)

    def weights(self, penalty: float) -> NDArray[np.float64]:
        """Return the weights for this penalty: (width, classes)."""
        return np.asarray(self.eigenvectors @ (self.targets / (np.maximum(self.eigenvalues, 0) + penalty)[:, None]))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of scores (rows, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _losses(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log loss at each of _TEMPERATURES, summed over images: (temperatures,)."""
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
    """Likely label errors among n images.

    Attributes:
        wrong: (n,) whether the label is likely wrong.
        ranking: (n,) indices of all images, the most likely label error first.
        suggested: (n,) class number: the label itself, unless it is likely wrong or another class is more probable.
        predicted: (n,) class with the highest probability.
        label_probability: (n,) probability of the label.
        suggested_probability: (n,) probability of the suggested class.
    """

    wrong: NDArray[np.bool_]
    ranking: NDArray[np.int64]
    suggested: NDArray[np.int64]
    predicted: NDArray[np.int64]
    label_probability: NDArray[np.float64]
    suggested_probability: NDArray[np.float64]


def label_errors(probabilities: Probabilities, labels: NDArray[np.int64], progress: Progress | None = None) -> LabelErrors:
    """Find likely label errors by confident learning (Northcutt, Jiang and Chuang, 2021).

    The threshold of class j is the mean probability of j among images labelled j. Of the classes whose probability reaches
    their threshold, the most probable one is the confident class of an image. A label is likely wrong if it differs from the
    confident class: the image is off the diagonal of the confident joint. Likely errors rank first. Within both groups, images
    are ranked by normalised margin: the probability of the label minus the largest probability of another class.

    Args:
        probabilities: function from image indices to held-out probabilities. It is called twice for each block of rows.
        labels: (n,) class numbers.
        progress: called with (images done, images in total).
    """
    label_probability, suggested_probability, margin = np.empty(len(labels)), np.empty(len(labels)), np.empty(len(labels))
    predicted, confident, suggested = np.empty_like(labels), np.empty_like(labels), np.empty_like(labels)
    for rows in _blocks(np.arange(len(labels))):
        found = probabilities(rows)
        label_probability[rows], predicted[rows] = found[np.arange(len(rows)), labels[rows]], found.argmax(axis=1)
    sizes = np.bincount(labels, minlength=found.shape[1])
    thresholds = np.where(sizes, np.bincount(labels, label_probability, len(sizes)) / np.maximum(1, sizes), 1.0)
    for rows in _blocks(np.arange(len(labels))):
        found, own = probabilities(rows), labels[rows]
        each = np.arange(len(rows))
        reached = np.where(found >= thresholds, found, -1.0)
        confident[rows] = np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), own)
        others = found.copy()
        others[each, own] = -1.0
        margin[rows] = label_probability[rows] - others.max(axis=1)
        suggested[rows] = np.where(
            confident[rows] != own, confident[rows], np.where(margin[rows] < 0, others.argmax(axis=1), own)
        )
        suggested_probability[rows] = found[each, suggested[rows]]
        if progress:
            progress(int(rows[-1]) + 1, len(labels))
    wrong = confident != labels
    return LabelErrors(wrong, np.lexsort((margin, ~wrong)), suggested, predicted, label_probability, suggested_probability)


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of n images.

    Attributes:
        nearest: (n,) index of the most similar other image.
        similarity: (n,) cosine similarity to `nearest`, from -1 to 1. For a single image, it is -2.
        tenth_similarity: (n,) cosine similarity to the tenth nearest image, or to the farthest one of fewer than ten.
        outlier_score: (n,) (distance - median) / median absolute deviation. The distance of an image is the mean of
            1 - cosine similarity over its ten nearest images.
    """

    nearest: NDArray[np.int64]
    similarity: NDArray[np.float64]
    tenth_similarity: NDArray[np.float64]
    outlier_score: NDArray[np.float64]


def neighbours(features: NDArray[np.float32], progress: Progress | None = None) -> Neighbours:
    """Find the nearest neighbours of each image by the cosine similarity of centred features, one block at a time.

    Args:
        features: (n, width).
        progress: called with (images done, images in total).
    """
    values = features - features.mean(axis=0)
    count = len(values)
    for rows in _blocks(np.arange(count)):
        values[rows] /= np.maximum(np.linalg.norm(values[rows], axis=1, keepdims=True), 1e-12)
    most, step = min(NEIGHBOURS, count - 1), max(1, min(_ROWS, int(_BLOCK / 4 / count)))
    nearest, best, tenth, distance = np.zeros(count, np.int64), np.full(count, -1.0), np.full(count, -1.0), np.zeros(count)
    for top in range(0, count, step):
        similarities = values[top : top + step] @ values.T
        rows = np.arange(len(similarities))
        own = slice(top, top + len(rows))
        similarities[rows, top + rows] = -2.0
        nearest[own] = similarities.argmax(axis=1)
        best[own] = similarities[rows, nearest[own]]
        if most:
            similarities.partition(count - most, axis=1)
            ten = similarities[:, -most:]
            tenth[own], distance[own] = ten.min(axis=1), 1 - ten.mean(axis=1)
        if progress:
            progress(min(top + step, count), count)
    median = np.median(distance)
    deviation = np.median(np.abs(distance - median))
    return Neighbours(nearest, best, tenth, (distance - median) / max(float(deviation), 1e-6))
