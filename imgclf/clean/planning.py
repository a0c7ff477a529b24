"""Plan what to do about each issue. Nothing is moved here."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from imgclf.core import names
from imgclf.core.files import journal
from imgclf.core.files.paths import STATE_NAME
from imgclf.data import layout
from imgclf.data.checks import Issue
from imgclf.data.scanned import Scanned
from imgclf.images.formats import filetypes

_COPIES = ("duplicate", "leakage", "near-duplicate", "mirrored")  # of two images, one may go


def plan(
    data: Path,
    state: Path,
    issues: Sequence[Issue],
    todo: Mapping[str, str],
    scanned: Scanned,
) -> list[Issue]:
    """What to do about each issue, with a free name for every file that will move; a file moves once.

    A copy leaves only when the file that it was compared with stays: what is like something that is like a third need not be
    like that, and of every image one stays.
    """
    unreadable = {scanned.paths[index] for index in np.flatnonzero(scanned.measurements["problem"] == b"unreadable").tolist()}
    misnamed = {issue.path for issue in issues if issue.check == "extension"}
    formats = {
        path: scanned.measurements["format"][index].decode() for index, path in enumerate(scanned.paths) if path in misnamed
    }
    planned = []
    led_to = _led_to(data, scanned.paths)
    for issue in issues:
        action = todo[issue.check]
        if action == "ignore":
            continue
        if action == "rename" and filetypes.names_another(PurePosixPath(issue.path).suffix):
            action = "report"  # trust the name more than the first bytes
        if (action == "rename" or issue.other) and _place(data / issue.path) in led_to:
            action = "report"  # a link would lead nowhere afterwards, and what it shows is no worse than before
        if action == "quarantine" and issue.path in unreadable:  # by no fault of the image, perhaps: it stays where it is
            action = "stuck"
        if action in ("quarantine", "rename") and _lies_elsewhere(data, issue.path):
            action = "report"  # in a folder that is linked here, which may belong to something else
        if action == "quarantine" and issue.other and any(layout.is_linked(data, p) for p in (issue.path, issue.other)):
            action = "report"  # perhaps two names of one file: to move it would take the file itself away
        planned.append((issue, action))
    leaving = {issue.path for issue, action in planned if action in ("quarantine", "stuck") and issue.check not in _COPIES}
    staying: set[str] = set()
    for number, (issue, action) in enumerate(planned):
        if action == "quarantine" and issue.check in _COPIES and issue.path not in leaving:
            if issue.path in staying or issue.other in leaving:
                planned[number] = issue, "report"
            else:
                leaving.add(issue.path)
                staying.add(issue.other)
    operation = journal.next_number(state)
    taken = set(scanned.paths)
    result = []
    for issue, action in planned:
        target = ""
        if action == "quarantine":
            # A folder of its own for each operation, so that two files of the same name never meet.
            target = f"{STATE_NAME}/quarantine/{operation:04d}/{issue.path}"
        elif action == "rename" and issue.path in leaving:
            action = "report"
        elif action == "rename":
            target = free_name(
                filetypes.without_wrong_ending(issue.path), filetypes.FORMATS[formats[issue.path]][0], taken, data
            )
            taken.add(target)
        result.append(dataclasses.replace(issue, action=action, moved_to=target))
    return result


def _led_to(data: Path, paths: Sequence[str]) -> set[str]:
    """The places of files that a link among these leads to, at once or by way of other links."""
    found = set()
    for path in paths:
        place = os.path.join(data, path)
        for _step in range(40):  # as many as Linux follows
            if not os.path.islink(place):
                break
            place = _place(os.path.join(os.path.dirname(place), os.readlink(place)))
            found.add(place)
    return found


def _place(path: str | Path) -> str:
    """Where a file or link lies, whatever linked folders the path goes through."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _lies_elsewhere(data: Path, path: str) -> bool:
    """Whether a file lies in a linked folder."""
    folder = path.rpartition("/")[0]
    return bool(folder) and layout.is_linked(data, folder)


def free_name(stem: str, extension: str, taken: set[str], data: Path) -> str:
    """A path in the data folder that neither exists nor is taken."""
    return names.free(stem, extension, lambda name: name in taken or os.path.lexists(data / name))
