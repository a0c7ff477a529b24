"""Write a network in each export format, and open each file as a function from an image to probabilities."""

import contextlib
import errno
import importlib.util
import logging
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import extras
from imgclf.core.config import Format, Preprocessing, Quantize
from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why
from imgclf.export import graphs
from imgclf.export.contents import NOTE, Predict, as_json, file_system_names
from imgclf.export.onnx import PACKAGES, open_onnx, write_onnx
from imgclf.models import keras_file, keras_settings, litert_head
from imgclf.models.litert import Engines

if TYPE_CHECKING:
    import keras

_MAGIC = re.compile(r"[]\\[*?]")
ENDINGS: dict[Format, str] = {"litert": ".tflite", "onnx": ".onnx", "saved-model": "", "keras": ".keras"}
QUANTIZED: dict[Format, tuple[Quantize, ...]] = {
    "litert": ("none", "float16", "int8"),
    "onnx": ("none", "float16"),
    "saved-model": ("none",),
    "keras": ("none",),
}


def check_packages(form: Format) -> None:
    """Raise ImgclfError if a package that this format needs is not installed."""
    missing = [name for name in PACKAGES if form == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise ImgclfError(f"--format onnx needs {' and '.join(missing)}; to install, run: {extras.command('onnx')}")


@keras_settings.pinned()
def calibrated(network: "keras.Sequential", temperature: float) -> "keras.Sequential":
    """Return the network with the temperature in the weights of its last layer, and a softmax over all classes.

    A softmax of logits / T is a dense layer with kernel / T and bias / T. A sigmoid of z is the second output of a softmax of
    (-z/2, z/2). This way, two classes have two probabilities, like any other number of classes.
    """
    import keras

    *below, last = network.layers
    kernel, bias = (weights / temperature for weights in last.get_weights())
    if len(bias) == 1:
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
    predict = keras.layers.Dense(len(bias), activation="softmax", name="probabilities")
    whole = keras.Sequential([keras.Input(network.input_shape[1:], name="image"), *below, predict], name=network.name)
    predict.set_weights([kernel, bias])
    return whole


def write(
    network: "keras.Sequential",
    path: Path,
    form: Format,
    quantize: Quantize,
    note: Mapping[str, Any],
    examples: Iterable[NDArray[np.uint8]] = (),
) -> None:
    """Write a `calibrated` network to a file, or to a folder for a SavedModel.

    Args:
        path: Ends with the extension of the format.
        note: Metadata stored in the file, with the network's class_names and preprocessing.
        examples: (h, w, 3) uint8 images from which int8 gets its value ranges.

    Raises:
        ImgclfError: The file cannot be written, for example because the disk is full.
    """
    with keras_settings.pinned(), warnings.catch_warnings(), _quiet("tf2onnx"), _write_errors(path.parent):
        warnings.simplefilter("ignore")  # the converters warn about NumPy, and the user cannot change that
        if form == "litert":
            _write_litert(network, path, quantize, note, examples)
        elif form == "onnx":
            write_onnx(network, path, quantize, note)
        elif form == "saved-model":
            _write_saved_model(network, path, note)
        else:
            keras_file.save(network, path)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(f"{NOTE}.json", as_json(note))


def open_exported(path: Path, form: Format) -> Predict:
    """Open a file written by `write`.

    Returns:
        A thread-safe function from a (h, w, 3) uint8 image at the network's size to probabilities (classes,).
    """
    if form == "litert":
        return _open_litert(path)
    if form == "onnx":
        return open_onnx(path)
    return _open_tensorflow(path, form)


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


def _write_litert(
    network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any], examples: Iterable[NDArray[np.uint8]]
) -> None:
    """Convert all but the last layer, and append that one in float32, so that quantization does not round probabilities."""
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


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Turn write errors into an ImgclfError with a remedy.

    TensorFlow reports a full disk as "{{node}} a/b/c; No space left on device [Op:SaveV2]".
    """
    import tensorflow as tf

    elsewhere = "choose another place with --out"
    try:
        yield
    except OSError as error:
        raise ImgclfError(f"{folder}: the export cannot be written: {why(error, elsewhere)}") from error
    except tf.errors.OpError as error:
        text = error.message.rpartition("; ")[2].partition(" [Op")[0]
        number = next((number for number in errno.errorcode if os.strerror(number) in text), None)
        reason = why(OSError(number, text), elsewhere) if number else f"{text}; {elsewhere}"
        raise ImgclfError(f"{folder}: the export cannot be written: {reason}") from error


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


def _write_saved_model(network: "keras.Sequential", path: Path, note: Mapping[str, Any]) -> None:
    """Write two signatures: `serving_default` takes the bytes of image files, `pixels` takes preprocessed images."""
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


def _open_litert(path: Path) -> Predict:
    engines = Engines(path)
    return lambda image: engines.output(image).astype(np.float64)


@keras_settings.pinned()
def _open_tensorflow(path: Path, form: Format) -> Predict:
    import keras
    import tensorflow as tf

    call: Callable[[Any], Any]
    if form == "keras":
        loaded = keras.saving.load_model(path, compile=False)
        call = tf.function(lambda image: loaded(image, training=False))
    else:
        with _without_magic(path) as plain:
            loaded = tf.saved_model.load(str(plain))
        serve = loaded.signatures["pixels"]
        call = lambda image: serve(image=image)["probabilities"]  # noqa: E731

    def predict(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        output: NDArray[np.float64] = call(tf.constant(image[np.newaxis].astype(np.float32))).numpy()[0].astype(np.float64)
        return output

    predict.loaded = loaded  # type: ignore[attr-defined]  # keeps the variables of the model alive
    return predict


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Suppress a library's log messages inside the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
