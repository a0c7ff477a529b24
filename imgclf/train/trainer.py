"""The training step and what belongs to it: gradients, Adam, the moving average of weights, and their state to go on from."""

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
    """A copy of the value of a Keras or TensorFlow variable. np.array would cause a NumPy warning."""
    import tensorflow as tf

    return np.asarray(tf.convert_to_tensor(variable).numpy())


class Trainer:
    """Trains one network (see `model.build` with for_training) and keeps a stock network with its weights beside it."""

    def __init__(
        self,
        network: "keras.Sequential",
        stock: "keras.Sequential",
        devices: Devices,
        *,
        weight_decay: float,
        ema: float,
        loss_scaling: bool,
    ) -> None:
        """network: built in the scope of the devices' strategy; stock: outside of it."""
        import keras
        import tensorflow as tf

        self.network, self.stock, self.devices, self.ema = network, stock, devices, ema
        with devices.strategy.scope():
            adam = keras.optimizers.Adam(learning_rate=1.0, weight_decay=weight_decay or None)
            if weight_decay:  # of kernels, not of biases and normalisation (Loshchilov and Hutter, AdamW, 2019)
                adam.exclude_from_weight_decay([v for v in network.trainable_variables if len(v.shape) < 2])
            self.optimizer = keras.optimizers.LossScaleOptimizer(adam) if loss_scaling else adam
            self._adam = adam
            self.optimizer.build(network.trainable_variables)
            same = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}  # on every device
            self.averages = [tf.Variable(values(variable), **same) for variable in network.weights] if ema else []
            self.steps = tf.Variable(0, dtype=tf.int64, **same)
        binary = stock.output_shape[-1] == 1
        self._loss = keras.losses.binary_crossentropy if binary else keras.losses.categorical_crossentropy
        self._binary = binary
        fed = tf.uint8 if len(stock.input_shape) == 4 else tf.float32  # images, or features
        if devices.count == 1:
            image, target = ((None, *network.input_shape[1:]), fed), ((None, stock.output_shape[-1]), tf.float32)
            signature = [tf.TensorSpec(*spec) for spec in (image, target, ((None,), tf.float32), ((), tf.float32))]
            self._step = tf.function(self._global_step, input_signature=signature)
        else:  # a signature cannot describe what is dealt out to devices
            self._step = tf.function(self._global_step, reduce_retracing=True)
            self._average = tf.function(self._average_statistics)
        self._forward = tf.function(
            lambda images: stock(tf.cast(images, tf.float32), training=False),
            input_signature=(tf.TensorSpec((None, *stock.input_shape[1:]), fed),),
        )

    def _global_step(self, images: Any, targets: Any, weights: Any, count: Any) -> tuple[Any, Any]:
        """(loss, how many are right) of a batch of `count` images, added up over all devices."""
        result = self.devices.strategy.run(self._one_step, args=(images, targets, weights, count))
        loss, right = (self.devices.strategy.reduce("SUM", value, axis=None) for value in result)
        return loss, right

    def _one_step(self, images: Any, targets: Any, weights: Any, count: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            outputs = self.network(tf.cast(images, tf.float32), training=True)
            losses = self._loss(targets, outputs)
            loss = tf.reduce_sum(losses * weights) / count  # the optimizer adds up the gradients of all devices
            scaled = self.optimizer.scale_loss(loss)
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        if self.ema:
            self.steps.assign_add(1)
            done = tf.cast(self.steps, tf.float32)
            keep = tf.minimum(self.ema, (1 + done) / (10 + done))  # at first the average follows quickly
            for average, variable in zip(self.averages, self.network.weights, strict=True):
                # as a difference, so that what is frozen stays as it is to the last bit
                average.assign_add((tf.cast(variable.value, average.dtype) - average) * (1 - keep))
        return loss, self._right(targets, outputs)

    def _average_statistics(self) -> None:
        """Batch normalisation's moving statistics, of which each device has gathered its own, become their mean.

        So do their averages: a device knows its own only, and they are moving averages as they are.
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
        """Train on every batch with the next rate; `after` hears images done so far and the batch's loss.

        With several workers, batches are this one's shares, as many and as large as the others'; what is given back and what
        `after` hears count the images of all.
        """
        spread = self.devices.spread
        total = right = 0.0
        done = 0
        for (images, targets, weights), rate in zip(batches, rates, strict=False):
            self._adam.learning_rate.assign(rate)
            if len(images) < self.devices.local:
                break  # the epoch's last few, fewer than devices
            count = len(images) * self.devices.workers
            loss, correct = self._step(spread(images), spread(targets), spread(weights), np.float32(count))
            value = float(loss)
            done, total, right = done + count, total + value * count, right + float(correct)
            after(done, value)
        if self.devices.count > 1:
            self._average()
        return Score(total / max(1, done), right / max(1, done))

    def freeze(self) -> None:
        """Give the stock network the weights as they are now: averaged where an average is kept."""
        source = self.averages or [variable.value for variable in self.network.weights]
        for variable, value in zip(self.stock.weights, source, strict=True):
            variable.assign(value)

    def evaluate(self, batches: Iterable[Batch]) -> Score:
        """The stock network's score, in float32 as it is saved; with several workers, over all of their batches."""
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
        """Everything that the next step depends on: weights, random state, optimizer, averages."""
        return {f"{number:04d}": values(variable) for number, variable in enumerate(self._variables())}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take up a state; raises ValueError when it is of another network."""
        variables = self._variables()
        if len(variables) != len(state):
            raise ValueError(f"{len(state)} arrays for {len(variables)} variables")
        for variable, name in zip(variables, sorted(state), strict=True):
            if tuple(variable.shape) != state[name].shape:
                raise ValueError(f"an array of shape {state[name].shape} for a variable of shape {tuple(variable.shape)}")
            if state[name].dtype.kind not in "fiub" or not np.isfinite(state[name]).all():
                raise ValueError(f"an array of {state[name].dtype} that are no finite numbers")
            variable.assign(state[name])

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.optimizer.variables, *self.averages, self.steps]
