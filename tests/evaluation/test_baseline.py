"""Test the baseline of a score, its warnings, the note on groups, and intervals of accuracies."""

import itertools

import numpy as np
import pytest

from imgclf.evaluation import baseline, grouped
from imgclf.evaluation.intervals import paired_interval, wilson_interval


def test_the_largest_class_equals_that_of_scikit_learn() -> None:
    from sklearn.dummy import DummyClassifier

    for counts in itertools.product(range(1, 4), repeat=3):
        classes = dict(zip("bca", counts, strict=True))
        labels = [name for name, count in classes.items() for _image in range(count)]
        reference = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(labels), 1)), labels)
        assert baseline.largest(classes) == reference.predict([[0]])[0]


@pytest.mark.parametrize(("correct", "verdict"), [(50, "worse"), (51, "not better"), (69, "not better"), (70, "better")])
def test_a_verdict_needs_the_whole_interval_on_one_side(correct: int, verdict: str) -> None:
    """The baseline is 60 of 100. Wilson upper bounds: 0.596 for 50 and 0.606 for 51; lower: 0.594 for 69 and 0.604 for 70."""
    assert baseline.baseline("cat", 60, correct, 100) == baseline.Baseline(
        "cat",
        0.6,
        wilson_interval(60, 100),
        verdict,  # type: ignore[arg-type]
    )


def test_an_interval_that_ends_at_the_baseline_is_not_better() -> None:
    assert (
        baseline.baseline("cat", 0, 0, 5).verdict == "not better"
    )  # the interval of the score begins at 0, the fraction of the class
    assert baseline.baseline("cat", 5, 5, 5).verdict == "not better"
    assert baseline.baseline("cat", 0, 0, 0) == baseline.Baseline("cat", 0.0, (0.0, 1.0), "not better")


def warning(of_class: int, correct: int, total: int) -> str:
    interval = wilson_interval(correct, total)
    return baseline.baseline("cat", of_class, correct, total).warning("test accuracy", correct / total, interval, "add images")


def test_warnings_name_the_comparison_and_the_next_step() -> None:
    assert warning(50, 90, 100) == ""
    assert "all scored images are of class cat" in warning(10, 9, 10)
    assert "is worse than the baseline" in warning(50, 20, 100)
    for of_class, correct, end in (
        (50, 45, "on the same images; add images"),  # at one half, the classes are balanced
        (50, 55, "on the same images; score more images, or add images"),
        (50, 50, "on the same images; add images"),
        (60, 62, "; score more images, or add images; with imbalanced classes, check F1 and the recall of each class"),
        (51, 45, "on the same images; add images; with imbalanced classes, check F1 and the recall of each class"),
    ):
        text = warning(of_class, correct, 100)
        assert text.endswith(end)
        assert f"always predicting cat scores {of_class / 100:.4f} on" in text
        assert f"test accuracy {correct / 100:.4f} (" in text
        assert "is not significantly better than the baseline" in text
    few = warning(2, 3, 3)
    assert few.endswith("; score more images; with imbalanced classes, check F1 and the recall of each class"), (
        "all predictions are correct"
    )
    assert "(0.439 to 1.000)" in few
    words = baseline.baseline("cat", 50, 90, 100).words
    assert words == "baseline 0.5000 (95% interval 0.404 to 0.596): always predicting cat"


def test_groups_are_counted_and_noted_if_there_are_any() -> None:
    assert grouped.count("aabac") == grouped.Groups(images=5, groups=3, largest=3)
    assert grouped.count("") == grouped.Groups(0, 0, 0)
    assert grouped.note(None, "the intervals") == grouped.note(grouped.Groups(3, 3, 1), "the intervals") == ""
    note = grouped.note(grouped.Groups(4000, 2000, 2), "the intervals")
    assert note.startswith("4,000 images in 2,000 groups of up to 2: the intervals treat all images as independent")


def test_the_paired_interval_equals_values_by_hand() -> None:
    """With one image added to each count: 2/12 and 6/12; 1/7 and 6/7, where the upper bound is cut at 1."""
    spread = 1.959963984540054 * ((2 / 12 + 6 / 12 - (4 / 12) ** 2) / 12) ** 0.5
    assert paired_interval(1, 5, 10) == pytest.approx((4 / 12 - spread, 4 / 12 + spread), abs=1e-12)
    assert paired_interval(5, 1, 10) == pytest.approx((-4 / 12 - spread, -4 / 12 + spread), abs=1e-12)
    low, high = paired_interval(0, 5, 5)
    assert (low, high) == (pytest.approx(5 / 7 - 1.959963984540054 * ((1 - 25 / 49) / 7) ** 0.5), 1.0)
    assert paired_interval(5, 0, 5)[0] == -1.0


def test_wilson_bounds_solve_their_equation() -> None:
    """A bound x of the proportion p solves |p - x| = z sqrt(x (1 - x) / n)."""
    for hits, total in ((3, 7), (20, 31), (299, 1000)):
        for end in wilson_interval(hits, total):
            assert abs(hits / total - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / total) ** 0.5, abs=1e-12)
