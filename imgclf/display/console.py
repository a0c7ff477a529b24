"""What a person sees: tables on stdout, talk and progress on stderr. Used by cli.py alone."""

import collections
import contextlib
import dataclasses
import itertools
import math
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from imgclf.base.errors import UsageError
from imgclf.base.journal import json_text
from imgclf.base.table import line as csv_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from imgclf.answers import Prediction
    from imgclf.audit import Audit
    from imgclf.base.journal import Batch
    from imgclf.bundle import Bundle
    from imgclf.clean import Cleaning, Outcome
    from imgclf.compare import Comparison
    from imgclf.evaluate import Evaluation
    from imgclf.explain import Explanation
    from imgclf.export import Export
    from imgclf.preview import Preview
    from imgclf.runs import Run
    from imgclf.split import Leakage, Split
    from imgclf.train import Epoch, RateSearch

LONGEST_NOTES = 10  # left-out files named one by one
LONGEST_LIST = 40  # rows of a table of files before the rest is left to --report and --json

# Into a pipe or a file, lines are as long as they need to be: what greps and pastes is never folded.
out = Console(highlight=False, width=None if (sys.stdout and sys.stdout.isatty()) or "COLUMNS" in os.environ else 1000)
err = Console(stderr=True, highlight=False)


_quiet = _verbose = False


def be_quiet() -> None:
    """From now on no talk and no progress: errors, what was left out, and data."""
    global _quiet
    _quiet = True


def be_verbose() -> None:
    """From now on `detail` is said."""
    global _verbose
    _verbose = True


def be_colourless() -> None:
    """From now on no colours, as with NO_COLOR in the environment."""
    out.no_color = err.no_color = True


def _text(content: str, style: str = "") -> Text:
    """Text for a terminal: what is not printable, an escape sequence in a file name say, is shown and not sent."""
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in content)
    return Text(shown, style)


def say(text: str, *, style: str | None = None) -> None:
    """One line of talk; with a style it is a warning, which --quiet does not silence."""
    if _quiet and style is None:
        return
    err.print(_text(text, style or ""), soft_wrap=True)


def detail(text: str) -> None:
    """One line for those who asked for more."""
    if _verbose:
        err.print(_text(text, "dim"), soft_wrap=True)


def error(text: str) -> None:
    """One line that says what went wrong and what to do."""
    err.print(Text("imgclf: error: ", "bold red") + _text(text), soft_wrap=True)


def data(text: str) -> None:
    """One line of data on stdout, exactly as given."""
    sys.stdout.write(text + "\n")


def data_now(text: str) -> None:
    """One line of data for a program that waits for it."""
    data(text)
    sys.stdout.flush()


def as_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document on stdout."""
    data(json_text(value, indent=indent))


def _left_out(items: "Sequence[tuple[str, str]]") -> None:
    """The first files that were left out, and how many more."""
    for path, reason in items[:LONGEST_NOTES]:
        say(f"left out {path}: {reason}", style="yellow")
    if len(items) > LONGEST_NOTES:
        say(
            f"left out {len(items) - LONGEST_NOTES} more; `imgclf clean` lists and sets aside what cannot be used",
            style="yellow",
        )


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr while the block runs; gives the function to call with (done, total). Silent when piped."""
    with stages() as stage:
        yield lambda done, total: stage(what, done, total)


@contextlib.contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """`progress` for work in several stages; gives the function to call with (stage, done, total)."""
    with _bar() as bar:
        task = bar.add_task("", total=None)
        last = 0.0

        def update(stage: str, done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > 0.05 or done == total:
                last = now
                bar.update(task, description=stage, completed=done, total=total)

        yield update


def _bar() -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal or _quiet)


def _table(*headings: str, numbers: bool = True) -> "Table":
    """A table without lines; the first column to the left, and the others to the right when they are numbers."""
    from rich.table import Table  # only when a table is due: `--help` has none of ours

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(
            _text(heading), justify="right" if number and numbers else "left", header_style="bold", overflow="fold"
        )
    return table


def _row(table: "Table", *cells: Any, style: str | None = None) -> None:
    table.add_row(*(_text(str(cell)) for cell in cells), style=style)


def _one_line_each(lines: Sequence[Sequence[str]], *headings: str, styles: Mapping[str, str] | None = None) -> None:
    """A table whose last column is cut so that no line folds. styles: by the text of a cell."""
    widths = [max(len(heading), *(len(line[column]) for line in lines)) + 2 for column, heading in enumerate(headings[:-1])]
    room = max(20, out.width - sum(widths) - 4)
    table = _table(*headings, numbers=False)
    for *cells, last in lines:
        shown = last if len(last) <= room else last[: room - 1] + "…"
        table.add_row(*(_text(cell, (styles or {}).get(cell, "")) for cell in cells), _text(shown))
    out.print(table)


def _share(value: float) -> str:
    return f"{value:.1%}"


# -- one function a verb ----------------------------------------------------------------------------------------------------


def cleaning(result: "Cleaning") -> None:
    """A table by check with the worst example, every file that was or would be moved, and the counts."""
    counts = result.counts()
    if result.outcomes:
        colours = {"quarantined": "red", "quarantine": "red", "stuck": "red", "renamed": "yellow", "rename": "yellow"}
        lines = []
        for name, found in result.by_check().items():
            actions = ", ".join(sorted({outcome.action for outcome in found}))
            lines.append((name, f"{len(found):,}", actions, f"{found[0].path}: {_why(found[0])}"))
        _one_line_each(lines, "check", "files", "action", "worst", styles=colours)  # the report has it whole
        out.print()
    moved = [outcome for outcome in result.outcomes if outcome.moved_to or outcome.action == "stuck"]
    if len(moved) > len({outcome.check for outcome in moved}):  # the table above names one a check
        table = _table("action", "file", "why", numbers=False)
        for outcome in moved[:LONGEST_LIST]:
            table.add_row(_text(outcome.action), _text(outcome.path), _text(_why(outcome)))
        out.print(table)
        if len(moved) > LONGEST_LIST:
            out.print(f"... and {len(moved) - LONGEST_LIST} more; --report FILE.csv lists all")
        out.print()
    for rule, number in sorted(collections.Counter(rule for _path, rule in result.ignored).items()):
        out.print(_text(f"ignored {number:,}: {rule}"))
    total = len(result.files) + len(result.ignored)
    yet = "to be " if result.dry_run else ""
    out.print(
        f"{_count(total, 'file')}: {counts['kept']:,} kept, {counts['renamed']:,} {yet}renamed, "
        f"{counts['quarantined']:,} {yet}quarantined, {counts['ignored']:,} ignored"
        + (f", {counts['stuck']:,} could not be moved" if counts["stuck"] else "")
        + (f"; {counts['reported']:,} of the kept reported" if counts["reported"] else "")
    )
    if any(before != after for before, after in result.pictures.values()):
        changes = (f"{label} {before:,} to {after:,}" for label, (before, after) in result.pictures.items())
        out.print(_text(f"usable pictures by class: {', '.join(changes)}"))
    for note in result.notes:
        say(note)
    if counts["reported"]:
        say("To see what was reported: --html FILE.html; to decide on it: --report FILE.csv, edit, --apply FILE.csv.")
    if any(outcome.moved_to for outcome in moved) and not result.dry_run:
        say(_undo_hint(result.data))


def _undo_hint(folder: Path) -> str:
    return f"Nothing was deleted; `imgclf clean {shlex.quote(str(folder))} --undo` puts every file back."


def _why(outcome: "Outcome") -> str:
    if outcome.action in ("rename", "renamed"):
        return f"{outcome.detail}, {'now' if outcome.action == 'renamed' else 'to become'} {Path(outcome.moved_to).name}"
    return outcome.detail


def undone(restored: Sequence[str], problems: Sequence[str], notes: Sequence[str], dry_run: bool, json: bool) -> None:
    """What an undo put back or would, and what it could not."""
    for note in notes:
        say(note)
    if json:
        told = {"restored": list(restored), "problems": list(problems), "notes": list(notes)}
        as_json({"schema": "clean-undo/1", "dry_run": dry_run, **told})
    elif dry_run:
        for path in restored:
            out.print(_text(path))
        out.print(f"{_count(len(restored), 'file')} to go back")
    else:
        data(f"{_count(len(restored), 'file')} back where {'it was' if len(restored) == 1 else 'they were'}")
    _errors(problems)


def _errors(problems: Sequence[str]) -> None:
    """The first problems, one line each, and how many more."""
    for problem in problems[:LONGEST_NOTES]:
        error(problem)
    if len(problems) > LONGEST_NOTES:
        error(f"and {len(problems) - LONGEST_NOTES:,} more of such")


def history(batches: "Sequence[Batch]", json: bool) -> None:
    """Batches of moves, the oldest first."""
    if json:
        as_json([{"schema": "clean-history/1", **dataclasses.asdict(batch)} for batch in batches])
        return
    if not batches:
        say("nothing has been moved yet")
        return
    lines = []
    for batch in batches:
        first = batch.moves[0].source if batch.moves else ""
        when = batch.time.replace("T", " ").rstrip("Z")
        lines.append((f"{batch.number}", when, batch.command, f"{len(batch.moves):,}", batch.state, first))
    _one_line_each(lines, "batch", "when (UTC)", "command", "files", "state", "first")


def share(figures: "Mapping[str, Any]", verb: str, json: bool) -> None:
    """What one of several shares looked at, and what comes next."""
    if json:
        as_json({"schema": "share/1", **figures})
        return
    broken = f", of which {figures['broken']:,} cannot be used" if figures["broken"] else ""
    say(
        f"share {figures['shard']} of {figures['shards']}: looked at {_count(figures['looked_at'], 'file')} of "
        f"{figures['files']:,}{broken}; when all shares are done, "
        f"`imgclf {verb} {shlex.quote(figures['data'])}` takes them up"
    )


def applied(outcomes: "Sequence[Outcome]", notes: "Sequence[str]", folder: Path, dry_run: bool, json: bool) -> None:
    """Every file that an edited report moved or would move."""
    for note in notes:
        say(note)
    if json:
        moves = [dataclasses.asdict(outcome) for outcome in outcomes]
        as_json({"schema": "clean-apply/1", "data": str(folder), "dry_run": dry_run, "moves": moves})
        return
    if outcomes:
        table = _table("action", "file", "to", numbers=False)
        for outcome in outcomes[:LONGEST_LIST]:
            _row(table, outcome.action, outcome.path, outcome.moved_to or outcome.detail)
        out.print(table)
        if len(outcomes) > LONGEST_LIST:
            out.print(f"... and {len(outcomes) - LONGEST_LIST} more")
    stuck = sum(outcome.action == "stuck" for outcome in outcomes)
    verb = "to be moved" if dry_run else "moved"
    out.print(f"{_count(len(outcomes) - stuck, 'file')} {verb}" + (f", {stuck:,} could not be moved" if stuck else ""))
    if any(outcome.moved_to for outcome in outcomes) and not dry_run:
        say(_undo_hint(folder))


def preview(result: "Preview") -> None:
    """Counts, shares, sizes and formats by class."""
    table = _table("class", "pictures", "share", "median", "smallest", "largest", "formats")
    total = sum(info.count for info in result.classes)
    for info in result.classes:
        formats = ", ".join(f"{name} {count:,}" for name, count in info.formats)
        if info.unreadable:
            formats += f", unreadable {info.unreadable:,}"
        sizes = [f"{width}x{height}" for width, height in (info.median_size, info.smallest, info.largest)]
        _row(table, info.name, f"{info.count:,}", _share(info.count / total), *sizes, formats)
    out.print(table)
    sizes_of = f"imbalance {result.imbalance:.2f} (largest / smallest)"
    out.print(f"{_count(total, 'picture')}, {_count(len(result.classes), 'class')}, {sizes_of}")
    for note in result.notes:
        say(note, style="yellow")
    _left_out(result.left_out)
    say(f"wrote {result.path}")


def on_terminal() -> bool:
    """Whether stdout is a terminal that can be drawn on, in colours."""
    return out.is_terminal and not out.is_dumb_terminal and not out.no_color


def strip_columns(wanted: int) -> int:
    """How many thumbnails of a strip fit side by side."""
    return max(1, min(wanted, (out.width + 1) // 17))


def strip(rows: "Sequence[tuple[str, NDArray[np.uint8], list[str]]]") -> None:
    """Thumbnails by class in half blocks, two pixels a character; only their names where stdout is no terminal."""
    for name, picture, paths in rows[:LONGEST_LIST]:
        if not on_terminal():
            out.print(_text(f"{name}: {', '.join(paths)}"))
            continue
        out.print(_text(name, "bold"))
        _half_blocks(picture, gap=17)
    if len(rows) > LONGEST_LIST:
        out.print(f"... and {len(rows) - LONGEST_LIST} more classes")


def _half_blocks(picture: "NDArray[np.uint8]", gap: int = 0) -> None:
    """A picture, (h, w, 3) with an even h, two pixels a character; every column of number `gap` is left blank."""
    from rich.style import Style

    for top, bottom in zip(picture[::2].tolist(), picture[1::2].tolist(), strict=True):
        line = Text()
        for column, (above, below) in enumerate(zip(top, bottom, strict=True), 1):
            if gap and column % gap == 0:
                line.append(" ")
            else:
                style = Style(color="#{:02x}{:02x}{:02x}".format(*above), bgcolor="#{:02x}{:02x}{:02x}".format(*below))
                line.append("▀", style)
        out.print(line, no_wrap=True, overflow="crop")


def split(result: "Split", *, talk: bool = False) -> None:
    """Classes by parts, what was kept together; on stderr when it is only talk."""
    for note in result.notes:
        say(note, style="yellow")
    _left_out(result.left_out)
    to = err if talk else out
    table = _table("class", "train", "val", "test", "all")
    totals = [0, 0, 0]
    for name, counts in result.manifest.counts().items():
        numbers = [counts["train"], counts["val"], counts["test"]]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        _row(table, name, *(f"{number:,}" for number in (*numbers, sum(numbers))))
    _row(table, "all", *(f"{number:,}" for number in (*totals, sum(totals))), style="bold")
    to.print(table)
    to.print(_kept_together(result))
    say(f"{'wrote' if result.changed else 'unchanged'}: {result.path}")


def _kept_together(result: "Split") -> str:
    groups, pictures, torn = result.groups()
    kept = f"groups that show the same or belong together: {groups:,} ({_count(pictures, 'picture')})"
    return kept + (f"; in more than one part (leakage): {torn:,}" if torn else ", none torn; leakage between parts: 0")


def folds(made: "Sequence[Split]", json: bool) -> None:
    """A line a fold."""
    for note in made[0].notes:
        say(note, style="yellow")
    _left_out(made[0].left_out)
    if json:
        as_json([one.to_dict() for one in made])
        return
    table = _table("fold", "train", "val", "test", "leakage")
    for number, one in enumerate(made, 1):
        counts = collections.Counter(row.split for row in one.manifest.rows)
        _row(table, number, *(f"{counts[part]:,}" for part in ("train", "val", "test")), f"{one.groups()[2]:,}")
    out.print(table)
    say(f"{'wrote' if made[0].changed else 'unchanged'}: {made[0].path.parent}; `imgclf train --fold 1` uses the first")


def leakage(result: "Leakage", json: bool) -> None:
    """Every picture that shows the same as one in another part."""
    _left_out(result.left_out)
    if json:
        as_json(result.to_dict())
        return
    if result.leaks:
        table = _table("picture", "shows the same as", "how", numbers=False)
        for leak in result.leaks[:LONGEST_LIST]:
            how = "exact" if leak.exact else f"{'mirrored' if leak.mirrored else 'near'} {leak.similarity:.2f}"
            names = [path if result.where == "its folders" else f"{part}: {path}" for part, path in
                     ((leak.part, leak.path), (leak.other_part, leak.other))]  # fmt: skip
            _row(table, *names, how)
        out.print(table)
        if len(result.leaks) > LONGEST_LIST:
            out.print(f"... and {len(result.leaks) - LONGEST_LIST} more; --json lists all")
        out.print()
    parts = ", ".join(f"{part} {count:,}" for part, count in result.pictures.items() if count)
    exact = sum(leak.exact for leak in result.leaks)
    found = f"leakage: {_count(len(result.leaks), 'picture')}" + (f", {exact:,} of them exact" if result.leaks else "")
    out.print(f"{parts}; {found}")


class TrainingDisplay:
    """A line an epoch on stderr, and a bar within the epoch on a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._spent = 0.0
        self._run_dir: Path | None = None
        self._handler: Any = None
        self._stop = self._said = False

    def __enter__(self) -> "TrainingDisplay":
        self._bar = _bar()
        self._bar.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        if self._bar:
            self._bar.__exit__(*details)
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if details[0] is not None and self._run_dir and self._spent:
            say(f"unfinished run: go on with `imgclf train --resume {shlex.quote(str(self._run_dir))}`")

    def _interrupt(self, *_signal: Any) -> None:
        """The first Ctrl-C ends the training after its epoch, the second at once."""
        self._stop = True  # said by `batch`: here, the screen may be half-way through a line
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(self) -> bool:
        return self._stop

    def note(self, text: str) -> None:
        say(text, style="yellow")

    def stage(self, name: str) -> None:
        self._advance(name, 0, None)

    def preparing(self, done: int, total: int) -> None:
        self._advance("preparing pictures", done, total)

    def computing(self, done: int, total: int) -> None:
        self._advance("computing features", done, total)

    def started(self, run_dir: Path, about: Sequence[str]) -> None:
        self._run_dir = run_dir
        self._handler = signal.signal(signal.SIGINT, self._interrupt)
        say(f"run {run_dir}")
        for line in about:
            say(line)
        self._header()

    def _header(self) -> None:
        say("epoch    loss  accuracy  val loss  val accuracy  images/s   left")

    def tuning(self, about: Sequence[str]) -> None:
        for line in about:
            say(line)
        self._header()

    def batch(self, epoch: int, done: int, total: int) -> None:
        if self._stop and not self._said:
            self._said = True
            say("ending the run after this epoch; Ctrl-C again stops at once, for --resume to go on later", style="yellow")
        self._advance(f"epoch {epoch}", done, total)

    def epoch(self, epoch: "Epoch", left: float) -> None:
        self._spent += epoch.seconds
        star = "*" if epoch.is_best else " "
        say(
            f"{epoch.epoch:>5} {epoch.loss:>7.4f} {epoch.accuracy:>9.4f} {epoch.val_loss:>9.4f} "
            f"{epoch.val_accuracy:>12.4f}{star} {epoch.images_per_second:>9.0f} {_minutes(left):>6}"
        )

    def _advance(self, what: str, done: int, total: int | None) -> None:
        if self._bar is None:
            return
        if self._task is not None and total is None:  # a bar once measured would go on showing its numbers
            self._bar.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, description=what, completed=done, total=total)


def summary(about: str, layers: "Sequence[tuple[str, str, str, int]]", json: bool) -> None:
    """A network, layer by layer."""
    if json:
        fields = ("name", "kind", "output", "parameters")
        listed = [dict(zip(fields, layer, strict=True)) for layer in layers]
        as_json({"schema": "train-summary/1", "about": about, "layers": listed})
        return
    table = _table("layer", "kind", "output", "parameters")
    for name, kind, shape, parameters in layers:
        _row(table, name, kind, shape, f"{parameters:,}")
    out.print(table)
    out.print(_text(f"{about}; {sum(layer[3] for layer in layers):,} parameters"))


def rate_search(result: "RateSearch", json: bool) -> None:
    """The rate that was found, and where the plot is."""
    if json:
        seen = {"rates": result.rates, "losses": result.losses, "plot": str(result.plot)}
        as_json({"schema": "train-lr-find/1", "suggestion": result.suggestion, **seen})
    else:
        out.print(f"--learning-rate {result.suggestion:g}")
    say(f"wrote {result.plot}")


def trained(bundle: "Bundle | None", json: bool) -> None:
    """How the best epoch did, and on stdout the run folder; nothing from a worker that is not the chief."""
    if bundle is None:
        return
    if json:
        as_json({"schema": "train/1", "run": str(bundle.path), **bundle.info})
        return
    figures = bundle.info["metrics"]
    low, high = figures["val_interval"]
    say(
        f"best epoch {figures['best_epoch']} of {figures['epochs']} saved: validation accuracy {figures['val_accuracy']:.4f} "
        f"(95%: {low:.3f} to {high:.3f})"
    )
    say("`imgclf evaluate` scores it on the test part; `imgclf predict IMAGE` uses it")
    data(str(bundle.path))


def audited(result: "Audit", json: bool) -> None:
    """The surest suspects of each check, and how many there are."""
    if json:
        as_json(result.to_dict())
        return
    for name, found in result.by_check().items():
        if found:
            lines = [(one.path, f"{one.score:.2f}", one.detail + (f": {one.other}" if one.other else "")) for one in found[:10]]
            _one_line_each(lines, name, "score", "why")
            if len(found) > 10:
                out.print(f"... and {len(found) - 10:,} more; --report FILE.csv lists all, --html FILE.html shows them")
            out.print()
    counts = ", ".join(f"{name} {len(found):,}" for name, found in result.by_check().items())
    out.print(_text(f"{len(result.pictures.samples):,} pictures; suspects: {counts}"))
    for path, reason in result.left_out[:LONGEST_LIST]:
        say(f"left out {path}: {reason}", style="yellow")
    if result.note:
        say(result.note)
    say(
        f"Held-out accuracy of the labels as they are: {result.accuracy:.4f} ({result.model}). Nothing was moved; "
        "to decide: --html FILE.html, or --report FILE.csv and `imgclf clean --apply`."
    )


def _minutes(seconds: float) -> str:
    return f"{int(seconds + 0.5) // 60}:{int(seconds + 0.5) % 60:02d}"


def runs(found: "Sequence[Run]", folder: Path, json: bool) -> None:
    """A table of runs."""
    if json:
        as_json([{"schema": "runs/1", **dataclasses.asdict(run)} for run in found])
        return
    table = _table("run", "model", "epochs", "validation", "test", "state", numbers=False)
    for run in found:
        figures = ["" if value is None else f"{value:.4f}" for value in (run.val_accuracy, run.test_accuracy)]
        _row(table, run.name, run.model or "", "" if run.epochs is None else str(run.epochs), *figures, run.state)
    if found:
        out.print(table)
    for run in found:
        if run.problem:
            say(run.problem, style="yellow")
    say(f"{_count(len(found), 'run')} in {folder}" + ("; accuracies of the validation and the test part" if found else ""))


def info(known: Mapping[str, Any], json: bool) -> None:
    """What a run knows, a line each; nested things under their names."""
    if json:
        as_json({"schema": "info/1", **known})
        return

    def lines(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from lines(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list) and any(isinstance(inner, list | dict) for inner in value):
            yield name, f"{len(value)} entries"
        else:
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    shown = list(lines(known, ""))
    width = max(len(name) for name, _value in shown)
    for name, value in shown:
        out.print(_text(f"{name:<{width}}  {value}"), soft_wrap=True)


def schemas(titles: Mapping[str, str]) -> None:
    """A line for each schema."""
    width = max(map(len, titles))
    for name, title in titles.items():
        data(f"{name:<{width}}  {title}")


def evaluation(result: "Evaluation") -> None:
    """Score with interval, per-class table, confusion matrix."""
    for note in result.notes:
        say(note, style="yellow")
    _left_out(result.left_out)
    low, high = result.interval
    out.print(_text(f"{result.run} on {result.on}: {_count(result.pictures, 'picture')}"))
    out.print(f"accuracy {result.accuracy:.4f} (95% interval {low:.3f} to {high:.3f}), loss {result.loss:.4f}")
    macro, weighted = result.macro_f1_interval, result.weighted_f1_interval
    out.print(
        f"F1 {result.macro_f1:.4f} ({macro[0]:.3f} to {macro[1]:.3f}), weighted by pictures {result.weighted_f1:.4f} "
        f"({weighted[0]:.3f} to {weighted[1]:.3f})"
    )
    top = "".join(f", top {k} {share:.4f}" for k, share in result.top.items())
    if math.isnan(result.auc) or math.isnan(result.average_precision):
        out.print(f"ROC-AUC and average precision undefined, since a class has no picture{top}")
    else:
        out.print(f"ROC-AUC {result.auc:.4f}, average precision {result.average_precision:.4f}{top}")
    out.print(
        f"calibration error {result.calibration_error:.4f}, before calibration {result.uncalibrated_error:.4f} "
        f"(temperature {result.temperature:.2f})"
    )
    out.print()
    table = _table("class", "precision", "recall", "f1", "pictures")
    for score in result.classes:
        _row(table, score.name, *(f"{value:.3f}" for value in (score.precision, score.recall, score.f1)), f"{score.support:,}")
    out.print(table)
    out.print()
    if len(result.class_names) <= 12:
        table = _table("true \\ predicted", *result.class_names)
        for name, row in zip(result.class_names, result.confusion.tolist(), strict=True):
            _row(table, name, *(f"{count:,}" for count in row))
        out.print(table)
    else:
        say(f"confusion matrix of {len(result.class_names)} classes: see the PNG")
    if result.errors:
        out.print()
        lines = [(one["label"], one["predicted"], f"{one['probability']:.3f}", one["path"]) for one in result.errors[:5]]
        _one_line_each(lines, "true", "predicted", "sure", f"worst of {_count(len(result.errors), 'error')}")
    worse = [one for one in result.slices if one.is_worse]
    if worse:
        out.print()
        table = _table("does worse where", "is", "accuracy", "pictures", numbers=False)
        for one in worse:
            _row(table, one.by, one.value, f"{one.accuracy:.3f}", f"{one.pictures:,}")
        out.print(table)
    if not result.unwritten:
        files = (f"predictions-{result.name}.csv", f"confusion-{result.name}.png", f"calibration-{result.name}.png")
        say(f"wrote {result.run}/evaluation-{result.name}.json, {', '.join(files)}")


def explained(records: "Iterable[Explanation]", json: bool) -> int:
    """A line and, on a terminal, a picture for each; one JSON document instead. Returns how many failed."""
    failed, found = 0, []
    for record in records:
        failed += record.error is not None
        if json:
            found.append(record.to_dict())
        elif record.error is not None:
            out.print(_text(f"{record.input}: {record.error}", "red"), soft_wrap=True)
        else:
            if on_terminal() and record.small is not None:
                from imgclf.pixels import images

                height, width = record.small.shape[:2]
                columns = min(out.width, 72)
                _half_blocks(images.resize(record.small, columns, max(2, round(columns * height / width / 2) * 2)))
            answer = "" if record.label == record.target else f" (answer: {record.label})"
            falls = (
                "no part of the picture moves this"
                if record.is_blank
                else f"30% covered where marked {record.marked[-1]:.4f}, at random {record.random[-1]:.4f}"
            )
            out.print(
                _text(f"{record.input}: {record.target} {record.probability:.4f}{answer}; {falls}; {record.sheet}"),
                soft_wrap=True,
            )
    if json:
        as_json(found)
    return failed


def comparison(result: "Comparison", json: bool) -> None:
    """Two runs side by side, and what to make of their difference."""
    if json:
        as_json(result.to_dict())
        return
    for note in result.notes:
        say(note, style="yellow")
    _left_out(result.left_out)
    out.print(_text(f"{_count(result.pictures, 'picture')}: {result.on}"))
    table = _table("", "run", "model", "accuracy", "95% interval", "loss", numbers=False)
    for name, side in (("A", result.first), ("B", result.second)):
        low, high = side.interval
        _row(table, name, side.run, side.model, f"{side.accuracy:.4f}", f"{low:.3f} to {high:.3f}", f"{side.loss:.4f}")
    out.print(table)
    out.print(
        f"right: both {result.both:,}, A alone {result.only_first:,}, B alone {result.only_second:,}, "
        f"neither {result.neither:,}"
    )
    low, high = result.interval
    out.print(
        f"B less A: {result.difference:+.4f} (95% interval {low:+.4f} to {high:+.4f})\n"
        f"McNemar's exact test: p = {result.p_value:.2g}"
    )
    better = "B" if result.difference > 0 else "A"
    sure = result.p_value < 0.05
    out.print(f"{better} is better" if sure else "no difference that chance could not explain; more pictures would tell")
    if result.disagreements:
        out.print()
        lines = [(one.label, one.first, one.second, one.path) for one in result.disagreements[:LONGEST_LIST]]
        _one_line_each(lines, "true", "A says", "B says", "picture")
        if len(result.disagreements) > LONGEST_LIST:
            out.print(f"... and {len(result.disagreements) - LONGEST_LIST:,} more; --json lists all")


WATCHED = "{path}\\t{label}\\t{probability}{error}"  # a line each, where nothing else was asked for and a table never ends


def exported(result: "Export", json: bool) -> None:
    """The file beside its run, and on stdout its path."""
    if json:
        as_json(result.to_dict())
        return
    for note in result.notes:
        say(note, style="yellow")
    what = result.format if result.quantize == "none" else f"{result.format} in {result.quantize}"
    fitted = f", fitted to {_count(result.fitted_to, 'picture')}" if result.fitted_to else ""
    say(f"{what}{fitted}; compared with {result.run} on {_count(result.pictures, 'picture')} of the {result.part} part")
    table = _table("", "run", "exported")
    _row(table, "accuracy", f"{result.accuracy_before:.4f}", f"{result.accuracy_after:.4f}")
    _row(table, "size", f"{result.size_before / 1e6:.2f} MB", f"{result.size_after / 1e6:.2f} MB")
    _row(table, "time a picture", f"{result.ms_before:.2f} ms", f"{result.ms_after:.2f} ms")
    err.print(table)
    same = round(result.agreement * result.pictures)
    say(f"largest probability difference {result.difference:.2g}, same label on {same:,} of {result.pictures:,}")
    files = result.from_bytes
    if files:
        say(
            f"from the bytes of JPEG and PNG files: largest difference {files.difference:.2g}, "
            f"same label on {round(files.agreement * files.pictures):,} of {files.pictures:,}"
        )
    data(result.path)


def line_format(form: str) -> "Callable[[Prediction], str]":
    """What `{label}\\t{path}` makes of a record; raises UsageError for a name that there is not."""
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
            raise UsageError(f"--format {form}: there is no {{{name}}}; there are {', '.join(f'{{{one}}}' for one in named)}")
    return lambda record: re.sub(r"\{(.*?)\}", lambda match: named[match[1]](record), text)


def predictions(records: "Iterable[Prediction]", form: "str | Callable[[Prediction], str]", top: int) -> int:
    """Print records as a `table`, `json`, `jsonl`, `csv` or in lines of one's own, as they come where the form allows.

    Returns how many failed.
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
        before = "[\n  "  # record by record, since a million of them are too many to hold
        for record in count(records):
            sys.stdout.write(before + json_text(record.to_dict()))
            before = ",\n  "
        data("[]" if before.startswith("[") else "\n]")
    elif form == "csv":
        _csv(count(records), top)
    else:
        rows = count(records)
        while some := list(itertools.islice(rows, 1000)):  # the rows of a million pictures are never all held
            _prediction_table(some, top, heading=not shown)
            shown = True
    return failed


def _prediction_table(records: "Sequence[Prediction]", top: int, *, heading: bool) -> None:
    failed = any(record.error is not None for record in records)
    table = _table(
        "input", "label", "probability", *(["also"] if top > 1 else []), *(["error"] if failed else []), numbers=False
    )
    table.show_header = heading
    for record in records:
        if record.error is not None or record.probability is None:
            table.add_row(_text(record.input), *[""] * (2 + (top > 1)), _text(record.error or "", "red"))
        else:
            others = ", ".join(f"{label} {probability:.4f}" for label, probability in record.top[1:])
            more = [_text(others)] if top > 1 else []
            table.add_row(_text(record.input), _text(record.label or ""), f"{record.probability:.4f}", *more)
    out.print(table)


class Notes:
    """Says the first so many of a kind of problem at once, one a line; to be called with what and why."""

    def __init__(self, words: str) -> None:
        self.words, self.said = words, 0

    def __call__(self, what: str, why: str) -> None:
        self.said += 1
        if self.said <= LONGEST_NOTES:
            say(f"{self.words} {what}: {why}", style="yellow")
        elif self.said == LONGEST_NOTES + 1:
            say(f"{self.words}: more of them, which are only counted from here on", style="yellow")


def sorted_into(counts: "Mapping[str, int]", there: int, failed: int, folder: Path) -> None:
    """How many photos came into which class folder, and how many did not."""
    classes = ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items()))
    already = f", {there:,} were there already" if there else ""
    left = f", {failed:,} not placed" if failed else ""
    say(f"{_count(sum(counts.values()), 'photo')} into {folder}{': ' if classes else ''}{classes}{already}{left}")
    if counts:
        say(f"`imgclf predict --undo {shlex.quote(str(folder))}` takes it back")


def unsorted(back: "Sequence[str]", problems: "Sequence[tuple[str, str]]", folder: Path) -> None:
    """What an undo of sorting did, and what it could not."""
    for path in back:
        data(path)
    say(f"{_count(len(back), 'photo')} taken back out of {folder}")
    _errors([f"{path}: {reason}" for path, reason in problems])


def _csv(records: "Iterable[Prediction]", top: int) -> None:
    others = [name for place in range(2, top + 1) for name in (f"label_{place}", f"probability_{place}")]
    sys.stdout.write(csv_line(["input", "label", "probability", "error", *others]))
    for record in records:
        more = [value for pair in record.top[1:top] for value in pair]
        more += [""] * (len(others) - len(more))
        sys.stdout.write(csv_line([record.input, record.label, record.probability, record.error, *more]))
        sys.stdout.flush()
