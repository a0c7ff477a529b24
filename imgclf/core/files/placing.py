"""Files into the class folders of a folder, moved or linked: planned ahead, never over another file, taken back by `undo`.

A plan, `.imgclf/sorted/0001.json` in the folder, is on disk before its first file is placed, and says where each came from.
It is not crossed off: what was made of it is seen from the disk, whenever a command was killed.
"""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from imgclf.core import names
from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic, contained, locks, moving, plans, seal
from imgclf.core.files.contained import Folder
from imgclf.core.files.links import LinkError, is_component
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.remedies import why

How = Literal["move", "link"]
_PATIENCE = 20.0  # seconds that another command may hold the folder


@dataclasses.dataclass
class Placed:
    """labels: how many files came into which class folder; there: how many lay there; problems: (file, why it was left)."""

    labels: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    there: int = 0
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _File:
    """One file's way: from an absolute path to one below the folder. mark: what the system said of it, as in the journal."""

    source: str
    target: str
    mark: str


def place(folder: Path, wishes: Sequence[tuple[str, str]], how: How) -> Placed:
    """Carry out (file, label) wishes: to folder/label/name, or name-2 and so on where that is taken.

    Raises ImgclfError when another command holds the folder for long.
    """
    done = Placed()
    if not wishes:
        return done
    contained.make_folder(folder / STATE_NAME / "sorted")
    with _held(folder), Folder.named(folder) as root:
        planned: dict[str, tuple[str, str]] = {}  # target: the file's name as given, its label
        files: dict[str, _File] = {}
        for name, label in wishes:
            source = _whole(name)
            problem = _problem(source, how)
            if problem:
                done.problems.append((name, problem))
            elif source in files or not (target := _free(source, root, label, planned)):
                done.there += 1
            else:
                planned[target] = (name, label)
                files[source] = _File(source, target, plans.mark(_status(source)))
        if files:
            number = 1 + max((int(path.stem) for path in _plans(folder)), default=0)
            _write(folder, f"{number:04d}.json", how, list(files.values()))
        for file in files.values():
            name, label = planned[file.target]
            reason = (_move if how == "move" else _link)(file, root)
            if reason:
                done.problems.append((name, reason))
            else:
                done.labels[label] += 1
    return done


class _held:
    """The folder, for one command; waits a while for another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        until = time.monotonic() + _PATIENCE
        while True:
            self.lock = locks.locked(self.folder / ".imgclf", "predict")
            try:
                self.lock.__enter__()
                return
            except locks.InUseError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def __exit__(self, *details: Any) -> None:
        self.lock.__exit__(*details)


def _whole(name: str) -> str:
    """The absolute path of a file, which may be a link itself; of folders on the way no link is left."""
    folder, base = os.path.split(name)
    return os.path.join(os.path.realpath(folder or "."), base)


def _problem(source: str, how: How) -> str:
    if not os.path.lexists(source):
        return "no longer there"
    if how == "move" and os.path.islink(source):
        return "a symbolic link, which would lead nowhere from another folder; --link-to can place it"
    return ""


def _free(source: str, root: Folder, label: str, planned: dict[str, tuple[str, str]]) -> str:
    """A path below the folder that neither exists nor is planned; "" when the file lies there already, under any such name."""
    stem, ending = os.path.splitext(os.path.basename(source))
    label = names.spelled(root.path, label)

    def is_there(target: str) -> bool:
        return os.path.exists(root.path / target) and os.path.samefile(root.path / target, source)

    def is_taken(target: str) -> bool:
        return not is_there(target) and (target in planned or contained.status(root, target) is not None)

    target = names.free(f"{label}/{stem}", ending, is_taken)
    return "" if is_there(target) else target


@contextlib.contextmanager
def _disk(source: str) -> Iterator[tuple[Folder, str]]:
    """(the top of the disk, the path below it) of an absolute path, which is reached without following links."""
    path = Path(source)
    with Folder.named(Path(path.anchor)) as top:
        yield top, "/".join(path.parts[1:])


def _status(source: str) -> os.stat_result | None:
    with _disk(source) as place:
        return contained.status(*place)


def _move(file: _File, root: Folder) -> str:
    with _disk(file.source) as source:
        reason = moving.move(
            source, (root, file.target), lambda status: "" if plans.mark(status) == file.mark else "changed meanwhile"
        )
    return (
        "on another disk; choose a folder on the same disk as the photos, or use --link-to"
        if reason.startswith(_ELSEWHERE)
        else reason
    )


_ELSEWHERE = os.strerror(errno.EXDEV)


def _link(file: _File, root: Folder) -> str:
    """A hard link, or a symbolic one where the disk has none or is another."""
    real = os.path.realpath(file.source)
    try:
        with contained.parent(root, file.target, make=True) as (there, new), _disk(real) as place:
            try:
                with contained.parent(*place) as (here, name):
                    here.link(name, there, new)
            except (OSError, NotImplementedError) as error:
                if isinstance(error, FileExistsError):
                    raise
                there.symlink(real, new)
    except LinkError as error:
        return error.reason
    except OSError as error:
        return why(error)
    return ""


def undo(folder: Path, *, foreign: bool = False) -> tuple[list[str], list[tuple[str, str]]]:
    """Take back all that was placed in a folder, the newest first: files go back, links go.

    foreign: also carry out plans of other users and machines, which otherwise are only named. Returns the files that went back
    or the links that went, and (file, why it stays) for the others. A link whose file is gone stays, since it may be the last;
    so does a file that is not the one that was placed. Raises ImgclfError when nothing was placed there.
    """
    if not _plans(folder):
        raise ImgclfError(f"{folder}: nothing was sorted into this folder, or all was taken back")
    back: list[str] = []
    problems: list[tuple[str, str]] = []
    with _held(folder), Folder.named(folder) as root:
        for plan in reversed(_plans(folder)):
            content, how, files = _read(plan)
            is_own = seal.is_own(folder, content)
            if not (is_own or foreign):
                problems.append((str(plan), _waits(content, files)))
                continue
            stay = []
            for file in reversed(files):
                reason = _move_back(file, root, back, is_own) if how == "move" else _unlink(file, root, back)
                if reason:
                    stay.append(file)
                    problems.append((str(folder / file.target), reason))
            if stay:
                _write(folder, plan.name, how, stay[::-1])
            else:
                with contained.at(plan.parent) as plans:
                    plans.unlink(plan.name)
    return back, problems


def _waits(content: Mapping[str, Any], files: Sequence[_File]) -> str:
    """Why a plan is left as it is, and where its files would go."""
    places = sorted({os.path.dirname(file.source) for file in files})
    more = ", ..." if len(places) > 3 else ""
    return (
        f"made by {seal.author(content)}; it would put files back into {', '.join(places[:3])}{more} ({len(files):,}); "
        "if you trust it, add --recover"
    )


def _move_back(file: _File, root: Folder, back: list[str], is_own: bool) -> str:
    there, before = contained.status(root, file.target), _status(file.source)
    if there is None:
        return "" if before else f"no longer there; it came from {file.source}"
    if not _is_it(file, there, is_own):
        return f"not the file that was placed, which came from {file.source}; it stays"
    if before and not os.path.samestat(before, there):
        return f"{file.source} exists already; make way for it and undo again"
    with _disk(file.source) as target:
        reason = moving.move(
            (root, file.target), target, lambda status: "" if _is_it(file, status, is_own) else "changed meanwhile"
        )
    if not reason:
        back.append(file.source)
    return reason


def _is_it(file: _File, status: os.stat_result, is_own: bool) -> bool:
    """Whether a file is the one that was placed: of the same size and time, and of the same number where that matters.

    On some disks the numbers change. Nothing that somebody else placed goes to a hidden place.
    """
    inode, _, rest = file.mark.partition(" ")
    now_inode, _, now_rest = plans.mark(status).partition(" ")
    is_hidden = any(part.startswith(".") for part in Path(file.source).parts)
    return bool(rest) and now_rest == rest and (not is_hidden or (is_own and now_inode == inode))


def _unlink(file: _File, root: Folder, back: list[str]) -> str:
    target = root.path / file.target
    try:
        with contained.parent(root, file.target) as (folder, name):
            if folder.status(name) is None:
                return "no longer there" if os.path.lexists(file.source) else ""
            place = os.path.join(os.path.realpath(target.parent), target.name)
            try:
                is_link = os.path.samefile(file.source, target) and os.path.realpath(file.source) != place
            except OSError:
                is_link = False
            if not is_link:
                return "no longer the link that was placed, or what it was linked to is gone; it stays"
            folder.unlink(name)
    except FileNotFoundError:
        return ""
    except LinkError as error:
        return error.reason
    back.append(str(target))
    return ""


def _plans(folder: Path) -> list[Path]:
    found = (path for path in (folder / ".imgclf" / "sorted").glob("*.json") if path.stem.isdecimal())
    return sorted(found, key=lambda path: int(path.stem))  # --watch makes one a round: there may be more than 9999


def _write(folder: Path, plan: str, how: How, files: Sequence[_File]) -> None:
    content = {"format": 2, "how": how, "files": [dataclasses.astuple(file) for file in files]}
    # ASCII JSON carries names that are not valid UTF-8 as surrogate escapes, there and back unchanged.
    text = json.dumps(seal.sealed(folder, content), indent=0).encode("ascii")
    atomic.write_atomic(folder / STATE_NAME / "sorted" / plan, text)


def _read(plan: Path) -> tuple[dict[str, Any], How, list[_File]]:
    try:
        with contained.at(plan.parent) as folder:
            content = json.loads(folder.read(plan.name, plans.MOST))
        files = [_File(*map(str, file)) for file in content["files"]]
        how: How = {"move": "move", "link": "link"}[content["how"]]  # type: ignore[assignment]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImgclfError(f"{plan}: this plan is damaged ({error}); what it placed is in the folders beside it") from error
    for file in files:
        pieces = file.target.split("/")
        is_named = all(map(is_component, (*pieces, *Path(file.source).parts[1:])))
        is_below = is_named and not any(piece.startswith(".") for piece in pieces[:-1])
        if not is_below or not os.path.isabs(file.source) or os.path.normpath(file.source) != file.source:
            raise ImgclfError(f"{plan}: this plan leads out of its folder; it was not written by imgclf")
    return content, how, files
