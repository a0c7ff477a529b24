"""Undo operations of the journal: files go back, links go, nothing is overwritten."""

import dataclasses
import os
from pathlib import Path

from imgclf.core import names
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained, linking, moving
from imgclf.core.files.contained import Folder
from imgclf.core.files.journal import Journal, opened
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.plans import Command, Failure, Move, Plan, command_of, is_moved_file, is_of, number_of


def undo_operations(
    data: Path, state: Path, number: int | None = None, *, command: Command = "clean", foreign: bool = False
) -> tuple[list[Move], list[Failure]]:
    """Undo the operations of a command that are done, the newest first, or the one with this number.

    foreign: also put files outside the folder that other users or machines moved in, which is otherwise a failure.
    Returns the moves as made now (to "" for a link that was removed), and those that failed. Raises ImgclfError when there is
    no such operation to undo.
    """
    made: list[Move] = []
    failed: list[Failure] = []
    with opened(data, state) as journal:
        plans = [journal.read(name) for name in journal.names(".done.json") if is_of(name, command)][::-1]
        if number is not None:
            plans = [plan for plan in plans if number_of(plan.name) == number]
            if not plans:
                raise no_operation(state, number)
        for plan in plans:
            if plan.leaves_folder and not (plan.is_own or foreign):
                failed.append(Failure(Move(f"{STATE_NAME}/journal/{plan.name}", ""), _waits(plan)))
                continue
            failures = carry_back(journal, journal.rename(plan.name, ".undoing.json"))
            failed += [dataclasses.replace(failure, reason=_later(journal, plan.name, failure)) for failure in failures]
            lost = {failure.move for failure in failures}
            back = [move.back() for move in plan.moves]
            made += [
                dataclasses.replace(one, target="" if plan.how == "link" else one.target) for one in back if one not in lost
            ]
    return made, failed


def no_operation(state: Path, number: int) -> ImgclfError:
    return ImgclfError(f"{state}: no operation {number} to undo; --history lists them")


def _waits(plan: Plan) -> str:
    """Why the plan of someone else is not carried out, and where its files would go."""
    places = sorted({os.path.dirname(move.source) for move in plan.moves})
    more = ", ..." if len(places) > 3 else ""
    return (
        f"made by {plan.author}; it would put files back into {', '.join(places[:3])}{more} "
        f"({len(plan.moves):,}); if you trust it, add --recover"
    )


def _later(journal: Journal, name: str, failure: Failure) -> str:
    """Why a file could not go back, and what to do: a later operation may have moved it on."""
    for other in reversed(journal.names(".done.json")):
        if number_of(other) > number_of(name) and failure.move.source in {move.source for move in journal.read(other).moves}:
            return f"operation {number_of(other)} ({command_of(other)}) moved it again; undo that first"
    return f"{failure.reason}; move that file and undo again" if "exists" in failure.reason else failure.reason


def carry_back(journal: Journal, name: str) -> list[Failure]:
    """Undo every move of a plan, the last one first; safe to call again after a kill. A move that fails stays in the plan."""
    plan = journal.read(name)
    failures = []
    for move in reversed(plan.moves):
        reason = _move_back(journal, move, plan) if plan.how == "move" else _unlink(journal, move)
        if reason:
            failures.append(Failure(move.back(), reason))
        else:
            _remove_empty_parents(journal.root, move.target)
    if failures:
        lost = {failure.move for failure in failures}
        journal.write(name, plan.how, [move for move in plan.moves if move.back() in lost])
    journal.rename(name, ".done.json" if failures else ".undone.json")
    return failures


def _unlink(journal: Journal, move: Move) -> str:
    return linking.unlink(journal.root, move.source, move.target)


def _move_back(journal: Journal, move: Move, plan: Plan) -> str:
    """Take a move back; "" or why not. A file in quarantine is always the one that was moved there."""
    lies, goes = _way_back(journal.data, move)
    is_sure = lies.startswith(f"{STATE_NAME}/") and lies.rpartition("/")[2] == move.source.rpartition("/")[2]

    def refused(status: os.stat_result) -> str:
        is_it = is_sure or is_moved_file(status, move, is_own=plan.is_own)
        return "" if is_it else "another file is there now"

    with journal.place(goes) as target:
        there = contained.status(*target)
        if there and contained.status(journal.root, lies) is None and not is_moved_file(there, move, is_own=plan.is_own):
            return moving.GONE
        return moving.move((journal.root, lies), target, refused)


def _way_back(data: Path, move: Move) -> tuple[str, str]:
    """(where a moved file lies, where it goes), if the disk now spells names in another Unicode form.

    The name that the file gets is as it was: another file may have the other spelling.
    """
    if os.path.isabs(move.source):
        return move.target, move.source
    folder, slash, name = move.source.rpartition("/")
    goes = f"{names.spelled(data, folder)}{slash}{name}"
    return move.target if os.path.lexists(data / goes) else names.spelled(data, move.target), goes


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
