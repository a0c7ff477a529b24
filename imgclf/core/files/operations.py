"""Operations: sets of moves that can be undone and survive a kill.

The moves of an operation are first written as a plan, `journal/0001-clean.doing.json`, and flushed to disk. Only then are
files moved, one by one, and at the end the plan is renamed to `.done.json`. An undo renames it to `.undoing.json`, moves the
files back, and ends at `.undone.json`. Whenever a command is killed, the name of the plan says what to finish, and the disk
says which moves were made. `clean` moves files within the folder of the journal, `predict --move-to` moves them into it.
"""

import contextlib
import dataclasses
import shlex
from collections.abc import Iterable
from pathlib import Path

from imgclf.core.files import atomic, contained, linking, moving, state_folder
from imgclf.core.files.journal import Journal, opened
from imgclf.core.files.plans import DIGITS, PLAN, Command, Failure, How, Move, Plan, command_of, is_of, mark, number_of
from imgclf.core.files.undo import carry_back


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation in the journal: its number, when (UTC) and by which command, its state, and its moves.

    state: done, undone, or interrupted, in which case only the moves that were made are given.
    """

    number: int
    time: str
    command: str
    state: str
    moves: tuple[Move, ...]


def apply(data: Path, state: Path, command: str, moves: Iterable[Move], how: How = "move") -> list[Failure]:
    """Write the plan, carry it out, and return the moves that could not be made."""
    with opened(data, state, make=True) as journal:
        planned = [dataclasses.replace(one, mark=mark(journal.status(one.source))) for one in moves]
        failures = [Failure(one, moving.GONE) for one in planned if not one.mark]
        planned = [one for one in planned if one.mark]
        if not planned:
            return failures
        name = f"{next_number(state):04d}-{command}.doing.json"
        journal.write(name, how, planned)
        return failures + _carry_out(journal, name)


def next_number(state: Path) -> int:
    """The number of the next operation."""
    numbers = [0]
    for name, pattern in (("journal", PLAN), ("quarantine", DIGITS)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), contained.at(state / name) as folder:
            numbers += [number_of(entry) for entry in folder.names() if pattern.fullmatch(entry)]
    return 1 + max(numbers)


def history(data: Path, state: Path) -> list[Operation]:
    """Every operation that was carried out, the oldest first."""
    operations = []
    with opened(data, state) as journal:
        for name in journal.names():
            plan = journal.read(name)
            word = {"done": "done", "undone": "undone"}.get(name.split(".")[1], "interrupted")
            moves = plan.moves
            if word == "interrupted":
                moves = tuple(move for move in moves if contained.status(journal.root, move.target))
            operations.append(Operation(number_of(name), plan.time, command_of(name), word, moves))
    return operations


def remaining(data: Path, state: Path, command: Command) -> list[Path]:
    """Plans of a command that are not undone, from their names alone."""
    if not (state / "journal").is_dir():
        return []
    with opened(data, state) as journal:
        names = journal.names(".doing.json", ".done.json", ".undoing.json")
        return [state / "journal" / name for name in names if is_of(name, command)]


def recover(data: Path, state: Path, *, foreign: bool = False, command: Command | None = None) -> list[str]:
    """Tidy up after a killed command, and report it in one line each; the caller holds the lock.

    Moves that were made stay made (and can be undone). Moves that were only planned are dropped, because the files may have
    changed. An interrupted undo is finished. foreign: also do this for plans of other users and machines, which otherwise are
    only named: they may have come with the folder. If such a plan would put files outside the folder, it counts as done from
    then on, unchanged: only `predict --undo --recover` carries it out. command: only for the operations of this command.
    """
    notes = []
    with opened(data, state) as journal:
        if journal.folder:
            atomic.remove_leftovers(journal.folder)
        for name in (*journal.names(".doing.json"), *reversed(journal.names(".undoing.json"))):
            if command and not is_of(name, command):
                continue
            plan, number = journal.read(name), number_of(name)
            if not (foreign or plan.is_own):
                notes.append(
                    f"operation {number}: {command_of(name)} by {plan.author} was interrupted and is left as it "
                    f"is; if you trust it, finish it with {state_folder.command('clean', data, '--recover')}"
                )
            elif plan.leaves_folder and not plan.is_own:  # written anew, it would have our seal
                journal.rename(name, ".done.json")
                notes.append(
                    f"operation {number}: {command_of(name)} by {plan.author} counts as done; if you trust it, undo it with "
                    f"`imgclf predict --undo {shlex.quote(str(data))} --recover`"
                )
            elif name.endswith(".doing.json"):
                notes.append(_keep_made(journal, plan))
            else:
                failures = carry_back(journal, name)
                notes.append(f"finished an interrupted undo of {command_of(name)}" + _not_moved(failures))
    return notes


def _keep_made(journal: Journal, plan: Plan) -> str:
    """Drop the moves of an interrupted plan that were not made yet, and report what is left."""
    command = command_of(plan.name)
    made = [move for move in plan.moves if _is_made(journal, plan, move)]
    if not made:
        journal.remove(plan.name)
        return f"an interrupted {command} had moved no file yet"
    journal.write(plan.name, plan.how, made)
    journal.rename(plan.name, ".done.json")
    return f"files that an interrupted {command} had moved: {len(made)}; they stay moved, and --undo takes them back"


def _is_made(journal: Journal, plan: Plan, move: Move) -> bool:
    """Whether a move was made. Ends one that was killed between giving the new name and taking the old one."""
    if contained.status(journal.root, move.target) is None:
        return False
    if plan.how == "move":
        with journal.place(move.source) as source:
            moving.move(source, (journal.root, move.target))  # only takes the old name, if both are names of one file
    return True  # even when the source is there again: then it is a new file, and an undo will report it


def _not_moved(failures: list[Failure]) -> str:
    if not failures:
        return ""
    return f"; {len(failures)} not moved, first {failures[0].move.source!r}: {failures[0].reason}"


def _carry_out(journal: Journal, name: str) -> list[Failure]:
    """Make every move of a plan; those that fail are taken out of it."""
    plan = journal.read(name)
    made = _move if plan.how == "move" else _link
    failures = [Failure(move, reason) for move in plan.moves if (reason := made(journal, move))]
    if failures:
        lost = {failure.move for failure in failures}
        remaining = [move for move in plan.moves if move not in lost]
        if not remaining:
            journal.remove(name)
            return failures
        journal.write(name, plan.how, remaining)
    journal.rename(name, ".done.json")
    return failures


def _move(journal: Journal, move: Move) -> str:
    """Make a move of a file that is as it was when it was planned; "" or why not."""
    with journal.place(move.source) as source:
        target = journal.root, move.target
        return moving.move(source, target, lambda status: "" if mark(status) == move.mark else "changed meanwhile")


def _link(journal: Journal, move: Move) -> str:
    return linking.link(journal, move.source, move.target)
