"""Folds for cross-validation within a program: every class in each, no group torn, the same for the same seed."""

import numpy as np
from numpy.typing import NDArray


def folds(labels: NDArray[np.int64], groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """(n,) a fold, from 0 on, for each image: every class is spread evenly, in groups that stay whole.

    labels, groups: (n,) numbers; a group is of the class of the first of its images that is drawn. Each class begins at another
    fold, so that many small classes do not fill the first folds and leave the last ones empty.
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
