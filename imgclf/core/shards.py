"""Shards, such as `3/8`: distribute files over machines that do not communicate, and merge the results."""

import contextlib
import dataclasses
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from imgclf.core import database, database_files
from imgclf.core.database import Database, Tables
from imgclf.core.database_files import Damaged
from imgclf.core.errors import UsageError
from imgclf.core.files import contained


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of `count` shards. index: from 1 to `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index} of {self.count}"

    def has(self, path: str) -> bool:
        """Return whether a path belongs to this shard. It depends only on the path, so other files can come and go."""
        return zlib.crc32(os.fsencode(path)) % self.count == self.index - 1


def parse(text: str) -> Shard:
    """Parse text such as `3/8`. Raises UsageError for other text."""
    index, slash, count = text.partition("/")
    if not (slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise UsageError(f"--shard {text}: must be the number of the shard and the number of shards, such as 3/8")
    if not 1 <= int(index) <= int(count):
        raise UsageError(f"--shard {text}: shards are numbered from 1 to {int(count)}")
    return Shard(int(index), int(count))


@contextlib.contextmanager
def result(path: Path, shard: Shard) -> Iterator[Path]:
    """Yield the file beside `path` for the results of a shard. `results` finds it after the block has ended.

    A shard that is run again, for example because it was killed, finds its earlier results in the file. If two commands run
    the same shard, the first one to end completes it for both.
    """
    done = path.with_name(f"{path.stem}.shard-{shard.index}-of-{shard.count}{path.suffix}")
    working = done.with_name(f".{done.name}")
    with contained.at(path.parent, make=True) as folder:
        if folder.status(done.name):
            folder.replace(done.name, working.name)
        yield working
        try:
            folder.replace(working.name, done.name)
        except FileNotFoundError:
            if not folder.status(done.name):
                raise


def results(path: Path) -> list[tuple[Shard, Path]]:
    """Return the finished shards of a file and their files, sorted by number."""
    found = []
    for file in path.parent.glob("*.shard-*-of-*"):
        match = re.fullmatch(rf"{re.escape(path.stem)}\.shard-(\d+)-of-(\d+){re.escape(path.suffix)}", file.name)
        if match:
            found.append((Shard(int(match[1]), int(match[2])), file))
    return sorted(found, key=lambda one: (one[0].count, one[0].index))


def merge(db: Database, tables: Tables, copy: Callable[[Database], None]) -> list[Shard]:
    """Merge the finished shards of a database and remove their files. Return the merged shards.

    A damaged shard is renamed and counts as missing.

    Args:
        copy: Insert the rows of a shard's database into `db`.
    """
    merged = []
    for shard, path in results(db.path):
        try:
            with database.opened(path, tables) as other, db.writing():
                copy(other)
        except Damaged as damage:
            if damage.path != path:
                raise
            database_files.warn(damage)
            continue
        with contextlib.suppress(FileNotFoundError), contained.at(path.parent) as folder:
            folder.unlink(path.name)  # it is missing if another command merges it too
        merged.append(shard)
    return merged


def summary(merged: list[Shard]) -> str:
    """Return one line about the merged and the missing shards; "" if no shard was merged."""
    lines = []
    for count in sorted({shard.count for shard in merged}):
        present = {shard.index for shard in merged if shard.count == count}
        missing = [str(index) for index in range(1, count + 1) if index not in present]
        note = f"; processed the missing shards here: {', '.join(missing)}" if missing else ""
        lines.append(f"merged {len(present)} of {count} shards{note}")
    return "; ".join(lines)
