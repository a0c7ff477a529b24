"""The CSV report of `clean` and `audit`: issues and actions, for a person to edit and `clean --apply` to carry out."""

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
    """Raise ImgclfError, before anything is computed, for a place that cannot be written and for a file that is no report."""
    check_output(path, data, ".csv", ",".join(COLUMNS), "--report")


def row(issue: Issue, new_label: str = "", measured: tuple[object, object, object, object] = ("", "", "", "")) -> Row:
    """A line of the report. measured: format, width, height and size in bytes of the file, where they are known."""
    return (
        issue.path, issue.label, issue.check, round(issue.score, 4), issue.action, new_label, issue.suggestion, issue.detail,
        issue.other, issue.moved_to, *measured,
    )  # fmt: skip


def write(path: Path, rows: Iterable[Row]) -> list[str]:
    """Write a report. One that is there and asks for moves is kept beside it; returns a line that says so."""
    notes = []
    if path.exists() and _asks(path):
        old = numbered(path)
        os.replace(path, old)
        notes.append(f"the report that was there asked for moves; it is kept as {old}")
    atomic.write_lines(path, (csv_files.line(one) for one in (COLUMNS, *rows)))
    return notes


def _asks(report: Path) -> bool:
    """Whether any line of a report asks for a move, or the file cannot be understood."""
    try:
        lines = csv_files.records(report, "path", "action")
        return any(row["action"].strip().lower() in MOVES or row.get("new_label", "").strip() for _number, row in lines)
    except ImgclfError:
        return True
