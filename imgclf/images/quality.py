"""How good an image is for the eye: pure scores from 0 (nothing of the fault) to 1 (all fault).

`grey` is `images.thumbnail(image, SIDE)`, (h, w) uint8, so that a score means the same for every size of image.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 128  # pixels a side of the thumbnail that is measured
AMPLE = 64  # pixels on the shorter side from which an image is not tiny at all

Grey = NDArray[np.uint8]  # (h, w)
Levels = NDArray[np.int64]  # (256,) pixels at or below each grey level


def levels(grey: Grey) -> Levels:
    """How many pixels are at or below each grey level."""
    return cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(np.int64).cumsum()


def ends(levels: Levels) -> tuple[int, int]:
    """The grey levels that the darkest and all but the brightest 2% of the pixels do not exceed."""
    low, high = np.searchsorted(levels, (0.02 * levels[-1], 0.98 * levels[-1]))
    return int(low), int(high)


def extremes(grid: NDArray[np.uint8]) -> tuple[Grey, Grey]:
    """(the brightest, the darkest) of the three colours of each pixel of (h, w, 3)."""
    red, green, blue = cv2.split(grid)
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return np.asarray(brightest, np.uint8), np.asarray(darkest, np.uint8)


def dark(brightest: Grey) -> float:
    """1 for black: how far below full light all but the brightest 2% of the pixels stay, in the brightest of their colours.

    An image all in red is not dark, though its grey is.
    """
    return 1 - _level(brightest, 0.98) / 255


def bright(darkest: Grey) -> float:
    """1 for white: how far above black all but the darkest 2% of the pixels stay, in the darkest of their colours."""
    return _level(darkest, 0.02) / 255


def _level(values: Grey, share: float) -> int:
    """The least level that this share of the values does not exceed."""
    return int(np.sort(values, axis=None, kind="stable")[math.ceil(share * values.size) - 1])  # a radix sort for bytes


def low_contrast(ends: tuple[int, int]) -> float:
    """1 when all grey levels are the same: what the middle 96% of the pixels leave unused of the range."""
    return 1 - (ends[1] - ends[0]) / 255


def blank(levels: Levels) -> float:
    """The largest share of pixels within seven neighbouring grey levels."""
    padded = np.concatenate((np.zeros(7, np.int64), levels))
    return float((padded[7:] - padded[:-7]).max() / levels[-1])


def brightness(levels: Levels) -> float:
    """The mean grey level, 0 to 1."""
    return float(1 - levels[:-1].sum() / (255 * levels[-1]))


def blurry(grey: Grey) -> float:
    """How little an image changes when it is blurred: 1 when it has nothing left to blur.

    Crété, Dolmiere, Ladret, Nicolas: The blur effect (Proc. SPIE 6492, 2007), with a window of five pixels; the larger of the
    horizontal and the vertical value. 0 for images under 16 pixels a side, which say nothing.
    """
    if min(grey.shape) < 16:
        return 0.0
    worst = 0.0
    for window, here, there in (((5, 1), grey[:, 1:], grey[:, :-1]), ((1, 5), grey[1:], grey[:-1])):
        blurred = cv2.blur(grey, window)
        change = cv2.absdiff(here, there)
        after = cv2.absdiff(blurred[:, 1:], blurred[:, :-1]) if window == (5, 1) else cv2.absdiff(blurred[1:], blurred[:-1])
        lost = cv2.subtract(change, after)  # stops at zero, as the measure asks
        total = cv2.sumElems(change)[0]
        if total:
            worst = max(worst, 1 - cv2.sumElems(lost)[0] / total)
    return worst


def grayscale(brightest: Grey, darkest: Grey) -> float:
    """The share of pixels without colour: channels within 8 levels of each other."""
    spread = cv2.subtract(brightest, darkest)
    return 1 - cv2.countNonZero(cv2.threshold(spread, 8, 255, cv2.THRESH_BINARY)[1]) / spread.size


def tiny(width: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 from 64 pixels on the shorter side, 0.5 at 32, 1 at none; (n,) in and out."""
    return 1 - np.minimum(np.minimum(width, height), AMPLE) / AMPLE


def odd_aspect(width: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 for a square, 0.5 for 2:1, 0.75 for 4:1; (n,) in and out."""
    return 1 - np.minimum(width, height) / np.maximum(1, np.maximum(width, height))
