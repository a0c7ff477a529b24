"""Undo moves, finish interrupted ones, and list them."""

from pathlib import Path

from imgclf.core.errors import ImgclfError
from imgclf.core.files import locks, operations
from imgclf.core.files.paths import STATE_NAME, StrPath
from imgclf.core.files.state_folder import is_inside, not_writable, state_folder
from imgclf.core.files.undo import no_operation, undo_operations


def undo(data: StrPath, number: int | None = None, *, dry_run: bool = False) -> tuple[list[str], list[str], list[str]]:
    """Put every file that clean moved back where it was, or those of one operation of `history`.

    Args:
        number: Of the operation; None for all of them.
        dry_run: Return the paths and move nothing.

    Returns:
        The restored paths, a line for each file that could not be restored, and notes.
    """
    data = Path(data)
    state = state_folder(data)
    if not dry_run and not is_inside(state, data) and operations.history(data, data / STATE_NAME):
        raise ImgclfError(not_writable(data, "nothing can be moved back"))
    with locks.locked(state, "clean --undo"):
        if dry_run:
            found = [one for one in history(data) if one.state != "undone" and one.command != "predict"]
            found = [one for one in found if number in (None, one.number)]
            if number is not None and not found:
                raise no_operation(state, number)
            return [move.source for one in reversed(found) for move in reversed(one.moves)], [], []
        notes = operations.recover(data, state)
        made, failed = undo_operations(data, state, number)
    problems = [f"{failure.move.source} cannot be moved back to {failure.move.target}: {failure.reason}" for failure in failed]
    return [move.target for move in made], problems, notes


def recover(data: Path) -> list[str]:
    """Finish interrupted operations, those of other users and machines too; return one line for each.

    Raises ImgclfError if no operation was interrupted.
    """
    state = state_folder(data)
    if not is_inside(state, data):
        raise ImgclfError(not_writable(data, "nothing can be moved"))
    with locks.locked(state, "clean --recover"):
        notes = operations.recover(data, state, foreign=True)
    if not notes:
        raise ImgclfError(f"{data}: no command was interrupted here, so there is nothing to recover")
    return notes


def history(data: Path) -> list[operations.Operation]:
    """Return every operation in the folder, the oldest first, those of `predict --move-to` too."""
    return operations.history(data, _journal(data))


def _journal(data: Path) -> Path:
    """Return the folder of the journal. The journal of a folder that has become read-only still counts."""
    inside = data / STATE_NAME
    return inside if (inside / "journal").is_dir() else state_folder(data)
