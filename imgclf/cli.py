"""Every command: options in, one call to a verb, one call to the console. Verbs are imported inside the bodies."""

import io
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

import imgclf
from imgclf import shell
from imgclf.base import shards
from imgclf.base.config import (
    Aspect,
    Augment,
    Format,
    Link,
    Model,
    Part,
    Policy,
    Precision,
    Quantize,
    Schedule,
    ServeConfig,
    SplitConfig,
    TrainConfig,
)
from imgclf.base.errors import ImgclfError, UsageError
from imgclf.display import console
from imgclf.shell import Command, Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: the boxes took a third of the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a folder of pictures per class to a classifier you can trust.\n\n"
    "The usual order: clean, preview, split, train, evaluate, predict. "
    "The data folder is `data` and the run the newest finished one under `runs/` unless you say otherwise.",
)

Data = Annotated[
    Path, typer.Argument(help="Folder with one folder of pictures per class, or with train/val/test folders of such.")
]
Run = Annotated[
    str, typer.Option("--run", metavar="RUN", help="A run folder, its name under runs/, `latest` finished one, or `best`.")
]
ShardOf = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only the I-th of N shares, for a cluster; see README on how they meet."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random choice.")]


def _version(wanted: bool) -> None:
    if wanted:
        console.data(f"imgclf {imgclf.__version__}")
        raise typer.Exit


@app.callback()
def top(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="As after any command: nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="As after any command: more is said.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="As after any command: no colours.")] = False,
) -> None:
    for wanted, does in ((quiet, console.be_quiet), (verbose, console.be_verbose), (no_color, console.be_colourless)):
        if wanted:
            does()
    shell.use_defaults(ctx)


class CleanCommand(Command):
    """Lets --undo stand alone or before the number of a batch, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--undo" in args:
            at = args.index("--undo")
            number = next((value for value in args[at + 1 : at + 2] if value.isdecimal()), None)
            args[at : at + (2 if number else 1)] = [f"--undo={number or -1}"]
        return super().parse_args(ctx, args)


@app.command(cls=CleanCommand)
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
        for name, given in (("--undo", undo is not None), ("--history", history), ("--apply", apply), ("--shard", shard))
        if given
    ]
    others = shell.given(ctx) & {"report", "html", "on", "threshold", "policy"} or (dry_run and (history or shard))
    if alone and (others or len(alone) > 1):
        with_it = "" if history or shard else ", or with --dry-run"
        raise UsageError(f"{alone[0]} goes alone{with_it}: leave the other options out")
    if undo == 0:
        raise UsageError("--undo 0: batches count from 1; --history lists them")
    if undo is not None:
        restored, problems, notes = verb.undo(data, None if undo == -1 else undo, dry_run=dry_run)
        console.undone(restored, problems, notes, dry_run, as_json)
        raise typer.Exit(1 if problems else 0)
    if history:
        console.history(verb.history(data), as_json)
        return
    if apply:
        outcomes, notes = verb.apply(data, apply, dry_run=dry_run)
        console.applied(outcomes, notes, data, dry_run, as_json)
        raise typer.Exit(1 if any(outcome.action == "stuck" for outcome in outcomes) else 0)
    if shard:
        with console.progress("decoding") as progress:
            share = verb.look(data, shards.parse(shard), progress)
        console.share(share, "clean", as_json)
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
        console.cleaning(result)
    for note in kept:
        console.say(note)
    for path in (report, html):
        if path:
            console.say(f"wrote {path}")
    if result.counts()["stuck"]:
        raise typer.Exit(1)


@app.command(cls=Command)
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
        int | None, typer.Option(min=16, max=1024, help="Pixels a side for --augmented, as for train.")
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
        console.preview(result)
        if strip or (strip is None and console.on_terminal() and not verb.has_display()):
            console.strip(verb.strip(result.shown, columns=console.strip_columns(samples), seed=seed))
    for path in (html, histograms):
        if path:
            console.say(f"wrote {path}")
    if show:
        verb.show(result.sheet)


@app.command(cls=Command)
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
        console.leakage(leakage, as_json)
        raise typer.Exit(1 if leakage.leaks else 0)
    if folds is not None:
        if export:
            raise UsageError("--folds and --export exclude each other")
        with console.stages() as stage:
            made = verb.folds(data, folds, config, force=force, progress=stage)
        console.folds(made, as_json)
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
        console.split(result)
    if export:
        with console.progress("exporting") as progress:
            notes = verb.export(result.manifest, data, export, link or "hard", progress)
        for note in (*notes, f"exported to {export}"):
            console.say(note)


class TrainCommand(Command):
    """Lets --resume stand alone or before a run, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--resume" in args:
            at = args.index("--resume")
            run = next((value for value in args[at + 1 : at + 2] if not value.startswith("-")), None)
            args[at : at + (2 if run else 1)] = [f"--resume={run or 'latest'}"]
        return super().parse_args(ctx, args)


@app.command(cls=TrainCommand)
def train(
    ctx: typer.Context,
    data: Data = Path("data"),
    epochs: Annotated[int, typer.Option(help="Passes over the training part.")] = 30,
    model: Annotated[Model, typer.Option(help="The network: its width and depth also follow the pictures' size.")] = "cnn",
    weights: Annotated[
        str, typer.Option(metavar="imagenet|none|FILE", help="Of a pretrained backbone: ImageNet's, random ones, or a file.")
    ] = "imagenet",
    views: Annotated[
        int, typer.Option(metavar="N", help="For a backbone: each training picture, N - 1 times changed too.")
    ] = 1,
    fine_tune: Annotated[
        int, typer.Option(metavar="N", help="For a backbone: once the head is trained, train its top N blocks too.")
    ] = 0,
    fine_tune_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs of that.", show_default="a fifth of --epochs, 3 at least")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures a step.")] = 32,
    image_size: Annotated[
        int | None, typer.Option(help="Pixels a side.", show_default="96, or less for small pictures")
    ] = None,
    aspect: Annotated[
        Aspect, typer.Option(help="Fit a picture to the square: squash it, crop its centre, or pad it.")
    ] = "squash",
    augment: Annotated[Augment, typer.Option(help="Random changes to training pictures.")] = "light",
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Whether those mirror; not for digits and text.")] = True,
    progressive: Annotated[
        bool, typer.Option("--progressive/--no-progressive", help="Whether the first epochs see smaller pictures: faster.")
    ] = True,
    precision: Annotated[
        Precision, typer.Option(help="Number format to compute in; what is saved is float32 in any case.")
    ] = "auto",
    learning_rate: Annotated[float, typer.Option(help="Adam's step size at its peak.")] = 3e-3,
    lr_schedule: Annotated[Schedule, typer.Option(help="How the step size changes.")] = "cosine",
    lr_find: Annotated[bool, typer.Option("--lr-find", help="Only look for a learning rate: a plot and a suggestion.")] = False,
    early_stopping: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="End after N epochs without a better one; 0 never.",
            show_default="half of the epochs, 10 at least",
        ),
    ] = None,
    label_smoothing: Annotated[float, typer.Option(help="How far targets move towards all classes alike.")] = 0.1,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            help="Adam's decoupled weight decay, times the step size.", show_default="3 for a head on features, else 0"
        ),
    ] = None,
    ema: Annotated[float, typer.Option(help="What a step keeps of a moving average of the weights; 0 for none.")] = 0.0,
    class_weights: Annotated[
        str, typer.Option(metavar="auto|none|FILE.csv", help="What a picture of each class counts; auto when they are uneven.")
    ] = "auto",
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="As many epochs as fit into 90s, 10m or 1h30m; --epochs at most.")
    ] = None,
    devices: Annotated[
        str, typer.Option(metavar="auto|N", help="GPUs of this machine that share every batch; auto takes all.")
    ] = "auto",
    seed: Seed = 0,
    fold: Annotated[int | None, typer.Option(metavar="I", help="Use fold I of `split --folds` instead of the split.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run; it must be new or empty.", show_default="runs/<time>-<model>")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="[RUN]", help="Go on with an unfinished run, the newest if none is named."),
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Only print the network's layers.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write logs for TensorBoard into the run.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network and keep its best epoch as a bundle.

    A Sequential CNN from scratch. Makes the default split when there is none. Prints the run folder on stdout. Ctrl-C once ends
    after the epoch and keeps what there is; a run that was killed goes on with --resume.
    """
    from imgclf import split as splitting
    from imgclf import train as verb
    from imgclf.learning.devices import are_several

    config = TrainConfig(
        epochs=epochs, batch_size=batch_size, image_size=image_size, aspect=aspect, model=model,
        weights=weights, views=views, fine_tune=fine_tune, fine_tune_epochs=fine_tune_epochs, precision=precision,
        augment=augment, flip=flip, progressive=progressive, learning_rate=learning_rate, lr_schedule=lr_schedule,
        early_stopping=early_stopping,
        label_smoothing=label_smoothing, weight_decay=weight_decay, ema=ema, class_weights=class_weights,
        time_budget=_seconds("--time-budget", time_budget) if time_budget else None,
        tensorboard=tensorboard, seed=seed, fold=fold,
    )  # fmt: skip
    device_count = None if devices == "auto" else _count("--devices", devices)
    if resume:
        if shell.given(ctx) - {"data", "resume", "devices", "as_json"}:
            raise UsageError("--resume goes without other options but --devices and --json: it goes on with the run's own")
        with console.TrainingDisplay() as display:
            moved = data if data != Path("data") else None
            bundle = verb.resume(resume, data=moved, listener=display, device_count=device_count)
        console.trained(bundle, as_json)
        return
    verb.check(config)
    if (summary or lr_find) and run_dir:
        raise UsageError("--run-dir is for a training; --summary and --lr-find leave no run")
    if summary and lr_find:
        raise UsageError("--summary and --lr-find: give one of them")
    if summary:
        about, layers = verb.summary(data, config)
        console.summary(about, layers, as_json)
        return
    if fold is None and not splitting.exists(data):
        if are_several():
            raise ImgclfError(f"{data}: no split yet, and the workers must share one; make it first with `imgclf split`")
        console.say("no split yet: making the default one, 70% train, 15% validation, 15% test")
        with console.stages() as stage:
            made = splitting.split(data, progress=stage)
        console.split(made, talk=True)
    with console.TrainingDisplay() as display:
        if lr_find:
            console.rate_search(verb.find_rate(data, config, listener=display, device_count=device_count), as_json)
            return
        bundle = verb.train(data, config, run_dir=run_dir, listener=display, device_count=device_count)
    console.trained(bundle, as_json)


@app.command(cls=Command)
def audit(
    data: Data = Path("data"),
    model: Annotated[Model, typer.Option(help="The backbone whose features are looked at.")] = "efficientnet-lite0",
    weights: Annotated[
        str, typer.Option(metavar="imagenet|none|FILE", help="Of the backbone: ImageNet's, random ones, or a file.")
    ] = "imagenet",
    image_size: Annotated[int | None, typer.Option(help="Pixels a side.", show_default="the backbone's own, 224")] = None,
    seed: Seed = 0,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Also write the suspects to this CSV, for `clean --apply`.")
    ] = None,
    relabel: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Write the action `relabel` for labels that are wrong with at least this score."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write a page to decide on.")] = None,
    shard: ShardOf = None,
    as_json: Json = False,
) -> None:
    """Find likely label errors, outliers and near-duplicates.

    By the features of a pretrained backbone, which are computed once. Every picture is judged by a classifier that was not
    trained on it. Nothing is moved: --report and --html give a CSV that `imgclf clean --apply` carries out and can undo.
    """
    from imgclf import audit as verb

    if image_size is not None and not 32 <= image_size <= 1024:
        raise UsageError(f"--image-size must be 32 to 1024 pixels, not {image_size}")
    if relabel is not None and (not 0 < relabel <= 1 or not report):
        raise UsageError(f"--relabel {relabel:g}: a score above 0 and up to 1, and only with --report")
    if shard:
        if report or html:
            raise UsageError(
                "--shard only computes features; --report and --html go with the audit that comes after all shares"
            )
        with console.stages() as stage:
            share = verb.look(
                data, shards.parse(shard), name=model, weights=weights, image_size=image_size, seed=seed, progress=stage
            )
        console.share(share, "audit", as_json)
        return
    if report:
        verb.check_report(report, data)
    if html:
        verb.check_page(html, data)
    orders = 0
    with console.stages() as stage:
        result = verb.audit(data, name=model, weights=weights, image_size=image_size, seed=seed, progress=stage)
        if report:
            orders = verb.write_report(result, report, relabel)
        if html:
            verb.write_page(result, html, lambda done, total: stage("drawing", done, total))
    console.audited(result, as_json)
    if report:
        console.say(f"wrote {report}, which asks for {orders:,} moves; `imgclf clean {data} --apply {report}` makes them")
    if html:
        console.say(f"wrote {html}")


@app.command(cls=Command)
def evaluate(
    data: Annotated[
        Path | None, typer.Argument(help="The run's own data if not given, or another folder with the same classes.")
    ] = None,
    run: Run = "latest",
    part: Annotated[Part | None, typer.Option("--split", help="Part to score.", show_default="test")] = None,
    fail_under: Annotated[
        str | None,
        typer.Option(metavar="FIGURE=LEAST,...", help="Exit with 1 when a figure is less, as accuracy=0.95,recall[cat]=0.9."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page: all of this, and the worst errors' pictures.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a run on pictures it was not fitted to.

    Accuracy and F1 with their 95% intervals, ROC-AUC, calibration error, precision, recall and F1 per class, confusion matrix;
    written into the run folder.
    """
    from imgclf import bundle
    from imgclf import evaluate as verb

    model = bundle.find(run)
    gates = verb.gates(fail_under, model.class_names) if fail_under is not None else []
    if html:
        verb.check_page(html, model, data)
    with console.progress("evaluating") as progress:
        result = verb.evaluate(model, data, part, progress=progress)
    if html:
        verb.write_page(result, model, html)
    if as_json:
        console.as_json(result.to_dict())
    else:
        console.evaluation(result)
    if html:
        console.say(f"wrote {html}")
    missed = [gate for gate in gates if not result.figure(gate.name) >= gate.least]
    for gate in gates:
        word, style = ("missed", "red") if gate in missed else ("met", None)
        console.say(f"{word}: {gate.name} {result.figure(gate.name):.4f}, at least {gate.least:g} asked", style=style)
    if result.unwritten:
        raise ImgclfError(result.unwritten)
    if missed:
        raise typer.Exit(1)


@app.command(cls=Command)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A run, as for --run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another run of the same classes.")],
    data: Annotated[
        Path | None, typer.Argument(help="The first run's own data if not given, or another folder with the same classes.")
    ] = None,
    part: Annotated[Part | None, typer.Option("--split", help="Part to score.", show_default="test")] = None,
    as_json: Json = False,
) -> None:
    """Score two runs on the same pictures, and say whether they differ by more than chance.

    Accuracies, their difference with a 95% interval, McNemar's exact test, and the pictures that one run alone gets right.
    """
    from imgclf import bundle
    from imgclf import compare as verb

    one, other = bundle.find(first), bundle.find(second)
    with console.progress("comparing") as progress:
        result = verb.compare(one, other, data, part, progress=progress)
    console.comparison(result, as_json)


@app.command(cls=Command)
def predict(
    ctx: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin, one a line."),
    ] = None,
    run: Run = "latest",
    top: Annotated[int, typer.Option(min=1, help="Likeliest classes to give.")] = 1,
    as_json: Json = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON record a line, as they are done.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header, as they are done.")] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="TEXT", help="A line each, as '{label}\\t{path}'; also {name} {probability} {error}."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(metavar="P|auto:A", help="Label `unknown` below P, or below what was right on A of the validation part."),
    ] = None,
    nul: Annotated[bool, typer.Option("-0", "--null", help="Paths on stdin end with NUL, as from find -print0.")] = False,
    stdin_image: Annotated[bool, typer.Option("--stdin-image", help="Predict the picture whose bytes are on stdin.")] = False,
    move_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Move each photo into DIR/<label>; --undo DIR moves them back.")
    ] = None,
    link_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Link each photo into DIR/<label>; --undo DIR removes the links.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Predict the pictures of DIR and those that come, until Ctrl-C.")
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take back all that --move-to and --link-to placed in DIR.")
    ] = None,
    shard: ShardOf = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="The inputs are what --shard printed: give the records of all, in order.")
    ] = False,
) -> None:
    """Say what is on pictures, one record per input.

    Records come in the order of the inputs, unreadable ones with their error; the exit code is 1 if any failed.
    """
    from imgclf import answers, bundle
    from imgclf import predict as verb
    from imgclf.pixels.sources import Source

    forms = [name for name, wanted in (("json", as_json), ("jsonl", jsonl), ("csv", as_csv)) if wanted]
    if len(forms) + (form is not None) > 1:
        raise UsageError("--json, --jsonl, --csv and --format exclude each other")
    given = [
        name for name, one in (("INPUT", inputs), ("--stdin-image", stdin_image), ("--watch", watch), ("--undo", undo)) if one
    ]
    if len(given) != 1:
        raise UsageError(
            f"give pictures, or --stdin-image, --watch DIR or --undo DIR; {' and '.join(given) or 'nothing'} is given"
        )
    if undo:
        if shell.given(ctx) - {"undo"}:
            raise UsageError("--undo goes alone: leave the other options out")
        back, problems = verb.undo(undo)
        console.unsorted(back, problems, undo)
        raise typer.Exit(1 if problems else 0)
    if nul and "-" not in (inputs or ()):
        raise UsageError("--null is for paths on stdin; give - as an input")
    if move_to and link_to:
        raise UsageError("--move-to and --link-to: give one of them")
    if watch and as_json:
        raise UsageError("--watch never ends, and --json is one document; use --jsonl")
    if watch and not watch.is_dir():
        raise ImgclfError(f"{watch}: no folder that could be watched")
    line = console.line_format(form if form is not None else console.WATCHED) if form is not None or watch else None
    place = move_to or link_to
    if place and stdin_image:
        raise UsageError("--stdin-image: what comes from a pipe has no file that could be moved or linked")
    if (shard or merge) and not inputs:
        raise UsageError(f"{'--merge' if merge else '--shard'} goes with INPUT...")
    if shard and (place or merge or forms != ["jsonl"]):
        raise UsageError(
            "--shard goes with --jsonl; `imgclf predict --merge` then puts the shares together, and prints or sorts them"
        )
    if merge and shell.given(ctx) & {"run", "threshold", "nul"}:
        raise UsageError("--merge runs no network: leave --run, --threshold and --null out, which the shares had")
    model = None if merge else bundle.find(run)
    sorting = verb.Sorting(place, "move" if move_to else "link", console.Notes("not placed")) if place else None
    if sorting:
        sorting.check([str(watch)] if watch else () if merge else inputs or ())
    if model:
        top = min(top, len(model.class_names))
    least, note = answers.threshold(model, threshold) if model and threshold else (0.0, "")
    if note:
        console.say(note)
    if model and watch:
        console.say(f"watching {watch}; Ctrl-C ends")
        records = verb.watch(model, watch, top=top, threshold=least, sorting=sorting)
    elif model is None:
        records = verb.merge(inputs or ())
        records = sorting.through(records) if sorting else records
    elif shard:
        records = verb.predict_share(model, _with_stdin(inputs or (), nul), shards.parse(shard), top=top, threshold=least)
    else:
        wanted = [Source("stdin", sys.stdin.buffer.read())] if stdin_image else _with_stdin(inputs or (), nul)
        records = verb.predict(model, wanted, top=top, threshold=least, without=place)
        records = sorting.through(records) if sorting else records
    try:
        failed = console.predictions(records, forms[0] if forms else line or "table", top)
    finally:
        if sorting:
            console.sorted_into(sorting.counts, sorting.there, sorting.failed, sorting.folder)
    if failed or (sorting and sorting.failed):
        raise typer.Exit(1)


@app.command(cls=Command)
def explain(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, archives, or - for paths on stdin.")
    ],
    run: Run = "latest",
    method: Annotated[
        Literal["occlusion", "grad-cam"],
        typer.Option(help="Cover parts and ask again, or follow the gradients (slower to start, with TensorFlow)."),
    ] = "occlusion",
    target: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="The class to explain.", show_default="the run's answer")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the sheets, a PNG for each picture.")] = Path(
        "explained"
    ),
    as_json: Json = False,
) -> None:
    """Show where a run looks: the parts of a picture that make for its answer.

    Each sheet says how the probability falls when what is marked is covered, beside as much covered at random: a mark that
    explains nothing falls no faster than chance.
    """
    from imgclf import bundle
    from imgclf import explain as verb

    wanted = _with_stdin(inputs, False) if "-" in inputs else inputs
    records = verb.explain(bundle.find(run), wanted, out, method=method, target=target)
    if console.explained(records, as_json):
        raise typer.Exit(1)


@app.command(cls=Command)
def export(
    data: Annotated[Path | None, typer.Argument(help="Where the run's pictures are now, if they were moved.")] = None,
    run: Run = "latest",
    form: Annotated[Format, typer.Option("--format", help="For phones, other runtimes, servers, or Keras.")] = "litert",
    quantize: Annotated[
        Quantize, typer.Option(help="Fewer bits: float16 halves the file, int8 leaves a third or less.")
    ] = "none",
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The new file, or folder of a SavedModel.", show_default="in RUN/export"),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            help="Largest probability difference to the run; for int8 the share of labels that may change.",
            show_default="0.0001, or 0.02 for float16 and int8",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a run in a format that others can use.

    With class names, recipe and calibration inside. The file is run on the test part and compared with the run; one that
    differs by more than the tolerance is not kept, and the exit code is 1. Prints its path on stdout.
    """
    from imgclf import bundle
    from imgclf import export as verb

    verb.check(form, quantize, tolerance, out)
    model = bundle.find(run)
    with console.stages() as stage:
        result = verb.export(model, form, quantize, data=data, out=out, tolerance=tolerance, progress=stage)
    console.exported(result, as_json)


@app.command(cls=Command)
def serve(
    run: Annotated[str, typer.Argument(help="As for --run.")] = "latest",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for every network this machine is in.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option(envvar="IMGCLF_TOKEN", help="Answer only who knows it, as a bearer token.")
    ] = None,
    threshold: Annotated[str | None, typer.Option(metavar="P|auto:A", help="Label `unknown` below P, as for predict.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds that one request may take.")] = 30,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait before 503 is answered; of each process.")] = 128,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; threads of one use all cores.")] = 1,
) -> None:
    """Serve a run to browsers and programs: a page and an API.

    For this machine alone unless you give --host. The URL is printed once it answers. SIGTERM and Ctrl-C let what is under way
    end.
    """
    from imgclf import answers, bundle
    from imgclf import serve as verb

    model = bundle.find(run)
    least, note = answers.threshold(model, threshold) if threshold else (0.0, "")
    for line in filter(None, (note, verb.warning(host, token))):
        console.say(line, style=None if line == note else "yellow")
    config = ServeConfig(host, port, least, token or None, timeout, queue, workers)
    verb.serve(model, config, ready=console.data_now)


runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List, show and put away runs.")
app.add_typer(runs_app, name="runs")

Folder = Annotated[Path, typer.Option("--in", metavar="DIR", help="The folder of runs.")]


@runs_app.command("list", cls=Command)
def runs_list(folder: Folder = Path("runs"), as_json: Json = False) -> None:
    """List runs, the newest first, with their accuracies; unfinished and broken ones too."""
    from imgclf import runs as verb

    console.runs(verb.runs(folder), folder, as_json)


@runs_app.command("show", cls=Command)
def runs_show(run: Annotated[str, typer.Argument(help="As for --run.")] = "latest", as_json: Json = False) -> None:
    """Show everything that a run knows of itself."""
    info(run, as_json)


@runs_app.command("best", cls=Command)
def runs_best() -> None:
    """Print the folder of the run with the highest validation accuracy."""
    from imgclf import bundle

    console.data(str(bundle.find("best").path))


@runs_app.command("rm", cls=Command)
def runs_rm(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, or their names in the folder of runs.")],
    folder: Folder = Path("runs"),
) -> None:
    """Move runs into the trash, DIR/.trash; nothing is deleted."""
    from imgclf import runs as verb

    for name in names:
        target = verb.remove(name, folder)
        console.say(f"{name} is now {target}; move it back to undo, delete it there for good")


@app.command(cls=Command)
def info(run: Annotated[str, typer.Argument(help="As for --run.")] = "latest", as_json: Json = False) -> None:
    """Show everything that a run knows of itself.

    Classes, recipe, options, metrics, calibration, data, versions, files and evaluations.
    """
    from imgclf import bundle
    from imgclf import runs as verb

    console.info(verb.show(bundle.find(run)), as_json)


@app.command(cls=Command)
def schema(name: Annotated[str | None, typer.Argument(help="A schema; all are listed if not given.")] = None) -> None:
    """Describe the JSON that commands print and folders keep.

    As JSON Schemas (draft 2020-12), each with its number; one is printed whole, with those that it refers to inside.
    """
    from imgclf import schema as verb

    if name is None:
        console.schemas(verb.titles())
    else:
        console.as_json(verb.schema(name))


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


def _seconds(option: str, text: str) -> float:
    """1h30m, 10m, 90s or 90 as seconds."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip() + ("s" if text.strip().isdigit() else ""))
    if not match or not text.strip():
        raise UsageError(f"{option} {text}: expected a time as in 90s, 10m or 1h30m, or seconds")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(3600 * hours + 60 * minutes + seconds)


def _count(option: str, text: str) -> int:
    """A number of one or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{option} {text}: expected auto or a number from 1 on")
    return int(text)


def _with_stdin(inputs: Iterable[str], nul: bool) -> Iterator[str]:
    """The inputs, with the paths that stdin gives, each as soon as it is there, in the place of `-`."""
    from imgclf.pixels.images import sniff

    for name in inputs:
        if name == "-" and nul:
            rest, stdin = b"", cast(io.BufferedReader, sys.stdin.buffer)
            while block := stdin.read1(65536):
                *whole, rest = (rest + block).split(b"\0")
                yield from map(os.fsdecode, filter(None, whole))
            if rest:
                yield os.fsdecode(rest)
        elif name == "-":
            head = cast(io.BufferedReader, sys.stdin.buffer).peek(512)
            if sniff(head[:32]) and b"\0" in head:
                raise UsageError("stdin holds a picture and not paths; give --stdin-image instead of -")
            yield from (os.fsdecode(line).rstrip("\r\n") for line in sys.stdin.buffer if line.strip())
        else:
            yield name


def main() -> None:
    """The `imgclf` command."""
    sys.stdout = sys.stdout or io.StringIO()  # closed by the caller, as in `imgclf ... >&-`
    sys.stderr = sys.stderr or io.StringIO()
    if "" in sys.argv[1:]:  # it would mean the current folder
        console.error("an argument is empty; is a variable in your script not set?")
        sys.exit(UsageError.exit_code)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # OpenCV's own limit, should a header ever make us believe in a smaller picture than the decoder finds: images.MAX_PIXELS.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))
    shell.quiet_libraries()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    app()
