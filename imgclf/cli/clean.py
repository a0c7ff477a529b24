"""`imgclf clean`: options, call and output."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgclf.cli.shared import console, shell
from imgclf.cli.shared.console import (
    MAX_ROWS,
    add_row,
    as_json,
    counted,
    data,
    new_table,
    one_line_each,
    out,
    printable,
    say,
    say_errors,
)
from imgclf.cli.shared.options import Data, Json, ShardOf, print_shard
from imgclf.cli.shared.shell import Command
from imgclf.core.config import Policy
from imgclf.core.errors import UsageError
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.clean.cleaning import Cleaning
    from imgclf.core.files.operations import Operation
    from imgclf.data.checks import Issue


class CleanCommand(Command):
    """Lets --undo stand alone or before the number of an operation, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--undo" in args:
            at = args.index("--undo")
            number = next((value for value in args[at + 1 : at + 2] if value.isdecimal()), None)
            args[at : at + (2 if number else 1)] = [f"--undo={number or -1}"]
        return super().parse_args(ctx, args)


def clean(
    ctx: typer.Context,
    data: Data = Path("data"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report; move nothing.")] = False,
    policy: Annotated[
        Policy,
        typer.Option(
            help="Quarantine broken files and exact copies (default), all doubtful files (strict), or nothing (report)."
        ),
    ] = "default",
    on: Annotated[
        list[str] | None, typer.Option(metavar="CHECK=ACTION", help="Set a check's action: report, quarantine, ignore, rename.")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK=SCORE", help="Change the score (0 to 1) from which a quality check reports an issue."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Also write all files and issues to FILE.csv.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page of the issues with thumbnails.")
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="Carry out the `quarantine` and `relabel` lines of an edited report."),
    ] = None,
    undo: Annotated[
        int | None,
        typer.Option("--undo", metavar="[N]", min=-1, help="Move all files back, or those of operation N."),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="List the operations so far.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="Finish the interrupted moves of another user or machine, if you trust them.")
    ] = False,
    shard: ShardOf = None,
    as_json: Json = False,
) -> None:
    """Find broken, duplicated and doubtful images; quarantine them.

    Fully decode all files in the class folders. Move unusable files and exact copies to DATA/.imgclf/quarantine, correct
    wrong extensions, and report all other issues. No file is deleted or rewritten, and --undo moves every file back.
    """
    from imgclf.clean import applying, undoing, writing
    from imgclf.clean import cleaning as verb
    from imgclf.data import issue_report
    from imgclf.reports import image_page

    tasks = {"--undo": undo is not None, "--history": history, "--apply": apply, "--shard": shard, "--recover": recover}
    _check_alone([name for name, wanted in tasks.items() if wanted], shell.given(ctx), dry_run)
    if undo is not None:
        _undo(data, undo, dry_run, as_json)
        return
    if recover:
        print_recovered(undoing.recover(data), as_json)
        return
    if history:
        print_history(undoing.history(data), as_json)
        return
    if apply:
        issues, notes = applying.apply(data, apply, dry_run=dry_run)
        print_applied(issues, notes, data, dry_run, as_json)
        raise typer.Exit(1 if any(issue.action == "stuck" for issue in issues) else 0)
    if shard:
        _inspect_shard(data, shard, as_json)
        return
    if report:
        issue_report.check_place(report, data)
    if html:
        image_page.check_place(html, data)
    actions = _pairs("--on", on)
    limits = {name: _number("--threshold", name, value) for name, value in _pairs("--threshold", threshold).items()}
    kept: list[str] = []
    with console.stages() as stage:
        result = verb.clean(data, policy=policy, on=actions, thresholds=limits, dry_run=dry_run, progress=stage)
        if report:
            kept = writing.write_report(result, report)
        if html:
            writing.write_page(result, html, lambda done, total: stage("drawing", done, total))
    if as_json:
        console.as_json(result.to_dict())
    else:
        print_cleaning(result)
    for note in kept:
        console.say(note)
    for path in (report, html):
        if path:
            console.say(f"wrote {path}")
    if result.counts()["stuck"]:
        raise typer.Exit(1)


def _check_alone(alone: list[str], given: set[str], dry_run: bool) -> None:
    """Raise UsageError if an option that replaces the cleaning, such as --history, is combined with other options.

    alone: the given options of that kind. given: the names of all given options.
    """
    is_dry = {"--undo", "--apply"}.issuperset(alone)  # whether they allow --dry-run
    others = given & {"report", "html", "on", "threshold", "policy"} or (dry_run and not is_dry)
    if alone and (others or len(alone) > 1):
        raise UsageError(f"{alone[0]} cannot be combined with other options{' than --dry-run' if is_dry else ''}; remove them")


def _inspect_shard(folder: Path, shard: str, as_json: bool) -> None:
    """Inspect one shard of the files, for a later `clean` to use."""
    from imgclf.clean import cleaning
    from imgclf.core import shards

    with console.progress("decoding") as progress:
        shard_result = cleaning.inspect_shard(folder, shards.parse(shard), progress)
    print_shard(shard_result, "clean", as_json)


def _undo(folder: Path, number: int, dry_run: bool, as_json: bool) -> None:
    """Undo one operation, or all for -1."""
    from imgclf.clean import undoing

    if number == 0:
        raise UsageError("--undo 0: operations count from 1; --history lists them")
    restored, problems, notes = undoing.undo(folder, None if number == -1 else number, dry_run=dry_run)
    print_undone(restored, problems, notes, dry_run, as_json)
    if problems:
        raise typer.Exit(1)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Return NAME=VALUE options as a dictionary."""
    for pair in given or []:
        if "=" not in pair:
            example = "blurry=quarantine" if option == "--on" else "blurry=0.8"
            raise UsageError(f"{option} {pair}: expected a check, = and a value, as in {option} {example}")
    return {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in given or [])}


def _number(option: str, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"{option} {name}={value}: {value!r} is not a number") from None


def print_cleaning(result: "Cleaning") -> None:
    """Print a table of the checks with their worst files, all files that were or would be moved, and the counts."""
    counts = result.counts()
    if result.issues:
        colours = {"quarantined": "red", "quarantine": "red", "stuck": "red", "renamed": "yellow", "rename": "yellow"}
        lines = []
        for name, issues in result.by_check().items():
            actions = ", ".join(sorted({issue.action for issue in issues}))
            lines.append((name, f"{len({issue.path for issue in issues}):,}", actions, f"{issues[0].path}: {_why(issues[0])}"))
        one_line_each(lines, "check", "files", "action", "worst", styles=colours)  # may cut the text; --report has all of it
        out.print()
    moved = [issue for issue in result.issues if issue.moved_to or issue.action == "stuck"]
    if len(moved) > len({issue.check for issue in moved}):  # the table above names one file per check
        table = new_table("action", "file", "why", numbers=False)
        for issue in moved[:MAX_ROWS]:
            table.add_row(printable(issue.action), printable(issue.path), printable(_why(issue)))
        out.print(table)
        if len(moved) > MAX_ROWS:
            out.print(f"... and {len(moved) - MAX_ROWS} more; --report FILE.csv lists all")
        out.print()
    for rule, number in sorted(collections.Counter(rule for _path, rule in result.ignored).items()):
        out.print(printable(f"ignored {number:,}: {rule}"))
    total = len(result.files) + len(result.ignored)
    pending = "to be " if result.dry_run else ""
    out.print(
        f"{counted(total, 'file')}: {counts['kept']:,} kept, {counts['renamed']:,} {pending}renamed, "
        f"{counts['quarantined']:,} {pending}quarantined, {counts['ignored']:,} ignored"
        + (f", {counts['stuck']:,} could not be moved" if counts["stuck"] else "")
        + (f"; issues reported for {counts['reported']:,} of the kept files" if counts["reported"] else "")
    )
    if any(before != after for before, after in result.images.values()):
        changes = (f"{label} {before:,} -> {after:,}" for label, (before, after) in result.images.items())
        out.print(printable(f"usable images by class: {', '.join(changes)}"))
    for note in result.notes:
        say(note)
    if counts["reported"]:
        say("To see the reported issues: --html FILE.html. To act on them: --report FILE.csv, edit the file, --apply FILE.csv.")
    if any(issue.moved_to for issue in moved) and not result.dry_run:
        say(_undo_hint(result.data))


def _undo_hint(folder: Path) -> str:
    return f"Nothing was deleted; {command('clean', folder, '--undo')} puts every file back."


def _why(issue: "Issue") -> str:
    if issue.action in ("rename", "renamed"):
        return f"{issue.detail}, {'now' if issue.action == 'renamed' else 'to become'} {Path(issue.moved_to).name}"
    return issue.detail


def print_undone(restored: Sequence[str], problems: Sequence[str], notes: Sequence[str], dry_run: bool, json: bool) -> None:
    """Print the files that an undo moves back, and those that it cannot move back."""
    for note in notes:
        say(note)
    if json:
        result = {"restored": list(restored), "problems": list(problems), "notes": list(notes)}
        as_json({"schema": "clean-undo/1", "dry_run": dry_run, **result})
    elif dry_run:
        for path in restored:
            out.print(printable(path))
        out.print(f"{counted(len(restored), 'file')} to go back")
    else:
        data(f"{counted(len(restored), 'file')} back where {'it was' if len(restored) == 1 else 'they were'}")
    say_errors(problems)


def print_recovered(notes: Sequence[str], json: bool) -> None:
    """Print what `--recover` finished of interrupted commands."""
    if json:
        as_json({"schema": "clean-recover/1", "notes": list(notes)})
    else:
        for note in notes:
            data(note)


def print_history(operations: "Sequence[Operation]", json: bool) -> None:
    """Operations, the oldest first."""
    if json:
        as_json([{"schema": "clean-history/1", **dataclasses.asdict(one)} for one in operations])
        return
    if not operations:
        say("nothing has been moved yet")
        return
    lines = []
    for one in operations:
        first = one.moves[0].source if one.moves else ""
        when = one.time.replace("T", " ").rstrip("Z")
        lines.append((f"{one.number}", when, one.command, f"{len(one.moves):,}", one.state, first))
    one_line_each(lines, "operation", "when (UTC)", "command", "files", "state", "first")


def print_applied(issues: "Sequence[Issue]", notes: "Sequence[str]", folder: Path, dry_run: bool, json: bool) -> None:
    """Print each file that --apply moved, or would move in a dry run."""
    for note in notes:
        say(note)
    if json:
        moves = [dataclasses.asdict(issue) for issue in issues]
        as_json({"schema": "clean-apply/1", "data": str(folder), "dry_run": dry_run, "moves": moves})
        return
    if issues:
        table = new_table("action", "file", "to", numbers=False)
        for issue in issues[:MAX_ROWS]:
            add_row(table, issue.action, issue.path, issue.moved_to or issue.detail)
        out.print(table)
        if len(issues) > MAX_ROWS:
            out.print(f"... and {len(issues) - MAX_ROWS} more")
    stuck = sum(issue.action == "stuck" for issue in issues)
    verb = "to be moved" if dry_run else "moved"
    out.print(f"{counted(len(issues) - stuck, 'file')} {verb}" + (f", {stuck:,} could not be moved" if stuck else ""))
    if any(issue.moved_to for issue in issues) and not dry_run:
        say(_undo_hint(folder))
