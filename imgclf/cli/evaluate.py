"""`imgclf evaluate`: options, call and output."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import (
    add_row,
    counted,
    new_table,
    one_line_each,
    out,
    printable,
    say,
    say_skipped,
)
from imgclf.cli.shared.options import Json, Run, load_run
from imgclf.core.config import Subset
from imgclf.core.errors import ImgclfError

if TYPE_CHECKING:
    from imgclf.evaluate.gates import Gate
    from imgclf.evaluate.scores import Evaluation


def evaluate(
    data: Annotated[
        Path | None, typer.Argument(help="Another folder with the same classes; by default the data of the run.")
    ] = None,
    run: Run = "latest",
    subset: Annotated[Subset | None, typer.Option("--split", help="Subset to score.", show_default="test")] = None,
    fail_under: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC=MIN,...",
            help="Exit with code 1 if a metric is below its minimum, as in accuracy=0.95,recall[cat]=0.9.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Also write a page with all results and the images of the worst errors."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure a run on images that it was not trained on.

    Compute accuracy and F1 with 95% intervals, ROC-AUC, calibration error, precision, recall and F1 of each class, and the
    confusion matrix. Write the results into the run folder.
    """
    from imgclf.evaluate import evaluating as verb
    from imgclf.evaluate import gates, writing

    model = load_run(run)
    required = gates.gates(fail_under, model.class_names) if fail_under is not None else []
    if html:
        writing.check_page(html, model, data)
    with console.progress("evaluating") as progress:
        result = verb.evaluate(model, data, subset, progress=progress)
    if html:
        writing.write_page(result, model, html)
    if as_json:
        console.as_json(result.to_dict())
    else:
        print_evaluation(result)
    if html:
        console.say(f"wrote {html}")
    missed = [gate for gate in required if not result.metric(gate.name) >= gate.least]
    for gate in required:
        print_gate(gate, result, gate in missed)
    if result.unwritten:
        raise ImgclfError(result.unwritten)
    if missed:
        raise typer.Exit(1)


def print_evaluation(result: "Evaluation") -> None:
    """Print the metrics, the tables of classes, the worst errors and the slices with low accuracy."""
    for note in result.notes:
        say(note, style="yellow")
    say_skipped(result.skipped)
    _print_scores(result)
    out.print()
    _print_classes(result)
    if result.errors:
        out.print()
        lines = [(e["label"], e["predicted"], f"{e['probability']:.3f}", e["path"]) for e in result.errors[:5]]
        one_line_each(lines, "true", "predicted", "probability", f"worst of {counted(len(result.errors), 'error')}")
    worse = [one for one in result.slices if one.is_worse]
    if worse:
        out.print()
        table = new_table("low accuracy by", "value", "accuracy", "images", numbers=False)
        for one in worse:
            add_row(table, one.by, one.value, f"{one.accuracy:.3f} ({_between(one.interval)})", f"{one.images:,}")
        out.print(table)
    if not result.unwritten:
        files = (f"predictions-{result.name}.csv", f"confusion-{result.name}.png", f"calibration-{result.name}.png")
        say(f"wrote {result.run}/evaluation-{result.name}.json, {', '.join(files)}")


def _print_scores(result: "Evaluation") -> None:
    """Print the metrics over all images."""
    low, high = result.interval
    out.print(printable(f"{result.run} on {result.on}: {counted(result.images, 'image')}"))
    out.print(f"accuracy {result.accuracy:.4f} (95% interval {low:.3f} to {high:.3f}), loss {result.loss:.4f}")
    out.print(printable(result.baseline.words))
    macro, weighted = result.macro_f1_interval, result.weighted_f1_interval
    out.print(
        f"F1 {result.macro_f1:.4f} ({macro[0]:.3f} to {macro[1]:.3f}), weighted F1 {result.weighted_f1:.4f} "
        f"({weighted[0]:.3f} to {weighted[1]:.3f})"
    )
    if result.top:
        tops = [f"top {k} {fraction:.4f} ({_between(result.top_intervals[k])})" for k, fraction in result.top.items()]
        out.print(", ".join(tops))
    if math.isnan(result.auc) or math.isnan(result.average_precision):
        out.print("ROC-AUC and average precision are undefined: all images are of one class")
    else:
        out.print(f"ROC-AUC {result.auc:.4f}, average precision {result.average_precision:.4f}")
    out.print(
        f"calibration error {result.calibration_error:.4f}, before calibration {result.uncalibrated_error:.4f} "
        f"(temperature {result.temperature:.2f})"
    )


def _print_classes(result: "Evaluation") -> None:
    """Print the table of classes, and the confusion matrix unless it is too wide."""
    table = new_table("class", "precision", "recall", "f1", "images")
    for score in result.classes:
        rates = (score.precision, score.precision_interval), (score.recall, score.recall_interval)
        cells = [f"{value:.3f} ({_between(interval)})" for value, interval in rates]
        add_row(table, score.name, *cells, f"{score.f1:.3f}", f"{score.support:,}")
    out.print(table)
    out.print()
    if len(result.class_names) <= 12:
        table = new_table("true \\ predicted", *result.class_names)
        for name, row in zip(result.class_names, result.confusion.tolist(), strict=True):
            add_row(table, name, *(f"{count:,}" for count in row))
        out.print(table)
    else:
        say(f"confusion matrix of {len(result.class_names)} classes: see the PNG")


def print_gate(gate: "Gate", result: "Evaluation", missed: bool) -> None:
    """Print whether a gate is met, and warn if the baseline alone would meet it."""
    word, style = ("missed", "red") if missed else ("met", None)
    interval = result.between(gate.name)
    between = f" (95% interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    say(f"{word}: {gate.name} {result.metric(gate.name):.4f}{between}, minimum {gate.least:g}", style=style)
    baseline = result.baseline
    if gate.name == "accuracy" and gate.least <= baseline.accuracy:
        say(
            f"Warning: the minimum accuracy={gate.least:g} is not above the baseline: always predicting {baseline.class_name} "
            f"scores {baseline.accuracy:.4f} on these images; raise the minimum, or use f1",
            style="yellow",
        )


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"
