"""Write and open SavedModels, with TensorFlow."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Preprocessing, Quantize
from imgclf.export import graphs
from imgclf.export.contents import NOTE, as_json, file_system_names
from imgclf.export.predicting import Predict, with_tensorflow
from imgclf.models import keras_settings

if TYPE_CHECKING:
    import keras

_MAGIC = re.compile(r"[]\\[*?]")


def write_saved_model(
    network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any], examples: Iterable[NDArray[np.uint8]]
) -> None:
    """Write two signatures: `serving_default` takes the bytes of image files, `pixels` takes preprocessed images.

    See `formats.write` for the arguments.
    """
    import keras
    import tensorflow as tf

    preprocessing = Preprocessing(**note["preprocessing"])
    shape = (preprocessing.height, preprocessing.width, 3)

    def pixels(image: Any) -> dict[str, Any]:
        probabilities = network(image, training=False)
        best = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "labels": tf.gather(tf.constant(file_system_names(note)), best)}

    def of_bytes(bytes: Any) -> dict[str, Any]:
        prepared = tf.TensorSpec(shape, tf.float32)
        return pixels(tf.map_fn(lambda data: graphs.pixels(preprocessing, data), bytes, fn_output_signature=prepared))

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serving_default", of_bytes, [tf.TensorSpec((None,), tf.string, name="bytes")])
    archive.add_endpoint("pixels", pixels, [tf.TensorSpec((None, *shape), tf.float32, name="image")])
    path.mkdir()
    with _without_magic(path) as plain:
        archive.write_out(str(plain), verbose=False)
    extra = path / "assets.extra"  # TensorFlow ignores this folder; tools expect a model's additional files there
    extra.mkdir()
    (extra / f"{NOTE}.json").write_text(as_json(note), "utf-8")


@keras_settings.pinned()
def open_saved_model(path: Path) -> Predict:
    """Open the signature `pixels` of a SavedModel; see `formats.open_exported`."""
    import tensorflow as tf

    with _without_magic(path) as plain:
        loaded = tf.saved_model.load(str(plain))
    serve = loaded.signatures["pixels"]
    return with_tensorflow(lambda image: serve(image=image)["probabilities"], loaded)


def open_bytes(path: Path) -> Callable[[bytes], NDArray[np.float64] | None]:
    """Open a SavedModel for image files.

    Returns:
        A function from the bytes of a JPEG or PNG file to probabilities (classes,), or None if TensorFlow cannot decode it.
    """
    keras_settings.load()
    import tensorflow as tf

    with _without_magic(path) as plain:
        loaded = tf.saved_model.load(str(plain))
    serve = loaded.signatures["serving_default"]

    def predict(data: bytes) -> NDArray[np.float64] | None:
        try:
            output: NDArray[np.float64] = serve(bytes=tf.constant([data]))["probabilities"].numpy()[0].astype(np.float64)
        except tf.errors.InvalidArgumentError:
            return None
        return output

    predict.loaded = loaded  # type: ignore[attr-defined]  # keeps the variables of the model alive
    return predict


@contextlib.contextmanager
def _without_magic(folder: Path) -> Iterator[Path]:
    """Yield a path to the folder without glob characters. TensorFlow treats [1] and similar in a path as a pattern."""
    if not _MAGIC.search(str(folder.absolute())):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="imgclf-") as temporary:
        link = Path(temporary, "model")
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link
