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
from imgclf.images.augment import BatchAugmentation
from imgclf.train import schedule
from imgclf.train.run_files import RunFiles, saved_best
from imgclf.train.state import Epoch, TrainingState, improves
from imgclf.train.strategies import Strategy
from imgclf.train.trainer import values

TUNING_RATE = 1 / 10  # of --learning-rate, for fine-tuning the blocks of a backbone


def fit(state: TrainingState, strategy: Strategy, began: float) -> bool:
    """Train the remaining epochs of this stage. Results go into `state` and, except for the bundle, into the run's folder.

    Args:
        began: Start of the training, from `time.monotonic`.

    Returns:
        Whether the whole training ends here, because of Ctrl-C or the time budget.
    """
    config, listener = state.config, state.listener
    batches = _Batches.of(state, strategy)
    files = RunFiles(state, strategy)
    planned, is_over = state.epochs, False
    while len(state.history) < state.epochs and not _stops_early(state):
        entry, seconds = _epoch(state, strategy, batches)
        is_first = entry.epoch == state.stage_start + 1
        if is_first and config.time_budget:
            _fit_budget(state, time.monotonic() - began, seconds)
        files.save_epoch(entry)
        listener.epoch(entry, seconds * _cost(state, entry.epoch, state.epochs))
        if is_first and state.epochs < planned:
            listener.note(f"epochs that fit into the time budget of {config.time_budget:g} s: {state.length}")
        is_over = _must_stop(state, began)
        if is_over:
            break
    if len(state.history) < state.epochs and not is_over:
        listener.note(f"stopped early: no improvement for {patience(config, state.length)} epochs (--early-stopping)")
    files.finish()
    return is_over


@dataclasses.dataclass(frozen=True)
class _Batches:
    """Sizes of an epoch in training images: of a worker, of all workers, and of a worker's batch; and the augmentation."""

    own: int
    images: int
    size: int
    change: BatchAugmentation | None

    @staticmethod
    def of(state: TrainingState, strategy: Strategy) -> "_Batches":
        machine = state.machine
        own = int(machine.total([len(strategy.images)])[0]) // machine.workers  # the same number for every worker
        images = own * machine.workers
        return _Batches(own, images, state.config.batch_size // machine.workers, strategy.change(images))

    @property
    def steps(self) -> int:
        return math.ceil(self.own / self.size)


class _Steps:
    """Report each step of an epoch, and time the first one separately, because TensorFlow compiles during it."""

    def __init__(self, state: TrainingState, number: int, images: int) -> None:
        self._state, self._number, self._images = state, number, images
        self.start = self._last = time.perf_counter()
        self._first = (0, self.start)  # (images done, time)

    def __call__(self, done: int, loss: float) -> None:
        self._last = time.perf_counter()
        self._first = self._first if self._first[0] else (done, self._last)
        if not math.isfinite(loss):
            raise ImgclfError(
                f"the loss is NaN or infinite in epoch {self._number}: the learning rate is too high; "
                f"{_lower_rate(self._state)}"
            )
        self._state.listener.batch(self._number, done, self._images)

    @property
    def images_per_second(self) -> float:
        return self._images / max(1e-9, self._last - self.start)

    def without_compiling(self, seconds: float) -> float:
        """Return the epoch's time in seconds if the first step had been as fast as the others."""
        done, end = self._first
        if not 0 < done < self._images:
            return seconds
        return seconds - ((end - self.start) - (self._last - end) * done / (self._images - done))


def _epoch(state: TrainingState, strategy: Strategy, batches: _Batches) -> tuple[Epoch, float]:
    """Train and validate one epoch. Returns its metrics, and its time in seconds without compiling."""
    config, trainer, number = state.config, strategy.trainer, len(state.history) + 1
    steps = _Steps(state, number, batches.images)
    images = strategy.images.shuffled(
        batches.size,
        seed=config.seed,
        epoch=number,
        feed=Feed(batches.change, state.weights, config.label_smoothing, _side(state, number, state.epochs)),
        count=batches.own,
        shard=state.machine.index,
    )
    score = trainer.epoch(images, _rates(state, batches.steps, number), steps)
    trainer.update_exported()
    validation = trainer.evaluate(strategy.validation.in_order())
    if not math.isfinite(validation.loss):
        raise ImgclfError(f"the validation loss is NaN or infinite in epoch {number}; {_lower_rate(state)}")
    entry = Epoch(
        epoch=number, loss=score.loss, accuracy=score.accuracy, val_loss=validation.loss, val_accuracy=validation.accuracy,
        images_per_second=steps.images_per_second, seconds=time.perf_counter() - steps.start,
        is_best=improves(state.history, validation.accuracy, validation.loss),
    )  # fmt: skip
    _lower_rate_on_plateau(state, validation.loss)
    state.history.append(entry)
    if entry.is_best:
        state.best = [values(variable) for variable in trainer.exported.weights]
    return entry, steps.without_compiling(entry.seconds)


def _must_stop(state: TrainingState, began: float) -> bool:
    """Return whether the training ends after this epoch, because of Ctrl-C or the time budget of the chief."""
    budget, number = state.config.time_budget, len(state.history)
    late = budget is not None and time.monotonic() - began > budget
    stop, late = state.machine.broadcast([state.listener.stop(), late]).astype(bool).tolist()
    is_last_stage = not state.config.fine_tune or state.tuned_from is not None
    if not (stop or (late and (number < state.epochs or not is_last_stage))):
        return False
    why = "by request" if stop else f"because the time budget of {budget:g} s is used up"
    state.listener.note(f"stopped after epoch {number}, {why}; the best epoch so far is kept")
    state.stopped = stop
    return True


def _lower_rate(state: TrainingState) -> str:
    return f"train again with --learning-rate {state.config.learning_rate / 10:g}{saved_best(state)}"


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


def _rates(state: TrainingState, steps: int, number: int) -> Iterator[float]:
    config = state.config
    peak = config.learning_rate * (1 if state.tuned_from is None else TUNING_RATE)
    done = number - state.stage_start
    for step in range((done - 1) * steps, done * steps):
        yield state.factor * schedule.rate(config.lr_schedule, peak, step, state.length * steps)


def _lower_rate_on_plateau(state: TrainingState, val_loss: float) -> None:
    """With `plateau`, lower the rate when the validation loss has not fallen for a third of the patience.

    Without early stopping, a third of the default patience counts.
    """
    if state.config.lr_schedule == "plateau":
        losses = [entry.val_loss for entry in state.history[state.stage_start :]] + [val_loss]
        wait = max(2, (state.config.early_stopping or _default_patience(state.config, state.length)) // 3)
        if len(losses) - 1 - losses.index(min(losses)) >= wait and (len(losses) - 1 - losses.index(min(losses))) % wait == 0:
            state.factor *= schedule.PLATEAU_FACTOR


def _stops_early(state: TrainingState) -> bool:
    """Return whether early stopping ends the training now."""
    wait = patience(state.config, state.length)
    best = max((entry.epoch for entry in state.history[state.stage_start :] if entry.is_best), default=state.stage_start)
    return wait > 0 and len(state.history) - best >= wait


def _fit_budget(state: TrainingState, elapsed: float, first: float) -> None:
    """After the first epoch, lower the number of epochs to those that fit into the time budget.

    A tenth of the budget is reserved for the export. first: seconds of the first epoch, without compiling.
    """
    budget = state.config.time_budget or 0.0
    left = 0.9 * budget - elapsed
    start = state.stage_start + 1
    fitting = bisect.bisect_right(range(start, state.epochs + 1), left, key=lambda epochs: first * _cost(state, start, epochs))
    state.epochs = int(state.machine.broadcast([state.stage_start + max(1, fitting)])[0])


def _side(state: TrainingState, number: int, epochs: int) -> int:
    """Return the side, in pixels, of the training images of an epoch."""
    full = state.prepared.preprocessing.height
    return schedule.side(full, number, epochs) if state.config.progressive else full


def _cost(state: TrainingState, number: int, epochs: int) -> float:
    """Return the time that all later epochs take together, in multiples of this epoch.

    The time of an epoch is proportional to the area of its images.
    """
    own = _side(state, number, epochs)
    return sum((_side(state, later, epochs) / own) ** 2 for later in range(number + 1, epochs + 1))


@contextlib.contextmanager
def resource_errors(state: TrainingState) -> Iterator[None]:
    """Turn running out of memory or disk space into one ImgclfError with a remedy."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        smaller = max(1, state.config.batch_size // 2)
        raise ImgclfError(
            f"not enough memory for batches of {state.config.batch_size} images of {state.config.image_size} pixels; "
            f"try --batch-size {smaller}, or a smaller --image-size or --model{saved_best(state)}"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ImgclfError(
            f"{state.run_dir}: the disk is full; free some space, then continue with "
            f"`imgclf train --resume {shlex.quote(str(state.run_dir))}`{saved_best(state)}"
        ) from error
