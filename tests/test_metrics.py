"""Metrics against values worked out by hand and against Keras."""

import math

import keras
import numpy as np
import pytest

from imgclf.learning import metrics

TRUE = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])


def test_confusion_rows_are_true() -> None:
    np.testing.assert_array_equal(metrics.confusion(TRUE, PREDICTED, 3), [[2, 1, 0], [1, 1, 0], [1, 0, 0]])


def test_accuracy() -> None:
    assert metrics.accuracy(metrics.confusion(TRUE, PREDICTED, 3)) == 0.5
    assert math.isnan(metrics.accuracy(np.zeros((2, 2), np.int64)))


def test_class_scores_by_hand() -> None:
    scores = metrics.class_scores(metrics.confusion(TRUE, PREDICTED, 3), ("a", "b", "c"))
    assert scores == [
        metrics.ClassScore("a", 0.5, 2 / 3, pytest.approx(4 / 7), 3),
        metrics.ClassScore("b", 0.5, 0.5, 0.5, 2),
        metrics.ClassScore("c", 0.0, 0.0, 0.0, 1),
    ]


def test_cross_entropy_equals_keras() -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([0.3, 0.3, 0.3], 200)
    probabilities[0] = [1, 0, 0]
    true = random.integers(0, 3, 200)
    expected = keras.losses.categorical_crossentropy(np.eye(3)[true], probabilities).numpy().mean()
    assert metrics.cross_entropy(true, probabilities) == pytest.approx(expected, rel=1e-6)
    two = np.stack([1 - probabilities[:, 0], probabilities[:, 0]], axis=1)
    truth = (true == 0).astype(int)
    expected = keras.losses.binary_crossentropy(truth[:, None].astype(float), two[:, 1:]).numpy().mean()
    assert metrics.cross_entropy(truth, two) == pytest.approx(expected, rel=1e-5)
    assert math.isnan(metrics.cross_entropy(true[:0], probabilities[:0]))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (81, 263, 0.2553, 0.3662), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval_has_the_published_values(hits: int, total: int, low: float, high: float) -> None:
    """81 of 263 is the worked example of Newcombe (1998), method 3."""
    assert metrics.wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)
