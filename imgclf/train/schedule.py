"""Learning rates by step: pure functions of how far a training has come."""

import math

from imgclf.core.config import Schedule

WARM_UP = 0.05  # of all steps
LEAST = 0.01  # of the peak, where a cosine ends
PLATEAU_FACTOR = 0.3  # what the rate is multiplied with when the validation loss stands still


def rate(kind: Schedule, peak: float, step: int, steps: int) -> float:
    """The rate of a step, from 0 to steps - 1.

    cosine, constant and plateau climb in a straight line over the first twentieth; then cosine falls to a hundredth of the peak
    (Loshchilov and Hutter, SGDR, 2017), and the others stay. one-cycle climbs along a cosine for three tenths, from a 25th of
    the peak, and falls to a ten-thousandth (Smith and Topin, Super-Convergence, 2018).
    """
    if kind == "one-cycle":
        top = max(1.0, 0.3 * steps)
        if step < top:
            return _cosine(peak / 25, peak, step / top)
        return _cosine(peak, peak / 10_000, (step - top) / max(1.0, steps - top))
    warm = max(1.0, WARM_UP * steps)
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    if kind == "cosine":
        return _cosine(peak, LEAST * peak, (step - warm) / max(1.0, steps - warm))
    return peak


_GROWTH = ((0.36, 1 / 2), (0.68, 2 / 3), (0.82, 5 / 6))  # until this share of the epochs, this share of the side
LEAST_SIDE = 32


def side(full: int, epoch: int, epochs: int) -> int:
    """Pixels a side of the images of an epoch, from 1 to epochs: small at first, which is fast, and `full` in the last fifth.

    A network without a fixed input size learns most of what it will from small images (Touvron et al., Fixing the train-test
    resolution discrepancy, 2019; Tan and Le, EfficientNetV2, 2021). In steps of 8 pixels, never under 32.
    """
    if epoch == epochs:
        return full
    done = (epoch - 1) / epochs
    share = next((share for until, share in _GROWTH if done < until), 1.0)
    return full if share == 1 else min(full, max(LEAST_SIDE, round(full * share / 8) * 8))


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, max(0.0, share)))) / 2
