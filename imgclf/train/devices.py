"""Choose where a training computes: one device, several devices of this machine, or several machines named by TF_CONFIG."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import signals
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.models import keras_settings


class Devices:
    """The devices that share every training step: `workers` processes with `local` devices each.

    Every worker runs the same program. The chief tests conditions that could differ between workers (time limits, Ctrl-C)
    and sends the results to the others with `broadcast`.
    """

    def __init__(self, strategy: Any, *, index: int = 0, workers: int = 1) -> None:
        self.strategy, self.index, self.workers = strategy, index, workers
        self.local: int = strategy.num_replicas_in_sync // workers

    @property
    def count(self) -> int:
        """Number of devices of all workers."""
        return self.local * self.workers

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run."""
        return self.index == 0

    def __str__(self) -> str:
        words = [f"{self.local} devices"] if self.local > 1 else []
        words += [f"{self.workers} workers"] if self.workers > 1 else []
        return " on each of ".join(words) if len(words) > 1 else "".join(words) or "1 device"

    def distribute(self, values: NDArray[Any]) -> Any:
        """Distribute this worker's shard of a batch to its devices. With a single device, return the array itself."""
        if self.count == 1:
            return values
        return self._per_device(lambda number: values[number :: self.local])

    def total(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Sum each number over all workers. Every worker must call this, with the same number of values."""
        own = np.asarray(values, np.float64)
        if self.workers == 1:
            return own
        per_device = self._per_device(lambda number: own if number == 0 else np.zeros_like(own))
        return np.asarray(self.strategy.reduce("SUM", per_device, axis=None))

    def broadcast(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Return the chief's numbers on every worker. The workers wait for each other here."""
        return self.total(values if self.is_chief else [0.0] * len(values))

    def _per_device(self, make: Callable[[int], NDArray[Any]]) -> Any:
        import tensorflow as tf

        def value(context: Any) -> Any:
            return tf.convert_to_tensor(make(context.replica_id_in_sync_group % self.local))

        return self.strategy.experimental_distribute_values_from_function(value)


@contextlib.contextmanager
def lost_worker_errors(devices: Devices, remedy: str) -> Iterator[None]:
    """Turn the error of a worker that no longer responds into one ImgclfError that ends with `remedy`."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        reason = re.search(r"ollective ops is aborted by: ([^\n]*)", error.message)
        if devices.workers == 1 or not reason:
            raise
        which = re.search(r"remote target /job:(\w+)/replica:\d+/task:(\d+)", error.message)
        who = f"{which[1]} {which[2]}" if which else "another worker"
        raise ImgclfError(f"{who} was lost ({reason[1].strip()}); {remedy}") from error


def choose(wanted: int | None) -> Devices:
    """Return the devices to train on. If TF_CONFIG names several machines, wait until all of them have started.

    Args:
        wanted: Number of devices of this machine; None for all GPUs, or the CPU if there is no GPU.

    Raises:
        UsageError: This machine has fewer devices, or `wanted` is combined with several workers.
        ImgclfError: TF_CONFIG is invalid, or the workers cannot connect.
    """
    cluster = _cluster()
    keras_settings.load()
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if cluster:
        if wanted is not None:
            raise UsageError("--devices cannot be used with several workers: each uses all of its GPUs; remove --devices")
        index, workers = cluster
        return Devices(_connected_strategy(), index=index, workers=workers)
    available = [device.name for device in tf.config.list_logical_devices(kind)]
    count = wanted if wanted is not None else len(available) if kind == "GPU" else 1
    if not 1 <= count <= len(available):
        gpus = "no GPU" if kind == "CPU" else "1 GPU" if len(available) == 1 else f"{len(available)} GPUs"
        raise UsageError(f"--devices {count}: this machine has {gpus}; use --devices auto")
    if count == 1:
        return Devices(tf.distribute.get_strategy())
    return Devices(tf.distribute.MirroredStrategy(available[:count]))


def _connected_strategy() -> Any:
    """Wait for all workers, and return their common strategy.

    TensorFlow blocks Python while it waits, so Ctrl-C has to end the process directly. TensorFlow also replaces the SIGTERM
    handler, which is restored afterwards.
    """
    import tensorflow as tf

    with signals.handled(signal.SIG_DFL, signal.SIGINT, signal.SIGTERM):
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise ImgclfError(f"TF_CONFIG: the workers cannot connect to each other: {first}") from error


def are_several() -> bool:
    """Return whether TF_CONFIG names several workers, without loading TensorFlow. Raises ImgclfError if it is invalid."""
    return _cluster() is not None


def _cluster() -> tuple[int, int] | None:
    """Return (index of this worker, number of workers) from TF_CONFIG; None for a single worker. The chief has index 0."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        value = json.loads(text)
        addresses = {kind: list(value.get("cluster", {}).get(kind, [])) for kind in ("chief", "worker")}
        other = sorted(set(value.get("cluster", {})) - {"chief", "worker"})
        task, number = value.get("task", {}).get("type", "worker"), int(value.get("task", {}).get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise ImgclfError(f"TF_CONFIG: invalid ({error}); use a value like {_EXAMPLE}") from error
    if other:
        raise ImgclfError(f"TF_CONFIG: the cluster contains {', '.join(other)}; only chief and worker are supported")
    workers = sum(map(len, addresses.values()))
    if workers == 0:
        return None
    if not 0 <= number < len(addresses.get(task, [])):
        raise ImgclfError(f"TF_CONFIG: the cluster has no task {task} {number}; use a value like {_EXAMPLE}")
    if workers == 1:
        return None
    return number + (len(addresses["chief"]) if task == "worker" else 0), workers


_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
