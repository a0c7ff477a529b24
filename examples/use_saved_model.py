"""Classify JPEG and PNG files with an exported SavedModel: python use_saved_model.py saved-model IMAGE..."""

import json
import sys
from pathlib import Path

import tensorflow as tf

path, *images = sys.argv[1:]
info = json.loads(Path(path, "assets.extra", "imgclf.json").read_text("utf-8"))
network = tf.saved_model.load(path)
for image in images:  # the SavedModel decodes and resizes the image itself
    probabilities = network.signatures["serving_default"](bytes=tf.constant([Path(image).read_bytes()]))["probabilities"][0]
    best = int(tf.argmax(probabilities))
    print(f"{image}\t{info['class_names'][best]}\t{float(probabilities[best]):.6f}")
