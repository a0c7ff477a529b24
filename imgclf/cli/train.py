"""`imgclf train`: options and call."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgclf.cli import console, shell
from imgclf.cli.console import (
    add_row,
    as_json,
    data,
    new_table,
    out,
    printable,
    say,
)
from imgclf.cli.options import Data, Json, Seed, refuse
from imgclf.cli.shell import Command
from imgclf.cli.split import print_split
from imgclf.cli.training_display import TrainingDisplay
from imgclf.core.config import Aspect, Augment, Model, Precision, Schedule, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.models.bundle import Bundle
    from imgclf.train import RateSearch


class TrainCommand(Command):
    """Lets --resume stand alone or before a run, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--resume" in args:
            at = args.index("--resume")
            run = next((value for value in args[at + 1 : at + 2] if not value.startswith("-")), None)
            args[at : at + (2 if run else 1)] = [f"--resume={run or 'latest'}"]
        return super().parse_args(ctx, args)


def train(
    ctx: typer.Context,
    data: Data = Path("data"),
    epochs: Annotated[int, typer.Option(help="Passes over the training part.")] = 30,
    model: Annotated[Model, typer.Option(help="The network: its width and depth also follow the images' size.")] = "cnn",
    weights: Annotated[
        str, typer.Option(metavar="imagenet|none|FILE", help="Of a pretrained backbone: ImageNet's, random ones, or a file.")
    ] = "imagenet",
    views: Annotated[int, typer.Option(metavar="N", help="For a backbone: each training image, N - 1 times changed too.")] = 1,
    fine_tune: Annotated[
        int, typer.Option(metavar="N", help="For a backbone: once the head is trained, train its top N blocks too.")
    ] = 0,
    fine_tune_epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs of that.", show_default="a fifth of --epochs, 3 at least")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    image_size: Annotated[int | None, typer.Option(help="Pixels a side.", show_default="96, or less for small images")] = None,
    aspect: Annotated[
        Aspect, typer.Option(help="Fit an image to the square: squash it, crop its centre, or pad it.")
    ] = "squash",
    augment: Annotated[Augment, typer.Option(help="Random changes to training images.")] = "light",
    flip: Annotated[bool, typer.Option("--flip/--no-flip", help="Whether those mirror; not for digits and text.")] = True,
    progressive: Annotated[
        bool, typer.Option("--progressive/--no-progressive", help="Whether the first epochs see smaller images: faster.")
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
        str, typer.Option(metavar="auto|none|FILE.csv", help="What an image of each class counts; auto when they are uneven.")
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
    from imgclf import train as verb
    from imgclf.split import splitting
    from imgclf.train.devices import are_several

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
    if resume is not None:
        if shell.given(ctx) - {"data", "resume", "devices", "as_json"}:
            raise UsageError("--resume goes without other options but --devices and --json: it goes on with the run's own")
        with TrainingDisplay() as display:
            moved = data if "data" in shell.given(ctx) or data != Path("data") else None
            bundle = verb.resume(resume, data=moved, listener=display, device_count=device_count)
        print_trained(bundle, as_json)
        return
    verb.check(config)
    refuse(
        ((summary or lr_find) and run_dir, "--run-dir is for a training; --summary and --lr-find leave no run"),
        (summary and lr_find, "--summary and --lr-find: give one of them"),
    )
    if summary:
        about, layers = verb.summary(data, config)
        print_summary(about, layers, as_json)
        return
    if fold is None and not splitting.exists(data):
        if are_several():
            raise ImgclfError(
                f"{data}: no split yet, and all workers need the same one; make it first with {command('split', data)}"
            )
        console.say("no split yet: making the default one, 70% train, 15% validation, 15% test")
        with console.stages() as stage:
            made = splitting.split(data, progress=stage)
        print_split(made, talk=True)
    with TrainingDisplay() as display:
        if lr_find:
            print_rate_search(verb.find_rate(data, config, listener=display, device_count=device_count), as_json)
            return
        bundle = verb.train(data, config, run_dir=run_dir, listener=display, device_count=device_count)
    print_trained(bundle, as_json)


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


def print_summary(about: str, layers: "Sequence[tuple[str, str, str, int]]", json: bool) -> None:
    """A network, layer by layer."""
    if json:
        fields = ("name", "kind", "output", "parameters")
        listed = [dict(zip(fields, layer, strict=True)) for layer in layers]
        as_json({"schema": "train-summary/1", "about": about, "layers": listed})
        return
    table = new_table("layer", "kind", "output", "parameters")
    for name, kind, shape, parameters in layers:
        add_row(table, name, kind, shape, f"{parameters:,}")
    out.print(table)
    out.print(printable(f"{about}; {sum(layer[3] for layer in layers):,} parameters"))


def print_rate_search(result: "RateSearch", json: bool) -> None:
    """The rate that was found, and where the plot is."""
    if json:
        seen = {"rates": result.rates, "losses": result.losses, "plot": str(result.plot)}
        as_json({"schema": "train-lr-find/1", "suggestion": result.suggestion, **seen})
    else:
        out.print(f"--learning-rate {result.suggestion:g}")
    say(f"wrote {result.plot}")


def print_trained(bundle: "Bundle | None", json: bool) -> None:
    """How the best epoch did, and on stdout the run folder; nothing from a worker that is not the chief."""
    if bundle is None:
        return
    if json:
        as_json({"schema": "train/1", "run": str(bundle.path), **bundle.info})
        return
    figures = bundle.info["metrics"]
    low, high = figures["val_interval"]
    say(
        f"best epoch {figures['best_epoch']} of {figures['epochs']} saved: validation accuracy {figures['val_accuracy']:.4f} "
        f"(95% interval {low:.3f} to {high:.3f})"
    )
    say(bundle.val_baseline.words)
    run = "" if bundle.path.parent == Path("runs") else f" --run {shlex.quote(str(bundle.path))}"
    say(f"`imgclf evaluate{run}` scores it on the test set; `imgclf predict IMAGE{run}` classifies an image")
    data(str(bundle.path))
