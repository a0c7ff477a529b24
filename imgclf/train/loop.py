"""Epoch by epoch: rates, sizes, stopping, time, and what is written as it goes."""

import bisect
import contextlib
import dataclasses
import errno
import math
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imgclf.core import csv_files
from imgclf.core.config import TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.files import atomic
from imgclf.data.loader import Feed
from imgclf.models import bundle, keras_file
from imgclf.train import schedule, tensorboard, validation
from imgclf.train.checkpoint import write_checkpoint
from imgclf.train.strategies import Strategy
from imgclf.train.trainer import values
from imgclf.train.work import Epoch, Work, improves

if TYPE_CHECKING:
    import keras

TUNING_RATE = 1 / 10  # of --learning-rate, when blocks of a backbone are fine-tuned
_LOGGED = ("loss", "accuracy", "val_loss", "val_accuracy", "images_per_second")
_CURVES_EVERY = 20.0  # seconds: drawing them takes half a one


def fit(
    work: Work,
    strategy: Strategy,
    began: float,
) -> bool:
    """Train the epochs that are left of the present stage; returns whether all is over, by Ctrl-C or the time budget.

    What is reached is in `work` and, but for the bundle, in the run's folder.
    """
    config, listener, machine = work.config, work.listener, work.machine
    trainer, images = strategy.trainer, strategy.images
    share = int(machine.total([len(images)])[0]) // machine.workers  # images of each worker, as many of all
    count, batch = share * machine.workers, config.batch_size // machine.workers
    steps = math.ceil(share / batch)
    change = strategy.change(count)
    lower = f"train again with --learning-rate {config.learning_rate / 10:g}"
    log = tensorboard.writer(work.run_dir / "tensorboard") if config.tensorboard and machine.is_chief else None
    drawn = 0.0
    asked = work.epochs
    is_last_stage = not config.fine_tune or work.tuned_from is not None
    over = False
    while len(work.history) < work.epochs and not _is_over(work):
        number = len(work.history) + 1
        is_first = number == work.began + 1
        start = ended = time.perf_counter()
        first = (0, start)

        def after(done: int, loss: float, number: int = number) -> None:
            nonlocal ended, first
            ended = time.perf_counter()
            first = first if first[0] else (done, ended)
            if not math.isfinite(loss):
                raise ImgclfError(
                    f"the loss is no longer a number in epoch {number}: the steps are too large; {lower}{kept(work)}"
                )
            listener.batch(number, done, count)

        side = _side(work, number, work.epochs)
        batches = images.shuffled(
            batch,
            seed=config.seed,
            epoch=number,
            feed=Feed(change, work.weights, config.label_smoothing, side),
            count=share,
            shard=machine.index,
        )
        score = trainer.epoch(batches, _rates(work, steps, number), after)
        trainer.freeze()
        valued = trainer.evaluate(strategy.validation.in_order())
        if not math.isfinite(valued.loss):
            raise ImgclfError(f"the network's answers are no longer numbers in epoch {number}; {lower}{kept(work)}")
        entry = Epoch(
            epoch=number, loss=score.loss, accuracy=score.accuracy, val_loss=valued.loss, val_accuracy=valued.accuracy,
            images_per_second=count / max(1e-9, ended - start), seconds=time.perf_counter() - start,
            is_best=improves(work.history, valued.accuracy, valued.loss),
        )  # fmt: skip
        _slow_down(work, valued.loss)
        work.history.append(entry)
        if entry.is_best:
            work.best = [values(variable) for variable in trainer.stock.weights]
        seconds = entry.seconds
        if 0 < first[0] < count:
            seconds -= (first[1] - start) - (ended - first[1]) * first[0] / (count - first[0])  # the first step compiles
        if is_first and config.time_budget:
            _fit_budget(work, time.monotonic() - began, seconds)
        if machine.is_chief:
            if entry.is_best and strategy.saves:
                save(trainer.stock, work.run_dir / bundle.MODEL)
            write_checkpoint(work, trainer)
            due = time.monotonic() - drawn > _CURVES_EVERY
            write_history(work, draw=due)
            drawn = time.monotonic() if due else drawn
            if log:
                log(number, {name: getattr(entry, name) for name in _LOGGED})
        listener.epoch(entry, seconds * _cost(work, number, work.epochs))
        if is_first and work.epochs < asked:
            listener.note(f"epochs that fit into the time budget of {config.time_budget:g} s: {work.length}")
        late = config.time_budget is not None and time.monotonic() - began > config.time_budget
        stop, late = machine.told([listener.stop(), late]).astype(bool).tolist()
        if stop or (late and (number < work.epochs or not is_last_stage)):
            why = "as asked" if stop else f"since the time budget of {config.time_budget:g} s is spent"
            listener.note(f"stopped after epoch {number}, {why}; the best epoch so far is kept")
            over, work.stopped = True, stop
            break
    if len(work.history) < work.epochs and not over:
        listener.note(f"stopped early: {patience(config, work.length)} epochs without a better one (--early-stopping)")
    if machine.is_chief:
        write_history(work, draw=True)
        save(strategy.network(trainer.stock.get_weights()), work.run_dir / "last.keras")
    return over


def patience(config: TrainConfig, epochs: int) -> int:
    """Epochs without improvement after which a training of so many ends; 0 for never.

    By default half of the epochs, ten at least: cosine and one-cycle do their best at the end, when the rate falls, and must
    not be cut off just before. A fifth of them, six at least, where the rate does not fall by itself.
    """
    return _usual_patience(config, epochs) if config.early_stopping is None else config.early_stopping


def _usual_patience(config: TrainConfig, epochs: int) -> int:
    if config.lr_schedule in ("cosine", "one-cycle"):
        return max(10, math.ceil(epochs / 2))
    return max(6, math.ceil(epochs / 5))


def tuning_epochs(config: TrainConfig) -> int:
    """Epochs of fine-tuning, after those of the head."""
    return config.fine_tune_epochs or max(3, round(config.epochs / 5))


def _rates(work: Work, steps: int, number: int) -> Iterator[float]:
    config = work.config
    peak = config.learning_rate * (1 if work.tuned_from is None else TUNING_RATE)
    done = number - work.began
    for step in range((done - 1) * steps, done * steps):
        yield work.factor * schedule.rate(config.lr_schedule, peak, step, work.length * steps)


def _slow_down(work: Work, val_loss: float) -> None:
    """With `plateau`, lower the rate when the validation loss has not fallen for a third of the patience (0: the usual one)."""
    if work.config.lr_schedule == "plateau":
        losses = [entry.val_loss for entry in work.history[work.began :]] + [val_loss]
        wait = max(2, (work.config.early_stopping or _usual_patience(work.config, work.length)) // 3)
        if len(losses) - 1 - losses.index(min(losses)) >= wait and (len(losses) - 1 - losses.index(min(losses))) % wait == 0:
            work.factor *= schedule.PLATEAU_FACTOR


def _is_over(work: Work) -> bool:
    """Whether early stopping ends the training now."""
    wait = patience(work.config, work.length)
    best = max((entry.epoch for entry in work.history[work.began :] if entry.is_best), default=work.began)
    return wait > 0 and len(work.history) - best >= wait


def _fit_budget(work: Work, elapsed: float, first: float) -> None:
    """After the first epoch, of so many seconds: as many as the time left is good for, with a tenth of it for the end."""
    budget = work.config.time_budget or 0.0
    left = 0.9 * budget - elapsed
    start = work.began + 1
    fitting = bisect.bisect_right(range(start, work.epochs + 1), left, key=lambda epochs: first * _cost(work, start, epochs))
    work.epochs = int(work.machine.told([work.began + max(1, fitting)])[0])


def _side(work: Work, number: int, epochs: int) -> int:
    """Pixels a side of the training images of an epoch."""
    full = work.prepared.preprocessing.height
    return schedule.side(full, number, epochs) if work.config.progressive else full


def _cost(work: Work, number: int, epochs: int) -> float:
    """How many times as long as this epoch all those after it will take together.

    The time is proportional to the area of the images.
    """
    own = _side(work, number, epochs)
    return sum((_side(work, later, epochs) / own) ** 2 for later in range(number + 1, epochs + 1))


def kept(work: Work) -> str:
    if not (work.run_dir / bundle.MODEL).exists() or not work.history:
        return ""
    return f"; the best epoch that was saved is in {work.run_dir / bundle.MODEL}"


@contextlib.contextmanager
def remedies(work: Work) -> Iterator[None]:
    """Running out of memory or disk becomes one line that says what to do."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        smaller = max(1, work.config.batch_size // 2)
        raise ImgclfError(
            f"not enough memory for batches of {work.config.batch_size} images of {work.config.image_size} pixels; "
            f"try --batch-size {smaller}, or a smaller --image-size or --model{kept(work)}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImgclfError(
            f"{work.run_dir}: the disk is full; make room, then go on with "
            f"`imgclf train --resume {shlex.quote(str(work.run_dir))}`{kept(work)}"
        ) from error


def save(network: "keras.Sequential", path: Path) -> None:
    with atomic.atomic_path(path) as temporary:
        keras_file.save(network, temporary)


def write_history(work: Work, *, draw: bool) -> None:
    rows = [dataclasses.asdict(entry) for entry in work.history]
    if rows:
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        atomic.write_lines(work.run_dir / "history.csv", (csv_files.line(line) for line in lines))
    if rows and draw:
        from imgclf.reports import plots

        best = next(entry for entry in reversed(work.history) if entry.is_best)
        score = validation.interval(work, best.val_accuracy), validation.beside(work, best.val_accuracy)
        plots.save(plots.curves(rows, *score), work.run_dir / "curves.png")
