"""Compute an encoder's last layer for its first token only: an exact simplification of an exported graph.

BERT's pooler and the heads of RoBERTa, DistilBERT and MPNet read one vector of the last layer, the first token's. Keys
and values are needed of every token; queries, attention, both feed-forward products and the norms of that one only.

Whatever comes out is held against the plain graph at several shapes, the longest that is scored among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from distill.exporting.onnx_graph import (
    Array,
    Shapes,
    attribute,
    drop_dead,
    fold_shapes,
    observe,
    open_session,
    replace,
    small_constants,
)
from distill.exporting.quantise import Batch
from scorer.engines.onnxruntime import onnxruntime_faults

MAX_DRIFT = 1e-4
"""How far a score of the narrowed graph may lie from the plain graph's, of 10; rounding comes to 1e-5."""

_POINTWISE = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Div",
        "Erf",
        "Gelu",
        "Identity",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Pow",
        "Relu",
        "Sigmoid",
        "Sqrt",
        "Sub",
        "Tanh",
        "Where",
    ]
)
_GRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)


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
    try:
        narrowed, products = _checked(model, vocabulary, longest)
    except _UnfitError as error:
        reason = str(error)
    except (*onnxruntime_faults(), onnx.checker.ValidationError) as error:
        reason = f"narrowed, it does not run ({' '.join(str(error).split())[:200]})"
    else:
        return Narrowed(narrowed, products, f"matrix products computed for the first token only: {products}")
    return Narrowed(model, 0, f"every token is computed in every layer: {reason}")


class _UnfitError(Exception):
    """A graph that stays as it is, and why."""


def _checked(model: onnx.ModelProto, vocabulary: int, longest: int) -> tuple[onnx.ModelProto, int]:
    """Return the narrowed graph and its number of narrowed products, checked; _UnfitError if it is not to be had."""
    if any(entry.type in _GRAPHS for node in model.graph.node for entry in node.attribute):
        raise _UnfitError("the graph has branches")
    names = [port.name for port in model.graph.input]
    if not set(names) <= {"input_ids", "attention_mask", "token_type_ids"}:
        raise _UnfitError(f"the graph has inputs {names}")
    batches = [_batch(names, shape, vocabulary) for shape in ((2, longest), (3, 7), (1, longest // 2), (1, 1))]
    narrowed, products = _rewrite(model, batches[:2])
    if not products:
        raise _UnfitError("more than the first one is read")
    onnx.checker.check_model(narrowed)
    drift = _drift(model, narrowed, batches)
    if not drift <= MAX_DRIFT:  # NaN is not
        raise _UnfitError(f"narrowed, its scores differ by {drift:.2g}")
    return narrowed, products


def _batch(names: Sequence[str], shape: tuple[int, int], vocabulary: int) -> Batch:
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
    return {name: given[name] for name in names}


def _drift(plain: onnx.ModelProto, narrowed: onnx.ModelProto, batches: Iterable[Batch]) -> float:
    """Return the largest difference of the two graphs' outputs."""
    first, second = (open_session(model, optimise=True) for model in (plain, narrowed))
    pairs = (pair for batch in batches for pair in zip(first.run(None, batch), second.run(None, batch), strict=True))
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def _rewrite(model: onnx.ModelProto, batches: Sequence[Batch]) -> tuple[onnx.ModelProto, int]:
    """Return the narrowed graph and its number of narrowed products."""
    narrowed = onnx.ModelProto()
    narrowed.CopyFrom(model)
    graph = narrowed.graph
    shapes, values = observe(model, batches)
    fold_shapes(graph, shapes, values)
    drop_dead(graph)
    weights = {tensor.name: [tuple(tensor.dims)] * len(batches) for tensor in graph.initializer}
    products = _narrow(graph, {**shapes, **weights})
    drop_dead(graph)
    del graph.value_info[:]  # shapes that were
    return narrowed, products


def _narrow(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Narrow every tensor of which all readers want index 0 of one axis, from the outputs back; count the products.

    Where others need a tensor whole, or its node cannot pass the wish on, those that want less read a Slice of it.
    """
    constants = small_constants(graph)
    whole = {port.name for port in graph.output}
    uses: dict[str, list[_Use]] = {}
    nodes: list[onnx.NodeProto] = []
    products = 0
    for node in reversed(graph.node):
        wanting = [use for name in node.output for use in uses.get(name, [])]
        passed = None
        if len({use.axis for use in wanting}) == 1 and len(node.output) == 1 and node.output[0] not in whole:
            passed = _passed_on(node, wanting[0].axis, shapes, constants)
        if passed is None:
            nodes += [cut for name in node.output for cut in _slices(graph, name, uses.get(name, []))]
            passed = _read_first(node, shapes, constants)
        elif node.op_type == "MatMul":
            products += 1
        nodes.append(node)
        for position, name in enumerate(node.input):
            if position in passed:
                uses.setdefault(name, []).append(_Use(node, position, passed[position]))
            else:
                whole.add(name)
    made = {name for node in graph.node for name in node.output}
    for name in [name for name in uses if name not in made]:  # inputs and weights
        nodes += _slices(graph, name, uses[name])
    replace(graph.node, nodes[::-1])
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
    return {0: attribute(node, "axis", 0) % len(shapes[node.input[0]][0])}


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
    return {0: axis} if attribute(node, "axis", -1) in (-1, last) and axis != last else None


def _product(node: onnx.NodeProto, axis: int, shapes: Shapes) -> dict[int, int] | None:
    """A row of a product needs that row of the first factor, and all of the second."""
    rank, first, second = (len(shapes[name][0]) for name in (node.output[0], *node.input))
    return {0: first - 2} if min(first, second) >= 2 and axis == rank - 2 else None


def _transposed(node: onnx.NodeProto, axis: int, shapes: Shapes) -> dict[int, int] | None:
    rank = len(shapes[node.output[0]][0])
    return {0: attribute(node, "perm", list(range(rank))[::-1])[axis]}


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
