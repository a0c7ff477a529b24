"""Folds for cross-validation: stratified by class, with each group in one fold, and reproducible for a given seed."""

import numpy as np
from numpy.typing import NDArray


def assign_folds(labels: NDArray[np.int64], groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Assign each image to a fold. Images of a group share a fold, and each class is spread evenly over the folds.

    Args:
        labels: (n,) class numbers.
        groups: (n,) group numbers. The class of a group is that of its first image in random order.
        count: number of folds.
        seed: seed of the random order.

    Returns:
        (n,) fold numbers from 0 to count - 1.
    """
    permutation = np.random.default_rng(seed).permutation(len(labels))
    result = np.full(len(labels), -1)
    fold_of_group: dict[int, int] = {}
    # Class k starts at fold k % count. If all classes started at fold 0, many small classes would leave the last folds empty.
    next_fold = np.arange(int(labels.max(initial=0)) + 1)
    for index in permutation.tolist():
        group = int(groups[index])
        if group not in fold_of_group:
            fold_of_group[group] = int(next_fold[labels[index]] % count)
            next_fold[labels[index]] += 1
        result[index] = fold_of_group[group]
    return result
