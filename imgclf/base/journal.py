"""Moves that can be undone and survive a kill.

A batch of moves is first written as a plan, `journal/0001-clean.doing.json`, and flushed to disk. Only then are files moved,
one by one, and at the end the plan is renamed to `.done.json`; undoing renames it to `.undoing.json`, moves back, and ends at
`.undone.json`. Whatever instant a command is killed at, the name says what to finish and the disk says which moves are done.
"""

import dataclasses
import errno
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from imgclf.base import names, permissions, writing
from imgclf.base.errors import ImgclfError
from imgclf.base.remedies import why


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


@dataclasses.dataclass(frozen=True)
class Failure:
    """A move that was not carried out, and why; nothing was overwritten."""

    move: Move
    reason: str


def apply(data: Path, state: Path, command: str, moves: Iterable[Move]) -> list[Failure]:
    """Write the plan ahead, carry it out, and return the moves that could not be made."""
    moves = [dataclasses.replace(one, mark=mark(data / one.source)) for one in moves]
    if not moves:
        return []
    folder = state / "journal"
    permissions.make_folder(folder)
    plan = folder / f"{next_number(state):04d}-{command}.doing.json"
    _write(plan, moves)
    return _carry_out(data, plan, forward=True)


def next_number(state: Path) -> int:
    """The number that the next batch will get."""
    numbers = [_number(plan) for plan in _plans(state)]
    numbers += [int(path.name) for path in (state / "quarantine").glob("[0-9]*") if path.name.isdecimal()]
    return 1 + max(numbers, default=0)


@dataclasses.dataclass(frozen=True)
class Batch:
    """One batch of the journal: its number, when (UTC) and by which command, its state, and its moves.

    state: done, undone, or interrupted, of which only the moves that were made are given.
    """

    number: int
    time: str
    command: str
    state: str
    moves: tuple[Move, ...]


def history(data: Path, state: Path) -> list[Batch]:
    """Every batch that was carried out, the oldest first."""
    batches = []
    for plan in _plans(state):
        number, moves = _number(plan), _read(plan)
        word = plan.name.split(".")[1]
        if word in ("doing", "undoing"):
            moves = [move for move in moves if os.path.lexists(data / move.target)]
        batches.append(
            Batch(
                number, _time(plan), _command(plan), {"done": "done", "undone": "undone"}.get(word, "interrupted"), tuple(moves)
            )
        )
    return batches


def undo(data: Path, state: Path, number: int | None = None) -> tuple[list[Move], list[Failure]]:
    """Take back every batch that is done, newest first, or the one of this number.

    Returns the moves as made now, and those that failed. Raises ImgclfError when there is no such batch to take back.
    """
    made: list[Move] = []
    failed: list[Failure] = []
    plans = _plans(state, ".done.json")[::-1]
    if number is not None:
        plans = [plan for plan in plans if _number(plan) == number]
        if not plans:
            raise no_batch(state, number)
    for plan in plans:
        back = [move.back() for move in _read(plan)]
        renamed = _rename(plan, ".undoing.json")
        failures = _carry_out(data, renamed, forward=False)
        failed += [dataclasses.replace(failure, reason=_later(state, plan, failure)) for failure in failures]
        lost = {failure.move for failure in failures}
        made += [move for move in back if move not in lost]
    return made, failed


def no_batch(state: Path, number: int) -> ImgclfError:
    return ImgclfError(f"{state}: no batch {number} that could be undone; --history lists them")


def _later(state: Path, plan: Path, failure: Failure) -> str:
    """Why a file could not go back, and what to do: a later batch may have moved it on."""
    for other in reversed(_plans(state, ".done.json")):
        if _number(other) > _number(plan) and failure.move.source in {move.source for move in _read(other)}:
            return f"batch {_number(other)} moved it on; undo that first"
    return f"{failure.reason}; make way for it and undo again" if "exists" in failure.reason else failure.reason


def recover(data: Path, state: Path) -> list[str]:
    """Tidy up after a killed command, and say so in one line each; for whoever holds the lock.

    Moves it made stay made (and can be undone); those it had only planned are dropped, since the files may have changed: the
    command that comes after looks at them anew. An undo is finished.
    """
    said = []
    if (state / "journal").is_dir():
        writing.remove_leftovers(state / "journal")
    for plan in _plans(state, ".doing.json"):
        made = [move for move in _read(plan) if _is_made(data / move.source, data / move.target)]
        if not made:
            plan.unlink()
            said.append(f"an interrupted {_command(plan)} had moved no file yet")
            continue
        _write(plan, made)
        _rename(plan, ".done.json")
        said.append(
            f"files that an interrupted {_command(plan)} had moved: {len(made)}; they stay moved, and --undo takes them back"
        )
    for plan in reversed(_plans(state, ".undoing.json")):
        failures = _carry_out(data, plan, forward=False)
        said.append(f"finished an interrupted undo of {_command(plan)}" + _not_moved(failures))
    return said


def _check(move: Move) -> None:
    """Raise ValueError for a move that leads out of the data folder: a journal may have come with somebody else's data."""
    for path in (move.source, move.target):
        slips = "\0" in path or ("\\" in path and sys.platform == "win32")
        if slips or path.startswith("/") or {"", ".", ".."} & set(path.split("/")):
            raise ValueError(f"{path!r} is no path inside the data folder")
    if move.source == move.target:
        raise ValueError(f"{move.source!r} moves to itself")


def mark(path: Path) -> str:
    """What the file system says of a file: its number, size and time of change; "" for none."""
    try:
        status = os.lstat(path)
    except OSError:
        return ""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _way_back(data: Path, move: Move) -> tuple[Path, Path]:
    """(where the file of a move that is taken back lies, where it goes), if the disk has come to spell names otherwise.

    The name that it gets is as it was: another file may bear the other spelling.
    """
    folder, _slash, name = move.target.rpartition("/")
    target = data / names.spelled(data, folder) / name
    return data / (move.source if os.path.lexists(target) else names.spelled(data, move.source)), target


def _why_not_back(source: Path, target: Path, back: Move) -> str:
    """Why an undo must not count on what lies there, "" if it may; what lies in quarantine always is what was moved there."""
    if os.path.lexists(target):
        is_back = os.path.lexists(source) or not _is_another(target, back.mark)
        return "" if is_back else "the file is no longer there"
    is_sure = back.source.startswith(".imgclf/") and source.name == back.source.rpartition("/")[2]
    if not is_sure and _is_another(source, back.mark):
        return "another file lies there now"
    return ""


def _is_another(path: Path, known: str) -> bool:
    """Whether a file is there and is not the one with this mark: of another number, and of another size or time too."""
    now = mark(path)
    inode, _, rest = known.partition(" ")
    return bool(known and now) and now.partition(" ")[0] != inode and now.partition(" ")[2] != rest


def _have_two_names(source: Path, target: Path) -> bool:
    """Whether the two are hard links of one file, and not one entry reached through a linked folder: that has one name only."""
    if not os.path.lexists(target) or not os.path.samestat(os.lstat(source), os.lstat(target)):
        return False
    same_entry = source.name == target.name and os.path.samestat(os.stat(source.parent), os.stat(target.parent))
    return os.lstat(source).st_nlink > 1 and not same_entry


def _is_made(source: Path, target: Path) -> bool:
    if os.path.lexists(source) and _have_two_names(source, target):
        source.unlink()  # killed between the link and the unlink
    return os.path.lexists(target)  # even when the source is there again: then it is a new file, and an undo will say so


def _time(plan: Path) -> str:
    try:
        return str(json.loads(plan.read_bytes()).get("time", ""))
    except (ValueError, AttributeError):
        return ""


def _not_moved(failures: list[Failure]) -> str:
    if not failures:
        return ""
    return f"; {len(failures)} not moved, first {failures[0].move.source!r}: {failures[0].reason}"


def _command(plan: Path) -> str:
    return plan.name.split(".")[0].split("-", 1)[1].replace("--", " --")


_PLAN = re.compile(r"[0-9]+-[a-z-]+\.(doing|done|undoing|undone)\.json")


def _plans(state: Path, ending: str = ".json") -> list[Path]:
    """By number, which may have more than four digits."""
    found = (state / "journal").glob("[0-9]*-*.json")
    return sorted((path for path in found if path.name.endswith(ending) and _PLAN.fullmatch(path.name)), key=_number)


def _number(plan: Path) -> int:
    return int(plan.name.split("-")[0])


def _read(plan: Path) -> list[Move]:
    try:
        content = json.loads(plan.read_bytes())
        moves = [Move(*map(str, move)) for move in content["moves"]]
        for move in moves:
            _check(move)
        return moves
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImgclfError(
            f"{plan}: this journal is damaged ({error}); the files it moved are in the quarantine folder beside it"
        ) from error


def _write(plan: Path, moves: list[Move]) -> None:
    content = {
        "format": 1,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "moves": [[move.source, move.target, move.mark] for move in moves],
    }
    # ASCII JSON carries names that are not valid UTF-8 as surrogate escapes, there and back unchanged.
    writing.write_atomic(plan, json.dumps(content, indent=0).encode("ascii"))


def _rename(plan: Path, ending: str) -> Path:
    target = plan.with_name(plan.name.split(".")[0] + ending)
    os.replace(plan, target)
    writing.sync_folder(plan.parent)
    return target


def _carry_out(data: Path, plan: Path, *, forward: bool) -> list[Failure]:
    """Make every move of the plan that is not made yet; safe to call again after a kill."""
    moves = _read(plan)
    if not forward:
        moves = [move.back() for move in reversed(moves)]
    failures = []
    for move in moves:
        source, target = (data / move.source, data / move.target) if forward else _way_back(data, move)
        reason = ("" if forward else _why_not_back(source, target, move)) or move_file(source, target)
        if reason:
            failures.append(Failure(move, reason))
        elif not forward:
            _remove_empty_parents(data / move.source, data)
    if failures:
        # What was not moved needs no undo, and what could not be taken back is left for a later one.
        lost = {failure.move for failure in failures}
        remaining = [move for move in moves if (move in lost) != forward]
        if not remaining:
            plan.unlink()
            return failures
        _write(plan, remaining if forward else [move.back() for move in reversed(remaining)])
    _rename(plan, ".done.json" if forward or failures else ".undone.json")
    return failures


def move_file(source: Path, target: Path) -> str:
    """Move one file, never over another; returns "" or why not. Doing it twice is doing it once."""
    if not os.path.lexists(source):
        return "" if os.path.lexists(target) else "the file is no longer there"
    try:
        permissions.make_folder(target.parent)
        if os.path.lexists(target):
            if _have_two_names(source, target):  # killed between the link and the unlink below
                source.unlink()
                return ""
            return f"{target.name} exists already"
        try:
            os.link(source, target, follow_symlinks=False)  # unlike rename, a link never replaces a file
        except FileExistsError:
            return f"{target.name} exists already"
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS, errno.EXDEV):
                raise
            os.rename(source, target)  # no hard links here (FAT, some network folders); the lock keeps other commands out
            return ""
        try:
            source.unlink()
        except OSError:  # the folder may not be written: then the file stays where it was, under one name
            target.unlink()
            raise
    except OSError as error:
        return why(error)
    return ""


def _remove_empty_parents(path: Path, data: Path) -> None:
    """Remove the quarantine folders that an undo emptied."""
    for folder in path.parents:
        if folder.relative_to(data).parts[:2] != (".imgclf", "quarantine"):  # a class may have that name
            return
        try:
            folder.rmdir()
        except OSError:
            return
