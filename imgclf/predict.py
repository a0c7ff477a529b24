"""`imgclf predict`: one record for every requested input, in order, whatever happens to it."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgclf.base import placing
from imgclf.base.errors import ImageError, ImgclfError, UsageError
from imgclf.base.parallel import ordered_map
from imgclf.bundle import Bundle
from imgclf.pixels import images, sources
from imgclf.pixels.sources import Source


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the run says of one input. top: the likeliest classes with their probabilities; error: why there is no answer."""

    input: str
    label: str | None
    probability: float | None
    top: tuple[tuple[str, float], ...] = ()
    error: str | None = None


UNKNOWN = "unknown"  # the label of what the run is not sure enough of


def threshold(bundle: Bundle, text: str) -> tuple[float, str]:
    """(the least probability of an answer, what is to be said of it) for `0.8` or `auto:0.99`.

    The second: the lowest from which answers were right so often on the validation pictures. Raises UsageError for another
    text, and ImgclfError where no probability was enough.
    """
    automatic, wish = text.startswith("auto:"), text.removeprefix("auto:")
    try:
        value = float(wish)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {text}: give a probability from 0 to 1, or auto: and an accuracy, as auto:0.99")
    if UNKNOWN in bundle.class_names:
        raise UsageError(f"--threshold: {bundle.path} has a class of the name {UNKNOWN}, which would be mixed up with it")
    if not automatic:
        return value, ""
    known = bundle.info.get("calibration", {})
    points = known.get("thresholds", [])
    found = next((point for point in points if point[1] >= value), None)
    if found is None:
        best = f"; {points[-1][1]:.4f} is the most, from {points[-1][0]:.4f} on" if points else ""
        raise ImgclfError(f"--threshold {text}: no probability was enough on the validation pictures of {bundle.path}{best}")
    return found[0], (
        f"threshold {found[0]:.4f}: of {known['pictures']} validation pictures, {found[2]:.1%} are at least so sure, "
        f"and {found[1]:.1%} of those are right"
    )


def predict(
    bundle: Bundle, inputs: Iterable[str | Source], *, top: int = 1, threshold: float = 0.0, without: Path | None = None
) -> Iterator[Prediction]:
    """Predict what `sources.expand` makes of the inputs, on all cores, each record as soon as it is its turn.

    threshold: the label of what is less probable is `unknown`; its probability is told all the same. without: a folder whose
    pictures are passed over.
    """

    def one(source: Source) -> Prediction:
        try:
            probabilities = bundle.probability(images.apply(bundle.recipe, source.pixels()))
        except ImageError as error:
            return Prediction(source.name, None, None, (), str(error))
        ranked = sorted(zip(bundle.class_names, probabilities, strict=True), key=lambda pair: -pair[1])
        pairs = tuple((label, float(probability)) for label, probability in ranked[:top])
        return Prediction(source.name, pairs[0][0] if pairs[0][1] >= threshold else UNKNOWN, pairs[0][1], pairs)

    return ordered_map(one, sources.expand(inputs, without))


class Sorting:
    """Puts predicted photos into the class folders of a folder, a thousand at a time, each thousand planned ahead.

    counts: photos placed, by label; there: those that lay where they belong. problems: (input, why it was not placed).
    """

    def __init__(self, folder: Path, how: placing.How) -> None:
        self.folder, self.how = folder, how
        self.counts: collections.Counter[str] = collections.Counter()
        self.there = 0
        self.problems: list[tuple[str, str]] = []
        self._waiting: list[tuple[str, str]] = []

    def through(self, records: Iterable[Prediction]) -> Iterator[Prediction]:
        """The records as they come; what each was about is placed soon after, at the latest when they end or are cut off."""
        try:
            for record in records:
                if record.label is not None:
                    self._waiting.append((record.input, record.label))
                yield record
                if len(self._waiting) >= 1000:
                    self.place()
        finally:
            self.place()

    def place(self) -> None:
        """Place what is waiting."""
        waiting, self._waiting = self._waiting, []
        done = placing.place(self.folder, waiting, self.how)
        self.counts.update(done.labels)
        self.there += done.there
        self.problems += done.problems


def watch(
    bundle: Bundle, folder: Path, *, top: int = 1, threshold: float = 0.0, sorting: Sorting | None = None
) -> Iterator[Prediction]:
    """Predict the pictures of a folder, and those that come into it, without end; the folder sorted into is left out."""
    without = sorting.folder if sorting else None
    for arrived in sources.arrivals(folder, without):
        if arrived:
            records = predict(bundle, arrived, top=top, threshold=threshold)
            yield from sorting.through(records) if sorting else records


def undo(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Take back all that was sorted into a folder; see `placing.undo`."""
    return placing.undo(folder)


def check_sorting(folder: Path) -> None:
    """Raise ImgclfError when nothing can be sorted into a folder."""
    if folder.exists() and not folder.is_dir():
        raise ImgclfError(f"{folder}: a file, not a folder; photos are sorted into a folder with one folder a class")
    if any(os.path.lexists(folder / name) for name in ("bundle.json", "config.json")):
        raise ImgclfError(f"{folder}: a run, not a place for photos; choose another folder")
