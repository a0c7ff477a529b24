"""`imgclf preview`: options, call and output."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.shared import console
from imgclf.cli.shared.console import (
    MAX_ROWS,
    add_row,
    counted,
    half_blocks,
    new_table,
    on_terminal,
    out,
    percent,
    printable,
    say,
    say_skipped,
)
from imgclf.cli.shared.options import Data, Json, Seed
from imgclf.core.config import Aspect, Augment, PreviewConfig, Subset, TrainConfig
from imgclf.core.fields import bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgclf.preview.overview import Preview


def preview(
    data: Data = Path("data"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write the contact sheet to FILE.png, by default DATA/.imgclf/preview.png."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Also show the sheet in a window until a key is pressed.")] = False,
    subset: Annotated[Subset | None, typer.Option("--split", help="Show only this subset of the split.")] = None,
    augmented: Annotated[bool, typer.Option("--augmented", help="Show images as in training: resized and augmented.")] = False,
    samples: Annotated[
        int, typer.Option(min=1, max=40, help="Number of images per class on the sheet.")
    ] = PreviewConfig.columns,
    image_size: Annotated[
        int | None,
        typer.Option(**bounds(TrainConfig, "image_size"), help="Side length in pixels with --augmented, as in train."),
    ] = TrainConfig.image_size,
    aspect: Annotated[Aspect, typer.Option(help="With --augmented, as in train.")] = TrainConfig.aspect,
    augment: Annotated[Augment, typer.Option(help="With --augmented, as in train.")] = TrainConfig.augment,
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="With --augmented, as in train.")] = TrainConfig.flip,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page with thumbnails, filters and histograms.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of images on the page; if there are more, show a sample of each class.")
    ] = 5000,
    histograms: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also plot sizes, aspect ratios and brightness of each class.")
    ] = None,
    strip: Annotated[
        bool | None,
        typer.Option("--strip/--no-strip", help="Show thumbnails in the terminal.", show_default="if there is no display"),
    ] = None,
    seed: Seed = TrainConfig.seed,
    as_json: Json = False,
) -> None:
    """Show a contact sheet, and counts, sizes and formats by class.

    Write a PNG file with a row of samples per class. Print a table of the classes and their imbalance. Options add a page with
    all images, histograms, and thumbnails in the terminal.
    """
    from imgclf.preview import contact_sheet, page
    from imgclf.preview import overview as verb
    from imgclf.reports import image_page

    feed = TrainConfig(image_size=image_size, aspect=aspect, augment=augment, flip=flip, seed=seed) if augmented else None
    if html:
        image_page.check_place(html, data)
    if histograms:
        verb.check_png(histograms, data, "--histograms")
    with console.stages() as stage:
        result = verb.preview(
            data,
            PreviewConfig(subset, samples, seed),
            feed=feed,
            out=out,
            progress=lambda done, total: stage("reading headers", done, total),
        )
        survey = page.survey(data, subset, stage) if html or histograms else None
        if survey and html:
            page.write_page(survey, html, limit=limit, seed=seed, progress=lambda done, total: stage("drawing", done, total))
        if survey and histograms:
            page.write_histograms(survey, histograms)
    if as_json:
        console.as_json(result.to_dict() | ({"histograms": survey.histograms_to_dict()} if survey else {}))
    else:
        print_preview(result)
        if strip or (strip is None and console.on_terminal() and not verb.has_display()):
            print_strip(contact_sheet.strip(result.shown, columns=strip_columns(samples), seed=seed))
    for path in (html, histograms):
        if path:
            console.say(f"wrote {path}")
    if show:
        verb.show(result.sheet)


def print_preview(result: "Preview") -> None:
    """Print counts, fractions, sizes and formats by class."""
    table = new_table("class", "images", "fraction", "median", "smallest", "largest", "formats")
    total = sum(info.count for info in result.classes)
    for info in result.classes:
        formats = ", ".join(f"{name} {count:,}" for name, count in info.formats)
        if info.unreadable:
            formats += f", unreadable {info.unreadable:,}"
        sizes = [f"{width}x{height}" for width, height in (info.median_size, info.smallest, info.largest)]
        add_row(table, info.name, f"{info.count:,}", percent(info.count / total), *sizes, formats)
    out.print(table)
    empty = sum(info.count == 0 for info in result.classes)
    imbalance = f"imbalance {result.imbalance:.2f} (largest / smallest{' with images' if empty else ''})"
    out.print(f"{counted(total, 'image')}, {counted(len(result.classes), 'class')}, {imbalance}")
    for note in result.notes:
        say(note, style="yellow")
    say_skipped(result.skipped)
    say(f"wrote {result.path}")


def strip_columns(wanted: int) -> int:
    """Return the number of thumbnails, up to `wanted`, that fit side by side."""
    return max(1, min(wanted, (out.width + 1) // 17))


def print_strip(rows: "Sequence[tuple[str, NDArray[np.uint8], list[str]]]") -> None:
    """Print thumbnails by class, or only their file names if stdout is not a terminal. rows: (class, thumbnails, files)."""
    for name, image, paths in rows[:MAX_ROWS]:
        if not on_terminal():
            out.print(printable(f"{name}: {', '.join(paths)}"))
            continue
        out.print(printable(name, "bold"))
        half_blocks(image, gap=17)
    if len(rows) > MAX_ROWS:
        out.print(f"... and {len(rows) - MAX_ROWS} more classes")
