"""Write and open ONNX files, with tf2onnx and onnxruntime."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgclf.core.config import Quantize
from imgclf.export.contents import NOTE, as_json
from imgclf.export.predicting import Predict

if TYPE_CHECKING:
    import keras

PACKAGES = ("onnx", "onnxruntime", "tf2onnx")
_SMALL = 64  # tensors with fewer weights stay in float32


def write_onnx(
    network: "keras.Sequential", path: Path, quantize: Quantize, note: Mapping[str, Any], examples: Iterable[NDArray[np.uint8]]
) -> None:
    """Write a network to an ONNX file with named batch axes, output `probabilities` and the metadata `note`.

    See `formats.write` for the arguments.
    """
    import onnx

    network = _convertible(network)
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports only networks that were called once
    network.export(str(path), format="onnx", verbose=False)
    model = onnx.load(str(path))
    old = model.graph.output[0].name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["probabilities" if name == old else name for name in names]
    model.graph.output[0].name = "probabilities"
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    _replace_erfc(model)
    if quantize == "float16":
        _store_in_float16(model)
    for key, text in {NOTE: as_json(note), "class_names": json.dumps(note["class_names"])}.items():
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _convertible(network: "keras.Sequential") -> "keras.Sequential":
    """Replace two kinds of layers that tf2onnx cannot convert by layers that compute the same.

    A convolution with one channel per group, which Keras compiles as a separate function, becomes a depthwise convolution.
    Normalization, whose constants would become inputs, becomes Rescaling.
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
        names = ("kernel_size", "strides", "padding", "use_bias", "activation", "name")
        return keras.layers.DepthwiseConv2D(**{name: getattr(layer, name) for name in names})

    if not any(is_grouped(layer) or isinstance(layer, keras.layers.Normalization) for layer in inside(network)):
        return network
    cloned = keras.models.clone_model(network, clone_function=clone, recursive=True)
    for old, new in zip(inside(network), inside(cloned), strict=True):
        weights = old.get_weights()
        new.set_weights([weights[0].transpose(0, 1, 3, 2), *weights[1:]] if is_grouped(old) else weights)
    return cloned


def _replace_erfc(model: Any) -> None:
    """Replace Erfc, a part of GELU, by 1 - Erf: tf2onnx writes it although ONNX has no such operator."""
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
    """Store weights as float16 and cast them to float32 when the file is loaded: half the size, the same arithmetic."""
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


def open_onnx(path: Path) -> Predict:
    """Open an ONNX file written by `write_onnx`; see `formats.open_exported`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        output: NDArray[np.float64] = session.run(None, {"image": image[np.newaxis].astype(np.float32)})[0][0].astype(
            np.float64
        )
        return output

    return predict
