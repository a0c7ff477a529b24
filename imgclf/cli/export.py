"""`imgclf export`: options, call and output."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import (
    add_row,
    as_json,
    counted,
    data,
    err,
    new_table,
    say,
)
from imgclf.cli.shared.options import Json, Run, load_run
from imgclf.core.config import ExportConfig, Format, Quantize

if TYPE_CHECKING:
    from imgclf.export.exporting import Export


def export(
    data: Annotated[Path | None, typer.Argument(help="Folder of the run's images, if it was moved.")] = None,
    run: Run = "latest",
    form: Annotated[Format, typer.Option("--format", help="File format of the export.")] = ExportConfig.format,
    quantize: Annotated[
        Quantize, typer.Option(help="Store smaller numbers: float16 halves the file, int8 shrinks it to a third or less.")
    ] = ExportConfig.quantize,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="New file, or new folder for a SavedModel.", show_default="in RUN/export"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Largest allowed difference of a probability; for int8, largest fraction of labels that may change.",
            show_default="0.0001, or 0.02 for float16 and int8",
        ),
    ] = ExportConfig.tolerance,
    as_json: Json = False,
) -> None:
    """Export a run for other programs and devices.

    The file contains the class names, the preprocessing and the calibration. Compare its predictions on the test set with the
    run's. If they differ by more than the tolerance, keep no file and exit with code 1. Print the path of the file on stdout.
    """
    from imgclf.export import exporting as verb

    config = ExportConfig(form, quantize, tolerance)
    verb.check(config, out)
    model = load_run(run)
    with console.stages() as stage:
        result = verb.export(model, config, data=data, out=out, progress=stage)
    print_exported(result, as_json)


def print_exported(result: "Export", json: bool) -> None:
    """Print a comparison of the file with its run on stderr, and the path of the file on stdout."""
    if json:
        as_json(result.to_dict())
        return
    for note in result.notes:
        say(note, style="yellow")
    kind = result.format if result.quantize == "none" else f"{result.format} in {result.quantize}"
    fitted = f", fitted to {counted(result.representative_images, 'image')}" if result.representative_images else ""
    say(f"{kind}{fitted}; compared with {result.run} on {counted(result.images, 'image')} of the {result.subset} set")
    table = new_table("", "run", "exported")
    add_row(table, "accuracy", f"{result.accuracy_before:.4f}", f"{result.accuracy_after:.4f}")
    between = (f"{low:.3f} to {high:.3f}" for low, high in (result.interval_before, result.interval_after))
    add_row(table, "95% interval", *between)
    add_row(table, "size", f"{result.size_before / 1e6:.2f} MB", f"{result.size_after / 1e6:.2f} MB")
    add_row(table, "time per image", f"{result.ms_before:.2f} ms", f"{result.ms_after:.2f} ms")
    err.print(table)
    say(result.baseline.words)
    same = round(result.agreement * result.images)
    say(f"largest probability difference {result.difference:.2g}, same label on {same:,} of {result.images:,}")
    if files := result.from_bytes:
        say(
            f"with JPEG and PNG files as input: largest difference {files.difference:.2g}, "
            f"same label on {round(files.agreement * files.images):,} of {files.images:,}"
        )
    data(result.path)
