"""Classify pictures with an exported Keras file: python use_keras.py model.keras IMAGE..."""

import json
import sys
import zipfile

import keras
from prepare import prepare

path, *pictures = sys.argv[1:]
about = json.loads(zipfile.ZipFile(path).read("imgclf.json"))
network = keras.saving.load_model(path)
for picture in pictures:
    probabilities = network.predict(prepare(picture, about["recipe"]), verbose=0)[0]
    best = probabilities.argmax()
    print(f"{picture}\t{about['class_names'][best]}\t{probabilities[best]:.6f}")
