"""`imgclf predict`: one record for every requested input, in order, whatever happens to it."""

import collections
import contextlib
import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from imgclf.core import signals
from imgclf.core.config import Fraction
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import Within, check
from imgclf.core.files import placing, reading
from imgclf.core.files.plans import How
from imgclf.core.files.state_folder import check_outside
from imgclf.core.parallel import ordered_map
from imgclf.core.remedies import why
from imgclf.core.shards import Shard
from imgclf.images import sources
from imgclf.images.sources import Inputs, Source
from imgclf.models.bundle import Bundle
from imgclf.models.prediction import Place, Prediction, predict_image


def predict(
    bundle: Bundle, inputs: Inputs, *, top: int = 1, threshold: float = 0.0, without: Path | None = None
) -> Generator[Prediction, None, None]:
    """Predict what `sources.expand` makes of the inputs, on all cores, each record as soon as it is its turn.

    threshold: see `prediction.predict_image`. without: a folder whose images are skipped.
    """
    check("top", top, Annotated[int, Within(1)])
    check("threshold", threshold, Fraction)
    one = functools.partial(predict_image, bundle, top=top, threshold=threshold)
    return ordered_map(one, sources.expand(inputs, without))


def predict_shard(
    bundle: Bundle, inputs: Inputs, shard: Shard, *, top: int = 1, threshold: float = 0.0
) -> Generator[Prediction, None, None]:
    """Predict every `shard.count`-th input; each record says which of all it is, so that `merge` can put them in order."""
    seen = 0

    def own() -> Iterator[Source]:
        nonlocal seen
        for source in sources.expand(inputs):
            seen += 1
            if (seen - 1) % shard.count == shard.index - 1:
                yield source

    held: Prediction | None = None  # the last is known as such only when there is no other
    one = functools.partial(predict_image, bundle, top=top, threshold=threshold)
    for number, record in enumerate(ordered_map(one, own())):
        if held:
            yield held
        position = shard.index - 1 + number * shard.count
        held = dataclasses.replace(record, place=Place(shard.index, shard.count, position))
    if held and held.place:
        yield dataclasses.replace(held, place=dataclasses.replace(held.place, inputs=seen))


def merge(files: Sequence[str]) -> Generator[Prediction, None, None]:
    """The records that all shards printed, in the order of the inputs, the files read side by side.

    Raises ImgclfError, at the latest at the end, when a shard is missing, ended early or had other inputs.
    """
    with contextlib.ExitStack() as stack:
        shards: dict[int, tuple[str, Iterator[Prediction]]] = {}
        count = 0
        for name in files:
            records = _records(name, stack)
            first = next(records, None)
            if first is None or first.place is None:  # a shard has no record when there are fewer inputs than shards
                continue
            if first.place.shard in shards:
                raise ImgclfError(f"{name}: the same shard as {shards[first.place.shard][0]}; give each once")
            if count and first.place.shards != count:
                raise ImgclfError(
                    f"{name}: one of {first.place.shards} shards, and {files[0]} of {count}; give those of one work"
                )
            count = first.place.shards
            shards[first.place.shard] = name, itertools.chain([first], records)
        if not count:
            raise ImgclfError(f"{', '.join(files[:3])}: no records; give what `imgclf predict --shard I/N --jsonl` printed")
        totals: dict[str, int] = {}
        for position in itertools.count():
            if totals and position == min(totals.values()):
                break
            shard = position % count + 1
            name, records = shards.get(shard, (f"shard {shard} of {count}", iter(())))
            record = next(records, None)
            if record is None or record.place is None or record.place.position != position:
                raise ImgclfError(
                    f"{name}: record {position // count + 1} is missing; run this shard to its end and merge again"
                )
            if record.place.inputs is not None:
                totals[name] = record.place.inputs
            yield dataclasses.replace(record, place=None)
        if len(set(totals.values())) > 1 or len(totals) < len(shards):
            raise ImgclfError(
                f"{', '.join(files[:3])}: the shards had other inputs, or more of them; run them again on the same"
            )


_LONGEST = 1 << 24  # bytes of a record, which may name every class


def _records(name: str, stack: contextlib.ExitStack) -> Iterator[Prediction]:
    """The records of a file, one a line; raises ImgclfError when it is none of ours."""
    file = stack.enter_context(reading.opened(Path(name)))
    for number in itertools.count(1):
        line = file.readline(_LONGEST + 1)
        if not line:
            return
        try:
            if len(line) > _LONGEST:
                raise ValueError(f"longer than {_LONGEST:,} bytes")
            record = Prediction.from_dict(json.loads(line))
            if record.place is None:
                raise ValueError("it was printed without --shard")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImgclfError(f"{name}, line {number}: no record of a shard: {error}; run this shard again") from error
        yield record


class Sorting:
    """Puts predicted photos into the class folders of a folder, a thousand at a time, each thousand planned ahead.

    counts: photos placed, by label; there: those that lay where they belong; failed: those that could not be placed, each of
    which is reported as (input, why) at once. known: data folders, in which nothing is placed. Creates the folder; raises
    ImgclfError if that fails.
    """

    def __init__(
        self,
        folder: Path,
        how: How,
        report: Callable[[str, str], None] = lambda _path, _why: None,
        known: Iterable[Path] = (),
    ) -> None:
        if any(os.path.lexists(folder / name) for name in ("bundle.json", "config.json")):
            raise ImgclfError(f"{folder}: a run, not a place for photos; choose another folder")
        check_outside(folder, f"--{how}-to", *known)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImgclfError(f"{folder}: photos cannot be sorted into this folder: {why(error)}") from error
        self.folder, self.how, self.report = folder, how, report
        self.counts: collections.Counter[str] = collections.Counter()
        self.there = self.failed = 0
        self._waiting: list[tuple[str, str]] = []

    def through(self, records: Iterable[Prediction]) -> Generator[Prediction, None, None]:
        """The records as they come; what each was about is placed soon after, at the latest when they end or are cut off."""
        try:
            for record in records:
                if record.label is not None and record.is_file:
                    self._waiting.append((record.input, record.label))
                elif record.label is not None:
                    self.failed += 1
                    self.report(record.input, "no file of its own (it came from an archive or a pipe)")
                yield record
                if len(self._waiting) >= 1000:
                    self.place()
        finally:
            try:
                self.place()
            except (KeyboardInterrupt, SystemExit):  # a signal came before it was held back: what waits is placed all the same
                self.place()
                raise

    def place(self) -> None:
        """Place what is waiting, to the end even if a signal comes meanwhile."""
        with signals.deferred():
            done = placing.place(self.folder, self._waiting, self.how)
        self._waiting = []
        self.counts.update(done.labels)
        self.there += done.there
        self.failed += len(done.problems)
        for path, reason in done.problems:
            self.report(path, reason)

    def check(self, inputs: Iterable[str]) -> None:
        """Raise UsageError when photos would be sorted into the folder that they come from."""
        for name in inputs:
            if os.path.isdir(name) and os.path.samefile(name, self.folder):
                raise UsageError(f"{self.folder}: photos cannot be sorted into the folder that they come from; choose another")


def watch(
    bundle: Bundle, folder: Path, *, top: int = 1, threshold: float = 0.0, sorting: Sorting | None = None
) -> Generator[Prediction, None, None]:
    """Predict the images of a folder, and those that come into it, without end; the folder sorted into is skipped."""
    without = sorting.folder if sorting else None
    for arrived in sources.arrivals(folder, without):
        if arrived:
            records = predict(bundle, arrived, top=top, threshold=threshold)
            yield from sorting.through(records) if sorting else records


def undo(folder: Path, *, foreign: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """Take back all that was sorted into a folder; see `placing.undo`."""
    return placing.undo(folder, foreign=foreign)
