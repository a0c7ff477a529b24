"""The registry of export formats: how to write a network in each, and how to open the file again."""

import contextlib
import dataclasses
import errno
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core import extras
from imgclf.core.config import Format, Quantize
from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why
from imgclf.export import keras_format, litert, onnx, saved_model
from imgclf.export.predicting import Predict
from imgclf.models import keras_settings

if TYPE_CHECKING:
    import keras

Write = Callable[["keras.Sequential", Path, Quantize, Mapping[str, Any], Iterable[NDArray[np.uint8]]], None]


@dataclasses.dataclass(frozen=True)
class ExportFormat:
    """A format of `imgclf export`.

    ending: Extension of the file; "" for a folder. quantize: Supported values of --quantize. write, open: Functions with the
    arguments of `write` and `open_exported`, without `form`. packages: Packages of the extra `onnx` that it needs.
    """

    ending: str
    quantize: tuple[Quantize, ...]
    write: Write
    open: Callable[[Path], Predict]
    packages: tuple[str, ...] = ()


FORMATS: dict[Format, ExportFormat] = {
    "litert": ExportFormat(".tflite", ("none", "float16", "int8"), litert.write_litert, litert.open_litert),
    "onnx": ExportFormat(".onnx", ("none", "float16"), onnx.write_onnx, onnx.open_onnx, onnx.PACKAGES),
    "saved-model": ExportFormat("", ("none",), saved_model.write_saved_model, saved_model.open_saved_model),
    "keras": ExportFormat(".keras", ("none",), keras_format.write_keras, keras_format.open_keras),
}


def check_packages(form: Format) -> None:
    """Raise ImgclfError if a package that this format needs is not installed."""
    missing = [name for name in FORMATS[form].packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImgclfError(f"--format {form} needs {' and '.join(missing)}; to install, run: {extras.command('onnx')}")


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
        FORMATS[form].write(network, path, quantize, note, examples)


def open_exported(path: Path, form: Format) -> Predict:
    """Open a file written by `write`.

    Returns:
        A thread-safe function from a (h, w, 3) uint8 image at the network's size to probabilities (classes,).
    """
    return FORMATS[form].open(path)


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
def _quiet(name: str) -> Iterator[None]:
    """Suppress a library's log messages inside the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
