"""`imgclf train --lr-find`: suggest a learning rate from a short training at rising rates."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgclf.core.config import TrainConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.files.state_folder import command, state_folder
from imgclf.data.loader import Feed
from imgclf.data.manifest import read_manifest
from imgclf.models import keras_settings
from imgclf.train import devices, strategies
from imgclf.train.setup import check, chosen_manifest, prepare, weigh
from imgclf.train.state import Listener, Silent, TrainingState

_STEPS = 100


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """The smoothed loss at each of the rising learning rates, the suggested rate, and the path of the plot."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    plot: Path


def find_rate(
    data: Path, config: TrainConfig, *, listener: Listener | None = None, device_count: int | None = None
) -> RateSearch:
    """Train one step at each of 100 rates from 1e-6 to 1, and suggest a third of the rate at which the loss falls fastest.

    Learning rate range test (Smith, 2017). The result ends where the loss exceeds twice its minimum. Writes only the plot.

    Raises:
        ImgclfError: There is no split, or the loss is NaN or infinite even at the smallest rates.
        UsageError: The config has `--model auto`, or TF_CONFIG names several workers.
    """
    check(config)
    listener = listener or Silent()
    manifest = read_manifest(chosen_manifest(data, config.fold))
    if config.model == "auto":
        raise UsageError("--lr-find does not work with --model auto; give --model a model")
    if devices.are_several():
        raise UsageError("--lr-find works on one machine only; unset TF_CONFIG")
    listener.stage("loading TensorFlow")
    machine = devices.choose(device_count)
    prepared, config = prepare(data, manifest, config, machine, listener)
    weights = weigh(config, prepared)
    rates = np.geomspace(1e-6, 1, _STEPS).tolist()
    measured = _losses(
        TrainingState(data, config, manifest, prepared, weights, Path(), listener, machine, config.epochs), rates
    )
    finite = list(itertools.takewhile(math.isfinite, measured))
    if len(finite) < 12:
        raise ImgclfError(
            f"the loss is NaN or infinite even at the smallest learning rates; check the images with {command('preview', data)}"
        )
    losses = _smooth(finite)
    end = next((n for n, loss in enumerate(losses) if n > 10 and loss > 2 * min(losses[: n + 1])), len(losses))
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    suggestion = float(f"{rates[int(slopes.argmin())] / 3:.1g}")
    from imgclf.reports import plots

    plot = state_folder(data) / "lr-find.png"
    plots.save(plots.rates(rates[:end], losses[:end], suggestion), plot)
    return RateSearch(tuple(rates[:end]), tuple(losses[:end]), suggestion, plot)


@keras_settings.pinned()
def _losses(state: TrainingState, rates: Sequence[float]) -> list[float]:
    """Return the loss of one step at each rate, up to the first NaN or infinite loss."""
    strategy, config = strategies.begin(state), state.config
    images = strategy.images
    feed = Feed(strategy.change(len(images)), state.weights, config.label_smoothing)
    losses: list[float] = []
    epoch = 0
    while len(losses) < len(rates) and all(math.isfinite(loss) for loss in losses):
        epoch += 1
        batches = images.shuffled(config.batch_size, seed=config.seed, epoch=epoch, feed=feed)
        strategy.trainer.epoch(batches, iter(rates[len(losses) :]), lambda _done, loss: losses.append(loss))
        state.listener.batch(epoch, len(losses), len(rates))
    return losses


def _smooth(values: Sequence[float]) -> list[float]:
    """Return the exponential moving average (decay 0.9), corrected for its bias at the beginning as in Adam."""
    smooth, average = [], 0.0
    for number, value in enumerate(values, 1):
        average = 0.9 * average + 0.1 * value
        smooth.append(average / (1 - 0.9**number))
    return smooth
