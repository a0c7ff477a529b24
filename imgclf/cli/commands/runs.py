"""The commands runs, info and schema. Verbs are imported inside the bodies."""

from pathlib import Path
from typing import Annotated

import typer

from imgclf.cli import console
from imgclf.cli.commands.options import Json, found
from imgclf.cli.shell import Command
from imgclf.cli.views import runs as view

runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and put away runs.")


Folder = Annotated[Path, typer.Option("--in", metavar="DIR", help="The folder of runs.")]


@runs_app.command("list", cls=Command)
def runs_list(folder: Folder = Path("runs"), as_json: Json = False) -> None:
    """List runs, the newest first, with their accuracies; unfinished and broken ones too."""
    from imgclf import runs as verb

    view.runs(verb.runs(folder), folder, as_json)


@runs_app.command("show", cls=Command)
def runs_show(run: Annotated[str, typer.Argument(help="As for --run.")] = "latest", as_json: Json = False) -> None:
    """Show everything that a run knows of itself."""
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
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or their names in the folder of runs.")],
    folder: Folder = Path("runs"),
) -> None:
    """Move runs into the trash, DIR/.trash; nothing is deleted."""
    from imgclf import runs as verb

    for name in names:
        target = verb.remove(name, folder)
        console.say(f"{name} is now {target}; move it back to undo, delete it there for good")


def info(run: Annotated[str, typer.Argument(help="As for --run.")] = "latest", as_json: Json = False) -> None:
    """Show everything that a run knows of itself.

    Classes, recipe, options, metrics, calibration, data, versions, files and evaluations.
    """
    from imgclf import runs as verb

    view.info(verb.show(found(run)), as_json)


def schema(name: Annotated[str | None, typer.Argument(help="A schema; all are listed if not given.")] = None) -> None:
    """Describe the JSON that commands print and folders keep.

    As JSON Schemas (draft 2020-12), each with its number; one is printed whole, with those that it refers to inside.
    """
    from imgclf import schema as verb

    if name is None:
        view.schemas(verb.titles())
    else:
        console.as_json(verb.schema(name))
