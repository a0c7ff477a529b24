"""Test label errors, outliers and folds against direct formulas, with partial blocks and fewer than ten neighbours."""

import numpy as np
import pytest

from imgclf.evaluation import label_errors
from imgclf.evaluation.folds import assign_folds

PROBABILITIES = np.array(
    [[0.70, 0.20, 0.10], [0.50, 0.30, 0.20], [0.30, 0.45, 0.25], [0.15, 0.80, 0.05], [0.10, 0.60, 0.30], [0.05, 0.90, 0.05]]
)
LABELS = np.array([0, 0, 0, 1, 1, 0])


def test_label_errors_equal_values_by_hand() -> None:
    """Thresholds: 0.3875 (mean of 0.7, 0.5, 0.3, 0.05) and 0.7 (mean of 0.8, 0.6). No image has the third label."""
    reports: list[tuple[int, int]] = []
    found = label_errors.label_errors(PROBABILITIES.__getitem__, LABELS, lambda done, total: reports.append((done, total)))
    assert found.wrong.tolist() == [False] * 5 + [True]
    assert found.predicted.tolist() == [0, 0, 1, 1, 1, 1]
    assert found.suggested.tolist() == [0, 0, 1, 1, 1, 1], (
        "the third image is below the threshold of the class that is suggested"
    )
    assert found.label_probability.tolist() == [0.7, 0.5, 0.3, 0.8, 0.6, 0.05]
    assert found.suggested_probability.tolist() == [0.7, 0.5, 0.45, 0.8, 0.6, 0.9]
    margins = [0.5, 0.2, -0.15, 0.65, 0.3, -0.85]  # of the label minus the largest other; the label error is first
    assert found.ranking.tolist() == sorted(range(6), key=lambda index: margins[index])
    assert reports == [(6, 6)]


def test_label_errors_rank_before_smaller_margins() -> None:
    """The second image has the smallest margin, but no probability reaches its threshold, so its label is no error."""
    probabilities = np.array([[0.49, 0.51, 0.0], [0.0, 0.45, 0.55], [0.9, 0.1, 0.0], [0.3, 0.4, 0.3], [0.0, 0.2, 0.8]])
    labels = np.array([1, 0, 0, 1, 2])
    found = label_errors.label_errors(probabilities.__getitem__, labels)
    for place, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        means = [probabilities[labels == name, name].mean() for name in range(3)]
        reached = [name for name in range(3) if row[name] >= means[name]]
        assert found.wrong[place] == (bool(reached) and max(reached, key=lambda name: row[name]) != label)
    margin = [row[label] - np.delete(row, label).max() for row, label in zip(probabilities, labels, strict=True)]
    assert found.ranking.tolist() == sorted(range(5), key=lambda index: (not found.wrong[index], margin[index]))


def test_ties_and_low_probabilities_are_no_label_errors() -> None:
    found = label_errors.label_errors(np.full((4, 2), 0.5).__getitem__, np.array([0, 0, 1, 1]))
    assert found.suggested.tolist() == [0, 0, 0, 0]
    even = label_errors.label_errors(np.array([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]]).__getitem__, np.array([0, 1, 1]))
    assert even.suggested.tolist() == [0, 1, 1]
    assert not even.wrong.any()


@pytest.mark.parametrize("count", [1, 2, 5, 10, 11, 30])
def test_neighbours_of_few_images(count: int) -> None:
    """With fewer than ten other images, all of them are neighbours."""
    features = np.random.default_rng(count).normal(size=(count, 6)).astype(np.float32)
    reports: list[tuple[int, int]] = []
    found = label_errors.neighbours(features, lambda done, total: reports.append((done, total)))
    assert reports == [(count, count)]
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


def test_identical_images_have_no_outliers() -> None:
    found = label_errors.neighbours(np.ones((20, 4), np.float32))
    assert found.outlier_score.tolist() == [0.0] * 20
    assert np.isfinite(found.similarity).all()


def test_progress_is_reported_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-validation reports three steps for each fold; the other functions report each block of images."""
    monkeypatch.setattr(label_errors, "_ROWS", 8)
    features = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    labels, reports = np.arange(20) % 2, []
    predict = label_errors.held_out(features, labels, np.arange(20), folds=4, progress=lambda *step: reports.append(step))
    assert reports == [(step, 12) for step in range(13)]
    reports.clear()
    label_errors.label_errors(predict, labels, lambda *step: reports.append(step))
    assert reports == [(8, 20), (16, 20), (20, 20)]
    reports.clear()
    label_errors.neighbours(features, lambda *step: reports.append(step))
    assert reports == [(8, 20), (16, 20), (20, 20)]


def test_folds_and_seed_change_the_probabilities() -> None:
    features = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    labels, groups = np.arange(60) % 3, np.arange(60)
    features[:, 0] += labels
    plain = label_errors.held_out_probabilities(features, labels, groups)
    np.testing.assert_array_equal(plain, label_errors.held_out_probabilities(features, labels, groups, folds=5, seed=0))
    for other in ({"seed": 1}, {"folds": 4}):
        assert np.abs(plain - label_errors.held_out_probabilities(features, labels, groups, **other)).max() > 0.01
    some = np.array([5, 3, 59])
    np.testing.assert_allclose(label_errors.held_out(features, labels, groups)(some), plain[some], atol=1e-12)


def test_each_class_starts_at_another_fold_and_is_spread_evenly() -> None:
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
