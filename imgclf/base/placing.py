"""Files into the class folders of a folder, moved or linked: planned ahead, never over another file, taken back by `undo`.

A plan, `.imgclf/sorted/0001.json` in the folder, is on disk before its first file is placed, and says where each came from.
It is not crossed off: what was made of it is seen from the disk, whenever a command was killed.
"""

import collections
import dataclasses
import errno
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from imgclf.base import journal, locks, names, permissions, writing
from imgclf.base.errors import ImgclfError
from imgclf.base.remedies import why

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
    plans = folder / ".imgclf" / "sorted"
    permissions.make_folder(plans)
    with _held(folder):
        planned: dict[str, tuple[str, str]] = {}  # target: the file's name as given, its label
        files: dict[str, _File] = {}
        for name, label in wishes:
            source = _whole(name)
            problem = _problem(source, how)
            if problem:
                done.problems.append((name, problem))
            elif source in files or not (target := _free(source, folder, label, planned)):
                done.there += 1
            else:
                planned[target] = (name, label)
                files[source] = _File(source, target, journal.mark(Path(source)))
        if files:
            number = 1 + max((int(path.stem) for path in _plans(folder)), default=0)
            _write(plans / f"{number:04d}.json", how, list(files.values()))
        for file in files.values():
            name, label = planned[file.target]
            reason = (_move if how == "move" else _link)(file.source, folder / file.target)
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
            except ImgclfError:
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
        return "no file of its own (it came from an archive or a pipe, or is gone)"
    if how == "move" and os.path.islink(source):
        return "a symbolic link, which would lead nowhere from another folder; --link-to can place it"
    return ""


def _free(source: str, folder: Path, label: str, planned: dict[str, tuple[str, str]]) -> str:
    """A path below the folder that neither exists nor is planned; "" when the file lies there already, under any such name."""
    stem, ending = os.path.splitext(os.path.basename(source))
    label = names.spelled(folder, label)
    target, number = f"{label}/{stem}{ending}", 1
    while target in planned or os.path.lexists(folder / target):
        if os.path.exists(folder / target) and os.path.samefile(folder / target, source):
            return ""
        number += 1
        target = f"{label}/{stem}-{number}{ending}"
    return target


def _move(source: str, target: Path) -> str:
    reason = journal.move_file(Path(source), target)
    return (
        "on another disk; choose a folder on the same disk as the photos, or use --link-to"
        if reason.startswith(_ELSEWHERE)
        else reason
    )


_ELSEWHERE = os.strerror(errno.EXDEV)


def _link(source: str, target: Path) -> str:
    """A hard link, or a symbolic one where the disk has none or is another."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(os.path.realpath(source), target)
        except (OSError, NotImplementedError) as error:
            if isinstance(error, FileExistsError):
                raise
            os.symlink(os.path.realpath(source), target)
    except OSError as error:
        return why(error)
    return ""


def undo(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Take back all that was placed in a folder, the newest first: files go back, links go.

    Returns the files that went back or the links that went, and (file, why it stays) for the others. A link whose file is gone
    stays, since it may be the last; so does a file that is not the one that was placed. Raises ImgclfError when nothing was
    placed there.
    """
    if not _plans(folder):
        raise ImgclfError(f"{folder}: nothing was sorted into this folder, or all was taken back")
    back: list[str] = []
    problems: list[tuple[str, str]] = []
    with _held(folder):
        for plan in reversed(_plans(folder)):
            how, files = _read(plan)
            stay = []
            for file in reversed(files):
                reason = (_move_back if how == "move" else _unlink)(file, folder / file.target, back)
                if reason:
                    stay.append(file)
                    problems.append((str(folder / file.target), reason))
            if stay:
                _write(plan, how, stay[::-1])
            else:
                plan.unlink()
    return back, problems


def _move_back(file: _File, target: Path, back: list[str]) -> str:
    source = Path(file.source)
    if not os.path.lexists(target):
        return "" if os.path.lexists(source) else f"no longer there; it came from {source}"
    if not _is_it(file, target):
        return f"not the file that was placed, which came from {source}; it stays"
    if os.path.lexists(source) and not os.path.samestat(os.lstat(source), os.lstat(target)):
        return f"{source} exists already; make way for it and undo again"
    reason = journal.move_file(target, source)
    if not reason:
        back.append(str(source))
    return reason


def _is_it(file: _File, target: Path) -> bool:
    """Whether a file is the one that was placed: by its number in the file system, or by size and time where those change.

    The plan may have come with somebody else's folder: then the numbers do not fit, and nothing goes to a hidden place.
    """
    inode, _, rest = file.mark.partition(" ")
    now_inode, _, now_rest = journal.mark(target).partition(" ")
    is_hidden = any(part.startswith(".") for part in Path(file.source).parts)
    return bool(rest) and now_rest == rest and (now_inode == inode or not is_hidden)


def _unlink(file: _File, target: Path, back: list[str]) -> str:
    if not os.path.lexists(target):
        return "" if not os.path.lexists(target.parent) or not os.path.lexists(file.source) else "no longer there"
    place = os.path.join(os.path.realpath(target.parent), target.name)
    try:
        is_link = os.path.samefile(file.source, target) and os.path.realpath(file.source) != place
    except OSError:
        is_link = False
    if not is_link:
        return "no longer the link that was placed, or what it was linked to is gone; it stays"
    target.unlink()
    back.append(str(target))
    return ""


def _plans(folder: Path) -> list[Path]:
    found = (path for path in (folder / ".imgclf" / "sorted").glob("*.json") if path.stem.isdecimal())
    return sorted(found, key=lambda path: int(path.stem))  # --watch makes one a round: there may be more than 9999


def _write(plan: Path, how: How, files: Sequence[_File]) -> None:
    content = {"format": 1, "how": how, "files": [dataclasses.astuple(file) for file in files]}
    # ASCII JSON carries names that are not valid UTF-8 as surrogate escapes, there and back unchanged.
    writing.write_atomic(plan, json.dumps(content, indent=0).encode("ascii"))


def _read(plan: Path) -> tuple[How, list[_File]]:
    try:
        content = json.loads(plan.read_bytes())
        files = [_File(*map(str, file)) for file in content["files"]]
        how: How = {"move": "move", "link": "link"}[content["how"]]  # type: ignore[assignment]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImgclfError(f"{plan}: this plan is damaged ({error}); what it placed is in the folders beside it") from error
    for file in files:
        if not os.path.isabs(file.source) or os.path.isabs(file.target) or ".." in Path(file.target).parts:
            raise ImgclfError(f"{plan}: this plan leads out of its folder; it was not written by imgclf")
    return how, files
