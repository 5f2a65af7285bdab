"""What narrowing needs to know of an ONNX graph, and to tidy up in it: shapes, constants, dead nodes.

Shapes are observed, not inferred: a graph computes many from other tensors, and no inference follows all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from distill.exporting.quantise import Batch

Array = npt.NDArray[Any]
Shapes = Mapping[str, Sequence[tuple[int, ...]]]
"""For each tensor its shape in every observed batch."""

_OF_SHAPES = frozenset(["Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Slice", "Sqrt", "Squeeze", "Unsqueeze"])
_SMALL = 64  # constants that may be shapes, axes or indices


def open_session(model: onnx.ModelProto, *, optimise: bool) -> ort.InferenceSession:
    """Return ONNX Runtime's session of a model on the processor; ``optimise`` false keeps every tensor."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def observe(model: onnx.ModelProto, batches: Sequence[Batch]) -> tuple[Shapes, Mapping[str, list[Array]]]:
    """Return every tensor's shapes, and the values of those that are computed from shapes alone."""
    watching = onnx.ModelProto()
    watching.CopyFrom(model)
    graph = watching.graph
    computed = _computed_from_shapes(graph)
    names = [port.name for port in graph.input] + [name for node in graph.node for name in node.output if name]
    graph.node.extend(helper.make_node("Shape", [name], [f"{name}.observed"]) for name in names)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(f"{name}.observed", TensorProto.INT64, None) for name in names)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    session = open_session(watching, optimise=False)
    found = [session.run(None, batch) for batch in batches]
    shapes = {name: [tuple(run[place].tolist()) for run in found] for place, name in enumerate(names)}
    return shapes, {name: [run[len(names) + place] for run in found] for place, name in enumerate(computed)}


def _computed_from_shapes(graph: onnx.GraphProto) -> list[str]:
    """Return the tensors that depend on the shapes of others and not on what these hold."""
    constant = {tensor.name for tensor in graph.initializer}
    computed: dict[str, None] = {}
    for node in graph.node:
        if node.op_type == "Constant":
            constant.update(node.output)
        elif node.op_type == "Shape" or (
            node.op_type in _OF_SHAPES
            and any(name in computed for name in node.input)
            and all(name in computed or name in constant for name in node.input)
        ):
            computed.update(dict.fromkeys(node.output))
    return list(computed)


def fold_shapes(graph: onnx.GraphProto, shapes: Shapes, values: Mapping[str, list[Array]]) -> None:
    """Make constants of what is computed from shapes and always the same, and of the targets of Reshape.

    A narrowed tensor is then no longer asked for its former shape.
    """
    for node in graph.node:
        for position, name in enumerate(node.input):
            found = values.get(name)
            if found is None:
                continue
            constant = found[0] if all(np.array_equal(found[0], other) for other in found) else None
            if constant is None and node.op_type == "Reshape" and not attribute(node, "allowzero", 0):
                constant = _target(shapes[node.input[0]], found)
            if constant is not None:
                node.input[position] = f"{node.output[0]}.{position}.constant"
                graph.initializer.append(numpy_helper.from_array(constant, node.input[position]))


def _target(inputs: Sequence[tuple[int, ...]], targets: Sequence[Array]) -> Array | None:
    """Return what ONNX's Reshape takes for every batch: 0 copies the input's size, one -1 is what is left."""
    entries = []
    for axis, sizes in enumerate(zip(*(target.tolist() for target in targets), strict=True)):
        if len(set(sizes)) == 1:
            entries.append(sizes[0])
        else:
            copied = all(shape[axis : axis + 1] == (size,) for shape, size in zip(inputs, sizes, strict=True))
            entries.append(0 if copied else -1)
    return np.array(entries, dtype=np.int64) if entries.count(-1) <= 1 else None


def drop_dead(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that no output depends on."""
    needed = {port.name for port in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    replace(graph.node, kept[::-1])
    replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def replace(field: Any, entries: list[Any]) -> None:
    """Put entries in place of those that a repeated field has."""
    del field[:]
    field.extend(entries)


def small_constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """Return the small constants, by name."""
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    tensors += [(node.output[0], attribute(node, "value", None)) for node in graph.node if node.op_type == "Constant"]
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors
        if tensor is not None and np.prod(tensor.dims) <= _SMALL
    }


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, ``default`` where it has none."""
    found = [entry for entry in node.attribute if entry.name == name]
    return helper.get_attribute_value(found[0]) if found else default
