"""Where a training computes: on one device, on several of this machine, or on several machines that TF_CONFIG names."""

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
    """The devices that share every step of one training; `workers` processes with `local` devices each.

    Every worker runs the same program. What it may decide by itself (the clock, Ctrl-C) it asks the chief for, with `told`.
    """

    def __init__(self, strategy: Any, *, index: int = 0, workers: int = 1) -> None:
        self.strategy, self.index, self.workers = strategy, index, workers
        self.local: int = strategy.num_replicas_in_sync // workers

    @property
    def count(self) -> int:
        """Devices in all."""
        return self.local * self.workers

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the one that writes."""
        return self.index == 0

    def __str__(self) -> str:
        words = [f"{self.local} devices"] if self.local > 1 else []
        words += [f"{self.workers} workers"] if self.workers > 1 else []
        return " on each of ".join(words) if len(words) > 1 else "".join(words) or "1 device"

    def spread(self, values: NDArray[Any]) -> Any:
        """A step's share of this worker, dealt out to its devices; the array itself where there is one device."""
        if self.count == 1:
            return values
        return self._each(lambda number: values[number :: self.local])

    def total(self, values: Sequence[float]) -> NDArray[np.float64]:
        """Each of these numbers, added up over the workers. Every worker must ask, with as many."""
        own = np.asarray(values, np.float64)
        if self.workers == 1:
            return own
        share = self._each(lambda number: own if number == 0 else np.zeros_like(own))
        return np.asarray(self.strategy.reduce("SUM", share, axis=None))

    def told(self, values: Sequence[float]) -> NDArray[np.float64]:
        """The chief's numbers, on every worker; also a way to wait for each other."""
        return self.total(values if self.is_chief else [0.0] * len(values))

    def _each(self, make: Callable[[int], NDArray[Any]]) -> Any:
        import tensorflow as tf

        def one(context: Any) -> Any:
            return tf.convert_to_tensor(make(context.replica_id_in_sync_group % self.local))

        return self.strategy.experimental_distribute_values_from_function(one)


@contextlib.contextmanager
def lost(devices: Devices, remedy: str) -> Iterator[None]:
    """A worker that does not answer any more becomes one line that says what to do."""
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
    """wanted: devices of this machine, None for every GPU (or the CPU). Several machines where TF_CONFIG names them.

    Blocks until all of those have begun. Raises ImgclfError and UsageError for what is not there.
    """
    cluster = _cluster()
    keras_settings.load()
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if cluster:
        if wanted is not None:
            raise UsageError("--devices cannot be given with several workers: each uses all of its GPUs")
        index, workers = cluster
        return Devices(_come_together(), index=index, workers=workers)
    there = [device.name for device in tf.config.list_logical_devices(kind)]
    count = wanted if wanted is not None else len(there) if kind == "GPU" else 1
    if not 1 <= count <= len(there):
        raise UsageError(f"--devices {count}: {len(there) if kind == 'GPU' else 'no'} GPU here; give auto")
    if count == 1:
        return Devices(tf.distribute.get_strategy())
    return Devices(tf.distribute.MirroredStrategy(there[:count]))


def _come_together() -> Any:
    """The strategy of all workers, when the last of them has begun.

    TensorFlow waits without letting Python run, so that Ctrl-C must end the process by itself meanwhile; and it takes SIGTERM,
    which is given back afterwards.
    """
    import tensorflow as tf

    with signals.handled(signal.SIG_DFL, signal.SIGINT, signal.SIGTERM):
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            raise ImgclfError(f"TF_CONFIG: the workers cannot connect to each other: {first}") from error


def are_several() -> bool:
    """Whether TF_CONFIG names several workers; raises ImgclfError when it cannot be understood. TensorFlow is not needed."""
    return _cluster() is not None


def _cluster() -> tuple[int, int] | None:
    """(which worker this is, how many there are) from TF_CONFIG; None for one alone. The chief is number 0."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    try:
        value = json.loads(text)
        addresses = {kind: list(value.get("cluster", {}).get(kind, [])) for kind in ("chief", "worker")}
        other = sorted(set(value.get("cluster", {})) - {"chief", "worker"})
        task, number = value.get("task", {}).get("type", "worker"), int(value.get("task", {}).get("index", 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise ImgclfError(f"TF_CONFIG: cannot be understood ({error}); it must be like {_EXAMPLE}") from error
    if other:
        raise ImgclfError(f"TF_CONFIG: {', '.join(other)} in the cluster; only chief and worker are known")
    workers = sum(map(len, addresses.values()))
    if workers == 0:
        return None
    if not 0 <= number < len(addresses.get(task, [])):
        raise ImgclfError(f"TF_CONFIG: the cluster has no task {task} {number}; it must be like {_EXAMPLE}")
    if workers == 1:
        return None
    return number + (len(addresses["chief"]) if task == "worker" else 0), workers


_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
