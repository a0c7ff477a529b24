"""slices: where a classifier does worse, and no false alarms."""

import numpy as np
import pytest

from imgclf.evaluation.slices import slices


def test_a_planted_weakness_is_found_and_nothing_else() -> None:
    """400 images, of which the darkest quarter is right half as often; size and folder have nothing to do with it."""
    random = np.random.default_rng(0)
    brightness = random.permutation(np.linspace(0, 1, 400))
    right = random.random(400) < np.where(brightness < 0.25, 0.45, 0.95)
    found = slices(
        right, {"size": random.integers(50, 500, 400).astype(float), "brightness": brightness, "folder": ["a", "b"] * 200}
    )
    assert [(one.by, one.value) for one in found if one.is_worse] == [("brightness", "0.00 to 0.25")]
    assert [one.by for one in found] == ["size"] * 4 + ["brightness"] * 4 + ["folder"] * 2
    darkest = next(one for one in found if one.by == "brightness")
    assert darkest.images == 99
    assert darkest.accuracy == pytest.approx(right[brightness <= np.sort(brightness)[98]].mean())
    assert darkest.interval[0] < darkest.accuracy < darkest.interval[1]


def test_chance_alone_is_rarely_called_a_weakness() -> None:
    """Of 200 evaluations without any weakness, at most 5% name one; as many as 20 would be within the promise."""
    random = np.random.default_rng(1)
    alarms = 0
    for _round in range(200):
        columns = {name: random.random(300) for name in ("size", "brightness", "blur")}
        alarms += any(one.is_worse for one in slices(random.random(300) < 0.9, columns))
    assert alarms <= 10


def test_what_says_nothing_is_skipped() -> None:
    """One value, few images, all the same; and nothing is worse than perfect."""
    right = np.ones(30, bool)
    assert slices(right, {"size": np.full(30, 64.0), "folder": ["."] * 30}) == []
    few = slices(right, {"folder": ["a"] * 9 + ["b"] * 21})
    assert [(one.value, one.images, one.accuracy, one.is_worse) for one in few] == [("b", 21, 1.0, False)]
    enough = slices(right, {"folder": ["a"] * 10 + ["b"] * 20})
    assert [(one.value, one.images) for one in enough] == [("a", 10), ("b", 20)]
    assert slices(np.ones(0, bool), {"size": np.ones(0)}) == []
    two = slices(np.arange(40) % 2 == 0, {"size": np.repeat([32.0, 64.0], 20)})
    assert [(one.value, one.images) for one in two] == [("32", 20), ("64", 20)]
