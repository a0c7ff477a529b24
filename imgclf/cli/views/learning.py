"""What a person sees of train, audit, evaluate and compare."""

import contextlib
import math
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.cli.console import (
    LONGEST_LIST,
    add_row,
    as_json,
    counted,
    data,
    new_bar,
    new_table,
    one_line_each,
    out,
    printable,
    say,
    say_left_out,
)
from imgclf.core import signals
from imgclf.core.files.state_folder import command

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from imgclf.audit import Audit
    from imgclf.compare import Comparison
    from imgclf.evaluate import Evaluation, Gate
    from imgclf.models.bundle import Bundle
    from imgclf.train import Epoch, RateSearch


class TrainingDisplay:
    """A line an epoch on stderr, and a bar within the epoch on a terminal."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._spent = 0.0
        self._run_dir: Path | None = None
        self._stack = contextlib.ExitStack()
        self._stop = self._said = False

    def __enter__(self) -> "TrainingDisplay":
        self._bar = self._stack.enter_context(new_bar())
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.close()
        if details[0] is not None and self._run_dir and self._spent:
            from imgclf.models import bundle

            if not (self._run_dir / bundle.FILE).exists():
                say(f"unfinished run: go on with `imgclf train --resume {shlex.quote(str(self._run_dir))}`")

    def _interrupt(self, *_signal: Any) -> None:
        """The first Ctrl-C ends the training after its epoch, the second at once."""
        self._stop = True  # said by `batch`: here, the screen may be half-way through a line
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop(self) -> bool:
        return self._stop

    def note(self, text: str) -> None:
        say(text, style="yellow")

    def stage(self, name: str) -> None:
        self._advance(name, 0, None)

    def preparing(self, done: int, total: int) -> None:
        self._advance("preparing pictures", done, total)

    def computing(self, done: int, total: int) -> None:
        self._advance("computing features", done, total)

    def started(self, run_dir: Path, about: Sequence[str]) -> None:
        self._run_dir = run_dir
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # if ignored, as with nohup, keep it ignored
            self._stack.enter_context(signals.handled(self._interrupt, signal.SIGINT))
        say(f"run {run_dir}")
        for line in about:
            say(line)
        self._header()

    def _header(self) -> None:
        say("epoch    loss  accuracy  val loss  val accuracy  images/s   left")

    def tuning(self, about: Sequence[str]) -> None:
        for line in about:
            say(line)
        self._header()

    def batch(self, epoch: int, done: int, total: int) -> None:
        if self._stop and not self._said:
            self._said = True
            say("ending the run after this epoch; Ctrl-C again stops at once, for --resume to go on later", style="yellow")
        self._advance(f"epoch {epoch}", done, total)

    def epoch(self, epoch: "Epoch", left: float) -> None:
        self._spent += epoch.seconds
        star = "*" if epoch.is_best else " "
        say(
            f"{epoch.epoch:>5} {epoch.loss:>7.4f} {epoch.accuracy:>9.4f} {epoch.val_loss:>9.4f} "
            f"{epoch.val_accuracy:>12.4f}{star} {epoch.images_per_second:>9.0f} {_minutes(left):>6}"
        )

    def _advance(self, what: str, done: int, total: int | None) -> None:
        if self._bar is None:
            return
        if self._task is not None and total is None:  # a bar once measured would go on showing its numbers
            self._bar.remove_task(self._task)
            self._task = None
        if self._task is None:
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, description=what, completed=done, total=total)


def _minutes(seconds: float) -> str:
    return f"{int(seconds + 0.5) // 60}:{int(seconds + 0.5) % 60:02d}"


def summary(about: str, layers: "Sequence[tuple[str, str, str, int]]", json: bool) -> None:
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


def rate_search(result: "RateSearch", json: bool) -> None:
    """The rate that was found, and where the plot is."""
    if json:
        seen = {"rates": result.rates, "losses": result.losses, "plot": str(result.plot)}
        as_json({"schema": "train-lr-find/1", "suggestion": result.suggestion, **seen})
    else:
        out.print(f"--learning-rate {result.suggestion:g}")
    say(f"wrote {result.plot}")


def trained(bundle: "Bundle | None", json: bool) -> None:
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


def audited(result: "Audit", json: bool) -> None:
    """The surest suspects of each check, and how many there are."""
    if json:
        as_json(result.to_dict())
        return
    for name, found in result.by_check().items():
        if found:
            lines = [(one.path, f"{one.score:.2f}", one.detail + (f": {one.other}" if one.other else "")) for one in found[:10]]
            one_line_each(lines, name, "score", "why")
            if len(found) > 10:
                out.print(f"... and {len(found) - 10:,} more; --report FILE.csv lists all, --html FILE.html shows them")
            out.print()
    counts = ", ".join(f"{name} {len(found):,}" for name, found in result.by_check().items())
    out.print(printable(f"{len(result.pictures.samples):,} pictures; suspects: {counts}"))
    for path, reason in result.left_out[:LONGEST_LIST]:
        say(f"left out {path}: {reason}", style="yellow")
    if result.note:
        say(result.note)
    say(
        f"Held-out accuracy with the current labels: {result.accuracy:.4f} (95% interval {result.interval[0]:.3f} to "
        f"{result.interval[1]:.3f}; {result.model}); {result.baseline.words}"
    )
    remedy = "do not rely on the suspects; try another --model"
    if text := result.baseline.warning("held-out accuracy", result.accuracy, result.interval, remedy):
        say(text, style="yellow")
    carry_out = command("clean", Path(result.data), "--apply", "FILE.csv")
    say(f"Nothing was moved. To decide, use --html FILE.html, or --report FILE.csv and {carry_out}.")


def evaluation(result: "Evaluation") -> None:
    """Score with interval, per-class table, confusion matrix."""
    for note in result.notes:
        say(note, style="yellow")
    say_left_out(result.left_out)
    low, high = result.interval
    out.print(printable(f"{result.run} on {result.on}: {counted(result.pictures, 'picture')}"))
    out.print(f"accuracy {result.accuracy:.4f} (95% interval {low:.3f} to {high:.3f}), loss {result.loss:.4f}")
    out.print(printable(result.baseline.words))
    macro, weighted = result.macro_f1_interval, result.weighted_f1_interval
    out.print(
        f"F1 {result.macro_f1:.4f} ({macro[0]:.3f} to {macro[1]:.3f}), weighted by pictures {result.weighted_f1:.4f} "
        f"({weighted[0]:.3f} to {weighted[1]:.3f})"
    )
    if result.top:
        tops = [f"top {k} {share:.4f} ({_between(result.top_intervals[k])})" for k, share in result.top.items()]
        out.print(", ".join(tops))
    if math.isnan(result.auc) or math.isnan(result.average_precision):
        out.print("ROC-AUC and average precision are undefined: all images are of one class")
    else:
        out.print(f"ROC-AUC {result.auc:.4f}, average precision {result.average_precision:.4f}")
    out.print(
        f"calibration error {result.calibration_error:.4f}, before calibration {result.uncalibrated_error:.4f} "
        f"(temperature {result.temperature:.2f})"
    )
    out.print()
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
    if result.errors:
        out.print()
        lines = [(one["label"], one["predicted"], f"{one['probability']:.3f}", one["path"]) for one in result.errors[:5]]
        one_line_each(lines, "true", "predicted", "sure", f"worst of {counted(len(result.errors), 'error')}")
    worse = [one for one in result.slices if one.is_worse]
    if worse:
        out.print()
        table = new_table("does worse where", "is", "accuracy", "images", numbers=False)
        for one in worse:
            add_row(table, one.by, one.value, f"{one.accuracy:.3f} ({_between(one.interval)})", f"{one.pictures:,}")
        out.print(table)
    if not result.unwritten:
        files = (f"predictions-{result.name}.csv", f"confusion-{result.name}.png", f"calibration-{result.name}.png")
        say(f"wrote {result.run}/evaluation-{result.name}.json, {', '.join(files)}")


def gate(asked: "Gate", result: "Evaluation", missed: bool) -> None:
    """Print whether a gate is met, and warn if the baseline alone would meet it."""
    word, style = ("missed", "red") if missed else ("met", None)
    interval = result.between(asked.name)
    between = f" (95% interval {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    say(f"{word}: {asked.name} {result.figure(asked.name):.4f}{between}, minimum {asked.least:g}", style=style)
    trivial = result.baseline
    if asked.name == "accuracy" and asked.least <= trivial.accuracy:
        say(
            f"Warning: the minimum accuracy={asked.least:g} is not above the baseline: always predicting {trivial.class_name} "
            f"scores {trivial.accuracy:.4f} on these images; raise the minimum, or use f1",
            style="yellow",
        )


def _between(interval: Sequence[float]) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def comparison(result: "Comparison", json: bool) -> None:
    """Two runs side by side, and what to make of their difference."""
    if json:
        as_json(result.to_dict())
        return
    for note in result.notes:
        say(note, style="yellow")
    say_left_out(result.left_out)
    out.print(printable(f"{counted(result.pictures, 'picture')}: {result.on}"))
    table = new_table("", "run", "model", "accuracy", "95% interval", "loss", numbers=False)
    for name, side in (("A", result.first), ("B", result.second)):
        low, high = side.interval
        add_row(table, name, side.run, side.model, f"{side.accuracy:.4f}", f"{low:.3f} to {high:.3f}", f"{side.loss:.4f}")
    out.print(table)
    trivial = {side.baseline.class_name: side.baseline for side in (result.first, result.second)}  # one, or one per run
    for one in trivial.values():
        out.print(printable(one.words))
    out.print(
        f"right: both {result.both:,}, A alone {result.only_first:,}, B alone {result.only_second:,}, "
        f"neither {result.neither:,}"
    )
    low, high = result.interval
    out.print(
        f"B less A: {result.difference:+.4f} (95% interval {low:+.4f} to {high:+.4f})\n"
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
        lines = [(one.label, one.first, one.second, one.path) for one in result.disagreements[:LONGEST_LIST]]
        one_line_each(lines, "true", "A says", "B says", "picture")
        if len(result.disagreements) > LONGEST_LIST:
            out.print(f"... and {len(result.disagreements) - LONGEST_LIST:,} more; --json lists all")
