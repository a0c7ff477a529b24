"""The command line: every command in the order of --help."""

import os
import sys
from typing import Annotated

import typer

import imgclf
from imgclf.cli import (
    audit,
    clean,
    compare,
    console,
    evaluate,
    explain,
    export,
    info,
    predict,
    preview,
    runs,
    schema,
    serve,
    shell,
    split,
    train,
)
from imgclf.cli.shell import Command, Commands
from imgclf.core import process
from imgclf.core.errors import UsageError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: the boxes took a third of the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a folder of images per class to a classifier you can trust.\n\n"
    "The usual order: clean, preview, split, train, evaluate, predict. "
    "The data folder is `data` and the run the newest finished one under `runs/` unless you say otherwise.",
)


def _version(wanted: bool) -> None:
    if wanted:
        console.data(f"imgclf {imgclf.__version__}")
        raise typer.Exit


@app.callback()
def top(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="As after any command: no talk.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="As after any command: more is said.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="As after any command: no colours.")] = False,
) -> None:
    for wanted, does in ((quiet, console.be_quiet), (verbose, console.be_verbose), (no_color, console.be_colourless)):
        if wanted:
            does()
    console.show_warnings()
    shell.use_defaults(ctx)


app.command(cls=clean.CleanCommand)(clean.clean)
app.command(cls=Command)(preview.preview)
app.command(cls=Command)(split.split)
app.command(cls=train.TrainCommand)(train.train)
app.command(cls=Command)(audit.audit)
app.command(cls=Command)(evaluate.evaluate)
app.command(cls=Command)(compare.compare)
app.command(cls=Command)(predict.predict)
app.command(cls=Command)(explain.explain)
app.command(cls=Command)(export.export)
app.command(cls=Command)(serve.serve)
app.add_typer(runs.runs_app, name="runs")
app.command(cls=Command)(info.info)
app.command(cls=Command)(schema.schema)


def main() -> None:
    """The `imgclf` command."""
    process.begin()
    if "" in sys.argv[1:]:  # it would mean the current folder
        console.error("an argument is empty; is a variable in your script not set?")
        sys.exit(UsageError.exit_code)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    shell.quiet_libraries()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    app()
