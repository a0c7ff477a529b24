"""Grad-CAM: saliency maps from gradients. Needs TensorFlow."""

from typing import Any

import cv2
import numpy as np

from imgclf.evaluation.saliency import Map
from imgclf.images.decode import Image
from imgclf.models import keras_settings


@keras_settings.pinned()
def grad_cam(network: Any, image: Image, target: int) -> Map:
    """Grad-CAM (Selvaraju et al., 2017) of a class, on what goes into the pooling before the head.

    network: a keras.Sequential as imgclf builds them: any layers, GlobalAveragePooling2D, dropout, Dense. The gradient is that
    of the logit, before softmax or sigmoid; of one sigmoid unit, its negative for the first class. Needs TensorFlow.
    """
    import keras
    import tensorflow as tf

    pooling = next(
        place for place, layer in enumerate(network.layers) if isinstance(layer, keras.layers.GlobalAveragePooling2D)
    )
    flow = tf.convert_to_tensor(image[np.newaxis].astype(np.float32))
    for layer in network.layers[:pooling]:
        flow = layer(flow, training=False)
    head = network.layers[-1]
    with tf.GradientTape() as tape:
        tape.watch(flow)
        logits = tf.linalg.matmul(tf.reduce_mean(flow, axis=(1, 2)), head.kernel) + head.bias
        score = logits[0, target] if logits.shape[1] > 1 else logits[0, 0] * (1.0 if target == 1 else -1.0)
    weights = tf.reduce_mean(tape.gradient(score, flow), axis=(1, 2), keepdims=True)
    coarse = tf.nn.relu(tf.reduce_sum(weights * flow, axis=-1))[0].numpy().astype(np.float64)
    height, width = image.shape[:2]
    top = float(coarse.max(initial=0.0))
    if top <= 0:  # nothing speaks for the class
        return np.zeros((height, width))
    fine = np.asarray(cv2.resize(coarse / top, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)
    return fine.clip(0.0, 1.0)
