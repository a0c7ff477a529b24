"""Test metrics and calibration against values computed by hand, Keras and scikit-learn."""

import math
from typing import Any

import keras
import numpy as np
import pytest

from imgclf.evaluation import calibration, metrics
from imgclf.evaluation.folds import assign_folds
from imgclf.evaluation.intervals import wilson_interval

TRUE = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 0])


def test_confusion_rows_are_true_classes() -> None:
    np.testing.assert_array_equal(metrics.confusion(TRUE, PREDICTED, 3), [[2, 1, 0], [1, 1, 0], [1, 0, 0]])


def test_accuracy_of_a_confusion_matrix() -> None:
    assert metrics.accuracy(metrics.confusion(TRUE, PREDICTED, 3)) == 0.5
    assert math.isnan(metrics.accuracy(np.zeros((2, 2), np.int64)))


def test_class_scores_by_hand() -> None:
    interval = wilson_interval
    scores = metrics.class_scores(metrics.confusion(TRUE, PREDICTED, 3), ("a", "b", "c"))
    assert scores == [
        metrics.ClassScore("a", 0.5, 2 / 3, pytest.approx(4 / 7), 3, interval(2, 4), interval(2, 3)),
        metrics.ClassScore("b", 0.5, 0.5, 0.5, 2, interval(1, 2), interval(1, 2)),
        metrics.ClassScore("c", 0.0, 0.0, 0.0, 1, (0.0, 1.0), interval(0, 1)),
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
    """81 of 263 is an example of Newcombe (1998), method 3."""
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("z", [1.959963984540054, 3.0, 5.0])
def test_wilson_interval_contains_the_proportion(z: float) -> None:
    """`slices` relies on it: an upper bound below the overall accuracy means that the accuracy of the slice is below it."""
    for total in range(1, 200):
        assert wilson_interval(0, total, z=z)[0] == 0
        assert wilson_interval(total, total, z=z)[1] == 1
        for hits in range(total + 1):
            low, high = wilson_interval(hits, total, z=z)
            assert 0 <= low <= hits / total <= high <= 1


@pytest.mark.parametrize("seed", range(200))
def test_metrics_equal_scikit_learn(seed: int) -> None:
    """Random cases of 2 to 7 classes: high and low confidence, ties, rare classes, and classes that are never predicted."""
    from sklearn import metrics as reference

    random = np.random.default_rng(seed)
    classes, count = int(random.integers(2, 8)), int(random.integers(20, 300))
    true = np.concatenate([np.arange(classes), random.choice(classes, count, p=random.dirichlet(np.ones(classes)))])
    probabilities = random.dirichlet(np.full(classes, random.choice([0.3, 1.0, 5.0])), len(true))
    probabilities[np.arange(len(true)), true] += random.uniform(0, 1.5)
    if seed % 2:
        probabilities = np.round(probabilities, 1) + 0.05  # many ties
    probabilities = np.clip(probabilities, 1e-6, None)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    matrix = metrics.confusion(true, predicted, classes)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(true, predicted, labels=range(classes)))
    scores = metrics.class_scores(matrix, tuple(map(str, range(classes))))
    expected = np.array(reference.precision_recall_fscore_support(true, predicted, labels=range(classes), zero_division=0))
    np.testing.assert_allclose([[s.precision, s.recall, s.f1, s.support] for s in scores], expected.T, atol=1e-9)
    near = {"abs": 1e-9, "rel": 0, "nan_ok": True}
    macro, weighted = metrics.f1_scores(matrix)
    assert macro == pytest.approx(reference.f1_score(true, predicted, average="macro", zero_division=0), **near)
    assert weighted == pytest.approx(reference.f1_score(true, predicted, average="weighted", zero_division=0), **near)
    assert metrics.accuracy(matrix) == pytest.approx(reference.accuracy_score(true, predicted), **near)
    assert metrics.cross_entropy(true, probabilities) == pytest.approx(reference.log_loss(true, probabilities), **near)
    one_hot = np.eye(classes)[true] if classes > 2 else true
    expected_input = probabilities if classes > 2 else probabilities[:, 1]
    found = metrics.one_versus_rest(true, probabilities, metrics.roc_auc)
    assert found == pytest.approx(reference.roc_auc_score(one_hot, expected_input, average="macro"), **near)
    found = metrics.one_versus_rest(true, probabilities, metrics.average_precision)
    assert found == pytest.approx(reference.average_precision_score(one_hot, expected_input, average="macro"), **near)
    if not seed % 2 and classes > 2:
        for k in range(1, classes):
            expected = reference.top_k_accuracy_score(true, probabilities, k=k, labels=range(classes))
            assert metrics.top_k_accuracy(true, probabilities, k) == pytest.approx(expected, **near)


@pytest.mark.parametrize("seed", range(24))
def test_metrics_with_absent_classes_equal_scikit_learn(seed: int) -> None:
    """Means include only classes that occur. Some classes have no images, and some are never predicted either."""
    from sklearn import metrics as reference

    random = np.random.default_rng(seed)
    classes, count = int(random.integers(3, 12)), int(random.integers(10, 80))
    present = np.sort(random.choice(classes, int(random.integers(2, classes)), replace=False))
    true = np.concatenate([present, random.choice(present, count)])
    probabilities = random.dirichlet(np.full(classes, 0.5), len(true))
    probabilities[np.arange(len(true)), true] += random.uniform(0, 1.5)
    if seed % 2:  # absent classes are never predicted
        probabilities[:, np.setdiff1d(np.arange(classes), present)] *= 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = probabilities.argmax(axis=1)
    matrix = metrics.confusion(true, predicted, classes)
    macro, weighted = metrics.f1_scores(matrix)
    assert macro == pytest.approx(reference.f1_score(true, predicted, average="macro", zero_division=0), abs=1e-9)
    assert weighted == pytest.approx(reference.f1_score(true, predicted, average="weighted", zero_division=0), abs=1e-9)
    for own, theirs in (
        (metrics.roc_auc, reference.roc_auc_score),
        (metrics.average_precision, reference.average_precision_score),
    ):
        expected = np.mean([theirs(true == number, probabilities[:, number]) for number in present])
        assert metrics.one_versus_rest(true, probabilities, own) == pytest.approx(expected, abs=1e-9)
    clipped = np.clip(probabilities, 1e-7, 1)
    expected = reference.log_loss(true, clipped / clipped.sum(axis=1, keepdims=True), labels=range(classes))
    assert metrics.cross_entropy(true, probabilities) == pytest.approx(expected, abs=1e-5)
    assert metrics.top_k_accuracy(true, probabilities, 2) == pytest.approx(
        reference.top_k_accuracy_score(true, probabilities, k=2, labels=range(classes)), abs=1e-9
    )
    if seed % 2:  # then the results equal those of a model without the absent classes
        renumbered, known = np.searchsorted(present, true), probabilities[:, present]
        small = metrics.confusion(renumbered, known.argmax(axis=1), len(present))
        assert metrics.f1_scores(small) == pytest.approx((macro, weighted))
        for one, other in zip(metrics.bootstrap_f1(small), metrics.bootstrap_f1(matrix), strict=True):
            assert one == pytest.approx(other)
        assert calibration.calibration_error(renumbered, known) == pytest.approx(
            calibration.calibration_error(true, probabilities), abs=1e-6
        )
        found = calibration.fit_temperature(renumbered, known)
        # A high temperature turns 1e-9 into a probability that matters.
        assert found == pytest.approx(calibration.fit_temperature(true, probabilities), rel=1e-3) or found > 3


def test_a_class_that_never_occurs_is_excluded_and_named() -> None:
    """The images are of two of three classes, and all predictions are correct: all metrics are 1."""
    true = np.array([0, 0, 1, 1, 1])
    probabilities = np.eye(3)[true] * 0.9 + 1 / 30
    matrix = metrics.confusion(true, probabilities.argmax(axis=1), 3)
    assert [float(value) for value in metrics.f1_scores(matrix)] == [1.0, 1.0]
    assert metrics.bootstrap_f1(matrix) == (wilson_interval(5, 5), wilson_interval(5, 5))
    for measure in (metrics.roc_auc, metrics.average_precision):
        assert metrics.one_versus_rest(true, probabilities, measure) == 1
    assert "here: c; ROC-AUC" in metrics.note_on_absent_classes(matrix.sum(axis=1), ("a", "b", "c"))
    assert "here: b, c, d, e and 5 more; " in metrics.note_on_absent_classes(np.array([3] + [0] * 9), tuple("abcdefghij"))
    assert metrics.note_on_absent_classes(np.array([1, 1]), ("a", "b")) == ""


def test_undefined_metrics_are_nan() -> None:
    scores = np.array([0.1, 0.7])
    assert math.isnan(metrics.roc_auc(np.array([True, True]), scores))
    assert math.isnan(metrics.average_precision(np.array([False, False]), scores))
    for measure in (metrics.roc_auc, metrics.average_precision):
        for only in (0, 1):  # one of two classes has no image
            assert math.isnan(metrics.one_versus_rest(np.array([only, only]), np.array([[0.9, 0.1], [0.3, 0.7]]), measure))
    assert math.isnan(metrics.top_k_accuracy(TRUE[:0], np.zeros((0, 3)), 1))
    assert math.isnan(calibration.calibration_error(TRUE[:0], np.zeros((0, 3))))


def test_calibration_error_by_hand() -> None:
    """Bin (0.6, 0.667]: two images at 0.65, one correct; (0.8, 0.867]: one at 0.85, correct; (0.933, 1]: one at 1, correct."""
    probabilities = np.array([[0.65, 0.35], [0.65, 0.35], [0.15, 0.85], [1.0, 0.0]])
    true = np.array([0, 1, 1, 0])
    assert calibration.calibration_error(true, probabilities) == pytest.approx((2 * 0.15 + 0.15 + 0) / 4)
    counts, confidence, accuracies = calibration.reliability(true, probabilities)
    assert np.flatnonzero(counts).tolist() == [9, 12, 14]
    assert confidence[[9, 12, 14]] == pytest.approx([0.65, 0.85, 1])
    assert accuracies[[9, 12, 14]] == pytest.approx([0.5, 1, 1])


@pytest.mark.parametrize("factor", [0.3, 0.8, 1.0, 2.5])
def test_a_known_temperature_is_recovered(factor: float) -> None:
    """Labels are drawn from probabilities. Their logits are then multiplied by a factor, and the fit recovers it."""
    random = np.random.default_rng(3)
    calibrated = random.dirichlet([0.7, 0.7, 0.7], 20_000)
    true = (random.random((20_000, 1)) > calibrated.cumsum(axis=1)).sum(axis=1)
    distorted = calibration.apply_temperature(calibrated, 1 / factor)
    found = calibration.fit_temperature(true, distorted)
    assert found == pytest.approx(factor, rel=0.03)
    corrected = calibration.apply_temperature(distorted, found)
    np.testing.assert_array_equal(corrected.argmax(axis=1), distorted.argmax(axis=1))
    np.testing.assert_allclose(corrected.sum(axis=1), 1)
    assert calibration.calibration_error(true, corrected) < 0.015
    losses = [metrics.cross_entropy(true, calibration.apply_temperature(distorted, found * step)) for step in (0.97, 1, 1.03)]
    assert losses[1] == min(losses)


def test_a_temperature_divides_the_logits() -> None:
    logits = np.array([[1.0, -2.0, 0.5]])
    softmax = np.exp(logits) / np.exp(logits).sum()
    expected = np.exp(logits / 0.4) / np.exp(logits / 0.4).sum()
    np.testing.assert_allclose(calibration.apply_temperature(softmax, 0.4), expected)
    assert calibration.apply_temperature(softmax, 1.0) is softmax
    np.testing.assert_allclose(calibration.apply_temperature(np.array([1.0, 0.0]), 0.5), [1, 0], atol=1e-12)


def test_bootstrap_intervals_have_their_coverage() -> None:
    """The interval contains the F1 of the source distribution for 88% to 99% of 200 samples of 150 images."""
    source = np.array([[30, 5, 1], [4, 25, 6], [2, 3, 24]]) / 100
    truth = [float(value) for value in metrics.f1_scores((source * 1e6).astype(np.int64))]
    random = np.random.default_rng(0)
    inside = np.zeros(2)
    for seed in range(200):
        matrix = random.multinomial(150, source.ravel()).reshape(3, 3)
        for number, (low, high) in enumerate(metrics.bootstrap_f1(matrix, seed=seed, rounds=500)):
            inside[number] += low <= truth[number] <= high
    assert (inside >= 0.88 * 200).all()
    assert (inside <= 0.99 * 200).all()
    assert metrics.bootstrap_f1(matrix, seed=1) == metrics.bootstrap_f1(matrix, seed=1)


def test_bootstrap_of_many_small_classes() -> None:
    """The interval contains the metric, and memory does not grow with the square of the number of classes."""
    import tracemalloc

    low, high = metrics.bootstrap_f1(3 * np.eye(100, dtype=np.int64))[0]
    assert (low, high) == wilson_interval(300, 300)
    random = np.random.default_rng(0)
    for _round in range(5):
        true = np.repeat(np.arange(100), 3)
        wrong = random.random(300) < 0.1
        matrix = metrics.confusion(true, np.where(wrong, random.integers(0, 100, 300), true), 100)
        macro, _weighted = metrics.bootstrap_f1(matrix)
        assert macro[0] <= float(metrics.f1_scores(matrix)[0]) <= macro[1]
    large = np.zeros((600, 600), np.int64)
    large[np.arange(600), (np.arange(600) + (np.arange(600) % 7 == 0)) % 600] = 4
    tracemalloc.start()
    metrics.bootstrap_f1(large)
    assert tracemalloc.get_traced_memory()[1] < 120e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "matrix", [[[5, 0], [0, 0]], [[0, 0, 0], [0, 7, 0], [0, 0, 8]], [[0, 5], [5, 0]], [[0, 3, 0], [0, 0, 0], [0, 0, 0]]]
)
def test_the_interval_if_all_predictions_are_correct_or_none(matrix: list[list[int]]) -> None:
    """It contains F1 and its width is not zero, even if a class has no images."""
    counts = np.array(matrix)
    accuracy = wilson_interval(int(np.trace(counts)), int(counts.sum()))
    macro, weighted = metrics.bootstrap_f1(counts)
    assert macro == weighted == accuracy
    for value, (low, high) in zip(metrics.f1_scores(counts), (macro, weighted), strict=True):
        assert low <= value <= high
        assert high - low > 0.05


@pytest.mark.parametrize("matrix", [[[30, 0], [30, 0]], [[40, 0, 0], [0, 40, 0], [0, 40, 0]]])
def test_the_interval_if_all_images_of_a_class_have_one_prediction(matrix: list[list[int]]) -> None:
    counts = np.array(matrix)
    for value, (low, high) in zip(metrics.f1_scores(counts), metrics.bootstrap_f1(counts), strict=True):
        assert low <= value <= high
        assert 0.01 < high - low < 0.2


def test_the_temperature_is_the_global_minimum() -> None:
    """The loss can have two local minima for nearly uniform probabilities of few images."""
    random = np.random.default_rng(5)
    for _round in range(300):
        count, classes = int(random.integers(4, 40)), int(random.integers(2, 6))
        logits = random.normal(0, 10 ** random.uniform(-2.5, 1), (count, classes))
        probabilities = np.exp(logits - logits.max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        true = random.integers(0, classes, count)
        occurs = np.isin(np.arange(classes), true)
        targets = (np.eye(classes)[true] * count + occurs) / (count + occurs.sum())

        def loss(found: float, targets: Any = targets, probabilities: Any = probabilities, count: int = count) -> float:
            scaled = np.maximum(calibration.apply_temperature(probabilities, found), 1e-300)
            return float(-(targets * np.log(scaled)).sum(1).mean() + np.log(found) ** 2 / (2 * count))

        assert (
            loss(calibration.fit_temperature(true, probabilities))
            <= min(loss(one) for one in np.geomspace(0.05, 20, 400)) + 1e-6
        )


def drawn(count: int, classes: int, factor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from probabilities, and the probabilities with their logits multiplied by a factor."""
    random = np.random.default_rng(seed)
    calibrated = random.dirichlet(np.full(classes, 0.4), count)
    true = np.array([random.choice(classes, p=row) for row in calibrated])
    return true, calibration.apply_temperature(calibrated, 1 / factor)


def test_a_temperature_is_used_only_if_held_out_images_gain() -> None:
    """51 calibrated images often gain nothing. 400 images of an overconfident network always gain."""
    used = 0
    for seed in range(20):
        true, probabilities = drawn(51, 10, 1.0, seed)
        found = calibration.calibrate(true, probabilities, np.arange(51))
        assert found == calibration.calibrate(true, probabilities, np.arange(51))
        assert found.fitted == calibration.fit_temperature(true, probabilities) != 1
        assert found.temperature == (found.fitted if found.gain > 0 else 1.0)
        used += found.temperature != 1
        true, probabilities = drawn(400, 10, 2.5, seed)
        overconfident = calibration.calibrate(true, probabilities, np.arange(400))
        assert overconfident.temperature == overconfident.fitted == pytest.approx(2.5, rel=0.3)
        assert overconfident.gain > 0.1
    assert used <= 12


def test_a_temperature_that_fits_all_images_is_not_used_without_gain_in_cross_validation() -> None:
    true, probabilities = next(
        (true, probabilities)
        for true, probabilities in (drawn(51, 3, 1.0, seed) for seed in range(100))
        if calibration.calibrate(true, probabilities, np.arange(51)).gain < 0
        and metrics.cross_entropy(
            true, calibration.apply_temperature(probabilities, calibration.fit_temperature(true, probabilities))
        )
        < metrics.cross_entropy(true, probabilities)
    )
    assert calibration.calibrate(true, probabilities, np.arange(51)).temperature == 1


def test_groups_stay_in_one_fold_of_the_calibration() -> None:
    """40 near-duplicates have wrong predictions of high confidence. In several folds, they would increase the gain."""
    true = np.array([0] * 40 + [0, 1] * 30)
    probabilities = np.array([[0.02, 0.98]] * 40 + [[0.97, 0.03], [0.03, 0.97]] * 30)
    alone, together = np.arange(100), np.array([0] * 40 + list(range(1, 61)))
    assert calibration.calibrate(true, probabilities, alone).gain > calibration.calibrate(true, probabilities, together).gain


def test_folds_are_even_and_split_no_group() -> None:
    labels = np.repeat(np.arange(100), 3)
    found = assign_folds(labels, np.arange(300), 5, 0)
    assert np.bincount(found).tolist() == [60] * 5, "three images for each class must not give folds of 100, 100, 100, 0 and 0"
    groups = np.arange(300) // 2
    found = assign_folds(labels, groups, 5, 1)
    assert all(len(set(found[groups == group].tolist())) == 1 for group in range(150))


def test_a_few_wrong_predictions_do_not_make_the_temperature_extreme() -> None:
    """Three wrong predictions of high confidence have less effect than ninety."""
    true, probabilities = np.array([0, 1, 2]), np.array([[0.05, 0.9, 0.05], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]])
    few = calibration.fit_temperature(true, probabilities)
    many = calibration.fit_temperature(np.tile(true, 30), np.tile(probabilities, (30, 1)))
    assert 1.5 < few < 4
    assert many > 2 * few


def test_risk_coverage_by_hand() -> None:
    """Confidence 0.9: correct; 0.8: one wrong and one correct, at one threshold; 0.6: correct."""
    probabilities = np.array([[0.6, 0.4], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    true = np.array([0, 1, 1, 1])
    thresholds, coverage, accuracies = calibration.risk_coverage(true, probabilities)
    assert thresholds.tolist() == [0.9, 0.8, 0.6]
    assert coverage.tolist() == [0.25, 0.75, 1]
    assert accuracies == pytest.approx([1, 2 / 3, 3 / 4])
    assert calibration.useful_thresholds(true, probabilities) == [(0.6, 0.75, 1.0), (0.9, 1.0, 0.25)]
    assert calibration.useful_thresholds(np.array([1, 1, 0, 0]), probabilities) == [(0.6, 0.0, 1.0)]


def test_scores_of_classes_without_images_or_predictions_are_zero() -> None:
    """The second class has no images, the third is never predicted, the fourth is neither."""
    scores = metrics.class_scores(np.array([[4, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]), ("a", "b", "c", "d"))
    assert [(one.precision, one.recall, one.f1, one.support) for one in scores[1:]] == [
        (0, 0, 0, 0),
        (0, 0, 0, 2),
        (0, 0, 0, 0),
    ]
    assert [(one.precision_interval, one.recall_interval) for one in scores[1:]] == [
        (wilson_interval(0, 1), (0.0, 1.0)),
        ((0.0, 1.0), wilson_interval(0, 2)),
        ((0.0, 1.0), (0.0, 1.0)),
    ]


def test_the_bootstrap_equals_one_that_resamples_images() -> None:
    """`bootstrap_f1` draws cells of the confusion matrix instead."""
    matrix = np.array([[45, 15], [10, 30]])
    random = np.random.default_rng(1)
    hits = np.stack([random.binomial(60, 45 / 60, 40_000), random.binomial(40, 30 / 40, 40_000)])
    f1 = 2 * hits / (np.array([[60], [40]]) + hits + (np.array([[40], [60]]) - hits[::-1]))
    for found, values in zip(
        metrics.bootstrap_f1(matrix, rounds=40_000), (f1.mean(axis=0), np.array([0.6, 0.4]) @ f1), strict=True
    ):
        assert found == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.003)


def test_a_temperature_without_gain_is_not_used() -> None:
    assert calibration.Calibration(2.0, 0.0).temperature == 1.0
    assert calibration.Calibration(2.0, 1e-9).temperature == 2.0
