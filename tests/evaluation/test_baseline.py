"""The baseline beside every score, the groups of the scored images, and what is said about both."""

import itertools

import numpy as np
import pytest

from imgclf.evaluation import baseline, grouped
from imgclf.evaluation.intervals import paired_interval, wilson_interval


def test_the_largest_class_as_scikit_learn_has_it() -> None:
    from sklearn.dummy import DummyClassifier

    for counts in itertools.product(range(1, 4), repeat=3):
        classes = dict(zip("bca", counts, strict=True))
        labels = [name for name, count in classes.items() for _image in range(count)]
        reference = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(labels), 1)), labels)
        assert baseline.largest(classes) == reference.predict([[0]])[0]


@pytest.mark.parametrize(("right", "verdict"), [(50, "worse"), (51, "not better"), (69, "not better"), (70, "better")])
def test_a_verdict_needs_the_whole_interval_on_one_side(right: int, verdict: str) -> None:
    """60 of 100 are of the class. By Wilson, 50 of 100 are up to 0.596 and 51 up to 0.606; 69 from 0.594, 70 from 0.604."""
    assert baseline.baseline("cat", 60, right, 100) == baseline.Baseline(
        "cat",
        0.6,
        wilson_interval(60, 100),
        verdict,  # type: ignore[arg-type]
    )


def test_an_interval_that_ends_at_the_baseline_is_no_verdict() -> None:
    assert baseline.baseline("cat", 0, 0, 5).verdict == "not better"  # the score's interval begins at 0, the share of the class
    assert baseline.baseline("cat", 5, 5, 5).verdict == "not better"
    assert baseline.baseline("cat", 0, 0, 0) == baseline.Baseline("cat", 0.0, (0.0, 1.0), "not better")


def warned(of_class: int, right: int, total: int) -> str:
    interval = wilson_interval(right, total)
    return baseline.baseline("cat", of_class, right, total).warning("test accuracy", right / total, interval, "add images")


def test_warnings() -> None:
    """None where the score is better; how it stands, what to do, and no more of that than helps."""
    assert warned(50, 90, 100) == ""
    assert "all scored images are of class cat" in warned(10, 9, 10)
    assert "is worse than the baseline" in warned(50, 20, 100)
    for of_class, right, end in (
        (50, 45, "on the same images; add images"),  # at one half, the classes are even
        (50, 55, "on the same images; score more images, or add images"),
        (50, 50, "on the same images; add images"),
        (60, 62, "; score more images, or add images; with imbalanced classes, check F1 and the recall of each class"),
        (51, 45, "on the same images; add images; with imbalanced classes, check F1 and the recall of each class"),
    ):
        text = warned(of_class, right, 100)
        assert text.endswith(end)
        assert f"always predicting cat scores {of_class / 100:.4f} on" in text
        assert f"test accuracy {right / 100:.4f} (" in text
        assert "is not significantly better than the baseline" in text
    few = warned(2, 3, 3)
    assert few.endswith("; score more images; with imbalanced classes, check F1 and the recall of each class"), (
        "nothing is wrong"
    )
    assert "(0.439 to 1.000)" in few
    words = baseline.baseline("cat", 50, 90, 100).words
    assert words == "baseline 0.5000 (95% interval 0.404 to 0.596): always predicting cat"


def test_groups_are_counted_and_named_where_there_are_any() -> None:
    assert grouped.count("aabac") == grouped.Groups(images=5, groups=3, largest=3)
    assert grouped.count("") == grouped.Groups(0, 0, 0)
    assert grouped.note(None, "the intervals") == grouped.note(grouped.Groups(3, 3, 1), "the intervals") == ""
    note = grouped.note(grouped.Groups(4000, 2000, 2), "the intervals")
    assert note.startswith("4,000 images in 2,000 groups of up to 2: the intervals treat all images as independent")


def test_the_interval_of_a_difference_by_hand() -> None:
    """2/12 and 6/12 with one more image of each kind; 1/7 and 6/7, of which the end is cut at 1."""
    spread = 1.959963984540054 * ((2 / 12 + 6 / 12 - (4 / 12) ** 2) / 12) ** 0.5
    assert paired_interval(1, 5, 10) == pytest.approx((4 / 12 - spread, 4 / 12 + spread), abs=1e-12)
    assert paired_interval(5, 1, 10) == pytest.approx((-4 / 12 - spread, -4 / 12 + spread), abs=1e-12)
    low, high = paired_interval(0, 5, 5)
    assert (low, high) == (pytest.approx(5 / 7 - 1.959963984540054 * ((1 - 25 / 49) / 7) ** 0.5), 1.0)
    assert paired_interval(5, 0, 5)[0] == -1.0


def test_wilson_by_the_formula() -> None:
    """The ends are where the normal approximation at the end itself gives the share: p - x = z sqrt(x (1 - x) / n)."""
    for hits, total in ((3, 7), (20, 31), (299, 1000)):
        for end in wilson_interval(hits, total):
            assert abs(hits / total - end) == pytest.approx(1.959963984540054 * (end * (1 - end) / total) ** 0.5, abs=1e-12)
