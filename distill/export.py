"""A checkpoint -> model.onnx whose weights are stored as int8 and computed with as float."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import PreTrainedModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17
_SMALL = 4096  # tensors below this many numbers stay float: they weigh nothing


def to_onnx(model: PreTrainedModel) -> onnx.ModelProto:
    """Return a model as ONNX in fp32: inputs (batch, length) int64, output ``logits`` (batch, 2) float32."""
    names = [name for name in INPUTS if name != "token_type_ids" or getattr(model.config, "type_vocab_size", 0) > 1]
    example = {name: torch.ones(2, 16, dtype=torch.long) for name in names}
    axes = {name: {0: "batch", 1: "length"} for name in names}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package calls itself outdated
        torch.onnx.export(
            _Logits(model, names), tuple(example.values()), buffer, input_names=names, output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: "batch"}}, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def store_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with every large matrix as int8 and DequantizeLinear: a quarter of the size, float compute.

    One scale a column for a matrix that is multiplied, so that each output channel has its own; one a row for an
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
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(stored)
    return stored


def _channel(node: onnx.NodeProto) -> int:
    """Return the axis of a weight's output channels: 1, or 0 in a Gemm that transposes it."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else 1


def _quantise(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 values and float32 scales, one scale an index of ``axis``."""
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
        [
            numpy_helper.from_array(values, f"{name}.int8"),
            numpy_helper.from_array(scales[:, None], f"{name}.scale"),
        ]
    )
    prefix = f"{output}.int8"
    return [
        helper.make_node("Gather", [f"{name}.int8", indices], [f"{prefix}.rows"], axis=0),
        helper.make_node("Cast", [f"{prefix}.rows"], [f"{prefix}.float"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scale", indices], [f"{prefix}.scales"], axis=0),
        helper.make_node("Mul", [f"{prefix}.float", f"{prefix}.scales"], [output]),
    ]


class _Logits(torch.nn.Module):
    """Gives the logits alone, from inputs in a fixed order."""

    def __init__(self, model: PreTrainedModel, names: list[str]) -> None:
        super().__init__()
        self._model = model
        self._names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 2)."""
        logits: torch.Tensor = self._model(**dict(zip(self._names, inputs, strict=True))).logits
        return logits
