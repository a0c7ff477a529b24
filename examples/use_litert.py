"""Classify images with an exported LiteRT file: python use_litert.py model.tflite IMAGE..."""

import json
import sys
import zipfile

from ai_edge_litert.interpreter import Interpreter
from prepare import prepare

path, *images = sys.argv[1:]
info = json.loads(zipfile.ZipFile(path).read("imgclf.json"))  # also in the metadata named imgclf
network = Interpreter(path)
network.allocate_tensors()
(image_input,), (output,) = network.get_input_details(), network.get_output_details()
for image in images:
    network.set_tensor(image_input["index"], prepare(image, info["preprocessing"]))
    network.invoke()
    probabilities = network.get_tensor(output["index"])[0]
    best = probabilities.argmax()
    print(f"{image}\t{info['class_names'][best]}\t{probabilities[best]:.6f}")
