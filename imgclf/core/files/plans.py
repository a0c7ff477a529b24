"""Plans of moves: what a journal stores before a file is moved, and reads again after a kill."""

import contextlib
import dataclasses
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic, contained, seal
from imgclf.core.files.contained import Folder
from imgclf.core.files.links import check_component
from imgclf.core.files.paths import STATE_NAME


@dataclasses.dataclass(frozen=True)
class Move:
    """One file's way, as paths relative to the data folder with forward slashes.

    mark: what the file system said of the file before it moved, so that an undo never takes another file for it.
    """

    source: str
    target: str
    mark: str = dataclasses.field(default="", compare=False)

    def back(self) -> "Move":
        return Move(self.target, self.source, self.mark)


def _check(move: Move) -> None:
    """Raise ValueError for a move that `clean` would not make: a journal may have come with somebody else's data."""
    for path in (move.source, move.target):
        pieces = path.split("/")
        for piece in pieces:
            check_component(piece)
        kept = pieces[:2] == [STATE_NAME, "quarantine"] and len(pieces) > 3 and path == move.target
        if any(piece.startswith(".") for piece in pieces[3 if kept else 0 :]):
            raise ValueError(f"{path!r} is no place of an image in the data folder")
    if move.source == move.target:
        raise ValueError(f"{move.source!r} moves to itself")
    if not _MARK.fullmatch(move.mark):
        raise ValueError(f"{move.source!r} has no mark of its file")


_MARK = re.compile(r"[0-9]+ [0-9]+ -?[0-9]+")


def mark(status: os.stat_result | None) -> str:
    """What tells a file from others: its number, size in bytes and time of change in nanoseconds; "" for none."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}" if status else ""


def is_another(status: os.stat_result, known: str) -> bool:
    """Whether a file is not the one with this mark: of another number, and of another size or time too."""
    now = mark(status)
    return now.partition(" ")[0] != known.partition(" ")[0] and now.partition(" ")[2] != known.partition(" ")[2]


def command_of(plan: str) -> str:
    return plan.split(".")[0].split("-", 1)[1].replace("--", " --")


DIGITS = re.compile(r"[0-9]{1,15}")
PLAN = re.compile(r"[0-9]{1,15}-[a-z-]+\.(doing|done|undoing|undone)\.json")
MOST = 1 << 28  # bytes of a plan: some million moves


def number_of(name: str) -> int:
    return int(name.split("-")[0])


class Journal:
    """An open data folder and the folder of its plans, None if there is none."""

    def __init__(self, data: Path, root: Folder, folder: Folder | None) -> None:
        self.data, self.root, self.folder = data, root, folder

    def plans(self, ending: str = ".json") -> list[str]:
        """By number, which may have more than four digits."""
        found = self.folder.names() if self.folder else []
        return sorted((name for name in found if name.endswith(ending) and PLAN.fullmatch(name)), key=number_of)

    def _plans_folder(self) -> Folder:
        if self.folder is None:
            raise ImgclfError(f"{self.data}: its journal was removed meanwhile; run again")
        return self.folder

    def content(self, plan: str) -> dict[str, Any]:
        """What a plan says. Raises ImgclfError for one that is damaged."""
        folder = self._plans_folder()
        try:
            content = json.loads(folder.read(plan, MOST))
            if not isinstance(content, dict):
                raise TypeError("not a JSON object")
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(plan, error) from error
        return content

    def read(self, plan: str) -> list[Move]:
        """The moves of a plan, each checked. Raises ImgclfError for a plan that is damaged."""
        try:
            moves = [Move(*map(str, move)) for move in self.content(plan)["moves"]]
            for move in moves:
                _check(move)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(plan, error) from error
        return moves

    def _damaged(self, plan: str, error: Exception) -> ImgclfError:
        place = self._plans_folder().path
        return ImgclfError(
            f"{place / plan}: this journal is damaged ({error}); the files it moved are in the quarantine folder beside it"
        )

    def write(self, plan: str, moves: list[Move]) -> None:
        content = {
            "format": 2,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "moves": [[move.source, move.target, move.mark] for move in moves],
        }
        # ASCII JSON carries names that are not valid UTF-8 as surrogate escapes, there and back unchanged.
        text = json.dumps(seal.sealed(self.data, content), indent=0).encode("ascii")
        if len(text) > MOST:  # it could not be read back to undo it
            raise ImgclfError(
                f"{self.data}: {len(moves):,} files are too many to move at once; work on some of the classes first"
            )
        atomic.write_atomic(self._plans_folder().path / plan, text)

    def rename(self, plan: str, ending: str) -> str:
        folder, name = self._plans_folder(), plan.split(".")[0] + ending
        folder.replace(plan, name)
        folder.sync()
        return name

    def remove(self, plan: str) -> None:
        self._plans_folder().unlink(plan)


@contextlib.contextmanager
def opened(data: Path, state: Path, *, make: bool = False) -> Iterator[Journal]:
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(Folder.named(data))
        folder = None
        with contextlib.suppress(FileNotFoundError):
            folder = stack.enter_context(contained.at(state / "journal", make=make))
        yield Journal(data, root, folder)
