"""Grad-CAM: saliency maps from gradients. It needs TensorFlow."""

from typing import Any

import cv2
import numpy as np

from imgclf.evaluation.saliency import Map
from imgclf.images.decode import Image
from imgclf.models import keras_settings


@keras_settings.pinned()
def grad_cam(network: Any, image: Image, target: int) -> Map:
    """Return the Grad-CAM map (Selvaraju et al., 2017) of a class, for the input of the pooling layer before the head.

    It uses the gradient of the logit, before softmax or sigmoid. For the first class of a sigmoid unit, that is the negative
    gradient.

    Args:
        network: A keras.Sequential built by imgclf: any layers, GlobalAveragePooling2D, dropout, Dense.
        image: (h, w, 3) uint8 at the network's size.
        target: Index of the class.
    """
    import keras
    import tensorflow as tf

    pooling = next(
        index for index, layer in enumerate(network.layers) if isinstance(layer, keras.layers.GlobalAveragePooling2D)
    )
    activations = tf.convert_to_tensor(image[np.newaxis].astype(np.float32))
    for layer in network.layers[:pooling]:
        activations = layer(activations, training=False)
    head = network.layers[-1]
    with tf.GradientTape() as tape:
        tape.watch(activations)
        logits = tf.linalg.matmul(tf.reduce_mean(activations, axis=(1, 2)), head.kernel) + head.bias
        score = logits[0, target] if logits.shape[1] > 1 else logits[0, 0] * (1.0 if target == 1 else -1.0)
    weights = tf.reduce_mean(tape.gradient(score, activations), axis=(1, 2), keepdims=True)
    coarse = tf.nn.relu(tf.reduce_sum(weights * activations, axis=-1))[0].numpy().astype(np.float64)
    height, width = image.shape[:2]
    highest = float(coarse.max(initial=0.0))
    if highest <= 0:  # no evidence for the class
        return np.zeros((height, width))
    fine = np.asarray(cv2.resize(coarse / highest, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)
    return fine.clip(0.0, 1.0)
