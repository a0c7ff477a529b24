"""`imgclf split`: options, call and output."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgclf.cli import console, shell
from imgclf.cli.console import (
    LONGEST_LIST,
    add_row,
    as_json,
    counted,
    err,
    new_table,
    out,
    say,
    say_skipped,
)
from imgclf.cli.options import Data, Json, Seed
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
        typer.Option(help="Share of the training set, as 0.7 or 70.", show_default=f"{SplitConfig.train:g}"),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(help="Share of the validation set, which selects the best epoch.", show_default=f"{SplitConfig.val:g}"),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share of the test set, for the final measurement.", show_default=f"{SplitConfig.test:g}"),
    ] = None,
    seed: Seed = SplitConfig.seed,
    group_by: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Keep paths in one subset if REGEX captures the same text in them.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Keep the images of a group in one subset; columns: path, group.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing split; the old one is kept beside it.")] = False,
    stable: Annotated[
        bool, typer.Option("--stable", help="Assign images by hash: images added later do not move earlier ones.")
    ] = SplitConfig.stable,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Make K folds for cross-validation; use one with `train --fold I`.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check an existing split for leakage; exit with code 1 if there is any.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also export class folders, DIR/train/<class>/..., for other tools.")
    ] = None,
    link: Annotated[Link | None, typer.Option(help="How --export makes files.", show_default="hard")] = None,
    as_json: Json = False,
) -> None:
    """Divide the images into training, validation and test sets.

    The same share of each class in every subset, near-duplicates in one subset, the same for the same seed. The
    result is a manifest, DATA/.imgclf/split.csv; no image is copied. A folder with train/val/test folders is used as it is.
    """
    from imgclf.split import class_folders, subsets
    from imgclf.split import splitting as verb
    from imgclf.split.leakage import find_leakage

    shares = subsets.shares(train, val, test)
    chosen = str(groups) if groups else None
    config = SplitConfig(shares["train"], shares["val"], shares["test"], seed, group_by, chosen, stable)
    if check:
        if shell.given(ctx) - {"data", "check", "as_json"}:
            raise UsageError("--check goes alone, or with --json: it only looks")
        with console.stages() as stage:
            leakage = find_leakage(data, stage)
        print_leakage(leakage, as_json)
        raise typer.Exit(1 if leakage.leaks else 0)
    if folds is not None:
        if export:
            raise UsageError("--folds and --export exclude each other")
        if "test" in shell.given(ctx):
            raise UsageError(f"--test: with --folds {folds} each image is tested once; leave it out")
        with console.stages() as stage:
            made = verb.folds(data, folds, config, force=force, progress=stage)
        print_folds(made, data, as_json)
        return
    if link and not export and "link" in shell.given(ctx):
        raise UsageError("--link says how --export places images; give --export DIR too")
    if export:
        class_folders.check_export(data, export)
    if export and not shell.given(ctx) - {"data", "export", "link", "as_json"} and verb.exists(data):
        result = verb.in_force(data)  # nothing was said about the split: the one in force is what is exported
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


def print_split(result: "Split", *, talk: bool = False) -> None:
    """Classes by subsets, what was kept together; on stderr when it is only talk."""
    for note in result.notes:
        say(note, style="yellow")
    say_skipped(result.skipped)
    to = err if talk else out
    table = new_table("class", "train", "val", "test", "all")
    totals = [0, 0, 0]
    for name, counts in result.manifest.counts().items():
        numbers = [counts["train"], counts["val"], counts["test"]]
        totals = [total + number for total, number in zip(totals, numbers, strict=True)]
        add_row(table, name, *(f"{number:,}" for number in (*numbers, sum(numbers))))
    add_row(table, "all", *(f"{number:,}" for number in (*totals, sum(totals))), style="bold")
    to.print(table)
    to.print(_kept_together(result))
    say(f"{'wrote' if result.changed else 'unchanged'}: {result.path}")


def _kept_together(result: "Split") -> str:
    groups, images, leaking = result.groups()
    kept = f"groups that show the same or belong together: {groups:,} ({counted(images, 'image')})"
    return kept + (f"; in more than one subset (leakage): {leaking:,}" if leaking else ", no leakage between subsets")


def print_folds(made: "Sequence[Split]", folder: Path, json: bool) -> None:
    """A line a fold."""
    for note in made[0].notes:
        say(note, style="yellow")
    say_skipped(made[0].skipped)
    if json:
        as_json([one.to_dict() for one in made])
        return
    table = new_table("fold", "train", "val", "test", "leakage")
    for number, one in enumerate(made, 1):
        counts = collections.Counter(row.split for row in one.manifest.rows)
        add_row(table, number, *(f"{counts[subset]:,}" for subset in ("train", "val", "test")), f"{one.groups()[2]:,}")
    out.print(table)
    first = f"train on the first fold with {command('train', folder, '--fold', '1')}"
    say(f"{'wrote' if made[0].changed else 'unchanged'}: {made[0].path.parent}; {first}")


def print_leakage(result: "Leakage", json: bool) -> None:
    """Every image that shows the same as one in another subset."""
    say_skipped(result.skipped)
    if json:
        as_json(result.to_dict())
        return
    if result.leaks:
        table = new_table("image", "shows the same as", "how", numbers=False)
        for leak in result.leaks[:LONGEST_LIST]:
            how = "exact" if leak.exact else f"{'mirrored' if leak.mirrored else 'near'} {leak.similarity:.2f}"
            names = [path if result.where == "its folders" else f"{subset}: {path}" for subset, path in
                     ((leak.subset, leak.path), (leak.other_subset, leak.other))]  # fmt: skip
            add_row(table, *names, how)
        out.print(table)
        if len(result.leaks) > LONGEST_LIST:
            out.print(f"... and {len(result.leaks) - LONGEST_LIST} more; --json lists all")
        out.print()
    subsets = ", ".join(f"{subset} {count:,}" for subset, count in result.images.items() if count)
    exact = sum(leak.exact for leak in result.leaks)
    found = f"leakage: {counted(len(result.leaks), 'image')}" + (f", {exact:,} of them exact" if result.leaks else "")
    out.print(f"{subsets}; {found}")
