"""The training step: gradients, Adam, the moving average of the weights, and saving and restoring this state."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.data.loader import Batch
from imgclf.train.devices import Devices

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean loss and accuracy over some images."""

    loss: float
    accuracy: float


def values(variable: Any) -> NDArray[Any]:
    """Return a copy of the value of a Keras or TensorFlow variable. np.array would cause a NumPy warning."""
    import tensorflow as tf

    return np.asarray(tf.convert_to_tensor(variable).numpy())


class Trainer:
    """Trains `network`, see `cnn.build` with for_training, and copies its weights to `exported`.

    `exported` consists of built-in Keras layers. It is the network that is evaluated and saved.
    """

    def __init__(
        self,
        network: "keras.Sequential",
        exported: "keras.Sequential",
        devices: Devices,
        *,
        weight_decay: float,
        ema: float,
        loss_scaling: bool,
    ) -> None:
        """network: built in the scope of the devices' strategy; exported: built outside of it."""
        import keras
        import tensorflow as tf

        self.network, self.exported, self.devices, self.ema = network, exported, devices, ema
        with devices.strategy.scope():
            adam = keras.optimizers.Adam(learning_rate=1.0, weight_decay=weight_decay or None)
            if weight_decay:  # only for kernels, not for biases and normalisation (Loshchilov and Hutter, AdamW, 2019)
                adam.exclude_from_weight_decay([v for v in network.trainable_variables if len(v.shape) < 2])
            self.optimizer = keras.optimizers.LossScaleOptimizer(adam) if loss_scaling else adam
            self._adam = adam
            self.optimizer.build(network.trainable_variables)
            mirrored = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}  # equal on all devices
            self.averages = [tf.Variable(values(variable), **mirrored) for variable in network.weights] if ema else []
            self.steps = tf.Variable(0, dtype=tf.int64, **mirrored)
        binary = exported.output_shape[-1] == 1
        self._loss = keras.losses.binary_crossentropy if binary else keras.losses.categorical_crossentropy
        self._binary = binary
        dtype = tf.uint8 if len(exported.input_shape) == 4 else tf.float32  # images, or features
        if devices.count == 1:
            image, target = ((None, *network.input_shape[1:]), dtype), ((None, exported.output_shape[-1]), tf.float32)
            signature = [tf.TensorSpec(*spec) for spec in (image, target, ((None,), tf.float32), ((), tf.float32))]
            self._step = tf.function(self._global_step, input_signature=signature)
        else:  # a signature cannot describe values distributed to several devices
            self._step = tf.function(self._global_step, reduce_retracing=True)
            self._average = tf.function(self._average_statistics)
        self._forward = tf.function(
            lambda images: exported(tf.cast(images, tf.float32), training=False),
            input_signature=(tf.TensorSpec((None, *exported.input_shape[1:]), dtype),),
        )

    def _global_step(self, images: Any, targets: Any, weights: Any, count: Any) -> tuple[Any, Any]:
        """Return (loss, number of correct predictions) of a batch of `count` images, summed over all devices."""
        result = self.devices.strategy.run(self._one_step, args=(images, targets, weights, count))
        loss, right = (self.devices.strategy.reduce("SUM", value, axis=None) for value in result)
        return loss, right

    def _one_step(self, images: Any, targets: Any, weights: Any, count: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            outputs = self.network(tf.cast(images, tf.float32), training=True)
            losses = self._loss(targets, outputs)
            loss = tf.reduce_sum(losses * weights) / count  # the optimizer sums the gradients of all devices
            scaled = self.optimizer.scale_loss(loss)
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        if self.ema:
            self.steps.assign_add(1)
            done = tf.cast(self.steps, tf.float32)
            decay = tf.minimum(self.ema, (1 + done) / (10 + done))  # a low decay at first, so that the average follows quickly
            for average, variable in zip(self.averages, self.network.weights, strict=True):
                # Add the difference: this way the average of a frozen weight does not change in any bit.
                average.assign_add((tf.cast(variable.value, average.dtype) - average) * (1 - decay))
        return loss, self._right(targets, outputs)

    def _average_statistics(self) -> None:
        """Replace the moving statistics of batch normalisation, which each device collects alone, by their mean over devices.

        Do the same for their EMA, which covers one device only: the statistics are moving averages already.
        """
        strategy = self.devices.strategy
        for variable, average in zip(self.network.weights, self.averages or self.network.weights, strict=True):
            if not variable.trainable:
                value = strategy.run(lambda variable=variable: variable + 0.0)
                mean = strategy.reduce("MEAN", value, axis=None)
                variable.assign(mean)
                if self.ema:
                    average.assign(mean)

    def _right(self, targets: Any, outputs: Any) -> Any:
        import tensorflow as tf

        if self._binary:
            return tf.reduce_sum(tf.cast((outputs > 0.5) == (targets > 0.5), tf.float32))
        return tf.reduce_sum(tf.cast(tf.argmax(outputs, -1) == tf.argmax(targets, -1), tf.float32))

    def epoch(
        self, batches: Iterable[Batch], rates: Iterator[float], after: Callable[[int, float], object] = lambda done, loss: None
    ) -> Score:
        """Train on each batch with the next learning rate, and return the loss and accuracy over all workers.

        Args:
            batches: This worker's shards of the batches. All workers must have the same number of shards, of the same sizes.
            rates: Learning rate of each step.
            after: Called after each step with the number of images so far, over all workers, and the loss of the batch.
        """
        distribute = self.devices.distribute
        total = right = 0.0
        done = 0
        for (images, targets, weights), rate in zip(batches, rates, strict=False):
            self._adam.learning_rate.assign(rate)
            if len(images) < self.devices.local:
                break  # the last batch has fewer images than there are devices
            count = len(images) * self.devices.workers
            loss, correct = self._step(distribute(images), distribute(targets), distribute(weights), np.float32(count))
            value = float(loss)
            done, total, right = done + count, total + value * count, right + float(correct)
            after(done, value)
        if self.devices.count > 1:
            self._average()
        return Score(total / max(1, done), right / max(1, done))

    def update_exported(self) -> None:
        """Copy the current weights, or their moving averages if `ema` is not 0, to `exported`."""
        source = self.averages or [variable.value for variable in self.network.weights]
        for variable, value in zip(self.exported.weights, source, strict=True):
            variable.assign(value)

    def evaluate(self, batches: Iterable[Batch]) -> Score:
        """Score `exported`, in float32, over the batches of all workers."""
        total = right = 0.0
        done = 0
        for images, targets, _weights in batches:
            outputs = self._forward(images)
            total += float(np.sum(self._loss(targets, outputs)))
            right += float(self._right(targets, outputs))
            done += len(images)
        total, right, count = self.devices.total((total, right, done)).tolist()
        return Score(total / max(1, count), right / max(1, count))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that the next step depends on: weights, random state, optimizer, averages, number of steps."""
        return {f"{number:04d}": values(variable) for number, variable in enumerate(self._variables())}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Restore the result of `state`. Raises ValueError if it belongs to a different network."""
        variables = self._variables()
        if len(variables) != len(state):
            raise ValueError(f"{len(state)} arrays for {len(variables)} variables")
        for variable, name in zip(variables, sorted(state), strict=True):
            if tuple(variable.shape) != state[name].shape:
                raise ValueError(f"an array of shape {state[name].shape} for a variable of shape {tuple(variable.shape)}")
            if state[name].dtype.kind not in "fiub" or not np.isfinite(state[name]).all():
                raise ValueError(f"an array of type {state[name].dtype} contains values that are not finite numbers")
            variable.assign(state[name])

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.optimizer.variables, *self.averages, self.steps]
