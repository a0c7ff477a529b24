"""`imgclf predict`: one record for every input, in the order of the inputs, with an error for those that cannot be read."""

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
    """Predict the images that `sources.expand` finds in the inputs, on all cores.

    Each record is yielded as soon as it and all earlier ones are computed.

    Args:
        top: Number of classes in each record.
        threshold: See `prediction.predict_image`.
        without: A folder whose images are skipped.
    """
    check("top", top, Annotated[int, Within(1)])
    check("threshold", threshold, Fraction)
    predict_one = functools.partial(predict_image, bundle, top=top, threshold=threshold)
    return ordered_map(predict_one, sources.expand(inputs, without))


def predict_shard(
    bundle: Bundle, inputs: Inputs, shard: Shard, *, top: int = 1, threshold: float = 0.0
) -> Generator[Prediction, None, None]:
    """Predict every `shard.count`-th input. Each record contains its position among all inputs, so `merge` can order them."""
    total = 0

    def own() -> Iterator[Source]:
        nonlocal total
        for source in sources.expand(inputs):
            total += 1
            if (total - 1) % shard.count == shard.index - 1:
                yield source

    previous: Prediction | None = None  # yielded one record late, because the last record gets the number of inputs
    predict_one = functools.partial(predict_image, bundle, top=top, threshold=threshold)
    for number, record in enumerate(ordered_map(predict_one, own())):
        if previous:
            yield previous
        position = shard.index - 1 + number * shard.count
        previous = dataclasses.replace(record, place=Place(shard.index, shard.count, position))
    if previous and previous.place:
        yield dataclasses.replace(previous, place=dataclasses.replace(previous.place, inputs=total))


def merge(files: Sequence[str]) -> Generator[Prediction, None, None]:
    """Merge the records of all shards in the order of the inputs. The files are read in parallel, not loaded whole.

    Raises:
        ImgclfError: A shard is missing, incomplete or had other inputs. Some of these errors are only found at the end.
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
                raise ImgclfError(f"{name}: the same shard as {shards[first.place.shard][0]}; give each shard once")
            if count and first.place.shards != count:
                raise ImgclfError(
                    f"{name}: one of {first.place.shards} shards, but {files[0]} is one of {count}; "
                    "give the files of one division into shards"
                )
            count = first.place.shards
            shards[first.place.shard] = name, itertools.chain([first], records)
        if not count:
            raise ImgclfError(f"{', '.join(files[:3])}: no records; give the output of `imgclf predict --shard I/N --jsonl`")
        totals: dict[str, int] = {}
        for position in itertools.count():
            if totals and position == min(totals.values()):
                break
            shard = position % count + 1
            name, records = shards.get(shard, (f"shard {shard} of {count}", iter(())))
            record = next(records, None)
            if record is None or record.place is None or record.place.position != position:
                raise ImgclfError(
                    f"{name}: record {position // count + 1} is missing; run this shard again to its end, then merge"
                )
            if record.place.inputs is not None:
                totals[name] = record.place.inputs
            yield dataclasses.replace(record, place=None)
        if len(set(totals.values())) > 1 or len(totals) < len(shards):
            raise ImgclfError(
                f"{', '.join(files[:3])}: the shards had different inputs; run all of them again on the same inputs"
            )


_LONGEST = 1 << 24  # bytes of a record, which may name every class


def _records(name: str, stack: contextlib.ExitStack) -> Iterator[Prediction]:
    """Read the records of a file, one per line. Raises ImgclfError for other content."""
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
                raise ValueError("it was written without --shard")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ImgclfError(f"{name}, line {number}: not a record of a shard: {error}; run this shard again") from error
        yield record


class Sorting:
    """Sorts predicted images into class folders inside `folder`, in operations of a thousand images each.

    Creates the folder; raises ImgclfError if that fails. known: data folders, in which nothing may be placed. report: called
    with (input, reason) for each image that cannot be placed. counts: number of placed images by label. there: number of
    images that were in the right folder already. failed: number of images that could not be placed.
    """

    def __init__(
        self,
        folder: Path,
        how: How,
        report: Callable[[str, str], None] = lambda _path, _why: None,
        known: Iterable[Path] = (),
    ) -> None:
        if any(os.path.lexists(folder / name) for name in ("bundle.json", "config.json")):
            raise ImgclfError(f"{folder}: this is the folder of a run; choose another folder for the images")
        check_outside(folder, f"--{how}-to", *known)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImgclfError(f"{folder}: images cannot be sorted into this folder: {why(error)}") from error
        self.folder, self.how, self.report = folder, how, report
        self.counts: collections.Counter[str] = collections.Counter()
        self.there = self.failed = 0
        self._waiting: list[tuple[str, str]] = []

    def through(self, records: Iterable[Prediction]) -> Generator[Prediction, None, None]:
        """Yield the records unchanged, and place their images in operations of a thousand, the rest when the records end."""
        try:
            for record in records:
                if record.label is not None and record.is_file:
                    self._waiting.append((record.input, record.label))
                elif record.label is not None:
                    self.failed += 1
                    self.report(record.input, "not a separate file (it came from an archive or a pipe)")
                yield record
                if len(self._waiting) >= 1000:
                    self.place()
        finally:
            try:
                self.place()
            except (KeyboardInterrupt, SystemExit):  # a signal before `place` deferred signals: place the waiting images anyway
                self.place()
                raise

    def place(self) -> None:
        """Place the waiting images. Signals are deferred until this is done."""
        with signals.deferred():
            done = placing.place(self.folder, self._waiting, self.how)
        self._waiting = []
        self.counts.update(done.labels)
        self.there += done.there
        self.failed += len(done.problems)
        for path, reason in done.problems:
            self.report(path, reason)

    def check(self, inputs: Iterable[str]) -> None:
        """Raise UsageError if images would be sorted into the folder that they come from."""
        for name in inputs:
            if os.path.isdir(name) and os.path.samefile(name, self.folder):
                raise UsageError(f"{self.folder}: images cannot be sorted into the folder that they come from; choose another")


def watch(
    bundle: Bundle, folder: Path, *, top: int = 1, threshold: float = 0.0, sorting: Sorting | None = None
) -> Generator[Prediction, None, None]:
    """Predict the images of a folder, then new images as they arrive, until interrupted. The folder of `sorting` is skipped."""
    without = sorting.folder if sorting else None
    for arrived in sources.arrivals(folder, without):
        if arrived:
            records = predict(bundle, arrived, top=top, threshold=threshold)
            yield from sorting.through(records) if sorting else records


def undo(folder: Path, *, foreign: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """Undo all sorting into a folder; see `placing.undo`."""
    return placing.undo(folder, foreign=foreign)
