"""`imgclf split`: options, call and output."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli.shared import console, shell
from imgclf.cli.shared.console import (
    MAX_ROWS,
    add_row,
    as_json,
    counted,
    err,
    new_table,
    out,
    say,
    say_skipped,
)
from imgclf.cli.shared.options import Data, Json, Seed
from imgclf.core.config import Link, SplitConfig
from imgclf.core.errors import UsageError
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.split.leakage import Leakage
    from imgclf.split.splitting import Split


def split(
    ctx: typer.Context,
    data: Data = Path("data"),
    train: Annotated[
        float | None,
        typer.Option(
            help="Fraction of images in the training set, such as 0.7 or 70 (percent).", show_default=f"{SplitConfig.train:g}"
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            help="Fraction of images in the validation set, which selects the best epoch.", show_default=f"{SplitConfig.val:g}"
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            help="Fraction of images in the test set, for the final evaluation.", show_default=f"{SplitConfig.test:g}"
        ),
    ] = None,
    seed: Seed = SplitConfig.seed,
    group_by: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Keep paths in one subset if REGEX captures the same text in them.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Keep the images of a group in one subset; columns: path, group.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing split, and keep a copy of the old one.")] = False,
    stable: Annotated[
        bool,
        typer.Option(
            "--stable", help="Assign images by hash, so that adding images does not move earlier ones to another subset."
        ),
    ] = SplitConfig.stable,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Make K folds for cross-validation; train on one with `train --fold I`.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check an existing split for leakage; exit with code 1 if there is any.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also export class folders, DIR/train/<class>/..., for other tools.")
    ] = None,
    link: Annotated[Link | None, typer.Option(help="How --export creates files.", show_default="hard")] = None,
    as_json: Json = False,
) -> None:
    """Divide the images into training, validation and test sets.

    Keep the proportions of the classes in every subset, and near-duplicates in the same subset. The same seed gives the same
    split. Write a manifest, DATA/.imgclf/split.csv, and copy no image. Use existing train/val/test folders as they are.
    """
    from imgclf.split import class_folders, subsets
    from imgclf.split import splitting as verb
    from imgclf.split.leakage import find_leakage

    fractions = subsets.fractions(train, val, test)
    chosen = str(groups) if groups else None
    config = SplitConfig(fractions["train"], fractions["val"], fractions["test"], seed, group_by, chosen, stable)
    if check:
        if shell.given(ctx) - {"data", "check", "as_json"}:
            raise UsageError("--check cannot be combined with other options than --json: it only reads an existing split")
        with console.stages() as stage:
            leakage = find_leakage(data, stage)
        print_leakage(leakage, as_json)
        raise typer.Exit(1 if leakage.leaks else 0)
    if folds is not None:
        if export:
            raise UsageError("--folds and --export exclude each other; give one of them")
        if "test" in shell.given(ctx):
            raise UsageError(f"--test: with --folds {folds} each image is in one test set; remove --test")
        with console.stages() as stage:
            made = verb.folds(data, folds, config, force=force, progress=stage)
        print_folds(made, data, as_json)
        return
    if link and not export and "link" in shell.given(ctx):
        raise UsageError("--link needs --export DIR: it sets how --export creates files")
    if export:
        class_folders.check_export(data, export)
    if export and not shell.given(ctx) - {"data", "export", "link", "as_json"} and verb.exists(data):
        result = verb.current_split(data)  # no option changes the split, so export the current one
    else:
        with console.stages() as stage:
            result = verb.split(data, config, force=force, progress=stage)
    if as_json:
        console.as_json(result.to_dict())
    else:
        print_split(result)
    if export:
        with console.progress("exporting") as progress:
            notes = class_folders.export(result.manifest, data, export, link or "hard", progress)
        for note in (*notes, f"exported to {export}"):
            console.say(note)


def print_split(result: "Split", *, to_stderr: bool = False) -> None:
    """Print the number of images by class and subset, and the groups."""
    for note in result.notes:
        say(note, style="yellow")
    say_skipped(result.skipped)
    console_ = err if to_stderr else out
    table = new_table("class", "train", "val", "test", "all")
    totals = [0, 0, 0]
    for name, counts in result.manifest.counts().items():
        numbers = [counts["train"], counts["val"], counts["test"]]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        add_row(table, name, *(f"{number:,}" for number in (*numbers, sum(numbers))))
    add_row(table, "all", *(f"{number:,}" for number in (*totals, sum(totals))), style="bold")
    console_.print(table)
    console_.print(_group_counts(result))
    say(f"{'wrote' if result.changed else 'unchanged'}: {result.path}")


def _group_counts(result: "Split") -> str:
    groups, images, leaking = result.groups()
    kept = f"groups of images kept together: {groups:,} ({counted(images, 'image')})"
    return kept + (f"; in more than one subset (leakage): {leaking:,}" if leaking else ", no leakage between subsets")


def print_folds(made: "Sequence[Split]", folder: Path, json: bool) -> None:
    """Print one line per fold."""
    for note in made[0].notes:
        say(note, style="yellow")
    say_skipped(made[0].skipped)
    if json:
        as_json([fold.to_dict() for fold in made])
        return
    table = new_table("fold", "train", "val", "test", "leakage")
    for number, fold in enumerate(made, 1):
        counts = collections.Counter(row.split for row in fold.manifest.rows)
        add_row(table, number, *(f"{counts[subset]:,}" for subset in ("train", "val", "test")), f"{fold.groups()[2]:,}")
    out.print(table)
    first = f"train on the first fold with {command('train', folder, '--fold', '1')}"
    say(f"{'wrote' if made[0].changed else 'unchanged'}: {made[0].path.parent}; {first}")


def print_leakage(result: "Leakage", json: bool) -> None:
    """Print every image that has a duplicate or near-duplicate in another subset."""
    say_skipped(result.skipped)
    if json:
        as_json(result.to_dict())
        return
    if result.leaks:
        table = new_table("image", "duplicate of", "match", numbers=False)
        for leak in result.leaks[:MAX_ROWS]:
            match = "exact" if leak.exact else f"{'mirrored' if leak.mirrored else 'near'} {leak.similarity:.2f}"
            names = [path if result.where == "its folders" else f"{subset}: {path}" for subset, path in
                     ((leak.subset, leak.path), (leak.other_subset, leak.other))]  # fmt: skip
            add_row(table, *names, match)
        out.print(table)
        if len(result.leaks) > MAX_ROWS:
            out.print(f"... and {len(result.leaks) - MAX_ROWS} more; --json lists all")
        out.print()
    subsets = ", ".join(f"{subset} {count:,}" for subset, count in result.images.items() if count)
    exact = sum(leak.exact for leak in result.leaks)
    leakage = f"leakage: {counted(len(result.leaks), 'image')}" + (f", {exact:,} of them exact" if result.leaks else "")
    out.print(f"{subsets}; {leakage}")
