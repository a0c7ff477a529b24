"""A network in the formats that others run, and each of those files as a function from an image to probabilities."""

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
    """Raise ImgclfError when a package that only this format needs is not installed."""
    missing = [name for name in PACKAGES if form == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise ImgclfError(f"--format onnx needs {' and '.join(missing)}, not installed here; run: {extras.command('onnx')}")


@keras_settings.pinned()
def calibrated(network: "keras.Sequential", temperature: float) -> "keras.Sequential":
    """The network with its temperature in the weights of its last layer, and a softmax over all classes.

    A softmax of logits / T is a dense layer with kernel / T and bias / T. A sigmoid of z is the second of a softmax of (-z/2,
    z/2), so that two classes have two probabilities like any other number of classes.
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
    """Write a `calibrated` network to a file, or a folder for a SavedModel; `path` has the format's ending.

    note: travels inside; its class_names and preprocessing are those of the network. examples: (h, w, 3) uint8 images that
    int8 is fitted to. Raises ImgclfError where TensorFlow cannot write.
    """
    with keras_settings.pinned(), warnings.catch_warnings(), _no_talk("tf2onnx"), _written(path.parent):
        warnings.simplefilter("ignore")  # of the converters about NumPy, which nobody here could act on
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


def open_(path: Path, form: Format) -> Predict:
    """What a file of `write` predicts to a (h, w, 3) uint8 image at its size: (classes,). Any thread may call."""
    if form == "litert":
        return _open_litert(path)
    if form == "onnx":
        return open_onnx(path)
    return _open_tensorflow(path, form)


def open_bytes(path: Path) -> Callable[[bytes], NDArray[np.float64] | None]:
    """What a SavedModel predicts to the bytes of a JPEG or PNG file: (classes,), or None where TensorFlow refuses them."""
    keras_settings.load()
    import tensorflow as tf

    with _without_magic(path) as plain:
        loaded = tf.saved_model.load(str(plain))
    serve = loaded.signatures["serving_default"]

    def predict(data: bytes) -> NDArray[np.float64] | None:
        try:
            found: NDArray[np.float64] = serve(bytes=tf.constant([data]))["probabilities"].numpy()[0].astype(np.float64)
        except tf.errors.InvalidArgumentError:
            return None
        return found

    predict.loaded = loaded  # type: ignore[attr-defined]  # its variables live only as long as this
    return predict


def _write_litert(
    network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any], examples: Iterable[NDArray[np.uint8]]
) -> None:
    """All but the last layer converted, and that one put behind in float32: probabilities keep all their digits."""
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
    # Behind the network, as TensorFlow Lite's own metadata has its label files: programs for archives read them there.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", b"".join(name + b"\n" for name in file_system_names(note)))
        archive.writestr(f"{NOTE}.json", as_json(note))


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    """A full disk as TensorFlow has it, "{{node}} a/b/c; No space left on device [Op:SaveV2]", in our words."""
    import tensorflow as tf

    elsewhere = "choose another place with --out"
    try:
        yield
    except OSError as error:
        raise ImgclfError(f"{folder}: the export cannot be written: {why(error, elsewhere)}") from error
    except tf.errors.OpError as error:
        words = error.message.rpartition("; ")[2].partition(" [Op")[0]
        number = next((number for number in errno.errorcode if os.strerror(number) in words), None)
        reason = why(OSError(number, words), elsewhere) if number else f"{words}; {elsewhere}"
        raise ImgclfError(f"{folder}: the export cannot be written: {reason}") from error


@contextlib.contextmanager
def _without_magic(folder: Path) -> Iterator[Path]:
    """A path to the folder without glob characters: TensorFlow takes [1] and similar anywhere in a path for a pattern."""
    if not _MAGIC.search(str(folder.absolute())):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="imgclf-") as place:
        link = Path(place, "model")
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield link


def _write_saved_model(network: "keras.Sequential", path: Path, note: Mapping[str, Any]) -> None:
    """Two signatures: `serving_default` takes files' bytes, `pixels` what the preprocessing makes of them."""
    import keras
    import tensorflow as tf

    preprocessing = Preprocessing(**note["preprocessing"])
    shape = (preprocessing.height, preprocessing.width, 3)

    def pixels(image: Any) -> dict[str, Any]:
        probabilities = network(image, training=False)
        best = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "labels": tf.gather(tf.constant(file_system_names(note)), best)}

    def of_bytes(bytes: Any) -> dict[str, Any]:
        prepare = tf.TensorSpec(shape, tf.float32)
        return pixels(tf.map_fn(lambda one: graphs.pixels(preprocessing, one), bytes, fn_output_signature=prepare))

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serving_default", of_bytes, [tf.TensorSpec((None,), tf.string, name="bytes")])
    archive.add_endpoint("pixels", pixels, [tf.TensorSpec((None, *shape), tf.float32, name="image")])
    path.mkdir()
    with _without_magic(path) as plain:
        archive.write_out(str(plain), verbose=False)
    extra = path / "assets.extra"  # where TensorFlow looks for nothing and tools for files that belong to a model
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
        found: NDArray[np.float64] = call(tf.constant(image[np.newaxis].astype(np.float32))).numpy()[0].astype(np.float64)
        return found

    predict.loaded = loaded  # type: ignore[attr-defined]  # its variables live only as long as this
    return predict


@contextlib.contextmanager
def _no_talk(name: str) -> Iterator[None]:
    """Keep a library's log to itself while the block runs."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
