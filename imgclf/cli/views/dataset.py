"""What a person sees of clean, preview and split."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.cli.console import (
    LONGEST_LIST,
    add_row,
    as_json,
    counted,
    data,
    err,
    half_blocks,
    new_table,
    on_terminal,
    one_line_each,
    out,
    percent,
    printable,
    say,
    say_errors,
    say_left_out,
)
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgclf.clean import Cleaning, Outcome
    from imgclf.core.files.journal import Batch
    from imgclf.preview import Preview
    from imgclf.split import Leakage, Split


def cleaning(result: "Cleaning") -> None:
    """A table by check with the worst example, every file that was or would be moved, and the counts."""
    counts = result.counts()
    if result.outcomes:
        colours = {"quarantined": "red", "quarantine": "red", "stuck": "red", "renamed": "yellow", "rename": "yellow"}
        lines = []
        for name, found in result.by_check().items():
            actions = ", ".join(sorted({outcome.action for outcome in found}))
            lines.append((name, f"{len({outcome.path for outcome in found}):,}", actions, f"{found[0].path}: {_why(found[0])}"))
        one_line_each(lines, "check", "files", "action", "worst", styles=colours)  # the report has it whole
        out.print()
    moved = [outcome for outcome in result.outcomes if outcome.moved_to or outcome.action == "stuck"]
    if len(moved) > len({outcome.check for outcome in moved}):  # the table above names one a check
        table = new_table("action", "file", "why", numbers=False)
        for outcome in moved[:LONGEST_LIST]:
            table.add_row(printable(outcome.action), printable(outcome.path), printable(_why(outcome)))
        out.print(table)
        if len(moved) > LONGEST_LIST:
            out.print(f"... and {len(moved) - LONGEST_LIST} more; --report FILE.csv lists all")
        out.print()
    for rule, number in sorted(collections.Counter(rule for _path, rule in result.ignored).items()):
        out.print(printable(f"ignored {number:,}: {rule}"))
    total = len(result.files) + len(result.ignored)
    yet = "to be " if result.dry_run else ""
    out.print(
        f"{counted(total, 'file')}: {counts['kept']:,} kept, {counts['renamed']:,} {yet}renamed, "
        f"{counts['quarantined']:,} {yet}quarantined, {counts['ignored']:,} ignored"
        + (f", {counts['stuck']:,} could not be moved" if counts["stuck"] else "")
        + (f"; {counts['reported']:,} of the kept reported" if counts["reported"] else "")
    )
    if any(before != after for before, after in result.pictures.values()):
        changes = (f"{label} {before:,} to {after:,}" for label, (before, after) in result.pictures.items())
        out.print(printable(f"usable pictures by class: {', '.join(changes)}"))
    for note in result.notes:
        say(note)
    if counts["reported"]:
        say("To see what was reported: --html FILE.html; to decide on it: --report FILE.csv, edit, --apply FILE.csv.")
    if any(outcome.moved_to for outcome in moved) and not result.dry_run:
        say(_undo_hint(result.data))


def _undo_hint(folder: Path) -> str:
    return f"Nothing was deleted; {command('clean', folder, '--undo')} puts every file back."


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
            out.print(printable(path))
        out.print(f"{counted(len(restored), 'file')} to go back")
    else:
        data(f"{counted(len(restored), 'file')} back where {'it was' if len(restored) == 1 else 'they were'}")
    say_errors(problems)


def recovered(notes: Sequence[str], json: bool) -> None:
    """What was finished of interrupted commands."""
    if json:
        as_json({"schema": "clean-recover/1", "notes": list(notes)})
    else:
        for note in notes:
            data(note)


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
    one_line_each(lines, "batch", "when (UTC)", "command", "files", "state", "first")


def share(figures: "Mapping[str, Any]", verb: str, json: bool) -> None:
    """What one of several shares looked at, and what comes next."""
    if json:
        as_json({"schema": "share/1", **figures})
        return
    broken = f", of which {figures['broken']:,} cannot be used" if figures["broken"] else ""
    say(
        f"share {figures['shard']} of {figures['shards']}: looked at {counted(figures['looked_at'], 'file')} of "
        f"{figures['files']:,}{broken}; when all shares are done, "
        f"{command(verb, Path(figures['data']))} takes them up"
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
        table = new_table("action", "file", "to", numbers=False)
        for outcome in outcomes[:LONGEST_LIST]:
            add_row(table, outcome.action, outcome.path, outcome.moved_to or outcome.detail)
        out.print(table)
        if len(outcomes) > LONGEST_LIST:
            out.print(f"... and {len(outcomes) - LONGEST_LIST} more")
    stuck = sum(outcome.action == "stuck" for outcome in outcomes)
    verb = "to be moved" if dry_run else "moved"
    out.print(f"{counted(len(outcomes) - stuck, 'file')} {verb}" + (f", {stuck:,} could not be moved" if stuck else ""))
    if any(outcome.moved_to for outcome in outcomes) and not dry_run:
        say(_undo_hint(folder))


def preview(result: "Preview") -> None:
    """Counts, shares, sizes and formats by class."""
    table = new_table("class", "pictures", "share", "median", "smallest", "largest", "formats")
    total = sum(info.count for info in result.classes)
    for info in result.classes:
        formats = ", ".join(f"{name} {count:,}" for name, count in info.formats)
        if info.unreadable:
            formats += f", unreadable {info.unreadable:,}"
        sizes = [f"{width}x{height}" for width, height in (info.median_size, info.smallest, info.largest)]
        add_row(table, info.name, f"{info.count:,}", percent(info.count / total), *sizes, formats)
    out.print(table)
    empty = sum(info.count == 0 for info in result.classes)
    sizes_of = f"imbalance {result.imbalance:.2f} (largest / smallest{' that has pictures' if empty else ''})"
    out.print(f"{counted(total, 'picture')}, {counted(len(result.classes), 'class')}, {sizes_of}")
    for note in result.notes:
        say(note, style="yellow")
    say_left_out(result.left_out)
    say(f"wrote {result.path}")


def strip_columns(wanted: int) -> int:
    """How many thumbnails of a strip fit side by side."""
    return max(1, min(wanted, (out.width + 1) // 17))


def strip(rows: "Sequence[tuple[str, NDArray[np.uint8], list[str]]]") -> None:
    """Thumbnails by class in half blocks, two pixels a character; only their names where stdout is no terminal."""
    for name, picture, paths in rows[:LONGEST_LIST]:
        if not on_terminal():
            out.print(printable(f"{name}: {', '.join(paths)}"))
            continue
        out.print(printable(name, "bold"))
        half_blocks(picture, gap=17)
    if len(rows) > LONGEST_LIST:
        out.print(f"... and {len(rows) - LONGEST_LIST} more classes")


def split(result: "Split", *, talk: bool = False) -> None:
    """Classes by parts, what was kept together; on stderr when it is only talk."""
    for note in result.notes:
        say(note, style="yellow")
    say_left_out(result.left_out)
    to = err if talk else out
    table = new_table("class", "train", "val", "test", "all")
    totals = [0, 0, 0]
    for name, counts in result.manifest.counts().items():
        numbers = [counts["train"], counts["val"], counts["test"]]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        add_row(table, name, *(f"{number:,}" for number in (*numbers, sum(numbers))))
    add_row(table, "all", *(f"{number:,}" for number in (*totals, sum(totals))), style="bold")
    to.print(table)
    to.print(_kept_together(result))
    say(f"{'wrote' if result.changed else 'unchanged'}: {result.path}")


def _kept_together(result: "Split") -> str:
    groups, pictures, torn = result.groups()
    kept = f"groups that show the same or belong together: {groups:,} ({counted(pictures, 'picture')})"
    return kept + (f"; in more than one part (leakage): {torn:,}" if torn else ", none torn; leakage between parts: 0")


def folds(made: "Sequence[Split]", folder: Path, json: bool) -> None:
    """A line a fold."""
    for note in made[0].notes:
        say(note, style="yellow")
    say_left_out(made[0].left_out)
    if json:
        as_json([one.to_dict() for one in made])
        return
    table = new_table("fold", "train", "val", "test", "leakage")
    for number, one in enumerate(made, 1):
        counts = collections.Counter(row.split for row in one.manifest.rows)
        add_row(table, number, *(f"{counts[part]:,}" for part in ("train", "val", "test")), f"{one.groups()[2]:,}")
    out.print(table)
    first = f"train on the first fold with {command('train', folder, '--fold', '1')}"
    say(f"{'wrote' if made[0].changed else 'unchanged'}: {made[0].path.parent}; {first}")


def leakage(result: "Leakage", json: bool) -> None:
    """Every picture that shows the same as one in another part."""
    say_left_out(result.left_out)
    if json:
        as_json(result.to_dict())
        return
    if result.leaks:
        table = new_table("picture", "shows the same as", "how", numbers=False)
        for leak in result.leaks[:LONGEST_LIST]:
            how = "exact" if leak.exact else f"{'mirrored' if leak.mirrored else 'near'} {leak.similarity:.2f}"
            names = [path if result.where == "its folders" else f"{part}: {path}" for part, path in
                     ((leak.part, leak.path), (leak.other_part, leak.other))]  # fmt: skip
            add_row(table, *names, how)
        out.print(table)
        if len(result.leaks) > LONGEST_LIST:
            out.print(f"... and {len(result.leaks) - LONGEST_LIST} more; --json lists all")
        out.print()
    parts = ", ".join(f"{part} {count:,}" for part, count in result.pictures.items() if count)
    exact = sum(leak.exact for leak in result.leaks)
    found = f"leakage: {counted(len(result.leaks), 'picture')}" + (f", {exact:,} of them exact" if result.leaks else "")
    out.print(f"{parts}; {found}")
