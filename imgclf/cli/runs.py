"""`imgclf runs`: list, show and remove runs."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.info import info
from imgclf.cli.shared import console
from imgclf.cli.shared.console import add_row, as_json, counted, new_table, out, say
from imgclf.cli.shared.options import Json
from imgclf.cli.shared.shell import Command

if TYPE_CHECKING:
    from imgclf.runs import Run

runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and remove runs.")

Folder = Annotated[Path, typer.Option("--in", metavar="DIR", help="Folder that contains the runs.")]


@runs_app.command("list", cls=Command)
def runs_list(folder: Folder = Path("runs"), as_json: Json = False) -> None:
    """List all runs and their accuracies, newest first, including unfinished and broken runs."""
    from imgclf import runs as verb

    print_runs(verb.runs(folder), folder, as_json)


@runs_app.command("show", cls=Command)
def runs_show(
    run: Annotated[
        str, typer.Argument(help="Run folder, its name under runs/, `latest` (newest finished run) or `best`.")
    ] = "latest",
    as_json: Json = False,
) -> None:
    """Show the details of a run."""
    info(run, as_json)


@runs_app.command("best", cls=Command)
def runs_best(folder: Folder = Path("runs")) -> None:
    """Print the folder of the best run by validation accuracy. Only runs on the newest run's split are compared."""
    from imgclf.models import registry

    chosen, note = registry.best(folder)
    if note:
        console.say(note, style="yellow")
    console.data(str(chosen.path))


@runs_app.command("rm", cls=Command)
def runs_rm(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or their names in DIR.")],
    folder: Folder = Path("runs"),
) -> None:
    """Move runs to the trash folder DIR/.trash; nothing is deleted."""
    from imgclf import runs as verb

    for name in names:
        target = verb.remove(name, folder)
        console.say(f"moved {name} to {target}; to undo, move it back; to free the space, delete it there")


def print_runs(runs: "Sequence[Run]", folder: Path, json: bool) -> None:
    """Print a table of runs, or JSON."""
    if json:
        as_json([{"schema": "runs/1", **dataclasses.asdict(run)} for run in runs])
        return
    table = new_table("run", "model", "val", "test", "baseline", numbers=False)
    table.columns[0].no_wrap = True  # never cut a name: users copy it
    poor = []
    for run in runs:
        baseline = run.test_baseline or run.val_baseline
        if baseline is not None and baseline.verdict != "better":
            poor.append(run.name)
        add_row(
            table,
            run.name,
            run.model or "",
            run.state if run.state != "finished" else _score(run.val_accuracy, run.val_interval),
            _score(run.test_accuracy, run.test_interval),
            "" if baseline is None else f"{baseline.accuracy:.2f}",
            style="yellow" if run.name in poor else None,
        )
    if runs:
        out.print(table)
    for run in runs:
        if run.problem:
            say(run.problem, style="yellow")
    about = "; accuracies on validation and test images with 95% intervals; baseline: always predict the largest class"
    say(f"{counted(len(runs), 'run')} in {folder}{about if runs else ''}")
    if poor:
        say(
            f"Warning: not significantly better than the baseline: {', '.join(poor)}; "
            f"for details run `imgclf evaluate --run {shlex.quote(poor[0])}`",
            style="yellow",
        )


def _score(accuracy: float | None, interval: tuple[float, float] | None) -> str:
    """Format an accuracy with its interval, rounded to the precision that a few hundred images support."""
    if accuracy is None or interval is None:
        return ""
    return f"{accuracy:.3f} ({interval[0]:.2f}-{interval[1]:.2f})"
