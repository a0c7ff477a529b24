"""`imgclf compare`: score two runs on the same images, and test whether their accuracies differ significantly."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Subset
from imgclf.core.errors import ImgclfError
from imgclf.core.files.paths import StrPath
from imgclf.data import scoring
from imgclf.evaluation import grouped, metrics
from imgclf.evaluation.baseline import Baseline
from imgclf.evaluation.grouped import Groups
from imgclf.evaluation.intervals import mcnemar, paired_interval, wilson_interval
from imgclf.models.bundle import Bundle


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two runs: its accuracy with the 95% Wilson interval, its loss, and the baseline on the same images."""

    run: str
    model: str
    accuracy: float
    interval: tuple[float, float]
    loss: float
    baseline: Baseline


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """An image that only one of the runs classifies correctly."""

    path: str
    label: str
    first: str  # class predicted by the first run
    second: str


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Scores of two runs on the same images.

    difference: accuracy of the second run minus that of the first. p_value: of the exact McNemar test. both, only_first,
    only_second, neither: number of images that these runs classify correctly. disagreements: images that only one run
    classifies correctly. groups: of these images; None if they are not from the first run's own split.
    """

    on: str
    images: int
    groups: Groups | None
    first: Side
    second: Side
    difference: float
    interval: tuple[float, float]
    p_value: float
    both: int
    only_first: int
    only_second: int
    neither: int
    disagreements: tuple[Disagreement, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON."""
        return {"schema": "compare/1", **dataclasses.asdict(self)}


def compare(
    first: Bundle,
    second: Bundle,
    data: StrPath | None = None,
    subset: Subset | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Score two runs on a subset of the first run's split (by default the test set), or on another data folder.

    Args:
        data: See `scoring.images` for the images that `data` and `subset` select.
        progress: Called with the number of images so far and the total.

    Raises:
        ImgclfError: The runs are the same or have different classes, or there are no images to score.
    """
    data = None if data is None else Path(data)
    if first.class_names != second.class_names:
        raise ImgclfError(
            f"{first.path} and {second.path} have different classes and cannot be compared; only one of them has: "
            f"{', '.join(sorted(set(first.class_names) ^ set(second.class_names)))}"
        )
    if first.path.resolve() == second.path.resolve():
        raise ImgclfError(f"{first.path}: the same run twice; give two different runs")
    on = scoring.images(first, data, subset)
    scored = scoring.score([first, second], on, progress)
    predicted = [probabilities.argmax(axis=1) for probabilities in scored.probabilities]
    right = [labels == scored.true for labels in predicted]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    total = len(scored.true)
    sides = [_side(*side, scored) for side in zip((first, second), right, scored.probabilities, strict=True)]
    names, groups = first.class_names, scoring.groups(on, scored)
    return Comparison(
        on=on.on,
        images=total,
        groups=groups,
        first=sides[0],
        second=sides[1],
        difference=(only_second - only_first) / total,
        interval=paired_interval(only_first, only_second, total),
        p_value=mcnemar(only_first, only_second),
        both=int((right[0] & right[1]).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~right[0] & ~right[1]).sum()),
        disagreements=tuple(
            Disagreement(scored.samples[i].path, names[scored.true[i]], names[predicted[0][i]], names[predicted[1][i]])
            for i in np.flatnonzero(right[0] != right[1])
        ),
        skipped=scored.skipped,
        notes=tuple(_notes(first, second, on, sides, groups)),
    )


def _side(bundle: Bundle, right: NDArray[np.bool_], probabilities: NDArray[np.float64], scored: scoring.Scored) -> Side:
    hits, total = int(right.sum()), len(right)
    return Side(
        run=str(bundle.path),
        model=bundle.info.model,
        accuracy=hits / total,
        interval=wilson_interval(hits, total),
        loss=metrics.cross_entropy(scored.true, probabilities),
        baseline=scoring.baseline_of(bundle, scored, hits),
    )


def _notes(first: Bundle, second: Bundle, on: scoring.Images, sides: Sequence[Side], groups: Groups | None) -> Iterator[str]:
    """Return notes on images seen in training, on groups and on the baseline."""
    yield from on.notes
    yield from (f"{second.path}: {note}" for note in scoring.seen_in_training(second, on.root, on.samples))
    if note := grouped.note(groups, "the intervals and McNemar's test"):
        yield note
    for bundle, side in zip((first, second), sides, strict=True):
        if warning := side.baseline.warning(f"{side.run}: accuracy", side.accuracy, side.interval, bundle.info.next_step):
            yield warning
