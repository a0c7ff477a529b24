"""Train epoch by epoch: learning rates, image sizes, early stopping, the time budget, and the files of each epoch."""

import bisect
import contextlib
import dataclasses
import errno
import math
import shlex
import time
from collections.abc import Iterator

from imgclf.core.config import TrainConfig
from imgclf.core.errors import ImgclfError
from imgclf.data.loader import Feed
from imgclf.images.augment import Change
from imgclf.train import schedule
from imgclf.train.run_files import RunFiles, saved_best
from imgclf.train.strategies import Strategy
from imgclf.train.trainer import values
from imgclf.train.work import Epoch, Work, improves

TUNING_RATE = 1 / 10  # of --learning-rate, for fine-tuning the blocks of a backbone


def fit(work: Work, strategy: Strategy, began: float) -> bool:
    """Train the remaining epochs of this stage. Results go into `work` and, except for the bundle, into the run's folder.

    Args:
        began: Start of the training, from `time.monotonic`.

    Returns:
        Whether the whole training ends here, because of Ctrl-C or the time budget.
    """
    config, listener = work.config, work.listener
    batches = _Batches.of(work, strategy)
    files = RunFiles(work, strategy)
    planned, is_over = work.epochs, False
    while len(work.history) < work.epochs and not _stops_early(work):
        entry, seconds = _epoch(work, strategy, batches)
        is_first = entry.epoch == work.stage_start + 1
        if is_first and config.time_budget:
            _fit_budget(work, time.monotonic() - began, seconds)
        files.save_epoch(entry)
        listener.epoch(entry, seconds * _cost(work, entry.epoch, work.epochs))
        if is_first and work.epochs < planned:
            listener.note(f"epochs that fit into the time budget of {config.time_budget:g} s: {work.length}")
        is_over = _must_stop(work, began)
        if is_over:
            break
    if len(work.history) < work.epochs and not is_over:
        listener.note(f"stopped early: no improvement for {patience(config, work.length)} epochs (--early-stopping)")
    files.finish()
    return is_over


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Sizes of an epoch in training images: of a worker, of all workers, and of a worker's batch; and the augmentation."""

    own: int
    images: int
    size: int
    change: Change | None

    @staticmethod
    def of(work: Work, strategy: Strategy) -> "_Batches":
        machine = work.machine
        own = int(machine.total([len(strategy.images)])[0]) // machine.workers  # the same number for every worker
        images = own * machine.workers
        return _Batches(own, images, work.config.batch_size // machine.workers, strategy.change(images))

    @property
    def steps(self) -> int:
        return math.ceil(self.own / self.size)


class _Steps:
    """Report each step of an epoch, and time the first one separately, because TensorFlow compiles during it."""

    def __init__(self, work: Work, number: int, images: int) -> None:
        self._work, self._number, self._images = work, number, images
        self.start = self._last = time.perf_counter()
        self._first = (0, self.start)  # (images done, time)

    def __call__(self, done: int, loss: float) -> None:
        self._last = time.perf_counter()
        self._first = self._first if self._first[0] else (done, self._last)
        if not math.isfinite(loss):
            raise ImgclfError(
                f"the loss is NaN or infinite in epoch {self._number}: the learning rate is too high; {_lower_rate(self._work)}"
            )
        self._work.listener.batch(self._number, done, self._images)

    @property
    def images_per_second(self) -> float:
        return self._images / max(1e-9, self._last - self.start)

    def without_compiling(self, seconds: float) -> float:
        """Return the epoch's time in seconds if the first step had been as fast as the others."""
        done, end = self._first
        if not 0 < done < self._images:
            return seconds
        return seconds - ((end - self.start) - (self._last - end) * done / (self._images - done))


def _epoch(work: Work, strategy: Strategy, batches: _Batches) -> tuple[Epoch, float]:
    """Train and validate one epoch. Returns its metrics, and its time in seconds without compiling."""
    config, trainer, number = work.config, strategy.trainer, len(work.history) + 1
    steps = _Steps(work, number, batches.images)
    images = strategy.images.shuffled(
        batches.size,
        seed=config.seed,
        epoch=number,
        feed=Feed(batches.change, work.weights, config.label_smoothing, _side(work, number, work.epochs)),
        count=batches.own,
        shard=work.machine.index,
    )
    score = trainer.epoch(images, _rates(work, batches.steps, number), steps)
    trainer.update_exported()
    validation = trainer.evaluate(strategy.validation.in_order())
    if not math.isfinite(validation.loss):
        raise ImgclfError(f"the validation loss is NaN or infinite in epoch {number}; {_lower_rate(work)}")
    entry = Epoch(
        epoch=number, loss=score.loss, accuracy=score.accuracy, val_loss=validation.loss, val_accuracy=validation.accuracy,
        images_per_second=steps.images_per_second, seconds=time.perf_counter() - steps.start,
        is_best=improves(work.history, validation.accuracy, validation.loss),
    )  # fmt: skip
    _lower_rate_on_plateau(work, validation.loss)
    work.history.append(entry)
    if entry.is_best:
        work.best = [values(variable) for variable in trainer.exported.weights]
    return entry, steps.without_compiling(entry.seconds)


def _must_stop(work: Work, began: float) -> bool:
    """Return whether the training ends after this epoch, because of Ctrl-C or the time budget: the chief's decision."""
    budget, number = work.config.time_budget, len(work.history)
    late = budget is not None and time.monotonic() - began > budget
    stop, late = work.machine.broadcast([work.listener.stop(), late]).astype(bool).tolist()
    is_last_stage = not work.config.fine_tune or work.tuned_from is not None
    if not (stop or (late and (number < work.epochs or not is_last_stage))):
        return False
    why = "by request" if stop else f"because the time budget of {budget:g} s is used up"
    work.listener.note(f"stopped after epoch {number}, {why}; the best epoch so far is kept")
    work.stopped = stop
    return True


def _lower_rate(work: Work) -> str:
    return f"train again with --learning-rate {work.config.learning_rate / 10:g}{saved_best(work)}"


def patience(config: TrainConfig, epochs: int) -> int:
    """Return the number of epochs without improvement after which a training of `epochs` epochs ends; 0 for never.

    The default is half of the epochs, at least ten: cosine and one-cycle improve most at the end, when the rate falls, and
    must not be stopped just before. With constant and plateau it is a fifth of the epochs, at least six.
    """
    return _default_patience(config, epochs) if config.early_stopping is None else config.early_stopping


def _default_patience(config: TrainConfig, epochs: int) -> int:
    if config.lr_schedule in ("cosine", "one-cycle"):
        return max(10, math.ceil(epochs / 2))
    return max(6, math.ceil(epochs / 5))


def tuning_epochs(config: TrainConfig) -> int:
    """Return the number of fine-tuning epochs. They follow the epochs of the head."""
    return config.fine_tune_epochs or max(3, round(config.epochs / 5))


def _rates(work: Work, steps: int, number: int) -> Iterator[float]:
    config = work.config
    peak = config.learning_rate * (1 if work.tuned_from is None else TUNING_RATE)
    done = number - work.stage_start
    for step in range((done - 1) * steps, done * steps):
        yield work.factor * schedule.rate(config.lr_schedule, peak, step, work.length * steps)


def _lower_rate_on_plateau(work: Work, val_loss: float) -> None:
    """With `plateau`, lower the rate when the validation loss has not fallen for a third of the patience.

    Without early stopping, a third of the default patience counts.
    """
    if work.config.lr_schedule == "plateau":
        losses = [entry.val_loss for entry in work.history[work.stage_start :]] + [val_loss]
        wait = max(2, (work.config.early_stopping or _default_patience(work.config, work.length)) // 3)
        if len(losses) - 1 - losses.index(min(losses)) >= wait and (len(losses) - 1 - losses.index(min(losses))) % wait == 0:
            work.factor *= schedule.PLATEAU_FACTOR


def _stops_early(work: Work) -> bool:
    """Return whether early stopping ends the training now."""
    wait = patience(work.config, work.length)
    best = max((entry.epoch for entry in work.history[work.stage_start :] if entry.is_best), default=work.stage_start)
    return wait > 0 and len(work.history) - best >= wait


def _fit_budget(work: Work, elapsed: float, first: float) -> None:
    """After the first epoch, lower the number of epochs to those that fit into the time budget.

    A tenth of the budget is reserved for the export. first: seconds of the first epoch, without compiling.
    """
    budget = work.config.time_budget or 0.0
    left = 0.9 * budget - elapsed
    start = work.stage_start + 1
    fitting = bisect.bisect_right(range(start, work.epochs + 1), left, key=lambda epochs: first * _cost(work, start, epochs))
    work.epochs = int(work.machine.broadcast([work.stage_start + max(1, fitting)])[0])


def _side(work: Work, number: int, epochs: int) -> int:
    """Return the side, in pixels, of the training images of an epoch."""
    full = work.prepared.preprocessing.height
    return schedule.side(full, number, epochs) if work.config.progressive else full


def _cost(work: Work, number: int, epochs: int) -> float:
    """Return the time that all later epochs take together, in multiples of this epoch.

    The time of an epoch is proportional to the area of its images.
    """
    own = _side(work, number, epochs)
    return sum((_side(work, later, epochs) / own) ** 2 for later in range(number + 1, epochs + 1))


@contextlib.contextmanager
def resource_errors(work: Work) -> Iterator[None]:
    """Turn running out of memory or disk space into one ImgclfError with a remedy."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        smaller = max(1, work.config.batch_size // 2)
        raise ImgclfError(
            f"not enough memory for batches of {work.config.batch_size} images of {work.config.image_size} pixels; "
            f"try --batch-size {smaller}, or a smaller --image-size or --model{saved_best(work)}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImgclfError(
            f"{work.run_dir}: the disk is full; free some space, then continue with "
            f"`imgclf train --resume {shlex.quote(str(work.run_dir))}`{saved_best(work)}"
        ) from error
