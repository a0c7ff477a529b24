"""Label errors, outliers and folds against direct formulas, at the sizes where blocks and neighbours run out."""

import numpy as np
import pytest

from imgclf.evaluation import label_errors
from imgclf.evaluation.folds import assign_folds

PROBABILITIES = np.array(
    [[0.70, 0.20, 0.10], [0.50, 0.30, 0.20], [0.30, 0.45, 0.25], [0.15, 0.80, 0.05], [0.10, 0.60, 0.30], [0.05, 0.90, 0.05]]
)
LABELS = np.array([0, 0, 0, 1, 1, 0])


def test_what_is_told_of_each_image() -> None:
    """By hand: thresholds 0.3875 (mean of 0.7, 0.5, 0.3, 0.05) and 0.7 (of 0.8, 0.6); no image is labelled as the third."""
    told: list[tuple[int, int]] = []
    found = label_errors.label_errors(PROBABILITIES.__getitem__, LABELS, lambda done, total: told.append((done, total)))
    assert found.wrong.tolist() == [False] * 5 + [True]
    assert found.predicted.tolist() == [0, 0, 1, 1, 1, 1]
    assert found.suggested.tolist() == [0, 0, 1, 1, 1, 1], "the third is likelier of another class, but not surely"
    assert found.label_probability.tolist() == [0.7, 0.5, 0.3, 0.8, 0.6, 0.05]
    assert found.suggested_probability.tolist() == [0.7, 0.5, 0.45, 0.8, 0.6, 0.9]
    margins = [0.5, 0.2, -0.15, 0.65, 0.3, -0.85]  # own less the largest of the others; the surely wrong one comes first
    assert found.ranking.tolist() == sorted(range(6), key=lambda index: margins[index])
    assert told == [(6, 6)]


def test_a_wrong_label_comes_before_a_smaller_margin() -> None:
    """The second image, one of few of its class that nothing is sure of, has the smallest margin but counts as no error."""
    probabilities = np.array([[0.49, 0.51, 0.0], [0.0, 0.45, 0.55], [0.9, 0.1, 0.0], [0.3, 0.4, 0.3], [0.0, 0.2, 0.8]])
    labels = np.array([1, 0, 0, 1, 2])
    found = label_errors.label_errors(probabilities.__getitem__, labels)
    for place, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        means = [probabilities[labels == name, name].mean() for name in range(3)]
        sure = [name for name in range(3) if row[name] >= means[name]]
        assert found.wrong[place] == (bool(sure) and max(sure, key=lambda name: row[name]) != label)
    margin = [row[label] - np.delete(row, label).max() for row, label in zip(probabilities, labels, strict=True)]
    assert found.ranking.tolist() == sorted(range(5), key=lambda index: (not found.wrong[index], margin[index]))


def test_a_tie_is_no_error() -> None:
    """Equal probabilities: the label stays, and so it does where no class is likely enough."""
    found = label_errors.label_errors(np.full((4, 2), 0.5).__getitem__, np.array([0, 0, 1, 1]))
    assert found.suggested.tolist() == [0, 0, 0, 0]
    even = label_errors.label_errors(np.array([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]]).__getitem__, np.array([0, 1, 1]))
    assert even.suggested.tolist() == [0, 1, 1]
    assert not even.wrong.any()


@pytest.mark.parametrize("count", [1, 2, 5, 10, 11, 30])
def test_neighbours_of_few_images(count: int) -> None:
    """As many of the ten nearest as there are, by the plain formula."""
    features = np.random.default_rng(count).normal(size=(count, 6)).astype(np.float32)
    told: list[tuple[int, int]] = []
    found = label_errors.neighbours(features, lambda done, total: told.append((done, total)))
    assert told == [(count, count)]
    if count == 1:
        assert (found.nearest.tolist(), found.similarity.tolist(), found.outlier_score.tolist()) == ([0], [-2.0], [0.0])
        assert found.tenth_similarity.tolist() == [-1.0]
        return
    plain = features - features.mean(axis=0)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    others = np.array([np.delete(row, place) for place, row in enumerate(plain @ plain.T)])
    near = -np.sort(-others, axis=1)[:, :10]
    np.testing.assert_allclose(found.similarity, near[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.tenth_similarity, near[:, -1], atol=1e-6)
    far = 1 - near.mean(axis=1)
    spread = max(float(np.median(np.abs(far - np.median(far)))), 1e-6)
    np.testing.assert_allclose(
        found.outlier_score, (far - np.median(far)) / spread, rtol=1e-3, atol=0.3 if count == 2 else 1e-3
    )
    assert all(found.nearest[place] != place for place in range(count))


def test_images_that_are_all_the_same_lie_nowhere_apart() -> None:
    found = label_errors.neighbours(np.ones((20, 4), np.float32))
    assert found.outlier_score.tolist() == [0.0] * 20
    assert np.isfinite(found.similarity).all()


def test_work_is_told_as_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of every fold, and blocks of images, each once and in order."""
    monkeypatch.setattr(label_errors, "_ROWS", 8)
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    labels, told = np.arange(20) % 2, []
    predict = label_errors.held_out(features, labels, np.arange(20), folds=4, progress=lambda *step: told.append(step))
    assert told == [(step, 12) for step in range(13)]
    told.clear()
    label_errors.label_errors(predict, labels, lambda *step: told.append(step))
    assert told == [(8, 20), (16, 20), (20, 20)]
    told.clear()
    label_errors.neighbours(features, lambda *step: told.append(step))
    assert told == [(8, 20), (16, 20), (20, 20)]


def test_folds_and_seeds_are_those_asked_for() -> None:
    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    labels, groups = np.arange(60) % 3, np.arange(60)
    features[:, 0] += labels
    plain = label_errors.held_out_probabilities(features, labels, groups)
    np.testing.assert_array_equal(plain, label_errors.held_out_probabilities(features, labels, groups, folds=5, seed=0))
    for other in ({"seed": 1}, {"folds": 4}):
        assert np.abs(plain - label_errors.held_out_probabilities(features, labels, groups, **other)).max() > 0.01
    some = np.array([5, 3, 59])
    np.testing.assert_allclose(label_errors.held_out(features, labels, groups)(some), plain[some], atol=1e-12)


def test_each_class_begins_at_another_fold_and_is_spread_evenly() -> None:
    for seed in range(5):
        labels = np.repeat([0, 1, 2], (9, 10, 11))
        folds = assign_folds(labels, np.arange(30), 4, seed)
        for label in range(3):
            counts = np.bincount(folds[labels == label], minlength=4)
            assert counts.max() - counts.min() <= 1
            extra = [(label + step) % 4 for step in range(counts.sum() % 4)]
            assert counts[extra].min() > counts.min() or not extra
        assert (folds == assign_folds(labels, np.arange(30), 4, seed)).all()
    assert assign_folds(np.array([], np.int64), np.array([], np.int64), 5, 0).tolist() == []
