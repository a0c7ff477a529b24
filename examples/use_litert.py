"""Classify images with an exported LiteRT file: python use_litert.py model.tflite IMAGE..."""

import json
import sys
import zipfile

from ai_edge_litert.interpreter import Interpreter
from prepare import prepare

path, *images = sys.argv[1:]
about = json.loads(zipfile.ZipFile(path).read("imgclf.json"))  # also in the file's metadata, under the name imgclf
network = Interpreter(path)
network.allocate_tensors()
(given,), (answer,) = network.get_input_details(), network.get_output_details()
for image in images:
    network.set_tensor(given["index"], prepare(image, about["preprocessing"]))
    network.invoke()
    probabilities = network.get_tensor(answer["index"])[0]
    best = probabilities.argmax()
    print(f"{image}\t{about['class_names'][best]}\t{probabilities[best]:.6f}")
