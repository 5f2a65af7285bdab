"""Store a model's matrices in fewer bits: ``store_int8`` makes the file small, ``to_half`` computes with float16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

_SMALL = 4096  # tensors below this many numbers stay float: they weigh nothing


def store_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every large matrix as int8 and DequantizeLinear: a quarter of the size, float compute.

    One scale per column of a matrix that is multiplied, so that each output channel has its own; one per row of an
    embedding table, gathered before it is made float. Rounding is symmetric: w = scale * q, scale = max|w| / 127.
    """
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    graph = stored.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: dict[str, str] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            tensor = weights.get(name)
            if tensor is None or len(tensor.dims) != 2 or np.prod(tensor.dims) < _SMALL:
                continue
            if tensor.data_type != TensorProto.FLOAT:
                continue
            if node.op_type == "Gather" and position == 0:
                nodes += _gather_int8(graph, node, numpy_helper.to_array(tensor))
                break
            if node.op_type in ("MatMul", "Gemm") and position == 1:
                if name not in done:
                    done[name] = _dequantised(graph, nodes, name, numpy_helper.to_array(tensor), axis=_channel(node))
                node.input[position] = done[name]
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    for entries, kept in ((graph.node, nodes), (graph.initializer, [w for w in graph.initializer if w.name in used])):
        del entries[:]
        entries.extend(kept)
    onnx.checker.check_model(stored)
    return stored


def _channel(node: onnx.NodeProto) -> int:
    """Return the axis of a weight's output channels: 1, or 0 in a Gemm that transposes it."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else 1


def _quantise(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 values and float32 scales, one scale per index of ``axis``."""
    scale = np.abs(weight).max(axis=1 - axis, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.rint(weight / scale).astype(np.int8), scale.astype(np.float32).ravel()


def _dequantised(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], name: str, weight: np.ndarray, *, axis: int
) -> str:
    values, scales = _quantise(weight, axis)
    graph.initializer.extend(
        [numpy_helper.from_array(values, f"{name}.int8"), numpy_helper.from_array(scales, f"{name}.scale")]
    )
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [f"{name}.float"], axis=axis))
    return f"{name}.float"


def _gather_int8(graph: onnx.GraphProto, node: onnx.NodeProto, table: np.ndarray) -> list[onnx.NodeProto]:
    """Return nodes that gather rows and their scales and multiply: the table itself is never made float."""
    name, indices, output = node.input[0], node.input[1], node.output[0]
    values, scales = _quantise(table, 0)
    graph.initializer.extend(
        [numpy_helper.from_array(values, f"{name}.int8"), numpy_helper.from_array(scales[:, None], f"{name}.scale")]
    )
    prefix = f"{output}.int8"
    return [
        helper.make_node("Gather", [f"{name}.int8", indices], [f"{prefix}.rows"], axis=0),
        helper.make_node("Cast", [f"{prefix}.rows"], [f"{prefix}.float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scale", indices], [f"{prefix}.scales"], axis=0),
        helper.make_node("Mul", [f"{prefix}.float", f"{prefix}.scales"], [output]),
    ]


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in half precision, weights and computation; its inputs and outputs stay what they are."""
    return convert_float_to_float16(model, keep_io_types=True)
