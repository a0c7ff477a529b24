"""Confidence intervals and tests of accuracies."""

import math


def mcnemar(only_first: int, only_second: int) -> float:
    """How likely two equally good classifiers differ at least so much: exact, two-sided (McNemar, 1947).

    Of the images that one gets right and the other does not, each would be either's with probability one half.
    """
    total, least = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for k in range(least):
        term = term * (total - k) // (k + 1)
        tail += term
    return float(min(1.0, 2 * tail / 2**total))


def paired_interval(only_first: int, only_second: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """95% interval of (second - first) accuracy on the same images (Bonett and Price, 2012).

    Wald's, with one more image of each kind of disagreement. Drawing the images again would say plus or minus nothing of
    two classifiers that agree on the five images at hand.
    """
    first, second = (only_first + 1) / (total + 2), (only_second + 1) / (total + 2)
    spread = z * math.sqrt((first + second - (second - first) ** 2) / (total + 2))
    return max(-1.0, second - first - spread), min(1.0, second - first + spread)


def wilson_interval(hits: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927), which stays sensible for few images and near 0 or 1."""
    if total == 0:
        return (0.0, 1.0)
    share = hits / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # Exactly, where rounding would leave the share itself outside.
    return (0.0 if hits == 0 else (centre - spread) / scale, 1.0 if hits == total else (centre + spread) / scale)
