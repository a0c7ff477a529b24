"""Carry out an edited report."""

import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

from imgclf.clean.cleaning import act
from imgclf.clean.done import DONE
from imgclf.clean.planning import free_name
from imgclf.core import csv_files, names
from imgclf.core.errors import ImageError, ImgclfError
from imgclf.core.files import locks, operations
from imgclf.core.files.paths import STATE_NAME
from imgclf.core.files.state_folder import is_inside, not_writable, state_folder
from imgclf.data import issue_report, layout
from imgclf.data.checks import Issue
from imgclf.images import header
from imgclf.images.formats import filetypes


def apply(data: Path, report: Path, *, dry_run: bool = False) -> tuple[list[Issue], list[str]]:
    """Carry out an edited report, which needs the columns path and action.

    `quarantine` moves a file into quarantine, `relabel` into the class folder named in the column new_label, and `rename`
    corrects its extension. Every other action of a report leaves the file alone. All lines are checked before anything moves.
    A line that an interrupted --apply already carried out is skipped.

    Returns:
        An issue with its action for each file that was moved (or would be, with dry_run), and notes.

    Raises:
        ImgclfError: With the line that is wrong.
    """
    state = state_folder(data)
    if not is_inside(state, data):
        raise ImgclfError(not_writable(data, "nothing can be moved"))
    with locks.locked(state, "clean --apply"):
        notes = [] if dry_run else operations.recover(data, state)
        classes = layout.class_folders(data)
        known = {file.path: file for file in layout.scan(data)}
        earlier = [one for one in operations.history(data, state) if one.command == "clean --apply" and one.state != "undone"]
        moved = {names.nfc(move.source) for one in earlier for move in one.moves}
        wanted, passed = _requested(data, report, known, classes, moved)
        if passed:
            notes.append(f"{passed:,} lines were carried out by an earlier --apply")
        operation = operations.next_number(state)
        taken = set(known)
        issues = []
        for path, (action, label) in wanted.items():
            if action == "quarantine":
                target = f"{STATE_NAME}/quarantine/{operation:04d}/{path}"
            elif action == "rename":
                target = free_name(filetypes.without_image_extension(path), _extension(data / path), taken, data)
            else:
                inner = path.split("/", 2 if known[path].subset else 1)[-1]
                stem, suffix = os.path.splitext(f"{names.spelled(data, _class_folder(known[path], label))}/{inner}")
                target = free_name(stem, suffix, taken, data)
            taken.add(target)
            issues.append(Issue(path, "", 0.0, f"line of {report.name}", action=action, moved_to=target))
        return (issues if dry_run else act(data, state, "clean--apply", issues)), notes


def _class_folder(file: layout.DataFile, label: str) -> str:
    """Return the folder of a class in the same subset as a file."""
    return f"{file.path.split('/')[0]}/{label}" if file.subset else label


def _extension(path: Path) -> str:
    """Return the usual extension of a file's format. Raises ImgclfError for a file that is not an image."""
    try:
        return filetypes.FORMATS[header.read_header(path).format][0]
    except ImageError as error:
        raise ImgclfError(f"{path}: cannot be renamed: {error}") from error


_WORDS = ("", "keep", "kept", "report", "ignored", "stuck", *DONE.values())  # actions in a report that leave a file alone


def _requested(
    data: Path, report: Path, known: Mapping[str, layout.DataFile], classes: Sequence[str], moved: Container[str]
) -> tuple[dict[str, tuple[str, str]], int]:
    """Return (action, new class) by path for the lines that request one, and the number of lines that were done before."""
    found: dict[str, tuple[str, str]] = {}
    passed = 0
    spelling = names.by_spelling(known)
    for number, row in csv_files.records(report, "path", "action"):
        path, action, label = row["path"], row["action"].strip().lower(), names.nfc(row.get("new_label", "").strip())
        path = path if path in known else spelling.get(names.nfc(path), path)
        if action not in issue_report.MOVES:
            if action not in _WORDS:
                raise ImgclfError(
                    f"{report}, line {number}: unknown action {action!r}; choose {', '.join(issue_report.MOVES)}, or keep"
                )
            if label:
                raise ImgclfError(f"{report}, line {number}: new_label is {label!r}, but the action is {action!r}, not relabel")
            continue
        where = f"{report}, line {number}: {path}"
        if path not in known and names.nfc(path) in moved:
            passed += 1
            continue
        if path not in known or known[path].label is None:
            raise ImgclfError(
                f"{where}: no such file in a class folder; has it moved since the report was made?{csv_files.not_utf8(path)}"
            )
        if action == "relabel" and label not in classes:
            raise ImgclfError(f"{where}: new_label is {label!r}, which is not a class folder; choose {', '.join(classes)}")
        if action == "relabel" and label == known[path].label:
            raise ImgclfError(f"{where}: is in {label} already")
        for folder in (os.path.dirname(path), _class_folder(known[path], label) if action == "relabel" else ""):
            if folder and layout.is_linked(data, folder):
                raise ImgclfError(f"{where}: {folder} is a link or in a linked folder, where nothing is moved; move it by hand")
        request = (action, label if action == "relabel" else "")
        if found.setdefault(path, request) != request:
            first = " ".join(found[path]).strip()
            raise ImgclfError(f"{where}: {' '.join(request).strip()} here and {first} in a line above; remove one of them")
    return found, passed
