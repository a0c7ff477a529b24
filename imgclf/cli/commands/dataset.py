"""The commands clean, preview and split. Verbs are imported inside the bodies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imgclf.cli import console, shell
from imgclf.cli.commands.options import Data, Json, Seed, ShardOf
from imgclf.cli.shell import Command
from imgclf.cli.views import dataset as view
from imgclf.core.config import Aspect, Augment, Link, Part, Policy, SplitConfig, TrainConfig
from imgclf.core.errors import UsageError
from imgclf.core.fields import bounds


class CleanCommand(Command):
    """Lets --undo stand alone or before the number of a batch, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--undo" in args:
            at = args.index("--undo")
            number = next((value for value in args[at + 1 : at + 2] if value.isdecimal()), None)
            args[at : at + (2 if number else 1)] = [f"--undo={number or -1}"]
        return super().parse_args(ctx, args)


def clean(
    ctx: typer.Context,
    data: Data = Path("data"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look and report, move nothing.")] = False,
    policy: Annotated[
        Policy, typer.Option(help="Set aside broken files and exact copies (default), all that is doubtful, or nothing.")
    ] = "default",
    on: Annotated[
        list[str] | None, typer.Option(metavar="CHECK=ACTION", help="Another action for a check: report, quarantine, ignore.")
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="CHECK=SCORE", help="Find from this score on (0 to 1), for a quality check.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Also write every file and finding to this CSV.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write a page of what was found.")] = None,
    apply: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Carry out an edited report: its `quarantine` and `relabel` lines.")
    ] = None,
    undo: Annotated[
        int | None,
        typer.Option("--undo", metavar="[N]", min=-1, help="Put back every file that was moved, or those of batch N."),
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="List the batches of moves made so far.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="Finish the interrupted moves of another user or machine, if you trust them.")
    ] = False,
    shard: ShardOf = None,
    as_json: Json = False,
) -> None:
    """Find what is broken, duplicated, mislabelled or poor; set it aside, undoably.

    Every file in every class folder is decoded to its end. What cannot be used and exact copies go to DATA/.imgclf/quarantine,
    the rest is reported; nothing is deleted or rewritten, and --undo puts every file back.
    """
    from imgclf import clean as verb

    alone = [
        name
        for name, given in (
            ("--undo", undo is not None),
            ("--history", history),
            ("--apply", apply),
            ("--shard", shard),
            ("--recover", recover),
        )
        if given
    ]
    others = shell.given(ctx) & {"report", "html", "on", "threshold", "policy"} or (dry_run and (history or shard or recover))
    if alone and (others or len(alone) > 1):
        with_it = "" if history or shard or recover else ", or with --dry-run"
        raise UsageError(f"{alone[0]} goes alone{with_it}: leave the other options out")
    if undo == 0:
        raise UsageError("--undo 0: batches count from 1; --history lists them")
    if undo is not None:
        restored, problems, notes = verb.undo(data, None if undo == -1 else undo, dry_run=dry_run)
        view.undone(restored, problems, notes, dry_run, as_json)
        raise typer.Exit(1 if problems else 0)
    if recover:
        view.recovered(verb.recover(data), as_json)
        return
    if history:
        view.history(verb.history(data), as_json)
        return
    if apply:
        outcomes, notes = verb.apply(data, apply, dry_run=dry_run)
        view.applied(outcomes, notes, data, dry_run, as_json)
        raise typer.Exit(1 if any(outcome.action == "stuck" for outcome in outcomes) else 0)
    if shard:
        from imgclf.core import shards

        with console.progress("decoding") as progress:
            share = verb.look(data, shards.parse(shard), progress)
        view.share(share, "clean", as_json)
        return
    if report:
        verb.check_report(report, data)
    if html:
        verb.check_page(html, data)
    actions = _pairs("--on", on)
    limits = {name: _number("--threshold", name, value) for name, value in _pairs("--threshold", threshold).items()}
    kept: list[str] = []
    with console.stages() as stage:
        result = verb.clean(data, policy=policy, on=actions, thresholds=limits, dry_run=dry_run, progress=stage)
        if report:
            kept = verb.write_report(result, report)
        if html:
            verb.write_page(result, html, lambda done, total: stage("drawing", done, total))
    if as_json:
        console.as_json(result.to_dict())
    else:
        view.cleaning(result)
    for note in kept:
        console.say(note)
    for path in (report, html):
        if path:
            console.say(f"wrote {path}")
    if result.counts()["stuck"]:
        raise typer.Exit(1)


def preview(
    data: Data = Path("data"),
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="The sheet's file; DATA/.imgclf/preview.png if not given.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Also show the sheet in a window until a key is pressed.")] = False,
    part: Annotated[Part | None, typer.Option("--split", help="Only this part of the split.")] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Show what the network is fed: its size, changed at random as in training.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, max=40, help="Pictures a class on the sheet.")] = 8,
    image_size: Annotated[
        int | None,
        typer.Option(**bounds(TrainConfig, "image_size"), help="Side length in pixels for --augmented, as in train."),
    ] = None,
    aspect: Annotated[Aspect, typer.Option(help="For --augmented, as for train.")] = "squash",
    augment: Annotated[Augment, typer.Option(help="For --augmented, as for train.")] = "light",
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="For --augmented, as for train.")] = True,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page to browse: thumbnails, filters, histograms.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pictures on the page; of more, a sample of every class.")] = 5000,
    histograms: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Also plot sizes, aspect ratios and brightness by class.")
    ] = None,
    strip: Annotated[
        bool | None,
        typer.Option("--strip/--no-strip", help="Show thumbnails in the terminal.", show_default="where there is no display"),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw a contact sheet and list counts, sizes and formats.

    A row of samples per class as a PNG, and a table by class with the imbalance; a page, plots and thumbnails on request.
    """
    from imgclf import preview as verb

    config = TrainConfig(image_size=image_size, aspect=aspect, augment=augment, flip=flip, seed=seed) if augmented else None
    if html:
        verb.check_page(html, data)
    if histograms:
        verb.check_png(histograms, data, "--histograms")
    with console.stages() as stage:
        result = verb.preview(
            data, part=part, feed=config, columns=samples, seed=seed, out=out,
            progress=lambda done, total: stage("reading headers", done, total),
        )  # fmt: skip
        survey = verb.survey(data, part, stage) if html or histograms else None
        if survey and html:
            verb.write_page(survey, html, limit=limit, seed=seed, progress=lambda done, total: stage("drawing", done, total))
        if survey and histograms:
            verb.write_histograms(survey, histograms)
    if as_json:
        console.as_json(result.to_dict() | ({"histograms": survey.histograms_to_dict()} if survey else {}))
    else:
        view.preview(result)
        if strip or (strip is None and console.on_terminal() and not verb.has_display()):
            view.strip(verb.strip(result.shown, columns=view.strip_columns(samples), seed=seed))
    for path in (html, histograms):
        if path:
            console.say(f"wrote {path}")
    if show:
        verb.show(result.sheet)


def split(
    ctx: typer.Context,
    data: Data = Path("data"),
    train: Annotated[
        float | None,
        typer.Option(help="Share for training, as 0.7 or 70; what is not given shares the rest.", show_default="0.7"),
    ] = None,
    val: Annotated[
        float | None, typer.Option(help="Share for validation, which chooses the best epoch.", show_default="0.15")
    ] = None,
    test: Annotated[
        float | None, typer.Option(help="Share for the test, which is looked at last.", show_default="0.15")
    ] = None,
    seed: Seed = 0,
    group_by: Annotated[
        str | None, typer.Option(metavar="REGEX", help="Never part paths in which REGEX captures the same text.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Never part paths of one group: columns path, group.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another split that is in force; the old one is kept beside.")
    ] = False,
    stable: Annotated[
        bool, typer.Option("--stable", help="By hash instead of by shuffle: pictures added later move none that were there.")
    ] = False,
    folds: Annotated[
        int | None, typer.Option(metavar="K", help="Make K folds for cross-validation instead; `train --fold I` uses one.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look for leakage in a folder that is split; exit code 1 if there is any.")
    ] = False,
    export: Annotated[Path | None, typer.Option(metavar="DIR", help="Also make DIR/train/<class>/... for other tools.")] = None,
    link: Annotated[Link | None, typer.Option(help="How --export places pictures.", show_default="hard")] = None,
    as_json: Json = False,
) -> None:
    """Divide the pictures into train, validation and test parts.

    The same share of each class in every part, pictures that show the same never torn apart, the same for the same seed. The
    result is a manifest, DATA/.imgclf/split.csv; no picture is copied. A folder with train/val/test folders is used as it is.
    """
    from imgclf import split as verb

    shares = verb.shares(train, val, test)
    chosen = str(groups) if groups else None
    config = SplitConfig(shares["train"], shares["val"], shares["test"], seed, group_by, chosen, stable)
    if check:
        if shell.given(ctx) - {"data", "check", "as_json"}:
            raise UsageError("--check goes alone, or with --json: it only looks")
        with console.stages() as stage:
            leakage = verb.check(data, stage)
        view.leakage(leakage, as_json)
        raise typer.Exit(1 if leakage.leaks else 0)
    if folds is not None:
        if export:
            raise UsageError("--folds and --export exclude each other")
        if "test" in shell.given(ctx):
            raise UsageError(f"--test: with --folds {folds} each picture is tested once; leave it out")
        with console.stages() as stage:
            made = verb.folds(data, folds, config, force=force, progress=stage)
        view.folds(made, data, as_json)
        return
    if link and not export and "link" in shell.given(ctx):
        raise UsageError("--link says how --export places pictures; give --export DIR too")
    if export:
        verb.check_export(data, export)
    if export and not shell.given(ctx) - {"data", "export", "link", "as_json"} and verb.exists(data):
        result = verb.in_force(data)  # nothing was said about the split: the one in force is what is exported
    else:
        with console.stages() as stage:
            result = verb.split(data, config, force=force, progress=stage)
    if as_json:
        console.as_json(result.to_dict())
    else:
        view.split(result)
    if export:
        with console.progress("exporting") as progress:
            notes = verb.export(result.manifest, data, export, link or "hard", progress)
        for note in (*notes, f"exported to {export}"):
            console.say(note)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE options as a dictionary."""
    for pair in given or []:
        if "=" not in pair:
            example = "blurry=quarantine" if option == "--on" else "blurry=0.8"
            raise UsageError(f"{option} {pair}: expected a check, = and a value, as in {option} {example}")
    return {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in given or [])}


def _number(option: str, name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"{option} {name}={value}: {value!r} is no number") from None
