"""Place files in the class folders of a folder, moved or linked, by its journal: never over another file, undone by `undo`."""

import collections
import contextlib
import dataclasses
import errno
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgclf.core import names
from imgclf.core.errors import ImgclfError
from imgclf.core.files import contained, locks, operations
from imgclf.core.files.contained import Folder
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.plans import Failure, How, Move
from imgclf.core.files.undo import undo_operations

_PATIENCE = 20.0  # seconds to wait for another command that uses the folder
_ELSEWHERE = os.strerror(errno.EXDEV)


@dataclasses.dataclass
class Placed:
    """labels: number of files placed, by class folder; there: files that were there already; problems: (file, why it stays)."""

    labels: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    there: int = 0
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def place(folder: Path, wishes: Sequence[tuple[str, str]], how: How) -> Placed:
    """Carry out (file, label) wishes: to folder/label/name, or name-2 and so on if that exists.

    Raises ImgclfError when another command uses the folder for long.
    """
    done = Placed()
    if not wishes:
        return done
    state = folder / STATE_NAME
    contained.make_folder(state)
    planned: dict[str, tuple[str, str]] = {}  # target: the file's name as given, its label
    moves: dict[str, Move] = {}  # by source
    with _held(folder):
        operations.recover(folder, state, command="predict")
        with Folder.named(folder) as root:
            for name, label in wishes:
                source = _whole(name)
                problem = _problem(source, how)
                if problem:
                    done.problems.append((name, problem))
                elif source in moves or not (target := _free(source, root, label, planned)):
                    done.there += 1
                else:
                    planned[target] = (name, label)
                    moves[source] = Move(source, target)
        failed = (
            {one.move: one.reason for one in operations.apply(folder, state, "predict", moves.values(), how)} if moves else {}
        )
    for move in moves.values():
        name, label = planned[move.target]
        if reason := failed.get(move):
            done.problems.append((name, _elsewhere() if reason.startswith(_ELSEWHERE) else reason))
        else:
            done.labels[label] += 1
    return done


def _elsewhere() -> str:
    return "on another disk; choose a folder on the same disk as the images, or use --link-to"


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder, and wait a while if another command uses it."""
    until = time.monotonic() + _PATIENCE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locks.locked(folder / STATE_NAME, "predict"))
                break
            except locks.InUseError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield


def _whole(name: str) -> str:
    """The absolute path of a file, which may itself be a link. The folders on the way are resolved."""
    folder, base = os.path.split(name)
    return os.path.join(os.path.realpath(folder or "."), base)


def _problem(source: str, how: How) -> str:
    if not os.path.lexists(source):
        return "no longer there"
    if how == "move" and os.path.islink(source):
        return "a symbolic link, which would lead nowhere from another folder; --link-to can place it"
    return ""


def _free(source: str, root: Folder, label: str, planned: dict[str, tuple[str, str]]) -> str:
    """A path below the folder that neither exists nor is planned; "" if the file is there already, under any such name."""
    stem, ending = os.path.splitext(os.path.basename(source))
    label = names.spelled(root.path, label)

    def is_there(target: str) -> bool:
        return target not in planned and os.path.exists(root.path / target) and os.path.samefile(root.path / target, source)

    def is_taken(target: str) -> bool:
        return target in planned or (contained.status(root, target) is not None and not is_there(target))

    target = names.free(f"{label}/{stem}", ending, is_taken)
    return "" if is_there(target) else target


def undo(folder: Path, *, foreign: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """Undo all placing in a folder, the newest first: files go back, links go.

    foreign: also for operations of other users and machines, which otherwise are only named. Returns the files that went back
    or the links that went, and (file, why it stays) for the others. A link whose file is gone stays, because it may be the last
    name; so does a file that is not the one that was placed. Raises ImgclfError when nothing was placed there.
    """
    state = folder / STATE_NAME
    if not operations.remaining(folder, state, "predict"):
        raise ImgclfError(f"{folder}: nothing was sorted into this folder, or all was taken back")
    with _held(folder):
        operations.recover(folder, state, foreign=foreign, command="predict")
        made, failed = undo_operations(folder, state, command="predict", foreign=foreign)
        interrupted = [plan for plan in operations.remaining(folder, state, "predict") if not plan.name.endswith(".done.json")]
    waiting = [(str(plan), "interrupted, and made by someone else; if you trust it, add --recover") for plan in interrupted]
    back = [move.target or str(folder / move.source) for move in made]
    return back, waiting + [(str(folder / one.move.source), _stays(one)) for one in failed]


def _stays(failure: Failure) -> str:
    return f"{failure.reason}; it came from {failure.move.target}" if failure.move.target else failure.reason
