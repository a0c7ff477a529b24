"""The command line: all commands, in the order of --help."""

import os
import sys
from typing import Annotated

import typer

import imgclf
from imgclf.cli import (
    audit,
    clean,
    compare,
    evaluate,
    explain,
    export,
    help,
    info,
    predict,
    preview,
    runs,
    schema,
    serve,
    split,
    train,
)
from imgclf.cli.shared import console, defaults, shell
from imgclf.cli.shared.shell import Command, Commands
from imgclf.core import process
from imgclf.core.errors import UsageError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: the boxes took a third of the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    help="Train an image classifier that you can trust, from a folder with one folder of images per class.\n\n"
    "The usual order is: clean, preview, split, train, evaluate, predict. "
    "Defaults: the data folder `data`, and the newest finished run in `runs/`.",
)


def _version(wanted: bool) -> None:
    if wanted:
        console.data(f"imgclf {imgclf.__version__}")
        raise typer.Exit


@app.callback()
def top(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only results and errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show the defaults used, the time and the memory.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Turn colours off.")] = False,
) -> None:
    for wanted, apply in ((quiet, console.be_quiet), (verbose, console.be_verbose), (no_color, console.be_colourless)):
        if wanted:
            apply()
    console.show_warnings()
    defaults.use_defaults(ctx)


app.command(cls=clean.CleanCommand, rich_help_panel="Data")(clean.clean)
app.command(cls=Command, rich_help_panel="Data")(preview.preview)
app.command(cls=Command, rich_help_panel="Data")(split.split)
app.command(cls=Command, rich_help_panel="Data")(audit.audit)
app.command(cls=train.TrainCommand, rich_help_panel="Models", epilog=train.EXAMPLES)(train.train)
app.command(cls=Command, rich_help_panel="Models")(evaluate.evaluate)
app.command(cls=Command, rich_help_panel="Models")(compare.compare)
app.command(cls=Command, rich_help_panel="Models")(explain.explain)
app.add_typer(runs.runs_app, name="runs", rich_help_panel="Models")
app.command(cls=Command, rich_help_panel="Models")(info.info)
app.command(cls=Command, rich_help_panel="Use")(predict.predict)
app.command(cls=Command, rich_help_panel="Use")(serve.serve)
app.command(cls=Command, rich_help_panel="Use")(export.export)
app.command(cls=Command, rich_help_panel="More")(schema.schema)
app.command("help", cls=Command, rich_help_panel="More")(help.help_)


def main() -> None:
    """Run the `imgclf` command."""
    process.begin()
    if "" in sys.argv[1:]:  # an empty path would mean the current folder
        console.error("an argument is empty; is a variable in your script not set?")
        sys.exit(UsageError.exit_code)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shell.quiet_libraries()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    app()
