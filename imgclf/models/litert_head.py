"""Edit LiteRT files directly. Appending a dense layer takes milliseconds; converting the whole network takes ten seconds."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def with_head(network: bytes, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """Append a dense layer, with a sigmoid for one unit or a softmax for several, to a network with output (1, width).

    The file format is described at https://github.com/google-ai-edge/LiteRT (tflite/schema).

    Args:
        network: The content of a LiteRT file.
        kernel: (width, units), as in Keras.
        bias: (units,).
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(network, 0)
    (graph,) = model.subgraphs
    (features,) = graph.outputs
    units = len(bias)

    def tensor(name: str, shape: list[int], content: NDArray[np.float32] | None = None) -> int:
        one = schema.TensorT()
        one.name, one.shape, one.type = name.encode(), shape, schema.TensorType.FLOAT32
        if content is None:
            one.shapeSignature, one.buffer = [-1, *shape[1:]], 0  # the empty buffer 0 marks a tensor that is computed
        else:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(content, "<f4").tobytes(), np.uint8)
            model.buffers.append(buffer)
            one.buffer = len(model.buffers) - 1
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], output: int, kind: int, options: Any) -> None:
        operator_code = schema.OperatorCodeT()
        operator_code.builtinCode, operator_code.deprecatedBuiltinCode, operator_code.version = code, code, 1
        model.operatorCodes.append(operator_code)
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = len(model.operatorCodes) - 1, inputs, [output]
        one.builtinOptionsType, one.builtinOptions = kind, options
        graph.operators.append(one)

    weights = [tensor("head/kernel", [units, len(kernel)], kernel.T), tensor("head/bias", [units], bias)]
    logits, probabilities = tensor("head/logits", [1, units]), tensor("head/probabilities", [1, units])
    dense, kinds = schema.FullyConnectedOptionsT(), schema.BuiltinOptions
    operator(schema.BuiltinOperator.FULLY_CONNECTED, [features, *weights], logits, kinds.FullyConnectedOptions, dense)
    if units == 1:
        operator(schema.BuiltinOperator.LOGISTIC, [logits], probabilities, kinds.NONE, None)
    else:
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        operator(schema.BuiltinOperator.SOFTMAX, [logits], probabilities, kinds.SoftmaxOptions, softmax)
    graph.outputs = [probabilities]
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.tensorIndex = probabilities
    return _packed(model, len(network) + 4 * kernel.size)


def with_note(network: bytes, name: str, text: str) -> bytes:
    """Add a text to the file's metadata under a name, and name the output `probabilities`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(network, 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(text.encode(), np.uint8)
    model.buffers.append(buffer)
    entry.name, entry.buffer = name.encode(), len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.name = b"probabilities"
    return _packed(model, len(network) + len(text))


def _packed(model: Any, size: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
