"""`imgclf compare`: options, call and output."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import (
    MAX_ROWS,
    add_row,
    as_json,
    counted,
    new_table,
    one_line_each,
    out,
    printable,
    say,
    say_skipped,
)
from imgclf.cli.shared.options import Json, load_run
from imgclf.core.config import Subset

if TYPE_CHECKING:
    from imgclf.compare import Comparison


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Run folder, or its name under runs/.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another run with the same classes.")],
    data: Annotated[
        Path | None, typer.Argument(help="Another folder with the same classes; by default the data of the first run.")
    ] = None,
    subset: Annotated[Subset | None, typer.Option("--split", help="Subset to score.", show_default="test")] = None,
    as_json: Json = False,
) -> None:
    """Compare two runs on the same images, with a significance test.

    Print both accuracies, their difference with a 95% interval, McNemar's exact test, and the images that only one run
    classifies correctly.
    """
    from imgclf import compare as verb

    one, other = load_run(first), load_run(second)
    with console.progress("comparing") as progress:
        result = verb.compare(one, other, data, subset, progress=progress)
    print_comparison(result, as_json)


def print_comparison(result: "Comparison", json: bool) -> None:
    """Print both runs side by side, and whether their difference is significant."""
    if json:
        as_json(result.to_dict())
        return
    for note in result.notes:
        say(note, style="yellow")
    say_skipped(result.skipped)
    out.print(printable(f"{counted(result.images, 'image')}: {result.on}"))
    table = new_table("", "run", "model", "accuracy", "95% interval", "loss", numbers=False)
    for name, side in (("A", result.first), ("B", result.second)):
        low, high = side.interval
        add_row(table, name, side.run, side.model, f"{side.accuracy:.4f}", f"{low:.3f} to {high:.3f}", f"{side.loss:.4f}")
    out.print(table)
    baselines = {side.baseline.class_name: side.baseline for side in (result.first, result.second)}  # the runs may share one
    for baseline in baselines.values():
        out.print(printable(baseline.words))
    out.print(
        f"correct: both {result.both:,}, only A {result.only_first:,}, only B {result.only_second:,}, "
        f"neither {result.neither:,}"
    )
    low, high = result.interval
    out.print(
        f"accuracy of B minus A: {result.difference:+.4f} (95% interval {low:+.4f} to {high:+.4f})\n"
        f"McNemar's exact test: p = {result.p_value:.2g}"
    )
    better, side = ("B", result.second) if result.difference > 0 else ("A", result.first)
    if result.p_value >= 0.05:
        out.print("the difference is not statistically significant; compare on more images")
    else:
        poor = "" if side.baseline.verdict == "better" else ", but not significantly better than the baseline"
        out.print(f"{better} is better{poor}")
    if result.disagreements:
        out.print()
        lines = [(one.label, one.first, one.second, one.path) for one in result.disagreements[:MAX_ROWS]]
        one_line_each(lines, "true", "A predicts", "B predicts", "image")
        if len(result.disagreements) > MAX_ROWS:
            out.print(f"... and {len(result.disagreements) - MAX_ROWS:,} more; --json lists all")
