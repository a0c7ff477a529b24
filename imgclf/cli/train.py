"""`imgclf train`: options and call."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from imgclf.cli.shared import console, shell
from imgclf.cli.shared.console import (
    add_row,
    as_json,
    data,
    new_table,
    out,
    printable,
    say,
)
from imgclf.cli.shared.options import Data, refuse
from imgclf.cli.shared.shell import Command
from imgclf.cli.split import print_split
from imgclf.cli.train_output import TrainingDisplay
from imgclf.core.config import Aspect, Augment, Model, Precision, Schedule, TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.fields import bounds
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from imgclf.models.bundle import Bundle
    from imgclf.train import RateSearch


EXAMPLES = """imgclf train --epochs 20
imgclf train data/ --model efficientnet-lite0 --fine-tune 2"""


class TrainCommand(Command):
    """Accept --resume with or without a run, which Typer does not support."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--resume" in args:
            at = args.index("--resume")
            run = next((value for value in args[at + 1 : at + 2] if not value.startswith("-")), None)
            args[at : at + (2 if run else 1)] = [f"--resume={run or 'latest'}"]
        return super().parse_args(ctx, args)


def _option(group: str, help: str, *names: str, **more: Any) -> Any:
    """Return an option in a group of --help."""
    return typer.Option(*names, help=help, rich_help_panel=group, **more)


def train(
    ctx: typer.Context,
    data: Data = Path("data"),
    image_size: Annotated[
        int | None,
        _option("Data", "Side length of the input in pixels.", show_default="96, or less for small images"),
    ] = TrainConfig.image_size,
    aspect: Annotated[
        Aspect, _option("Data", "Make images square: squash them, crop the centre, or pad them.")
    ] = TrainConfig.aspect,
    augment: Annotated[Augment, _option("Data", "Strength of random changes to training images.")] = TrainConfig.augment,
    flip: Annotated[
        bool,
        _option("Data", "Flip images horizontally at random. Use --no-flip for digits and text.", "--flip/--no-flip"),
    ] = TrainConfig.flip,
    class_weights: Annotated[
        str,
        _option("Data", "Loss weight of each class: auto, none, or a CSV file.", metavar="auto|none|FILE.csv"),
    ] = TrainConfig.class_weights,
    fold: Annotated[
        int | None, _option("Data", "Train on fold I of `split --folds` instead of the split.", metavar="I")
    ] = TrainConfig.fold,
    model: Annotated[
        Model,
        _option("Model", f"Network: {', '.join(get_args(Model))}. Use auto to compare cnn with a backbone.", metavar="NAME"),
    ] = TrainConfig.model,
    weights: Annotated[
        str,
        _option("Model", "Weights of a backbone: trained on ImageNet, random, or from a file.", metavar="imagenet|none|FILE"),
    ] = TrainConfig.weights,
    views: Annotated[
        int,
        _option(
            "Model", "Use N views of each training image: the original and N-1 augmented copies (backbones only).", metavar="N"
        ),
    ] = TrainConfig.views,
    fine_tune: Annotated[
        int, _option("Fine-tuning", "Train the top N blocks of the backbone too, after the head.", metavar="N")
    ] = TrainConfig.fine_tune,
    fine_tune_epochs: Annotated[
        int | None,
        _option("Fine-tuning", "Epochs of fine-tuning.", metavar="N", show_default="a fifth of --epochs, at least 3"),
    ] = TrainConfig.fine_tune_epochs,
    epochs: Annotated[int, _option("Training", "Number of passes over the training set.")] = TrainConfig.epochs,
    batch_size: Annotated[int, _option("Training", "Images per step.")] = TrainConfig.batch_size,
    learning_rate: Annotated[float, _option("Training", "Peak learning rate of Adam.")] = TrainConfig.learning_rate,
    lr_schedule: Annotated[Schedule, _option("Training", "How the learning rate changes.")] = TrainConfig.lr_schedule,
    lr_find: Annotated[
        bool, _option("Training", "Only search for a learning rate: plot the losses and suggest one.", "--lr-find")
    ] = False,
    early_stopping: Annotated[
        int | None,
        _option(
            "Training",
            "Stop after N epochs without improvement (0 turns it off).",
            metavar="N",
            show_default="half of the epochs, at least 10",
        ),
    ] = TrainConfig.early_stopping,
    progressive: Annotated[
        bool,
        _option("Training", "Use smaller images in the first epochs, which is faster.", "--progressive/--no-progressive"),
    ] = TrainConfig.progressive,
    label_smoothing: Annotated[float, _option("Training", "Label smoothing (0 turns it off).")] = TrainConfig.label_smoothing,
    weight_decay: Annotated[
        float | None,
        _option("Training", "Decoupled weight decay of Adam.", show_default="3 for a head on features, else 0"),
    ] = TrainConfig.weight_decay,
    ema: Annotated[
        float, _option("Training", "Decay of the exponential moving average of the weights (0 turns it off).")
    ] = TrainConfig.ema,
    time_budget: Annotated[
        str | None,
        _option("Training", "Train as many epochs as fit into this time, at most --epochs.", metavar="90s|10m|1h30m"),
    ] = None,
    seed: Annotated[int, _option("Training", "Seed of every random choice.", **bounds(TrainConfig, "seed"))] = TrainConfig.seed,
    precision: Annotated[
        Precision, _option("Hardware", "Number format of the computation. Saved weights are always float32.")
    ] = TrainConfig.precision,
    devices: Annotated[
        str, _option("Hardware", "Number of GPUs that share every batch; auto uses all.", metavar="auto|N")
    ] = "auto",
    run_dir: Annotated[
        Path | None,
        _option("Output", "Folder of the run; it must be new or empty.", show_default="runs/<time>-<model>"),
    ] = None,
    resume: Annotated[
        str | None,
        _option("Output", "Resume an unfinished run, by default the newest.", "--resume", metavar="[RUN]"),
    ] = None,
    summary: Annotated[bool, _option("Output", "Only print the layers of the network.", "--summary")] = False,
    tensorboard: Annotated[
        bool, _option("Output", "Also write logs for TensorBoard into the run.", "--tensorboard")
    ] = TrainConfig.tensorboard,
    as_json: Annotated[bool, _option("Output", "Print one JSON document instead of tables.", "--json")] = False,
) -> None:
    """Train a network and keep its best epoch.

    Train a Sequential CNN from scratch, or a pretrained backbone with --model. Make the default split if there is none. Print
    the run folder on stdout. Press Ctrl-C once to stop after the epoch and keep the result. Use --resume to continue a run
    that was killed.
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
            raise UsageError("--resume uses the options of the run; only --devices and --json can be combined with it")
        with TrainingDisplay() as display:
            moved = data if "data" in shell.given(ctx) or data != Path("data") else None
            bundle = verb.resume(resume, data=moved, listener=display, device_count=device_count)
        print_trained(bundle, as_json)
        return
    verb.check(config)
    refuse(
        ((summary or lr_find) and run_dir, "--summary and --lr-find do not create a run; remove --run-dir"),
        (summary and lr_find, "--summary and --lr-find: give one of them"),
    )
    if summary:
        about, layers = verb.summary(data, config)
        print_summary(about, layers, as_json)
        return
    if fold is None and not splitting.exists(data):
        if are_several():
            raise ImgclfError(
                f"{data}: no split yet, and all workers need the same one; create it first with {command('split', data)}"
            )
        console.say("no split yet: creating the default split, 70% train, 15% validation, 15% test")
        with console.stages() as stage:
            made = splitting.split(data, progress=stage)
        print_split(made, to_stderr=True)
    with TrainingDisplay() as display:
        if lr_find:
            print_rate_search(verb.find_rate(data, config, listener=display, device_count=device_count), as_json)
            return
        bundle = verb.train(data, config, run_dir=run_dir, listener=display, device_count=device_count)
    print_trained(bundle, as_json)


def _seconds(option: str, text: str) -> float:
    """Return the seconds of a time such as 1h30m, 10m, 90s or 90."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip() + ("s" if text.strip().isdigit() else ""))
    if not match or not text.strip():
        raise UsageError(f"{option} {text}: expected a time as in 90s, 10m or 1h30m, or seconds")
    hours, minutes, seconds = (int(digits or 0) for digits in match.groups())
    return float(3600 * hours + 60 * minutes + seconds)


def _count(option: str, text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{option} {text}: expected auto or a whole number of at least 1")
    return int(text)


def print_summary(about: str, layers: "Sequence[tuple[str, str, str, int]]", json: bool) -> None:
    """Print the layers of a network."""
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
    """Print the suggested learning rate, and the path of the plot."""
    if json:
        search = {"rates": result.rates, "losses": result.losses, "plot": str(result.plot)}
        as_json({"schema": "train-lr-find/1", "suggestion": result.suggestion, **search})
    else:
        out.print(f"--learning-rate {result.suggestion:g}")
    say(f"wrote {result.plot}")


def print_trained(bundle: "Bundle | None", json: bool) -> None:
    """Print the best epoch on stderr and the run folder on stdout. bundle: None on workers other than the chief."""
    if bundle is None:
        return
    if json:
        as_json({"schema": "train/1", "run": str(bundle.path), **bundle.info.to_dict()})
        return
    metrics = bundle.info.metrics
    low, high = metrics.val_interval
    say(
        f"best epoch {metrics.best_epoch} of {metrics.epochs} saved: validation accuracy {metrics.val_accuracy:.4f} "
        f"(95% interval {low:.3f} to {high:.3f})"
    )
    say(metrics.val_baseline.words)
    run = "" if bundle.path.parent == Path("runs") else f" --run {shlex.quote(str(bundle.path))}"
    say(f"`imgclf evaluate{run}` scores it on the test set; `imgclf predict IMAGE{run}` classifies an image")
    data(str(bundle.path))
