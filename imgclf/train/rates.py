"""`imgclf train --lr-find`: a learning rate from a short training at rising rates."""

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
from imgclf.train.work import Listener, Silent, Work

_STEPS = 100


@dataclasses.dataclass(frozen=True)
class RateSearch:
    """The loss at each learning rate of a rising series, smoothed, and a rate to train with."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    plot: Path


def find_rate(
    data: Path, config: TrainConfig, *, listener: Listener | None = None, device_count: int | None = None
) -> RateSearch:
    """Train a few steps at rates from 1e-6 to 1 and see where the loss falls and where it breaks (Smith, 2017).

    Suggests a third of the rate at which the loss falls fastest. Nothing is kept but the plot. Raises ImgclfError.
    """
    check(config)
    listener = listener or Silent()
    manifest = read_manifest(chosen_manifest(data, config.fold))
    if config.model == "auto":
        raise UsageError("--lr-find needs a model, not --model auto")
    if devices.are_several():
        raise UsageError("--lr-find works on one machine; unset TF_CONFIG for it")
    listener.stage("loading TensorFlow")
    machine = devices.choose(device_count)
    prepared, config = prepare(data, manifest, config, machine, listener)
    weights = weigh(config, prepared)
    rates = np.geomspace(1e-6, 1, _STEPS).tolist()
    seen = _losses(Work(data, config, manifest, prepared, weights, Path(), listener, machine, config.epochs), rates)
    finite = list(itertools.takewhile(math.isfinite, seen))
    if len(finite) < 12:
        raise ImgclfError(
            f"the loss is NaN or infinite even at the smallest learning rates; check the images with {command('preview', data)}"
        )
    losses = _smooth(finite)
    worst = next((n for n, loss in enumerate(losses) if n > 10 and loss > 2 * min(losses[: n + 1])), len(losses))
    slopes = np.gradient(losses[:worst], np.log(rates[:worst]))
    suggestion = float(f"{rates[int(slopes.argmin())] / 3:.1g}")
    from imgclf.reports import plots

    plot = state_folder(data) / "lr-find.png"
    plots.save(plots.rates(rates[:worst], losses[:worst], suggestion), plot)
    return RateSearch(tuple(rates[:worst]), tuple(losses[:worst]), suggestion, plot)


@keras_settings.pinned()
def _losses(work: Work, rates: Sequence[float]) -> list[float]:
    """The loss of one step at each rate, up to the first NaN or infinite loss."""
    strategy, config = strategies.begin(work), work.config
    images = strategy.images
    feed = Feed(strategy.change(len(images)), work.weights, config.label_smoothing)
    seen: list[float] = []
    epoch = 0
    while len(seen) < len(rates) and all(math.isfinite(loss) for loss in seen):
        epoch += 1
        batches = images.shuffled(config.batch_size, seed=config.seed, epoch=epoch, feed=feed)
        strategy.trainer.epoch(batches, iter(rates[len(seen) :]), lambda _done, loss: seen.append(loss))
        work.listener.batch(epoch, len(seen), len(rates))
    return seen


def _smooth(values: Sequence[float]) -> list[float]:
    """A moving average that keeps 0.9, without its bias at the beginning."""
    smooth, average = [], 0.0
    for number, value in enumerate(values, 1):
        average = 0.9 * average + 0.1 * value
        smooth.append(average / (1 - 0.9**number))
    return smooth
