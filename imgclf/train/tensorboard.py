"""Write TensorBoard logs as TFRecords. `tf.summary` would need the whole TensorBoard package."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from imgclf.core.files import contained


def writer(folder: Path) -> Callable[[int, Mapping[str, float]], None]:
    """Return a function that appends an epoch and its metrics to an event file in the folder."""
    import tensorflow as tf

    with contained.Folder.named(folder.parent) as run:
        run.below(folder.name, make=True).close()
    file = tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{time.time():.0f}.imgclf"))
    event, summary = tf.compat.v1.Event, tf.compat.v1.Summary
    file.write(event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())

    def write(epoch: int, metrics: Mapping[str, float]) -> None:
        values = [summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        file.write(event(wall_time=time.time(), step=epoch, summary=summary(value=values)).SerializeToString())
        file.flush()

    return write
