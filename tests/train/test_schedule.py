"""Learning rates by step."""

import pytest

from imgclf.core.config import Schedule
from imgclf.train import schedule


def rates(kind: Schedule, steps: int = 400, peak: float = 0.01) -> list[float]:
    return [schedule.rate(kind, peak, step, steps) for step in range(steps)]


def test_cosine_climbs_and_falls() -> None:
    rate = rates("cosine")
    assert rate[0] == pytest.approx(0.01 / 21)
    assert rate[20] == pytest.approx(0.01)
    assert rate[210] == pytest.approx(0.01 * (0.01 + 0.99 / 2))
    assert rate[399] == pytest.approx(0.0001, rel=0.02)
    assert rate[:20] == sorted(rate[:20])
    assert rate[20:] == sorted(rate[20:], reverse=True)


@pytest.mark.parametrize("kind", ["constant", "plateau"])
def test_constant_and_plateau_stay_after_the_warm_up(kind: Schedule) -> None:
    assert set(rates(kind)[20:]) == {0.01}
    assert rates(kind)[:20] == rates("cosine")[:20]


def test_one_cycle() -> None:
    rate = rates("one-cycle")
    assert rate[0] == pytest.approx(0.01 / 25)
    assert max(rate) == pytest.approx(0.01) == rate[120]
    assert rate[-1] < 0.01 / 1000
    assert rate[:120] == sorted(rate[:120])


def test_images_grow() -> None:
    sides = [schedule.side(96, epoch, 28) for epoch in range(1, 29)]
    assert sides == [48] * 11 + [64] * 9 + [80] * 3 + [96] * 5
    assert [schedule.side(32, epoch, 10) for epoch in range(1, 11)] == [32] * 10
    assert {schedule.side(40, epoch, 10) for epoch in range(1, 11)} == {32, 40}
    assert [schedule.side(96, epoch, 2) for epoch in (1, 2)] == [48, 96]


@pytest.mark.parametrize("kind", ["cosine", "plateau", "constant", "one-cycle"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_few_steps_have_positive_rates_too(kind: Schedule, steps: int) -> None:
    assert all(0 < rate <= 0.01 for rate in rates(kind, steps))
