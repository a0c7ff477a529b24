"""`imgclf predict`: options and call."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.predict_output import WATCHED, line_format, print_predictions, print_sorted_into, print_unsorted
from imgclf.cli.shared import console, shell
from imgclf.cli.shared.options import Json, Run, ShardOf, load_run, refuse
from imgclf.cli.shared.stdin import open_stdin, with_stdin
from imgclf.core.errors import ImgclfError, UsageError

if TYPE_CHECKING:
    from imgclf.models.prediction import Prediction
    from imgclf.predict import Sorting


def predict(
    ctx: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin, one per line."),
    ] = None,
    run: Run = "latest",
    top: Annotated[int, typer.Option(min=1, help="Number of most likely classes to print.")] = 1,
    as_json: Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON record per line, each as soon as it is ready.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header, each line as soon as it is ready.")] = False,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="TEXT",
            help="Print each prediction in this format, such as '{label}\\t{path}'; also {name} {probability} {error}.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="P|auto:A",
            help="Print `unknown` below probability P, or below the one that gives accuracy A on the validation set.",
        ),
    ] = None,
    nul: Annotated[
        bool, typer.Option("-0", "--null", help="Read paths on stdin that end with NUL, as from find -print0.")
    ] = False,
    stdin_image: Annotated[bool, typer.Option("--stdin-image", help="Classify the image whose bytes are on stdin.")] = False,
    move_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Move each image into DIR/<label>; --undo DIR moves them back.")
    ] = None,
    link_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Link each image into DIR/<label>; --undo DIR removes the links.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Classify the images of DIR, and new ones as they arrive, until Ctrl-C.")
    ] = None,
    undo: Annotated[Path | None, typer.Option(metavar="DIR", help="Undo all moves and links that were made in DIR.")] = None,
    recover: Annotated[
        bool,
        typer.Option("--recover", help="With --undo: also undo moves of other users and machines."),
    ] = False,
    shard: ShardOf = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the output files of --shard and print all records in order.")
    ] = False,
) -> None:
    """Classify images.

    Print one record per image, in the order of the inputs. The record of an unreadable image contains the error. Exit with
    code 1 if any image failed.
    """
    from imgclf import predict as verb
    from imgclf.core import shards
    from imgclf.images.sources import Source
    from imgclf.models import prediction

    forms = [name for name, wanted in (("json", as_json), ("jsonl", jsonl), ("csv", as_csv)) if wanted]
    if len(forms) + (form is not None) > 1:
        raise UsageError("--json, --jsonl, --csv and --format exclude each other; give one of them")
    _check_one({"INPUT": inputs, "--stdin-image": stdin_image, "--watch": watch, "--undo": undo})
    given = shell.given(ctx)
    if undo:
        _undo(undo, recover, given)
        return
    place = move_to or link_to
    refuse(
        (recover, "--recover needs --undo"),
        ("nul" in given and "-" not in (inputs or ()), "--null is for paths on stdin; give - as an input"),
        (move_to and link_to, "--move-to and --link-to: give one of them"),
        (watch and as_json, "--watch never ends, and --json is one document; use --jsonl"),
        (place and stdin_image, "--stdin-image: what comes from a pipe has no file that could be moved or linked"),
    )
    _check_shards(given, inputs, shard, merge, is_plain=forms == ["jsonl"] and not place and not merge)
    if watch and not watch.is_dir():
        raise ImgclfError(f"{watch}: not a folder; --watch needs one")
    line = line_format(form if form is not None else WATCHED) if form is not None or watch else None
    model = None if merge else load_run(run)
    known = [Path(model.info.data.path)] if model else []
    sorting = verb.Sorting(place, "move" if move_to else "link", console.Notes("not placed"), known) if place else None
    if sorting:
        sorting.check([str(watch)] if watch else () if merge else inputs or ())
    if model:
        top = min(top, len(model.class_names))
    least, note = prediction.threshold(model, threshold) if model and threshold else (0.0, "")
    if note:
        console.say(note)
    if model and watch:
        console.say(f"watching {watch}; press Ctrl-C to stop")
        records = verb.watch(model, watch, top=top, threshold=least, sorting=sorting)
    elif model is None:
        records = verb.merge(inputs or ())
        records = sorting.through(records) if sorting else records
    elif shard:
        records = verb.predict_shard(model, with_stdin(inputs or (), nul), shards.parse(shard), top=top, threshold=least)
    else:
        wanted = [Source("stdin", open_stdin().read())] if stdin_image else with_stdin(inputs or (), nul)
        records = verb.predict(model, wanted, top=top, threshold=least, without=place)
        records = sorting.through(records) if sorting else records
    _print(records, forms[0] if forms else line or "table", top, sorting)


def _check_one(tasks: dict[str, object]) -> None:
    """Raise UsageError unless exactly one of these inputs and options is given."""
    given = [name for name, wanted in tasks.items() if wanted]
    if len(given) != 1:
        raise UsageError(
            f"give one of INPUT..., --stdin-image, --watch DIR and --undo DIR; given: {' and '.join(given) or 'none'}"
        )


def _undo(folder: Path, recover: bool, given: set[str]) -> None:
    """Undo the moves and links that were made in a folder. given: the names of all options."""
    from imgclf import predict as verb

    if given - {"undo", "recover"}:
        raise UsageError("--undo can be combined only with --recover; omit the other options")
    back, problems = verb.undo(folder, foreign=recover)
    print_unsorted(back, problems, folder)
    if problems:
        raise typer.Exit(1)


def _check_shards(given: set[str], inputs: list[str] | None, shard: str | None, merge: bool, *, is_plain: bool) -> None:
    """Raise UsageError for options that --shard and --merge exclude. is_plain: whether JSON lines are the only output."""
    refuse(
        (merge and not inputs, "--merge needs INPUT..."),
        (shard and not inputs, "--shard needs INPUT..."),
        (
            shard and not is_plain,
            "--shard needs --jsonl; `imgclf predict --merge` then puts the shards together, and prints or sorts them",
        ),
        (
            merge and given & {"run", "threshold", "nul"},
            "--merge does not run the model: remove --run, --threshold and --null, and give them to the shards",
        ),
    )


def _print(
    records: "Generator[Prediction, None, None]", form: "str | Callable[[Prediction], str]", top: int, sorting: "Sorting | None"
) -> None:
    """Print the records and where the images went; exit with 1 if any image failed."""
    try:
        with contextlib.closing(records):  # places the images predicted so far if printing is interrupted
            failed = print_predictions(records, form, top)
    finally:
        if sorting:
            print_sorted_into(sorting.counts, sorting.there, sorting.failed, sorting.folder)
    if failed or (sorting and sorting.failed):
        raise typer.Exit(1)
