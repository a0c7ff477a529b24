"""Test quality scores: they are from 0 to 1, exact at both ends, and independent of the image size."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from planted import scene

from imgclf.images import preprocess, quality


def levels(*values: int) -> quality.Levels:
    return quality.levels(np.array([values], np.uint8))


def test_levels_are_cumulative() -> None:
    counts = levels(0, 0, 5, 255)
    assert (counts[0], counts[4], counts[5], counts[254], counts[255]) == (2, 2, 3, 3, 4)


def flat(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    return np.full((20, 20, 3), (red, green, blue), np.uint8)


def dark(grid: NDArray[np.uint8]) -> float:
    return quality.dark(quality.extremes(grid)[0])


def bright(grid: NDArray[np.uint8]) -> float:
    return quality.bright(quality.extremes(grid)[1])


def test_scores_at_both_ends() -> None:
    black, white, both = levels(*[0] * 100), levels(*[255] * 100), levels(*[0] * 50, *[255] * 50)
    ends = [quality.ends(counts) for counts in (black, white, both)]
    assert [dark(flat(*colour)) for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0))] == [1, 0, 0]
    assert [bright(flat(*colour)) for colour in ((0, 0, 0), (255, 255, 255), (255, 255, 0))] == [0, 1, 0]
    assert [quality.low_contrast(each) for each in ends] == [1, 1, 0]
    assert [quality.blank(counts) for counts in (black, white, both)] == [1, 1, 0.5]
    assert [quality.brightness(counts) for counts in (black, white, both)] == [0, 1, 0.5]


def test_a_few_pixels_have_no_effect() -> None:
    """Up to 2% of the pixels, such as a lamp at night, do not change the scores."""
    lamp = levels(*[10] * 99, 255)
    assert quality.ends(lamp) == (10, 10)
    assert quality.low_contrast(quality.ends(lamp)) == 1
    assert quality.blank(lamp) == pytest.approx(0.99)
    night = flat(10, 5, 0)
    night[:1, :8] = 255
    assert dark(night) == pytest.approx(1 - 10 / 255)
    night[:10, :8] = 255
    assert dark(night) == 0


def test_brightness_is_the_mean() -> None:
    grey = np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8)
    assert quality.brightness(quality.levels(grey)) == pytest.approx(grey.mean() / 255)


def test_seven_neighbouring_levels_are_one_colour() -> None:
    assert quality.blank(levels(100, 106)) == 1
    assert quality.blank(levels(100, 107)) == 0.5
    assert quality.blank(levels(0, 6, 249, 250)) == 0.5


def test_the_blur_score_grows_with_blurring() -> None:
    for seed in range(5):
        image = np.asarray(scene(seed))
        scores = [
            quality.blurry(preprocess.thumbnail(cv2.GaussianBlur(image, (0, 0), sigma) if sigma else image, quality.SIDE))
            for sigma in (0, 1, 2, 4, 8)
        ]
        assert scores[:4] == sorted(scores[:4])
        assert scores[0] < 0.4
        assert min(scores[3:]) > 0.8


def test_the_blur_score_equals_its_definition() -> None:
    """Crété et al., 2007: 1 - fraction of the neighbouring differences that a blur removes, in the worse direction."""
    grey = preprocess.thumbnail(np.asarray(scene(7)), quality.SIDE)
    worst = 0.0
    for axis in (0, 1):
        blurred = cv2.blur(grey, (1, 5) if axis == 0 else (5, 1))
        before = np.abs(np.diff(grey.astype(int), axis=axis))
        after = np.abs(np.diff(blurred.astype(int), axis=axis))
        worst = max(worst, (before.sum() - np.maximum(0, before - after).sum()) / before.sum())
    assert quality.blurry(grey) == pytest.approx(worst, abs=1e-9)


def test_motion_blur_in_one_direction_is_found() -> None:
    image = np.asarray(scene(8))
    moved = preprocess.thumbnail(cv2.blur(image, (25, 1)), quality.SIDE)
    assert quality.blurry(moved) > 0.7


def test_small_and_uniform_images_are_not_blurry() -> None:
    assert quality.blurry(np.zeros((15, 200), np.uint8)) == 0
    assert quality.blurry(np.full((100, 100), 7, np.uint8)) == 0


def test_grayscale_is_the_fraction_of_pixels_without_colour() -> None:
    grid = np.zeros((10, 10, 3), np.uint8)
    grid[:, :5] = (100, 108, 100)
    grid[:, 5:] = (100, 100, 109)
    assert quality.grayscale(*quality.extremes(grid)) == 0.5


def test_scores_of_size_and_aspect() -> None:
    sides = np.array([1, 32, 64, 1000])
    assert quality.tiny(sides, np.array([1000] * 4)).tolist() == [1 - 1 / 64, 0.5, 0, 0]
    assert quality.odd_aspect(np.array([10, 20, 10, 40]), np.array([10, 10, 20, 10])).tolist() == [0, 0.5, 0.5, 0.75]


@pytest.mark.parametrize("scale", [1, 2, 3.7])
def test_scores_do_not_depend_on_the_image_size(scale: float) -> None:
    image = np.asarray(scene(9, 400, 300))
    larger = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    small, large = (preprocess.thumbnail(each, quality.SIDE) for each in (image, larger))
    assert abs(quality.blurry(small) - quality.blurry(large)) < 0.08
    one, other = quality.levels(small), quality.levels(large)
    assert quality.low_contrast(quality.ends(one)) == pytest.approx(quality.low_contrast(quality.ends(other)), abs=0.02)
    for score in (dark, bright):
        assert score(preprocess.grid(image, 64)) == pytest.approx(score(preprocess.grid(larger, 64)), abs=0.05)
    for score_ in (quality.blank, quality.brightness):
        assert score_(one) == pytest.approx(score_(other), abs=0.02)
