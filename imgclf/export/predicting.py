"""The type of an opened export, and how to make one from a TensorFlow function."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float64]]  # from a (h, w, 3) image to probabilities (classes,)


def with_tensorflow(call: Callable[[Any], Any], model: Any) -> Predict:
    """Return a function that calls a TensorFlow function with one image.

    Args:
        call: From a float32 tensor (1, h, w, 3) to probabilities (1, classes).
        model: The loaded model, which the returned function keeps alive together with its variables.
    """
    import tensorflow as tf

    def predict(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        output: NDArray[np.float64] = call(tf.constant(image[np.newaxis].astype(np.float32))).numpy()[0].astype(np.float64)
        return output

    predict.loaded = model  # type: ignore[attr-defined]
    return predict
