"""`imgclf explain`: options, call and output."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imgclf.cli.console import (
    as_json,
    half_blocks,
    on_terminal,
    out,
    printable,
)
from imgclf.cli.options import Json, Run, found
from imgclf.cli.stdin import with_stdin

if TYPE_CHECKING:
    from imgclf.explain import Explanation


def explain(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin.")
    ],
    run: Run = "latest",
    method: Annotated[
        Literal["occlusion", "grad-cam"],
        typer.Option(help="Cover parts of the image, or follow the gradients (needs TensorFlow, starts slower)."),
    ] = "occlusion",
    target: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class to explain.", show_default="the run's answer")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results, a PNG for each image.")] = Path("explained"),
    as_json: Json = False,
) -> None:
    """Show which parts of an image decide the prediction.

    Each sheet says how the probability falls when what is marked is covered, beside as much covered at random: a mark that
    explains nothing falls no faster than chance.
    """
    from imgclf import explain as verb

    wanted = with_stdin(inputs, False) if "-" in inputs else inputs
    records = verb.explain(found(run), wanted, out, method=method, target=target)
    if print_explained(records, as_json):
        raise typer.Exit(1)


def print_explained(records: "Iterable[Explanation]", json: bool) -> int:
    """A line and, on a terminal, an image for each; one JSON document instead. Returns how many failed."""
    failed, found = 0, []
    for record in records:
        failed += record.error is not None
        if json:
            found.append(record.to_dict())
        elif record.error is not None:
            out.print(printable(f"{record.input}: {record.error}", "red"), soft_wrap=True)
        else:
            if on_terminal() and record.small is not None:
                from imgclf.images import preprocess

                height, width = record.small.shape[:2]
                columns = min(out.width, 72)
                half_blocks(preprocess.resize(record.small, columns, max(2, round(columns * height / width / 2) * 2)))
            answer = "" if record.label == record.target else f" (answer: {record.label})"
            falls = (
                "no part of the image moves this"
                if record.is_blank
                else f"30% covered where marked {record.marked[-1]:.4f}, at random {record.random[-1]:.4f}"
            )
            out.print(
                printable(f"{record.input}: {record.target} {record.probability:.4f}{answer}; {falls}; {record.sheet}"),
                soft_wrap=True,
            )
    if json:
        as_json(found)
    return failed
