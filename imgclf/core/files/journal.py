"""Moves that can be undone and survive a kill.

A batch of moves is first written as a plan, `journal/0001-clean.doing.json`, and flushed to disk. Only then are files moved,
one by one, and at the end the plan is renamed to `.done.json`; undoing renames it to `.undoing.json`, moves back, and ends at
`.undone.json`. Whatever instant a command is killed at, the name says what to finish and the disk says which moves are done.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from imgclf.core import names
from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic, contained, moving, seal, state_folder
from imgclf.core.files.contained import Folder
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.plans import DIGITS, PLAN, Journal, Move, command_of, is_another, mark, number_of, opened


@dataclasses.dataclass(frozen=True)
class Failure:
    """A move that was not carried out, and why; nothing was overwritten."""

    move: Move
    reason: str


def apply(data: Path, state: Path, command: str, moves: Iterable[Move]) -> list[Failure]:
    """Write the plan ahead, carry it out, and return the moves that could not be made."""
    with opened(data, state, make=True) as journal:
        planned = [dataclasses.replace(one, mark=mark(contained.status(journal.root, one.source))) for one in moves]
        failures = [Failure(one, moving.GONE) for one in planned if not one.mark]
        planned = [one for one in planned if one.mark]
        if not planned:
            return failures
        plan = f"{next_number(state):04d}-{command}.doing.json"
        journal.write(plan, planned)
        return failures + _carry_out(journal, plan, forward=True)


def next_number(state: Path) -> int:
    """The number that the next batch will get."""
    numbers = [0]
    for name, pattern in (("journal", PLAN), ("quarantine", DIGITS)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), contained.at(state / name) as folder:
            numbers += [number_of(entry) for entry in folder.names() if pattern.fullmatch(entry)]
    return 1 + max(numbers)


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
    with opened(data, state) as journal:
        for plan in journal.plans():
            content, moves = journal.content(plan), journal.read(plan)
            word = plan.split(".")[1]
            if word in ("doing", "undoing"):
                moves = [move for move in moves if contained.status(journal.root, move.target)]
            said = {"done": "done", "undone": "undone"}.get(word, "interrupted")
            batches.append(Batch(number_of(plan), str(content.get("time", "")), command_of(plan), said, tuple(moves)))
    return batches


def undo(data: Path, state: Path, number: int | None = None) -> tuple[list[Move], list[Failure]]:
    """Take back every batch that is done, newest first, or the one of this number.

    Returns the moves as made now, and those that failed. Raises ImgclfError when there is no such batch to take back.
    """
    made: list[Move] = []
    failed: list[Failure] = []
    with opened(data, state) as journal:
        plans = journal.plans(".done.json")[::-1]
        if number is not None:
            plans = [plan for plan in plans if number_of(plan) == number]
            if not plans:
                raise no_batch(state, number)
        for plan in plans:
            back = [move.back() for move in journal.read(plan)]
            failures = _carry_out(journal, journal.rename(plan, ".undoing.json"), forward=False)
            failed += [dataclasses.replace(failure, reason=_later(journal, plan, failure)) for failure in failures]
            lost = {failure.move for failure in failures}
            made += [move for move in back if move not in lost]
    return made, failed


def no_batch(state: Path, number: int) -> ImgclfError:
    return ImgclfError(f"{state}: no batch {number} that could be undone; --history lists them")


def _later(journal: "Journal", plan: str, failure: Failure) -> str:
    """Why a file could not go back, and what to do: a later batch may have moved it on."""
    for other in reversed(journal.plans(".done.json")):
        if number_of(other) > number_of(plan) and failure.move.source in {move.source for move in journal.read(other)}:
            return f"batch {number_of(other)} moved it on; undo that first"
    return f"{failure.reason}; make way for it and undo again" if "exists" in failure.reason else failure.reason


def recover(data: Path, state: Path, *, foreign: bool = False) -> list[str]:
    """Tidy up after a killed command, and say so in one line each; for whoever holds the lock.

    Moves it made stay made (and can be undone); those it had only planned are dropped, since the files may have changed: the
    command that comes after looks at them anew. An undo is finished. foreign: also do this for plans of other users and
    machines, which otherwise are only named: they may have come with the folder.
    """
    said = []
    with opened(data, state) as journal:
        if journal.folder:
            atomic.remove_leftovers(journal.folder)
        for plan in (*journal.plans(".doing.json"), *reversed(journal.plans(".undoing.json"))):
            content = journal.content(plan)
            if not (foreign or seal.is_own(data, content)):
                said.append(
                    f"batch {number_of(plan)}: {command_of(plan)} by {seal.author(content)} was interrupted and is left as it "
                    f"is; if you trust it, finish it with {state_folder.command('clean', data, '--recover')}"
                )
            elif plan.endswith(".doing.json"):
                said.append(_keep_made(journal, plan))
            else:
                failures = _carry_out(journal, plan, forward=False)
                said.append(f"finished an interrupted undo of {command_of(plan)}" + _not_moved(failures))
    return said


def _keep_made(journal: "Journal", plan: str) -> str:
    """Drop the moves of an interrupted plan that were not made yet, and say what is left."""
    made = [move for move in journal.read(plan) if _is_made(journal.root, move)]
    if not made:
        journal.remove(plan)
        return f"an interrupted {command_of(plan)} had moved no file yet"
    journal.write(plan, made)
    journal.rename(plan, ".done.json")
    return f"files that an interrupted {command_of(plan)} had moved: {len(made)}; they stay moved, and --undo takes them back"


def _way_back(data: Path, move: Move) -> tuple[str, str]:
    """(where the file of a move that is taken back lies, where it goes), if the disk has come to spell names otherwise.

    The name that it gets is as it was: another file may bear the other spelling.
    """
    folder, slash, name = move.target.rpartition("/")
    target = f"{names.spelled(data, folder)}{slash}{name}"
    return move.source if os.path.lexists(data / target) else names.spelled(data, move.source), target


def _move_back(root: Folder, source: str, target: str, move: Move) -> str:
    """Take a move back; "" or why not. What lies in quarantine is always what was moved there."""
    there = contained.status(root, target)
    if there and contained.status(root, source) is None and is_another(there, move.mark):
        return moving.GONE
    is_sure = move.source.startswith(f"{STATE_NAME}/") and source.rpartition("/")[2] == move.source.rpartition("/")[2]
    return moving.move(
        (root, source),
        (root, target),
        lambda status: "" if is_sure or not is_another(status, move.mark) else "another file lies there now",
    )


def _is_made(root: Folder, move: Move) -> bool:
    """Whether a move was made, which ends one that was killed between giving the new name and taking the old one."""
    if contained.status(root, move.target) is None:
        return False
    moving.move((root, move.source), (root, move.target))  # only takes the old name, if both are names of one file
    return True  # even when the source is there again: then it is a new file, and an undo will say so


def _not_moved(failures: list[Failure]) -> str:
    if not failures:
        return ""
    return f"; {len(failures)} not moved, first {failures[0].move.source!r}: {failures[0].reason}"


def _carry_out(journal: Journal, plan: str, *, forward: bool) -> list[Failure]:
    """Make every move of the plan that is not made yet; safe to call again after a kill."""
    moves = journal.read(plan)
    if not forward:
        moves = [move.back() for move in reversed(moves)]
    failures = []
    for move in moves:
        reason = _move(journal.root, move) if forward else _move_back(journal.root, *_way_back(journal.data, move), move)
        if reason:
            failures.append(Failure(move, reason))
        elif not forward:
            _remove_empty_parents(journal.root, move.source)
    if failures:
        # What was not moved needs no undo, and what could not be taken back is left for a later one.
        lost = {failure.move for failure in failures}
        remaining = [move for move in moves if (move in lost) != forward]
        if not remaining:
            journal.remove(plan)
            return failures
        journal.write(plan, remaining if forward else [move.back() for move in reversed(remaining)])
    journal.rename(plan, ".done.json" if forward or failures else ".undone.json")
    return failures


def _move(root: Folder, move: Move) -> str:
    """Make a move of a file that is as it was when it was planned; "" or why not."""
    return moving.move(
        (root, move.source), (root, move.target), lambda status: "" if mark(status) == move.mark else "changed meanwhile"
    )


def _remove_empty_parents(root: Folder, path: str) -> None:
    """Remove the quarantine folders that an undo emptied."""
    pieces = path.split("/")[:-1]
    while pieces[:2] == [STATE_NAME, "quarantine"]:  # a class may have that name
        try:
            with root.below(*pieces[:-1]) as folder:
                folder.rmdir(pieces[-1])
        except (OSError, ImgclfError):
            return
        pieces.pop()
