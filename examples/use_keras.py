"""Classify images with an exported Keras file: python use_keras.py model.keras IMAGE..."""

import json
import sys
import zipfile

import keras
from prepare import prepare

path, *images = sys.argv[1:]
info = json.loads(zipfile.ZipFile(path).read("imgclf.json"))
network = keras.saving.load_model(path)
for image in images:
    probabilities = network.predict(prepare(image, info["preprocessing"]), verbose=0)[0]
    best = probabilities.argmax()
    print(f"{image}\t{info['class_names'][best]}\t{probabilities[best]:.6f}")
