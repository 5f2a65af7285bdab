"""Compute an encoder's last layer for its first token only: an exact simplification of an exported graph.

BERT's pooler and the heads of RoBERTa, DistilBERT and MPNet read one vector of the last layer, the first token's. Keys
and values are needed of every token; queries, attention, both feed-forward products and the norms of that one only.

Shapes are observed, not inferred: a graph computes many from other tensors, and no inference follows all of them. So
whatever comes out is held against the plain graph at several shapes, the longest that is scored among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from distill.quantise import Batch
from scorer.engine import onnxruntime_faults

MAX_DRIFT = 1e-4
"""How far a score of the narrowed graph may lie from the plain graph's, of 10; rounding comes to 1e-5."""

Array = npt.NDArray[Any]
Shapes = Mapping[str, Sequence[tuple[int, ...]]]
"""For each tensor its shape in every observed batch."""

_POINTWISE = frozenset([
    "Abs", "Add", "Cast", "Div", "Erf", "Gelu", "Identity", "Max", "Min", "Mul", "Neg", "Pow", "Relu", "Sigmoid",
    "Sqrt", "Sub", "Tanh", "Where",
])  # fmt: skip
_OF_SHAPES = frozenset(["Cast", "Concat", "Div", "Gather", "Identity", "Mul", "Slice", "Sqrt", "Squeeze", "Unsqueeze"])
_SMALL = 64  # constants that may be shapes, axes or indices


@dataclass(frozen=True, slots=True, eq=False)
class Narrowed:
    """A graph, how many of its matrix products are of the first token only, and in words why so many.

    With 0 products ``model`` is the plain graph itself.
    """

    model: onnx.ModelProto
    products: int
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class _Use:
    """An input of a node that wants index 0 of an axis only."""

    node: onnx.NodeProto
    position: int
    axis: int


def narrow(model: onnx.ModelProto, vocabulary: int, longest: int) -> Narrowed:
    """Return an encoder whose last layer is computed for the first token only, where nothing else of it is read.

    ``vocabulary`` is the number of token ids, ``longest`` that of the tokens of the longest dialogue. The scores are
    the plain graph's within ``MAX_DRIFT``, or the plain graph is returned and ``note`` says why.
    """
    if any(attribute.type in (5, 10) for node in model.graph.node for attribute in node.attribute):
        return Narrowed(model, 0, "every token is computed in every layer: the graph has branches")
    batches = [_batch(model, shape, vocabulary) for shape in ((2, longest), (3, 7), (1, 1))]
    try:
        narrowed, products = _rewrite(model, batches[:2])
        if not products:
            return Narrowed(model, 0, "every token is computed in every layer: more than the first one is read")
        onnx.checker.check_model(narrowed)
        drift = _drift(model, narrowed, batches)
    except (*onnxruntime_faults(), onnx.checker.ValidationError) as error:
        what = " ".join(str(error).split())[:200]
        return Narrowed(model, 0, f"every token is computed in every layer: without, the graph does not run ({what})")
    if not drift <= MAX_DRIFT:  # NaN is not
        return Narrowed(model, 0, f"every token is computed in every layer: without, scores differ by {drift:.2g}")
    return Narrowed(narrowed, products, f"{products} matrix products are computed for the first token only")


def _batch(model: onnx.ModelProto, shape: tuple[int, int], vocabulary: int) -> Batch:
    """Return random inputs (batch, length): every row after the first ends early."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, shape[1] + 1, (shape[0], 1))
    lengths[0] = shape[1]
    mask = (np.arange(shape[1]) < lengths).astype(np.int64)
    given = {
        "input_ids": rng.integers(0, vocabulary, shape) * mask,
        "attention_mask": mask,
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    return {port.name: given[port.name] for port in model.graph.input}


def _session(model: onnx.ModelProto, *, optimise: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _drift(plain: onnx.ModelProto, narrowed: onnx.ModelProto, batches: Iterable[Batch]) -> float:
    """Return the largest difference of the two graphs' outputs."""
    first, second = (_session(model, optimise=True) for model in (plain, narrowed))
    pairs = (pair for batch in batches for pair in zip(first.run(None, batch), second.run(None, batch), strict=True))
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def _rewrite(model: onnx.ModelProto, batches: Sequence[Batch]) -> tuple[onnx.ModelProto, int]:
    """Return the narrowed graph and its number of narrowed products."""
    narrowed = onnx.ModelProto()
    narrowed.CopyFrom(model)
    graph = narrowed.graph
    shapes, values = _observe(model, batches)
    _fold_shapes(graph, shapes, values)
    _drop_dead(graph)
    weights = {tensor.name: [tuple(tensor.dims)] * len(batches) for tensor in graph.initializer}
    products = _narrow(graph, {**shapes, **weights})
    _drop_dead(graph)
    del graph.value_info[:]  # shapes that were
    return narrowed, products


def _observe(model: onnx.ModelProto, batches: Sequence[Batch]) -> tuple[Shapes, Mapping[str, list[Array]]]:
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
    session = _session(watching, optimise=False)
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


def _fold_shapes(graph: onnx.GraphProto, shapes: Shapes, values: Mapping[str, list[Array]]) -> None:
    """Make constants of what is computed from shapes and always the same, and of the targets of Reshape.

    A narrowed tensor is then no longer asked for its former shape.
    """
    for node in graph.node:
        for position, name in enumerate(node.input):
            found = values.get(name)
            if found is None:
                continue
            constant = found[0] if all(np.array_equal(found[0], other) for other in found) else None
            if constant is None and node.op_type == "Reshape" and not _attribute(node, "allowzero", 0):
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


def _drop_dead(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that no output depends on."""
    needed = {port.name for port in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    _replace(graph.node, kept[::-1])
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])


def _replace(field: Any, entries: list[Any]) -> None:
    del field[:]
    field.extend(entries)


def _narrow(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Narrow every tensor of which all readers want index 0 of one axis, from the outputs back; count the products.

    Where others need a tensor whole, or its node cannot pass the wish on, those that want less read a Slice of it.
    """
    constants = _constants(graph)
    whole = {port.name for port in graph.output}
    uses: dict[str, list[_Use]] = {}
    nodes: list[onnx.NodeProto] = []
    products = 0
    for node in reversed(graph.node):
        wanting = uses.pop(node.output[0], [])
        passed = None
        if len({use.axis for use in wanting}) == 1 and len(node.output) == 1 and node.output[0] not in whole:
            passed = _passed_on(node, wanting[0].axis, shapes, constants)
        if passed is None:
            nodes += _slices(graph, node.output[0], wanting)
            passed = _read_first(node, shapes, constants)
        elif node.op_type == "MatMul":
            products += 1
        nodes.append(node)
        for position, name in enumerate(node.input):
            if position in passed:
                uses.setdefault(name, []).append(_Use(node, position, passed[position]))
            else:
                whole.add(name)
    for name, wanting in uses.items():  # inputs and weights, which no node makes
        nodes += _slices(graph, name, wanting)
    _replace(graph.node, nodes[::-1])
    return products


def _slices(graph: onnx.GraphProto, name: str, wanting: Sequence[_Use]) -> list[onnx.NodeProto]:
    """Return nodes that give index 0 of a tensor, one an axis, and let its readers read them."""
    made: dict[int, onnx.NodeProto] = {}
    for use in wanting:
        if use.node.op_type == "Gather":  # takes index 0 itself
            continue
        if use.axis not in made:
            bounds = [f"{name}.{what}.{use.axis}" for what in ("start", "end", "axis")]
            graph.initializer.extend(
                numpy_helper.from_array(np.array([value], dtype=np.int64), bound)
                for bound, value in zip(bounds, (0, 1, use.axis), strict=True)
            )
            output = f"{name}.first.{use.axis}"
            made[use.axis] = helper.make_node("Slice", [name, *bounds], [output], name=output)
        use.node.input[use.position] = made[use.axis].output[0]
    return list(made.values())


def _read_first(node: onnx.NodeProto, shapes: Shapes, constants: Mapping[str, Array]) -> dict[int, int]:
    """Return {0: axis} for a Gather of index 0, where all wishes begin."""
    if node.op_type != "Gather" or node.input[1] not in constants or constants[node.input[1]].any():
        return {}
    return {0: _attribute(node, "axis", 0) % len(shapes[node.input[0]][0])}


def _passed_on(
    node: onnx.NodeProto, axis: int, shapes: Shapes, constants: Mapping[str, Array]
) -> dict[int, int] | None:
    """Return which axis of which inputs is to be narrowed for index 0 of ``axis`` of the output; None if none can."""
    if node.op_type == "Reshape":
        return _of_reshape(node, axis, shapes, constants)
    rule = _pointwise if node.op_type in _POINTWISE else _RULES.get(node.op_type)
    return None if rule is None else rule(node, axis, shapes)


def _pointwise(node: onnx.NodeProto, axis: int, shapes: Shapes) -> dict[int, int] | None:
    """Every input, but those that are broadcast along the axis."""
    rank = len(shapes[node.output[0]][0])
    own = {place: axis - rank + len(shapes[name][0]) for place, name in enumerate(node.input)}
    return {
        place: at for place, at in own.items() if at >= 0 and any(shape[at] != 1 for shape in shapes[node.input[place]])
    }


def _over_last(node: onnx.NodeProto, axis: int, shapes: Shapes) -> dict[int, int] | None:
    """What is computed along the last axis leaves the others to themselves."""
    last = len(shapes[node.output[0]][0]) - 1
    return {0: axis} if _attribute(node, "axis", -1) in (-1, last) and axis != last else None


def _product(node: onnx.NodeProto, axis: int, shapes: Shapes) -> dict[int, int] | None:
    """A row of a product needs that row of the first factor, and all of the second."""
    rank, first, second = (len(shapes[name][0]) for name in (node.output[0], *node.input))
    return {0: first - 2} if min(first, second) >= 2 and axis == rank - 2 else None


def _transposed(node: onnx.NodeProto, axis: int, shapes: Shapes) -> dict[int, int] | None:
    rank = len(shapes[node.output[0]][0])
    return {0: _attribute(node, "perm", list(range(rank))[::-1])[axis]}


_RULES: dict[str, Callable[[onnx.NodeProto, int, Shapes], dict[int, int] | None]] = {
    "LayerNormalization": _over_last,
    "Softmax": _over_last,
    "MatMul": _product,
    "Transpose": _transposed,
}


def _of_reshape(
    node: onnx.NodeProto, axis: int, shapes: Shapes, constants: Mapping[str, Array]
) -> dict[int, int] | None:
    """Heads are split and merged behind the axis, whose size the target copies or leaves open."""
    target = constants.get(node.input[1])
    if target is None or target[axis] not in (0, -1):
        return None
    before, after = shapes[node.input[0]], shapes[node.output[0]]
    same = all(a[: axis + 1] == b[: axis + 1] for a, b in zip(before, after, strict=True))
    return {0: axis} if same else None


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """Return the small constants, by name."""
    tensors = [(tensor.name, tensor) for tensor in graph.initializer]
    tensors += [(node.output[0], _attribute(node, "value", None)) for node in graph.node if node.op_type == "Constant"]
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors
        if tensor is not None and np.prod(tensor.dims) <= _SMALL
    }


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = [attribute for attribute in node.attribute if attribute.name == name]
    return helper.get_attribute_value(found[0]) if found else default
