"""The last linear layer of a bundle's ONNX graph: its inputs as embeddings, and other weights in its place.

A scorer ends in one matrix product with a bias, whose two outputs are the scores. What goes into it is the embedding
that the scorer learnt. So a new head is two rows of weights and a bias, and no other tensor of the graph changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from scorer.arrays import Floats
from scorer.bundle.bundle import Bundle
from scorer.bundle.encode import Encoded
from scorer.dialogue import HEADS
from scorer.engines.base import collate
from scorer.engines.names import BATCH_SIZE
from scorer.engines.onnxruntime import onnxruntime_faults
from scorer.errors import BundleError, reason_of
from scorer.model import plan_batches

_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class LastLayer:
    """Where a graph's last linear layer is: ``weight`` (2, D) and ``bias`` (2,) as they are, and their names."""

    embedding: str
    weight: Floats
    bias: Floats
    weight_name: str
    bias_name: str
    transposed: bool


def find_last_layer(graph: onnx.GraphProto) -> LastLayer | None:
    """Return the layer that makes the output, None where the graph does not end in a product with weights and bias."""
    names = _product_names(graph)
    if names is None:
        return None
    wanted = names[1:3]
    known = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in graph.initializer
        if tensor.name in wanted
    }
    embedding, weight, bias, transposed = names
    matrix = known[weight].T if transposed else known[weight]
    if matrix.ndim != 2 or len(matrix) != len(HEADS) or known[bias].shape != (len(HEADS),):
        return None
    return LastLayer(embedding, matrix, known[bias], weight, bias, transposed)


def _product_names(graph: onnx.GraphProto) -> tuple[str, str, str, bool] | None:
    """Return the names of the last product's input, weights and bias, and whether the weights are (D, 2)."""
    made_by = {name: node for node in graph.node for name in node.output}
    known = {tensor.name for tensor in graph.initializer}
    last = made_by.get(graph.output[0].name)
    found = None
    if last is not None and last.op_type == "Gemm" and len(last.input) == 3:
        how = {entry.name: helper.get_attribute_value(entry) for entry in last.attribute}
        if not how.get("transA") and how.get("alpha", 1) == 1 and how.get("beta", 1) == 1:
            found = (*last.input, not how.get("transB", 0))
    elif last is not None and last.op_type == "Add":
        bias = next((name for name in last.input if name in known), "")
        product = next((made_by.get(name) for name in last.input if name != bias), None)
        if product is not None and product.op_type == "MatMul":
            found = (*product.input, bias, True)
    return found if found is not None and {found[1], found[2]} <= known else None


def replace_last_layer(model: onnx.ModelProto, layer: LastLayer, weight: Floats, bias: Floats) -> bytes:
    """Return a model whose last layer has other weights, (2, D) and (2,)."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    new = {layer.weight_name: weight.T if layer.transposed else weight, layer.bias_name: bias}
    for tensor in changed.graph.initializer:
        if tensor.name in new:
            kind = numpy_helper.to_array(tensor).dtype
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[tensor.name]).astype(kind), tensor.name))
    return bytes(changed.SerializeToString())


def append_line(model: onnx.ModelProto, slope: Floats, intercept: Floats) -> bytes:
    """Return a model whose outputs are slope * output + intercept, each (2,): for a graph without a last layer."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph, name = changed.graph, changed.graph.output[0].name
    before = f"{name}.adapted"
    for node in graph.node:
        node.input[:] = [before if entry == name else entry for entry in node.input]
        node.output[:] = [before if entry == name else entry for entry in node.output]
    for part, values in (("slope", slope), ("intercept", intercept)):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), f"{before}.{part}"))
    graph.node.append(helper.make_node("Mul", [before, f"{before}.slope"], [f"{before}.scaled"]))
    graph.node.append(helper.make_node("Add", [f"{before}.scaled", f"{before}.intercept"], [name]))
    return bytes(changed.SerializeToString())


def read_model(bundle: Bundle) -> onnx.ModelProto:
    """Return the model of a bundle in fp32 as ONNX."""
    return onnx.load_from_string(bundle.files["model.onnx"])


def raw_and_embedding(
    bundle: Bundle, model: onnx.ModelProto, layer: LastLayer | None, encoded: Sequence[Encoded]
) -> tuple[Floats, Floats | None]:
    """Return the outputs (N, 2) of a bundle before they are clipped, and the last layer's inputs (N, D).

    BundleError where ONNX Runtime cannot run it.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    if layer is not None:
        opened.graph.output.append(onnx.ValueInfoProto(name=layer.embedding))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the engine that scores
    lengths = np.array([len(item) for item in encoded], dtype=np.int64)
    found: list[tuple[Any, list[Any]]] = []
    try:
        session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]
        for rows in plan_batches(lengths, _BATCH_TOKENS, BATCH_SIZE):
            inputs = collate([encoded[row] for row in rows], bundle.info.pad_id)
            found.append((rows, session.run(None, {name: inputs[name] for name in names})))
    except onnxruntime_faults() as error:
        raise BundleError(f"{bundle.path}: ONNX Runtime cannot run it: {reason_of(error)}") from error
    order = np.argsort(np.concatenate([rows for rows, _ in found]))
    raw, *more = (
        np.concatenate(parts)[order].astype(np.float64) for parts in zip(*(out for _, out in found), strict=True)
    )
    return raw, more[0].reshape(len(raw), -1) if more else None
