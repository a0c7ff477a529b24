"""Write and open Keras files."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Quantize
from imgclf.export.contents import NOTE, as_json
from imgclf.export.predicting import Predict, with_tensorflow
from imgclf.models import keras_file, keras_settings

if TYPE_CHECKING:
    import keras


def write_keras(
    network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any], examples: Iterable[NDArray[np.uint8]]
) -> None:
    """Write a Keras file with the note as an additional member; see `formats.write` for the arguments."""
    keras_file.save(network, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{NOTE}.json", as_json(note))


@keras_settings.pinned()
def open_keras(path: Path) -> Predict:
    """Open a Keras file; see `formats.open_exported`."""
    import keras
    import tensorflow as tf

    loaded = keras.saving.load_model(path, compile=False)
    return with_tensorflow(tf.function(lambda image: loaded(image, training=False)), loaded)
