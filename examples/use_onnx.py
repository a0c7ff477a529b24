"""Classify images with an exported ONNX file: python use_onnx.py model.onnx IMAGE..."""

import json
import sys

import onnxruntime
from prepare import prepare

path, *images = sys.argv[1:]
network = onnxruntime.InferenceSession(path)
info = json.loads(network.get_modelmeta().custom_metadata_map["imgclf"])
for image in images:
    probabilities = network.run(["probabilities"], {"image": prepare(image, info["preprocessing"])})[0][0]
    best = probabilities.argmax()
    print(f"{image}\t{info['class_names'][best]}\t{probabilities[best]:.6f}")
