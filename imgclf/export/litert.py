"""Write and open LiteRT files."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Quantize
from imgclf.export.contents import NOTE, as_json, file_system_names
from imgclf.export.predicting import Predict
from imgclf.models import litert_head
from imgclf.models.litert import Engines

if TYPE_CHECKING:
    import keras


def write_litert(
    network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any], examples: Iterable[NDArray[np.uint8]]
) -> None:
    """Convert all but the last layer, and append that one in float32, so that quantization does not round probabilities.

    See `formats.write` for the arguments.
    """
    import keras
    import tensorflow as tf

    *below, last = network.layers
    body = keras.Sequential([keras.Input(network.input_shape[1:], name="image"), *below])
    options: dict[str, Any] = {} if quantize == "none" else {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if quantize == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    if quantize == "int8":
        options["representative_dataset"] = lambda: ([image[np.newaxis].astype(np.float32)] for image in examples)
    body.export(str(path), format="litert", verbose=False, **options)
    kernel, bias = last.get_weights()
    whole = litert_head.with_head(path.read_bytes(), kernel, bias)
    path.write_bytes(litert_head.with_note(whole, NOTE, as_json(note)))
    # Append a zip archive to the network, as TensorFlow Lite metadata does for label files. Zip programs can read it there.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", b"".join(name + b"\n" for name in file_system_names(note)))
        archive.writestr(f"{NOTE}.json", as_json(note))


def open_litert(path: Path) -> Predict:
    """Open a LiteRT file; see `formats.open_exported`."""
    engines = Engines(path)
    return lambda image: engines.output(image).astype(np.float64)
