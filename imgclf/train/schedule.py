"""Learning rate of each step, and image size of each epoch: pure functions of the progress of a training."""

import math

from imgclf.core.config import Schedule

WARM_UP = 0.05  # of all steps
LEAST = 0.01  # final rate of cosine, as a fraction of the peak
PLATEAU_FACTOR = 0.3  # the rate is multiplied by it when the validation loss no longer falls


def rate(kind: Schedule, peak: float, step: int, steps: int) -> float:
    """Return the learning rate of a step.

    cosine, constant and plateau rise linearly during the first 5% of the steps. Then cosine falls to 1% of the peak
    (Loshchilov and Hutter, SGDR, 2017); the others stay at the peak. one-cycle rises along a cosine from peak / 25 during the
    first 30% and falls along a cosine to peak / 10,000 (Smith and Topin, Super-Convergence, 2018).

    Args:
        step: From 0 to steps - 1.
        steps: Number of steps of the training.
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


_GROWTH = ((0.36, 1 / 2), (0.68, 2 / 3), (0.82, 5 / 6))  # (end as a fraction of the epochs, fraction of the full side)
LEAST_SIDE = 32


def side(full: int, epoch: int, epochs: int) -> int:
    """Return the side in pixels of the images of an epoch: small at first, for speed, and `full` in the last epochs.

    A network without a fixed input size can learn most from small images (Touvron et al., Fixing the train-test resolution
    discrepancy, 2019; Tan and Le, EfficientNetV2, 2021). Sides are multiples of 8 and at least 32, except for `full` itself.

    Args:
        epoch: From 1 to epochs.
    """
    if epoch == epochs:
        return full
    done = (epoch - 1) / epochs
    fraction = next((fraction for until, fraction in _GROWTH if done < until), 1.0)
    return full if fraction == 1 else min(full, max(LEAST_SIDE, round(full * fraction / 8) * 8))


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2
