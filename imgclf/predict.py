"""`imgclf predict`: one record for every requested input, in order, whatever happens to it."""

import collections
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from imgclf.answers import Prediction, answer
from imgclf.base import placing
from imgclf.base.errors import ImgclfError
from imgclf.base.parallel import ordered_map
from imgclf.bundle import Bundle
from imgclf.pixels import sources
from imgclf.pixels.sources import Source


def predict(
    bundle: Bundle, inputs: Iterable[str | Source], *, top: int = 1, threshold: float = 0.0, without: Path | None = None
) -> Iterator[Prediction]:
    """Predict what `sources.expand` makes of the inputs, on all cores, each record as soon as it is its turn.

    threshold: see `answers.answer`. without: a folder whose pictures are passed over.
    """
    one = functools.partial(answer, bundle, top=top, threshold=threshold)
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
