"""Confidence intervals and significance tests of accuracies."""

import math


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the p-value of the exact two-sided McNemar test (McNemar, 1947).

    Under the null hypothesis, an image that only one classifier predicts correctly is equally likely for both.

    Args:
        only_first: number of images that only the first classifier predicts correctly.
        only_second: number of images that only the second classifier predicts correctly.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for k in range(fewer):
        term = term * (total - k) // (k + 1)
        tail += term
    return float(min(1.0, 2 * tail / 2**total))


def paired_interval(only_first: int, only_second: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the 95% interval of the difference (second - first) of two accuracies on the same images.

    This is the adjusted Wald interval of Bonett and Price (2012): it adds one image to each of the two counts. A bootstrap
    interval would have zero width for two classifiers that agree on all images, even if there are only five.

    Args:
        only_first: number of images that only the first classifier predicts correctly.
        only_second: number of images that only the second classifier predicts correctly.
        total: number of images.
        z: quantile of the standard normal distribution; the default gives 95%.
    """
    first, second = (only_first + 1) / (total + 2), (only_second + 1) / (total + 2)
    margin = z * math.sqrt((first + second - (second - first) ** 2) / (total + 2))
    return max(-1.0, second - first - margin), min(1.0, second - first + margin)


def wilson_interval(hits: int, total: int, *, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the 95% score interval of the proportion hits / total (Wilson, 1927); (0, 1) if `total` is 0.

    Unlike the Wald interval, it is reliable for few images and for proportions near 0 or 1. It always contains the proportion.

    Args:
        hits: number of successes.
        total: number of images or events.
        z: quantile of the standard normal distribution; the default gives 95%.
    """
    if total == 0:
        return (0.0, 1.0)
    proportion = hits / total
    centre = proportion + z * z / (2 * total)
    margin = z * math.sqrt(proportion * (1 - proportion) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # Return 0 and 1 exactly: a rounded bound could exclude the proportion itself.
    return (0.0 if hits == 0 else (centre - margin) / scale, 1.0 if hits == total else (centre + margin) / scale)
