"""A shard of the work, as `3/8`: which files are its own, so that machines that know nothing of each other leave none out."""

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
    """The index-th, from 1 on, of `count` shards."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index} of {self.count}"

    def has(self, path: str) -> bool:
        """Whether a path belongs to this shard: by its name alone, so that files which come and go move no other."""
        return zlib.crc32(os.fsencode(path)) % self.count == self.index - 1


def parse(text: str) -> Shard:
    """`3/8` as a Shard; raises UsageError."""
    index, slash, count = text.partition("/")
    if not (slash and index.isascii() and index.isdigit() and count.isascii() and count.isdigit()):
        raise UsageError(f"--shard {text}: expected the number of the shard and how many there are, as 3/8")
    if not 1 <= int(index) <= int(count):
        raise UsageError(f"--shard {text}: shards are numbered from 1 to {int(count)}")
    return Shard(int(index), int(count))


@contextlib.contextmanager
def result(path: Path, shard: Shard) -> Iterator[Path]:
    """The file beside `path` that a shard writes its results into, and that `results` knows once the block has ended.

    A shard that was killed, or is done once more, finds what it had; of two commands with one shard, the first that ends
    has done it for both.
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
    """The finished shards of a file, by number."""
    found = []
    for file in path.parent.glob("*.shard-*-of-*"):
        match = re.fullmatch(rf"{re.escape(path.stem)}\.shard-(\d+)-of-(\d+){re.escape(path.suffix)}", file.name)
        if match:
            found.append((Shard(int(match[1]), int(match[2])), file))
    return sorted(found, key=lambda one: (one[0].count, one[0].index))


def take_up(db: Database, tables: Tables, copy: Callable[[Database], None]) -> list[Shard]:
    """Merge the finished shards of a database: `copy` inserts the rows of each, then its file is removed.

    A damaged shard is renamed and counts as missing.
    """
    taken = []
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
            folder.unlink(path.name)  # another command may merge it too
        taken.append(shard)
    return taken


def said(taken: list[Shard]) -> str:
    """One line about shards whose results were taken up, and those that are missing; "" for none."""
    lines = []
    for count in sorted({shard.count for shard in taken}):
        there = {shard.index for shard in taken if shard.count == count}
        missing = [str(index) for index in range(1, count + 1) if index not in there]
        lost = f"; missing, and done here: {', '.join(missing)}" if missing else ""
        lines.append(f"took up {len(there)} of {count} shards{lost}")
    return "; ".join(lines)
