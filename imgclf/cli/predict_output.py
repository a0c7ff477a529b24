"""Output of `imgclf predict`: tables, JSON, CSV, or lines of a given format."""

import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf.cli.shared.console import (
    as_json,
    counted,
    data,
    new_table,
    out,
    printable,
    say,
    say_errors,
)
from imgclf.core.csv_files import line as csv_line
from imgclf.core.errors import UsageError
from imgclf.core.files.atomic import json_text

if TYPE_CHECKING:
    from imgclf.models.prediction import Prediction


WATCHED = "{path}\\t{label}\\t{probability}{error}"  # default format of --watch, whose table would never be complete


def line_format(form: str) -> "Callable[[Prediction], str]":
    """Return a function that formats a record. form: text such as `{label}\\t{path}`.

    Raises:
        UsageError: A name is unknown or a brace is not closed.
    """
    named: dict[str, Callable[[Prediction], str]] = {
        "path": lambda record: record.input,
        "name": lambda record: os.path.basename(record.input),
        "label": lambda record: record.label or "",
        "probability": lambda record: "" if record.probability is None else f"{record.probability:.4f}",
        "error": lambda record: record.error or "",
    }
    escapes = {"\\t": "\t", "\\n": "\n", "\\0": "\0", "\\\\": "\\"}
    text = re.sub(r"\\[tn0\\]", lambda match: escapes[match[0]], form)
    for name in re.findall(r"\{(.*?)\}", text):
        if name not in named:
            raise UsageError(f"--format {form}: unknown name {{{name}}}; available: {', '.join(f'{{{one}}}' for one in named)}")
    if "{" in re.sub(r"\{(.*?)\}", "", text):
        raise UsageError(f"--format {form}: a brace is not closed; write names as {{label}}")
    return lambda record: re.sub(r"\{(.*?)\}", lambda match: named[match[1]](record), text)


def print_predictions(records: "Iterable[Prediction]", form: "str | Callable[[Prediction], str]", top: int) -> int:
    """Print records as they arrive; tables are printed in blocks. Return the number of failed records.

    Args:
        form: `table`, `json`, `jsonl`, `csv`, or a function that formats one record.
        top: Number of most likely classes to print.
    """
    failed = 0
    shown = False

    def count(records: "Iterable[Prediction]") -> "Iterator[Prediction]":
        nonlocal failed
        for record in records:
            failed += record.error is not None
            yield record

    if callable(form):
        for record in count(records):
            sys.stdout.write(form(record) + "\n")
            sys.stdout.flush()
    elif form == "jsonl":
        for record in count(records):
            as_json(record.to_dict(), indent=None)
            sys.stdout.flush()
    elif form == "json":
        before = "[\n  "  # one record at a time: a million do not fit into memory
        for record in count(records):
            sys.stdout.write(before + json_text(record.to_dict()))
            before = ",\n  "
        data("[]" if before.startswith("[") else "\n]")
    elif form == "csv":
        _csv(count(records), top)
    else:
        rows = count(records)
        while block := list(itertools.islice(rows, 1000)):  # in blocks, for the same reason
            _prediction_table(block, top, heading=not shown)
            shown = True
    return failed


def _prediction_table(records: "Sequence[Prediction]", top: int, *, heading: bool) -> None:
    failed = any(record.error is not None for record in records)
    table = new_table(
        "input", "label", "probability", *(["other classes"] if top > 1 else []), *(["error"] if failed else []), numbers=False
    )
    table.show_header = heading
    for record in records:
        if record.error is not None or record.probability is None:
            table.add_row(printable(record.input), *[""] * (2 + (top > 1)), printable(record.error or "", "red"))
        else:
            others = ", ".join(f"{label} {probability:.4f}" for label, probability in record.top[1:])
            more = [printable(others)] if top > 1 else []
            table.add_row(printable(record.input), printable(record.label or ""), f"{record.probability:.4f}", *more)
    out.print(table)


def _csv(records: "Iterable[Prediction]", top: int) -> None:
    others = [name for place in range(2, top + 1) for name in (f"label_{place}", f"probability_{place}")]
    sys.stdout.write(csv_line(["input", "label", "probability", "error", *others]))
    for record in records:
        more = [value for pair in record.top[1:top] for value in pair]
        more += [""] * (len(others) - len(more))
        sys.stdout.write(csv_line([record.input, record.label, record.probability, record.error, *more]))
        sys.stdout.flush()


def print_sorted_into(counts: "Mapping[str, int]", there: int, failed: int, folder: Path) -> None:
    """Print how many images were moved or linked into each class folder, and how many were not."""
    classes = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
    already = f", {there:,} were there already" if there else ""
    not_placed = f", {failed:,} not placed" if failed else ""
    say(f"{counted(sum(counts.values()), 'image')} into {folder}{': ' if classes else ''}{classes}{already}{not_placed}")
    if counts:
        say(f"to undo this, run `imgclf predict --undo {shlex.quote(str(folder))}`")


def print_unsorted(back: "Sequence[str]", problems: "Sequence[tuple[str, str]]", folder: Path) -> None:
    """Print the files that an undo restored, and the errors."""
    for path in back:
        data(path)
    say(f"undone in {folder}: {counted(len(back), 'image')}")
    say_errors([f"{path}: {reason}" for path, reason in problems])
