"""A network in the formats that others run, and each of those files as a function from a picture to probabilities."""

import contextlib
import errno
import importlib.util
import json
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
from imgclf.core.config import Format, Quantize, Recipe
from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why
from imgclf.export import graphs
from imgclf.models import keras_file, keras_settings, litert_head
from imgclf.models.litert import Engines

if TYPE_CHECKING:
    import keras

NOTE = "imgclf"  # the name of what a file knows of itself, with .json where it is a file in an archive or a folder
ENDINGS: dict[Format, str] = {"litert": ".tflite", "onnx": ".onnx", "saved-model": "", "keras": ".keras"}
QUANTIZED: dict[Format, tuple[Quantize, ...]] = {
    "litert": ("none", "float16", "int8"),
    "onnx": ("none", "float16"),
    "saved-model": ("none",),
    "keras": ("none",),
}
_ONNX = ("onnx", "onnxruntime", "tf2onnx")
_MAGIC = re.compile(r"[]\\[*?]")
_SMALL = 64  # weights in a tensor that is not worth storing in float16

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def check_packages(form: Format) -> None:
    """Raise ImgclfError when a package that only this format needs is not installed."""
    missing = [name for name in _ONNX if form == "onnx" and importlib.util.find_spec(name) is None]
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
    answer = keras.layers.Dense(len(bias), activation="softmax", name="probabilities")
    whole = keras.Sequential([keras.Input(network.input_shape[1:], name="image"), *below, answer], name=network.name)
    answer.set_weights([kernel, bias])
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

    note: travels inside; its class_names and recipe are those of the network. examples: (h, w, 3) uint8 pictures that int8 is
    fitted to. Raises ImgclfError where TensorFlow cannot write.
    """
    with keras_settings.pinned(), warnings.catch_warnings(), _no_talk("tf2onnx"), _written(path.parent):
        warnings.simplefilter("ignore")  # of the converters about NumPy, which nobody here could act on
        if form == "litert":
            _write_litert(network, path, quantize, note, examples)
        elif form == "onnx":
            _write_onnx(network, path, quantize, note)
        elif form == "saved-model":
            _write_saved_model(network, path, note)
        else:
            keras_file.save(network, path)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(f"{NOTE}.json", _json(note))


def open_(path: Path, form: Format) -> Answer:
    """What a file of `write` answers to a (h, w, 3) uint8 picture at its size: (classes,). Any thread may call."""
    if form == "litert":
        return _open_litert(path)
    if form == "onnx":
        return _open_onnx(path)
    return _open_tensorflow(path, form)


def open_bytes(path: Path) -> Callable[[bytes], NDArray[np.float64] | None]:
    """What a SavedModel answers to the bytes of a JPEG or PNG file: (classes,), or None where TensorFlow refuses them."""
    keras_settings.load()
    import tensorflow as tf

    with _without_magic(path) as plain:
        loaded = tf.saved_model.load(str(plain))
    serve = loaded.signatures["serving_default"]

    def answer(data: bytes) -> NDArray[np.float64] | None:
        try:
            found: NDArray[np.float64] = serve(bytes=tf.constant([data]))["probabilities"].numpy()[0].astype(np.float64)
        except tf.errors.InvalidArgumentError:
            return None
        return found

    answer.loaded = loaded  # type: ignore[attr-defined]  # its variables live only as long as this
    return answer


def _json(note: Mapping[str, Any]) -> str:
    return json.dumps(note, indent=2)


def _names(note: Mapping[str, Any]) -> list[bytes]:
    """Class names as the file system has them, which may not be valid UTF-8."""
    return [name.encode("utf-8", "surrogateescape") for name in note["class_names"]]


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
    path.write_bytes(litert_head.with_note(whole, NOTE, _json(note)))
    # Behind the network, as TensorFlow Lite's own metadata has its label files: programs for archives read them there.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", b"".join(name + b"\n" for name in _names(note)))
        archive.writestr(f"{NOTE}.json", _json(note))


def _write_onnx(network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any]) -> None:
    import onnx

    network = _plain(network)
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports what has been called
    network.export(str(path), format="onnx", verbose=False)
    model = onnx.load(str(path))
    old = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["probabilities" if name == old else name for name in names]
    model.graph.output[0].name = "probabilities"
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "pictures"
    _spell_out_erfc(model)
    if quantize == "float16":
        _store_in_float16(model)
    for key, text in {NOTE: _json(note), "class_names": json.dumps(note["class_names"])}.items():
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _plain(network: "keras.Sequential") -> "keras.Sequential":
    """The network with two layers that tf2onnx has no words for as others that compute the same.

    A convolution of one channel a group, which Keras compiles as a function apart, as a depthwise one; and Normalization, whose
    constants would become inputs, as Rescaling.
    """
    import keras

    def is_grouped(layer: Any) -> bool:
        return isinstance(layer, keras.layers.Conv2D) and 1 < layer.groups == layer.filters

    def inside(model: Any) -> list[Any]:
        return [one for layer in model.layers for one in (inside(layer) if hasattr(layer, "layers") else [layer])]

    def clone(layer: Any) -> Any:
        if isinstance(layer, keras.layers.Normalization):
            mean, deviation = np.ravel(layer.input_mean), np.sqrt(np.ravel(layer.input_variance))
            return keras.layers.Rescaling((1 / deviation).tolist(), (-mean / deviation).tolist(), name=layer.name)
        if not is_grouped(layer):
            return layer.__class__.from_config(layer.get_config())
        known = {name: getattr(layer, name) for name in ("kernel_size", "strides", "padding", "use_bias", "activation", "name")}
        return keras.layers.DepthwiseConv2D(**known)

    if not any(is_grouped(layer) or isinstance(layer, keras.layers.Normalization) for layer in inside(network)):
        return network
    cloned = keras.models.clone_model(network, clone_function=clone, recursive=True)
    for old, new in zip(inside(network), inside(cloned), strict=True):
        weights = old.get_weights()
        new.set_weights([weights[0].transpose(0, 1, 3, 2), *weights[1:]] if is_grouped(old) else weights)
    return cloned


def _spell_out_erfc(model: Any) -> None:
    """Erfc, of GELU, as 1 - Erf: tf2onnx passes it on although ONNX has none."""
    import onnx

    one = onnx.numpy_helper.from_array(np.ones((), np.float32), "one_of_erfc")
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type == "Erfc":
            name = node.output[0]
            node.op_type, node.domain, node.output[0] = "Erf", "", f"{name}/erf"
            nodes.append(onnx.helper.make_node("Sub", [one.name, node.output[0]], [name]))
    if len(nodes) > len(model.graph.node):
        model.graph.initializer.append(one)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(nodes)


def _store_in_float16(model: Any) -> None:
    """Weights in two bytes each, made float32 again when the file is loaded: half the size, the same arithmetic."""
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _SMALL:
            continue
        wide, name = onnx.numpy_helper.to_array(tensor), tensor.name
        limit = float(np.finfo(np.float16).max)
        tensor.CopyFrom(onnx.numpy_helper.from_array(wide.clip(-limit, limit).astype(np.float16), f"{name}/float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


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
    """Two signatures: `serving_default` takes files' bytes, `pixels` what the recipe makes of them."""
    import keras
    import tensorflow as tf

    recipe = Recipe(**note["recipe"])
    shape = (recipe.height, recipe.width, 3)

    def pixels(image: Any) -> dict[str, Any]:
        probabilities = network(image, training=False)
        best = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "labels": tf.gather(tf.constant(_names(note)), best)}

    def of_bytes(bytes: Any) -> dict[str, Any]:
        prepare = tf.TensorSpec(shape, tf.float32)
        return pixels(tf.map_fn(lambda one: graphs.pixels(recipe, one), bytes, fn_output_signature=prepare))

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serving_default", of_bytes, [tf.TensorSpec((None,), tf.string, name="bytes")])
    archive.add_endpoint("pixels", pixels, [tf.TensorSpec((None, *shape), tf.float32, name="image")])
    path.mkdir()
    with _without_magic(path) as plain:
        archive.write_out(str(plain), verbose=False)
    extra = path / "assets.extra"  # where TensorFlow looks for nothing and tools for whatever goes with a model
    extra.mkdir()
    (extra / f"{NOTE}.json").write_text(_json(note), "utf-8")


def _open_litert(path: Path) -> Answer:
    engines = Engines(path)
    return lambda image: engines.output(image).astype(np.float64)


def _open_onnx(path: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answer(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = session.run(None, {"image": image[np.newaxis].astype(np.float32)})[0][0].astype(np.float64)
        return found

    return answer


@keras_settings.pinned()
def _open_tensorflow(path: Path, form: Format) -> Answer:
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

    def answer(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = call(tf.constant(image[np.newaxis].astype(np.float32))).numpy()[0].astype(np.float64)
        return found

    answer.loaded = loaded  # type: ignore[attr-defined]  # its variables live only as long as this
    return answer


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
