"""Test that slices find a planted weakness and give few false alarms."""

import numpy as np
import pytest

from imgclf.evaluation.slices import slices


def test_a_planted_weakness_is_found_and_nothing_else() -> None:
    """Of 400 images, the darkest quarter is half as accurate. Size and folder have no effect."""
    random = np.random.default_rng(0)
    brightness = random.permutation(np.linspace(0, 1, 400))
    correct = random.random(400) < np.where(brightness < 0.25, 0.45, 0.95)
    found = slices(
        correct, {"size": random.integers(50, 500, 400).astype(float), "brightness": brightness, "folder": ["a", "b"] * 200}
    )
    assert [(one.by, one.value) for one in found if one.is_worse] == [("brightness", "0.00 to 0.25")]
    assert [one.by for one in found] == ["size"] * 4 + ["brightness"] * 4 + ["folder"] * 2
    darkest = next(one for one in found if one.by == "brightness")
    assert darkest.images == 99
    assert darkest.accuracy == pytest.approx(correct[brightness <= np.sort(brightness)[98]].mean())
    assert darkest.interval[0] < darkest.accuracy < darkest.interval[1]


def test_random_errors_rarely_give_a_weakness() -> None:
    """At most 5% of 200 evaluations without a weakness report one."""
    random = np.random.default_rng(1)
    alarms = 0
    for _round in range(200):
        columns = {name: random.random(300) for name in ("size", "brightness", "blur")}
        alarms += any(one.is_worse for one in slices(random.random(300) < 0.9, columns))
    assert alarms <= 10


def test_uninformative_slices_are_skipped() -> None:
    """Skip a column with one value and slices of fewer than ten images. If all predictions are correct, no slice is worse."""
    correct = np.ones(30, bool)
    assert slices(correct, {"size": np.full(30, 64.0), "folder": ["."] * 30}) == []
    few = slices(correct, {"folder": ["a"] * 9 + ["b"] * 21})
    assert [(one.value, one.images, one.accuracy, one.is_worse) for one in few] == [("b", 21, 1.0, False)]
    enough = slices(correct, {"folder": ["a"] * 10 + ["b"] * 20})
    assert [(one.value, one.images) for one in enough] == [("a", 10), ("b", 20)]
    assert slices(np.ones(0, bool), {"size": np.ones(0)}) == []
    two = slices(np.arange(40) % 2 == 0, {"size": np.repeat([32.0, 64.0], 20)})
    assert [(one.value, one.images) for one in two] == [("32", 20), ("64", 20)]
