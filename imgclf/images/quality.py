"""Score the quality of an image: pure functions that return 0 (no defect) to 1 (the worst defect).

`SCORES` are computed from thumbnails, so that a score means the same for small and large images; `SIZE_SCORES` from the size.
"""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from imgclf.images import preprocess

SIDE = 128  # pixels at most along each axis of the measured grey thumbnail
_NOT_TINY = 64  # an image whose shorter side has this many pixels is not tiny at all

Grey = NDArray[np.uint8]  # (h, w)
Levels = NDArray[np.int64]  # (256,) number of pixels at or below each grey level
Sides = NDArray[np.float64]  # (n,) pixels


@dataclasses.dataclass(frozen=True)
class Thumbnails:
    """The inputs of the scores.

    grey: `preprocess.thumbnail(image, SIDE)`. colour: (h, w, 3) RGB, `preprocess.grid(image, 64)`. levels, ends: of `grey`, see
    the functions of these names. brightest, darkest: `extremes(colour)`.
    """

    grey: Grey
    colour: NDArray[np.uint8]
    levels: Levels
    ends: tuple[int, int]
    brightest: Grey
    darkest: Grey


def thumbnails(image: NDArray[np.uint8]) -> Thumbnails:
    """Return the thumbnails of an image, (h, w, 3) RGB."""
    grey, colour = preprocess.thumbnail(image, SIDE), preprocess.grid(image, 64)
    counts = levels(grey)
    return Thumbnails(grey, colour, counts, ends(counts), *extremes(colour))


def levels(grey: Grey) -> Levels:
    """Return the number of pixels at or below each grey level."""
    return cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64).cumsum()


def ends(levels: Levels) -> tuple[int, int]:
    """Return the grey levels that 2% and 98% of the pixels do not exceed."""
    low, high = np.searchsorted(levels, (0.02 * levels[-1], 0.98 * levels[-1]))
    return int(low), int(high)


def extremes(colour: NDArray[np.uint8]) -> tuple[Grey, Grey]:
    """Return (the largest, the smallest) of the three channels of each pixel of (h, w, 3)."""
    red, green, blue = cv2.split(colour)
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return np.asarray(brightest, np.uint8), np.asarray(darkest, np.uint8)


def dark(brightest: Grey) -> float:
    """Return 1 for a black image: 1 minus the level, as a fraction of 255, that 98% of the pixels do not exceed.

    brightest: The largest channel of each pixel. A pure red image is therefore not dark, although its grey is.
    """
    return 1 - _level(brightest, 0.98) / 255


def bright(darkest: Grey) -> float:
    """Return 1 for a white image: the level, as a fraction of 255, that 2% of the pixels do not exceed.

    darkest: The smallest channel of each pixel.
    """
    return _level(darkest, 0.02) / 255


def _level(values: Grey, fraction: float) -> int:
    """Return the lowest level that this fraction of the values does not exceed."""
    return int(
        np.sort(values, axis=None, kind="stable")[math.ceil(fraction * values.size) - 1]
    )  # stable: a radix sort for bytes


def low_contrast(ends: tuple[int, int]) -> float:
    """Return the fraction of the grey range that the middle 96% of the pixels do not use; 1 if all have the same level."""
    return 1 - (ends[1] - ends[0]) / 255


def blank(levels: Levels) -> float:
    """Return the largest fraction of the pixels within seven neighbouring grey levels."""
    padded = np.concatenate((np.zeros(7, np.int64), levels))
    return float((padded[7:] - padded[:-7]).max() / levels[-1])


def brightness(levels: Levels) -> float:
    """Return the mean grey level, 0 to 1."""
    return float(1 - levels[:-1].sum() / (255 * levels[-1]))


def blurry(grey: Grey) -> float:
    """Return how little an image changes when it is blurred again: 1 if it does not change, 0 if it is perfectly sharp.

    Source: Crété, Dolmiere, Ladret, Nicolas: The blur effect (Proc. SPIE 6492, 2007), with a window of five pixels; the larger
    of the horizontal and the vertical value. 0 for an image of one level, and for one under 16 pixels a side, which is too
    small to measure.
    """
    if min(grey.shape) < 16:
        return 0.0
    worst = 0.0
    for window, here, there in (((5, 1), grey[:, 1:], grey[:, :-1]), ((1, 5), grey[1:], grey[:-1])):
        blurred = cv2.blur(grey, window)
        change = cv2.absdiff(here, there)
        after = cv2.absdiff(blurred[:, 1:], blurred[:, :-1]) if window == (5, 1) else cv2.absdiff(blurred[1:], blurred[:-1])
        lost = cv2.subtract(change, after)  # negative differences become 0, as in the paper
        total = cv2.sumElems(change)[0]
        if total:
            worst = max(worst, 1 - cv2.sumElems(lost)[0] / total)
    return worst


def grayscale(brightest: Grey, darkest: Grey) -> float:
    """Return the fraction of pixels without colour, whose channels differ by at most 8 levels."""
    spread = cv2.subtract(brightest, darkest)
    return 1 - cv2.countNonZero(cv2.threshold(spread, 8, 255, cv2.THRESH_BINARY)[1]) / spread.size


def tiny(width: Sides, height: Sides) -> NDArray[np.float64]:
    """Return (n,): 0 if the shorter side has 64 pixels or more, 0.5 for 32 pixels, 1 for 0."""
    return 1 - np.minimum(np.minimum(width, height), _NOT_TINY) / _NOT_TINY


def odd_aspect(width: Sides, height: Sides) -> NDArray[np.float64]:
    """Return (n,): 0 for a square, 0.5 for 2:1, 0.75 for 4:1."""
    return 1 - np.minimum(width, height) / np.maximum(1, np.maximum(width, height))


# Scores of the pixels. The index of a data folder stores them in this order.
SCORES: dict[str, Callable[[Thumbnails], float]] = {
    "dark": lambda of: dark(of.brightest),
    "bright": lambda of: bright(of.darkest),
    "low-contrast": lambda of: low_contrast(of.ends),
    "blank": lambda of: blank(of.levels),
    "blurry": lambda of: blurry(of.grey),
    "grayscale": lambda of: grayscale(of.brightest, of.darkest),
}
# Scores of the size, from (widths, heights).
SIZE_SCORES: dict[str, Callable[[Sides, Sides], NDArray[np.float64]]] = {"tiny": tiny, "odd-aspect": odd_aspect}
