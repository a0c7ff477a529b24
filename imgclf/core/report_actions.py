"""What a report's lines can ask for, and that no report which asks for anything is written over."""

import os
from pathlib import Path

from imgclf.core import csv_files
from imgclf.core.errors import ImgclfError
from imgclf.core.files.state_folder import numbered

WORDS = ("quarantine", "relabel", "rename")


def keep(report: Path) -> list[str]:
    """Make way for a new report: one that is there, and asks for moves, is kept beside. Returns a line that says so."""
    if not report.exists() or not _asks(report):
        return []
    old = numbered(report)
    os.replace(report, old)
    return [f"the report that was there asked for moves; it is kept as {old}"]


def _asks(report: Path) -> bool:
    """Whether any line of a report is an order, or the file cannot be understood."""
    try:
        lines = csv_files.records(report, "path", "action")
        return any(row["action"].strip().lower() in WORDS or row.get("new_label", "").strip() for _number, row in lines)
    except ImgclfError:
        return True
