"""Output of all commands: data and tables on stdout, messages and progress on stderr."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from imgclf.core.files.atomic import json_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress
    from rich.table import Table

MAX_NOTES = 10  # skipped files or errors that are listed one by one
MAX_ROWS = 40  # rows of a table of files; --report and --json contain all of them

_NARROWEST = 20


def _width(stream: TextIO | None) -> int | None:
    """Return the width of a stream in characters, or None to let Rich detect it.

    Lines to a pipe or a file are never wrapped, so they can be searched and pasted. An invalid COLUMNS, such as 0 in some
    terminals, is ignored: with it, Rich would print nothing.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= _NARROWEST:
        return None
    if not stream or not stream.isatty():
        return 1000
    return shutil.get_terminal_size().columns if columns else None


out = Console(highlight=False, width=_width(sys.stdout))
err = Console(stderr=True, highlight=False, width=_width(sys.stderr) if os.environ.get("COLUMNS") else None)


_HARMLESS = "\u3000\u00a0\u202f\u200c\u200d"  # spaces of other scripts, and joiners of letters and emoji

_quiet = _verbose = False


def be_quiet() -> None:
    """Print only data, errors and skipped files from now on."""
    global _quiet
    _quiet = True


def be_verbose() -> None:
    """Print `detail` messages too from now on."""
    global _verbose
    _verbose = True


def be_colourless() -> None:
    """Print without colours from now on, as with NO_COLOR in the environment."""
    out.no_color = err.no_color = True


def printable(content: str, style: str = "") -> Text:
    """Return text for a terminal, with unprintable characters escaped: file names may contain newlines and escape sequences."""
    shown = "".join(c if c.isprintable() or c in _HARMLESS else ascii(c)[1:-1] for c in content)
    return Text(shown, style)


def say(text: str, *, style: str | None = None) -> None:
    """Print one line on stderr. A line with a style is a warning, which --quiet does not hide."""
    if _quiet and style is None:
        return
    err.print(printable(text, style or ""), soft_wrap=True)


def show_warnings() -> None:
    """Print the warnings that imgclf logs on stderr from now on, even with --quiet."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage(), style="yellow")

    log = logging.getLogger("imgclf")
    log.handlers, log.propagate = [Lines(logging.WARNING)], False


def detail(text: str) -> None:
    """Print one line on stderr with --verbose."""
    if _verbose:
        err.print(printable(text, "dim"), soft_wrap=True)


def error(text: str) -> None:
    """Print an error on stderr. text: the problem and what to do next."""
    err.print(Text("imgclf: error: ", "bold red") + printable(text), soft_wrap=True)


def say_errors(problems: Sequence[str]) -> None:
    """Print the first problems as errors, one per line, and the number of the others."""
    for problem in problems[:MAX_NOTES]:
        error(problem)
    if len(problems) > MAX_NOTES:
        error(f"and {counted(len(problems) - MAX_NOTES, 'more error')}")


def say_skipped(items: "Sequence[tuple[str, str]]") -> None:
    """Print the first skipped files, and the number of the others. items: (path, reason)."""
    for path, reason in items[:MAX_NOTES]:
        say(f"skipped {path}: {reason}", style="yellow")
    if len(items) > MAX_NOTES:
        say(
            f"skipped {len(items) - MAX_NOTES} more; `imgclf clean` lists and quarantines unusable files",
            style="yellow",
        )


class Notes:
    """Prints problems of one kind as they occur, up to MAX_NOTES. words: begin each line, such as `not placed`."""

    def __init__(self, words: str) -> None:
        self.words, self.count = words, 0

    def __call__(self, name: str, reason: str) -> None:
        self.count += 1
        if self.count <= MAX_NOTES:
            say(f"{self.words} {name}: {reason}", style="yellow")
        elif self.count == MAX_NOTES + 1:
            say(f"{self.words}: more files, which are counted but not listed", style="yellow")


def data(text: str) -> None:
    """Write one line of data to stdout, unchanged."""
    sys.stdout.write(text + "\n")


def data_now(text: str) -> None:
    """Write one line of data to stdout and flush it, for a program that waits for it."""
    data(text)
    sys.stdout.flush()


def as_json(value: Any, *, indent: int | None = 2) -> None:
    """Write one JSON document to stdout."""
    data(json_text(value, indent=indent))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 file` or `2,000 classes`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def percent(value: float) -> str:
    return f"{value:.1%}"


@contextlib.contextmanager
def progress(task: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr while the block runs, if stderr is a terminal. Yields update(done, total)."""
    with stages() as stage:
        yield lambda done, total: stage(task, done, total)


@contextlib.contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar as `progress` does, for several stages. Yields update(stage, done, total)."""
    with new_bar() as bar:
        task = bar.add_task("", total=None)
        last, shown = 0.0, ""

        def update(stage: str, done: int, total: int) -> None:
            nonlocal last, shown
            now = time.monotonic()
            if now - last > 0.05 or done == total or stage != shown:
                last, shown = now, stage
                bar.update(task, description=stage, completed=done, total=total or None)

        yield update


def new_bar() -> "Progress":
    """Return a progress bar on stderr, which is invisible with --quiet and if stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal or _quiet)


def new_table(*headings: str, numbers: bool = True) -> "Table":
    """Return a table without borders: the first column left-aligned, the others right-aligned if they are numbers."""
    from rich.table import Table  # here: `--help` prints no such table and starts faster

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(
            printable(heading), justify="right" if number and numbers else "left", header_style="bold", overflow="fold"
        )
    return table


def add_row(table: "Table", *cells: Any, style: str | None = None) -> None:
    """Add a row of printable cells to a table."""
    table.add_row(*(printable(str(cell)) for cell in cells), style=style)


def one_line_each(lines: Sequence[Sequence[str]], *headings: str, styles: Mapping[str, str] | None = None) -> None:
    """Print a table whose last column is cut so that no row wraps. styles: the style of a cell by its text."""
    widths = [max(len(heading), *(len(line[column]) for line in lines)) + 2 for column, heading in enumerate(headings[:-1])]
    room = max(20, out.width - sum(widths) - 4)
    table = new_table(*headings, numbers=False)
    for *cells, last in lines:
        shown = last if len(last) <= room else last[: room - 1] + "…"
        table.add_row(*(printable(cell, (styles or {}).get(cell, "")) for cell in cells), printable(shown))
    out.print(table)


def on_terminal() -> bool:
    """Return whether stdout is a terminal that shows colours."""
    return out.is_terminal and not out.is_dumb_terminal and not out.no_color


def half_blocks(image: "NDArray[np.uint8]", gap: int = 0) -> None:
    """Print an image with two pixels per character.

    Args:
        image: (h, w, 3) RGB with an even h.
        gap: Leave every gap-th column blank, between thumbnails; 0 for none.
    """
    from rich.style import Style

    for top, bottom in zip(image[::2].tolist(), image[1::2].tolist(), strict=True):
        line = Text()
        for column, (above, below) in enumerate(zip(top, bottom, strict=True), 1):
            if gap and column % gap == 0:
                line.append(" ")
            else:
                style = Style(color="#{:02x}{:02x}{:02x}".format(*above), bgcolor="#{:02x}{:02x}{:02x}".format(*below))
                line.append("▀", style)
        out.print(line, no_wrap=True, overflow="crop")
