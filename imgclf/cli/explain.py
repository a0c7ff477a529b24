"""`imgclf explain`: options, call and output."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from imgclf.cli.shared.console import (
    as_json,
    half_blocks,
    on_terminal,
    out,
    printable,
)
from imgclf.cli.shared.options import Json, Run, load_run
from imgclf.cli.shared.stdin import with_stdin

if TYPE_CHECKING:
    from imgclf.explain import Explanation


def explain(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin.")
    ],
    run: Run = "latest",
    method: Annotated[
        Literal["occlusion", "grad-cam"],
        typer.Option(help="occlusion covers parts of the image; grad-cam uses gradients, needs TensorFlow and starts slower."),
    ] = "occlusion",
    target: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class to explain.", show_default="the predicted class")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results, one PNG per image.")] = Path("explained"),
    as_json: Json = False,
) -> None:
    """Show which parts of an image decide the prediction.

    Each PNG file shows the saliency map, and plots how the probability falls when the marked pixels are covered and when as
    many random pixels are covered. If both fall alike, the map explains nothing.
    """
    from imgclf import explain as verb

    wanted = with_stdin(inputs, False) if "-" in inputs else inputs
    records = verb.explain(load_run(run), wanted, out, method=method, target=target)
    if print_explained(records, as_json):
        raise typer.Exit(1)


def print_explained(records: "Iterable[Explanation]", json: bool) -> int:
    """Print one line and, on a terminal, one image per explanation, or one JSON document. Return the number of failures."""
    failed, documents = 0, []
    for record in records:
        failed += record.error is not None
        if json:
            documents.append(record.to_dict())
        elif record.error is not None:
            out.print(printable(f"{record.input}: {record.error}", "red"), soft_wrap=True)
        else:
            if on_terminal() and record.small is not None:
                from imgclf.images import preprocess

                height, width = record.small.shape[:2]
                columns = min(out.width, 72)
                half_blocks(preprocess.resize(record.small, columns, max(2, round(columns * height / width / 2) * 2)))
            predicted = "" if record.label == record.target else f" (predicted: {record.label})"
            effect = (
                "no part of the image changes this"
                if record.is_blank
                else f"with 30% of the pixels covered: marked {record.marked[-1]:.4f}, random {record.random[-1]:.4f}"
            )
            out.print(
                printable(f"{record.input}: {record.target} {record.probability:.4f}{predicted}; {effect}; {record.sheet}"),
                soft_wrap=True,
            )
    if json:
        as_json(documents)
    return failed
