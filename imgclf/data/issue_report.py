"""The CSV report of `clean` and `audit`: issues and actions, which the user edits and `clean --apply` carries out."""

import os
from collections.abc import Iterable
from pathlib import Path

from imgclf.core import csv_files
from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic
from imgclf.core.files.state_folder import check_output, numbered
from imgclf.data.checks import Issue

COLUMNS = (
    "path", "label", "check", "score", "action", "new_label", "suggestion", "detail", "other", "moved_to",
    "format", "width", "height", "bytes",
)  # fmt: skip
MOVES = ("quarantine", "relabel", "rename")  # the actions that `clean --apply` carries out

Row = tuple[object, ...]


def check_place(path: Path, data: Path) -> None:
    """Raise ImgclfError if `path` cannot be written, or is a file that is not a report. Call it before any other work."""
    check_output(path, data, ".csv", ",".join(COLUMNS), "--report")


def row(issue: Issue, new_label: str = "", measured: tuple[object, object, object, object] = ("", "", "", "")) -> Row:
    """Return a row of the report. measured: format, width, height and size in bytes of the file, if they are known."""
    return (
        issue.path, issue.label, issue.check, round(issue.score, 4), issue.action, new_label, issue.suggestion, issue.detail,
        issue.other, issue.moved_to, *measured,
    )  # fmt: skip


def write(path: Path, rows: Iterable[Row]) -> list[str]:
    """Write a report and return notes. An existing report that requests moves is kept under another name."""
    notes = []
    if path.exists() and _requests_moves(path):
        old = numbered(path)
        os.replace(path, old)
        notes.append(f"{path}: the older report requests moves, so it was renamed to {old}")
    atomic.write_lines(path, (csv_files.line(one) for one in (COLUMNS, *rows)))
    return notes


def _requests_moves(report: Path) -> bool:
    """Return whether any row of a report requests a move, or the file is not a valid report."""
    try:
        lines = csv_files.records(report, "path", "action")
        return any(row["action"].strip().lower() in MOVES or row.get("new_label", "").strip() for _number, row in lines)
    except ImgclfError:
        return True
