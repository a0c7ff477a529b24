"""`imgclf predict`: one record for every requested input, in order, whatever happens to it."""

import collections
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from imgclf.answers import Prediction, answer
from imgclf.base import placing
from imgclf.base.errors import ImgclfError, UsageError
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

    counts: photos placed, by label; there: those that lay where they belong; failed: those that could not be placed, each of
    which is reported as (input, why) at once. Makes the folder; raises ImgclfError where that cannot be.
    """

    def __init__(self, folder: Path, how: placing.How, report: Callable[[str, str], None] = lambda _path, _why: None) -> None:
        if any(os.path.lexists(folder / name) for name in ("bundle.json", "config.json")):
            raise ImgclfError(f"{folder}: a run, not a place for photos; choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImgclfError(
                f"{folder}: no folder that photos could be sorted into: {error.strerror}; choose another"
            ) from error
        self.folder, self.how, self.report = folder, how, report
        self.counts: collections.Counter[str] = collections.Counter()
        self.there = self.failed = 0
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
        done = placing.place(self.folder, self._waiting, self.how)
        self._waiting = []
        self.counts.update(done.labels)
        self.there += done.there
        self.failed += len(done.problems)
        for path, why in done.problems:
            self.report(path, why)

    def check(self, inputs: Iterable[str]) -> None:
        """Raise UsageError when photos would be sorted into the folder that they come from."""
        for name in inputs:
            if os.path.isdir(name) and os.path.samefile(name, self.folder):
                raise UsageError(f"{self.folder}: photos cannot be sorted into the folder that they come from; choose another")


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
