"""Folds for cross-validation inside the program: stratified, groups kept together, the same for the same seed."""

import numpy as np
from numpy.typing import NDArray


def assign_folds(labels: NDArray[np.int64], groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """(n,) fold of each image, from 0. Every class is spread evenly, and groups stay together.

    labels, groups: (n,) numbers. The class of a group is that of its first drawn image. Each class starts at another fold, so
    that many small classes do not fill the first folds and leave the last ones empty.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    result = np.full(len(labels), -1)
    of_group: dict[int, int] = {}
    next_of_class = np.arange(int(labels.max(initial=0)) + 1)
    for index in order.tolist():
        group = int(groups[index])
        if group not in of_group:
            of_group[group] = int(next_of_class[labels[index]] % count)
            next_of_class[labels[index]] += 1
        result[index] = of_group[group]
    return result
