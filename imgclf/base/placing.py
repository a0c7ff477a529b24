"""Files into the class folders of a folder, moved or linked: planned ahead, never over another file, taken back by `undo`."""

import collections
import dataclasses
import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from imgclf.base import journal
from imgclf.base.errors import ImgclfError

How = Literal["move", "link"]
STATE = (
    ".imgclf"  # in the folder; paths in its journal are from the root of the file system on, for files may come from anywhere
)


@dataclasses.dataclass
class Placed:
    """labels: how many files came into which class folder; there: how many lay there; problems: (file, why it was left)."""

    labels: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    there: int = 0
    problems: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def place(folder: Path, wishes: Sequence[tuple[str, str]], how: How) -> Placed:
    """Carry out (file, label) wishes: to folder/label/name, or name-2 and so on where that is taken.

    Raises ImgclfError when another command sorts into the folder.
    """
    done = Placed()
    if not wishes:
        return done
    folder = Path(os.path.abspath(folder))
    root, state = Path(folder.anchor), folder / STATE
    state.mkdir(parents=True, exist_ok=True)
    with journal.locked(state, "predict"):
        journal.recover(root, state)
        plan: dict[str, tuple[str, str, str]] = {}  # target: source, its name as given, label
        for name, label in wishes:
            source = os.path.abspath(name)
            problem = _problem(source, root, how)
            if problem:
                done.problems.append((name, problem))
            elif target := _place_for(source, folder / label, plan):
                plan[target] = (source, name, label)
            else:
                done.there += 1
        ways = {target: source for target, (source, _name, _label) in plan.items()}
        failed = _move(root, state, ways) if how == "move" else _link(state, ways)
    for target, (_source, name, label) in plan.items():
        if target in failed:
            done.problems.append((name, failed[target]))
        else:
            done.labels[label] += 1
    return done


def _problem(source: str, root: Path, how: How) -> str:
    if not os.path.lexists(source):
        return "no file of its own (it came from an archive or a pipe, or is gone)"
    if how == "move" and os.path.islink(source):
        return "a symbolic link, which would lead nowhere from another folder; --link-to can place it"
    if Path(source).anchor != root.anchor:
        return "on another drive"
    return ""


def _place_for(source: str, folder: Path, planned: "dict[str, tuple[str, str, str]]") -> str:
    """A path in a folder that neither exists nor is planned; "" when the file lies there already, under any such name."""
    stem, ending = os.path.splitext(os.path.basename(source))
    target, number = os.path.join(folder, stem + ending), 1
    while target in planned or os.path.lexists(target):
        if os.path.exists(target) and os.path.samefile(target, source):
            return ""
        number += 1
        target = os.path.join(folder, f"{stem}-{number}{ending}")
    return target


def _move(root: Path, state: Path, plan: dict[str, str]) -> dict[str, str]:
    def below(path: str) -> str:
        return Path(path).relative_to(root).as_posix()

    failures = journal.apply(root, state, "predict", [journal.Move(below(s), below(t)) for t, s in plan.items()])
    words = {os.strerror(errno.EXDEV): "on another disk; choose a folder on the disk of the photos, or --link-to"}
    return {str(root / one.move.target): words.get(one.reason, one.reason) for one in failures}


def _links(state: Path) -> list[Path]:
    return sorted(path for path in (state / "links").glob("*.json") if path.stem.isdecimal())


def _link(state: Path, plan: dict[str, str]) -> dict[str, str]:
    """Hard links, or symbolic ones where the disk has none or is another; the plan is on disk before the first."""
    failed: dict[str, str] = {}
    if not plan:
        return failed
    (state / "links").mkdir(exist_ok=True)
    number = 1 + max((int(path.stem) for path in _links(state)), default=0)
    text = json.dumps({"format": 1, "links": [[source, target] for target, source in plan.items()]}, indent=0)
    journal.write_atomic(state / "links" / f"{number:04d}.json", text.encode("ascii"))
    for target, source in plan.items():
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.link(os.path.realpath(source), target)
            except (OSError, NotImplementedError) as error:
                if isinstance(error, FileExistsError):
                    raise
                os.symlink(os.path.realpath(source), target)
        except OSError as error:
            failed[target] = error.strerror or str(error)
    return failed


def undo(folder: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Take back all that was placed in a folder: files go back, links go.

    Returns the files that went back or the links that went, and (file, why it stays) for the others. A link whose file is
    gone stays, since it may be the last. Raises ImgclfError when nothing was placed there.
    """
    folder = Path(os.path.abspath(folder))
    root, state = Path(folder.anchor), folder / STATE
    if not (state / "journal").is_dir() and not (state / "links").is_dir():
        raise ImgclfError(f"{folder}: nothing was sorted into this folder")
    with journal.locked(state, "predict --undo"):
        journal.recover(root, state)
        moves, failures = journal.undo(root, state)
        back = [str(root / move.target) for move in moves]
        problems = [(str(root / failure.move.source), failure.reason) for failure in failures]
        for plan in reversed(_links(state)):
            stay = []
            for source, target in _read(plan):
                if not os.path.lexists(target):
                    continue
                if _is_link_of(source, target):
                    os.unlink(target)
                    back.append(target)
                else:
                    stay.append([source, target])
                    problems.append((target, "no longer the link that was placed, or what it was linked to is gone; it stays"))
            if stay:
                journal.write_atomic(plan, json.dumps({"format": 1, "links": stay}, indent=0).encode("ascii"))
            else:
                plan.unlink()
    return back, problems


def _read(plan: Path) -> list[list[str]]:
    try:
        return [[str(source), str(target)] for source, target in json.loads(plan.read_bytes())["links"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ImgclfError(f"{plan}: this list of links is damaged ({error}); remove the links yourself") from error


def _is_link_of(source: str, target: str) -> bool:
    """Whether a target is but another name of a source that is there."""
    try:
        return os.path.samefile(source, target) and os.path.realpath(source) != os.path.abspath(target)
    except OSError:
        return False
