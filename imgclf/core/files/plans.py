"""Plans of moves: their content, their file names, and which moves and files are accepted. No file is read or moved here."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal

from imgclf.core.files.links import check_component
from imgclf.core.files.paths import STATE_NAME

How = Literal["move", "link"]
Command = Literal["clean", "predict"]  # each undoes its own operations


@dataclasses.dataclass(frozen=True)
class Move:
    """The way of one file, which is moved or linked: paths relative to the journal's folder, with forward slashes.

    The source of a file from elsewhere is an absolute path. mark: identifies the file as it was before (see `mark`), so that
    an undo never takes another file for it.
    """

    source: str
    target: str
    mark: str = dataclasses.field(default="", compare=False)

    def back(self) -> "Move":
        return Move(self.target, self.source, self.mark)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A move that was not carried out, and why; nothing was overwritten."""

    move: Move
    reason: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """The content of a plan. is_own: whether this user wrote it, on this machine, for this folder."""

    name: str
    how: How
    moves: tuple[Move, ...]
    time: str
    author: str
    is_own: bool

    @property
    def leaves_folder(self) -> bool:
        """Whether an undo would put files outside the journal's folder."""
        return any(os.path.isabs(move.source) for move in self.moves)


def check(move: Move) -> None:
    """Raise ValueError for a move that imgclf would not make: a journal may have come with somebody else's folder."""
    is_outside = os.path.isabs(move.source)
    if is_outside:
        if os.path.normpath(move.source) != move.source:
            raise ValueError(f"{move.source!r} is not a normalized path")
        for piece in Path(move.source).parts[1:]:
            check_component(piece)
    for path in (move.target,) if is_outside else (move.source, move.target):
        pieces = path.split("/")
        for piece in pieces:
            check_component(piece)
        kept = pieces[:2] == [STATE_NAME, "quarantine"] and len(pieces) > 3 and path == move.target
        named = pieces[:-1] if is_outside else pieces  # a file from elsewhere keeps its name
        if any(piece.startswith(".") for piece in named[3 if kept else 0 :]):
            raise ValueError(f"{path!r} is no place of an image in this folder")
    if move.source == move.target:
        raise ValueError(f"{move.source!r} moves to itself")
    if not _MARK.fullmatch(move.mark):
        raise ValueError(f"{move.source!r} has no mark of its file")


_MARK = re.compile(r"[0-9]+ [0-9]+ -?[0-9]+")


def mark(status: os.stat_result | None) -> str:
    """Identify a file by its inode, size in bytes and modification time in nanoseconds; "" for none."""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}" if status else ""


def is_moved_file(status: os.stat_result, move: Move, *, is_own: bool) -> bool:
    """Whether a file is the one that was moved.

    Within the folder: the same inode, or the same size and time. On some disks inodes change, and an edited file goes back
    too. A file that leaves the folder needs the same size and time. In a hidden folder or under a hidden name nothing is
    placed but the very file that this user moved (is_own).
    """
    inode, _, rest = move.mark.partition(" ")
    now_inode, _, now_rest = mark(status).partition(" ")
    if not os.path.isabs(move.source):
        return inode == now_inode or rest == now_rest
    is_hidden = any(piece.startswith(".") for piece in Path(move.source).parts)
    return rest == now_rest and (not is_hidden or (is_own and inode == now_inode))


def command_of(plan: str) -> str:
    return plan.split(".")[0].split("-", 1)[1].replace("--", " --")


def is_of(plan: str, command: Command) -> bool:
    """Whether an operation is one of a command: of `predict`, or of `clean` in any of its forms."""
    return (command_of(plan) == "predict") == (command == "predict")


DIGITS = re.compile(r"[0-9]{1,15}")
PLAN = re.compile(r"[0-9]{1,15}-[a-z-]+\.(doing|done|undoing|undone)\.json")


def number_of(name: str) -> int:
    return int(name.split("-")[0])
