"""Plan what to do about each issue. Nothing is moved here."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from imgclf.core import names
from imgclf.core.files import operations
from imgclf.core.files.paths import STATE_NAME
from imgclf.data import layout
from imgclf.data.checks import Issue
from imgclf.data.scanned import Scanned
from imgclf.images.formats import filetypes

_COPIES = ("duplicate", "leakage", "near-duplicate", "mirrored")  # checks that compare two images, one of which may be moved


def plan(
    data: Path,
    state: Path,
    issues: Sequence[Issue],
    todo: Mapping[str, str],
    scanned: Scanned,
) -> list[Issue]:
    """Return each issue with its action, and with a free name for every file that will move. A file moves once.

    A copy is quarantined only if the file that it resembles stays, so at least one file of every set of copies stays.
    Resemblance is not transitive: A may resemble B, and B may resemble C, when A and C differ.
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
        if action == "rename" and filetypes.is_unsupported_extension(PurePosixPath(issue.path).suffix):
            action = "report"  # trust the name more than the first bytes
        if (action == "rename" or issue.other) and _place(data / issue.path) in led_to:
            action = "report"  # a link to this file would break
        if action == "quarantine" and issue.path in unreadable:  # the image itself may be good
            action = "stuck"
        if action in ("quarantine", "rename") and _lies_elsewhere(data, issue.path):
            action = "report"  # the folder is a link, and may belong to another project
        if action == "quarantine" and issue.other and any(layout.is_linked(data, p) for p in (issue.path, issue.other)):
            action = "report"  # both may be names of one file, which would be gone
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
    operation = operations.next_number(state)
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
                filetypes.without_image_extension(issue.path), filetypes.FORMATS[formats[issue.path]][0], taken, data
            )
            taken.add(target)
        result.append(dataclasses.replace(issue, action=action, moved_to=target))
    return result


def _led_to(data: Path, paths: Sequence[str]) -> set[str]:
    """Return the places that links among these paths lead to, directly or through other links."""
    found = set()
    for path in paths:
        place = os.path.join(data, path)
        for _step in range(40):  # the limit of Linux
            if not os.path.islink(place):
                break
            place = _place(os.path.join(os.path.dirname(place), os.readlink(place)))
            found.add(place)
    return found


def _place(path: str | Path) -> str:
    """Return where a file or link lies, with links among its folders resolved."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _lies_elsewhere(data: Path, path: str) -> bool:
    """Return whether a file lies in a linked folder."""
    folder = path.rpartition("/")[0]
    return bool(folder) and layout.is_linked(data, folder)


def free_name(stem: str, extension: str, taken: set[str], data: Path) -> str:
    """Return a path in the data folder that neither exists nor is taken."""
    return names.free(stem, extension, lambda name: name in taken or os.path.lexists(data / name))
