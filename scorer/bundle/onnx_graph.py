"""What an ONNX graph would do, read without running it: its nodes, its tables, and what its work depends on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from scorer.bundle.protobuf import fields, numbers

_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_INPUT, _GRAPH_OUTPUT, _PORT_NAME = 1, 5, 11, 12, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 1, 3, 5, 6
_TENSOR_DIMENSIONS, _TENSOR_NAME = 1, 8
_MOST_DIMENSIONS = 64

_GIVES_SHAPE = {"Shape", "Size"}
_FIRST_SHAPE_INPUT = {
    **dict.fromkeys(("Range", "ConstantOfShape", "If"), 0),
    **dict.fromkeys(("Expand", "Tile", "Reshape", "Slice", "Pad", "Split", "Squeeze", "Unsqueeze"), 1),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"), 1),
}
"""Where an operator's inputs begin that say how large its output is, or which branch runs."""

_SAME_ROWS = {"Cast", "Identity", "DequantizeLinear", "QuantizeLinear"}
_SAME_IDS = {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice"}


@dataclass(slots=True)
class Node:
    """One operator and the names that it reads and writes; ``axis`` and ``tensor`` of its attributes, if it has any."""

    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    axis: int = 0
    tensor: Sequence[int] | None = None


@dataclass(slots=True)
class Graph:
    """A graph and those in it as one: names are never reused, so it is enough to know them all.

    ``tables`` are the shapes of the weights by name, ``inputs`` what is fed.
    """

    nodes: list[Node] = field(default_factory=list)
    tables: dict[str, Sequence[int]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_graph(data: memoryview) -> Graph:
    """Return the graph of a message that `check_onnx` found sound."""
    graph = Graph()
    for number, value in fields(data):
        if isinstance(value, int):
            continue
        if number == _GRAPH_NODE:
            graph.nodes += _nodes(value, graph)
        elif number == _GRAPH_TENSOR:
            name, shape = _tensor(value)
            graph.tables[name] = shape
        elif number in (_GRAPH_INPUT, _GRAPH_OUTPUT):
            ports = graph.inputs if number == _GRAPH_INPUT else graph.outputs
            ports += [_text(name) for key, name in fields(value) if key == _PORT_NAME]
    for node in graph.nodes:
        if node.operator == "Constant" and node.tensor is not None:
            graph.tables.update(dict.fromkeys(node.outputs, node.tensor))
    return graph


def size_follows_values(graph: Graph) -> Node | None:
    """Return a node whose output's size, or whose running, depends on what the inputs hold and not on their shape.

    Such a model may do any amount of work for one dialogue. None for the models that encoders are exported to.
    """
    fed = [name for name in graph.inputs if name not in graph.tables]
    for node, place in _reached(graph, fed, lambda node, _: node.operator not in _GIVES_SHAPE):
        if place >= _FIRST_SHAPE_INPUT.get(node.operator, len(node.inputs)):
            return node
    return None


def embedding_rows(graph: Graph) -> int | None:
    """Return how many token ids have a vector: the rows of the smallest table that ``input_ids`` index, None for none.

    Whatever is reached from the input by nodes that change no id is an id.
    """
    made_by = {name: node for node in graph.nodes for name in node.outputs}
    rows = []
    for node, place in _reached(graph, ["input_ids"], lambda node, place: node.operator in _SAME_IDS and place == 0):
        if node.operator == "Gather" and place == 1:
            shape = _shape(node.inputs[0], graph.tables, made_by)
            if shape is not None and -len(shape) <= node.axis < len(shape):
                rows.append(shape[node.axis])
    return min(rows, default=None)


def _reached(graph: Graph, names: list[str], passes: Callable[[Node, int], bool]) -> Iterator[tuple[Node, int]]:
    """Yield each node, and the place of its input, that a value comes to; it goes on where the node passes it."""
    readers = defaultdict(list)
    for node in graph.nodes:
        for place, name in enumerate(node.inputs):
            readers[name].append((node, place))
    seen, waiting = set(names), list(names)
    while waiting:
        for node, place in readers[waiting.pop()]:
            yield node, place
            if passes(node, place):
                new = [name for name in node.outputs if name not in seen]
                waiting += new
                seen.update(new)


def _shape(name: str, tables: Mapping[str, Sequence[int]], made_by: Mapping[str, Node]) -> Sequence[int] | None:
    """Return the shape of a weight that a node reads, also where its numbers are converted first."""
    for _ in range(8):
        if name in tables:
            return tables[name]
        node = made_by.get(name)
        if node is None or node.operator not in _SAME_ROWS or not node.inputs:
            return None
        name = node.inputs[0]
    return None


def _nodes(data: memoryview, graph: Graph) -> Iterator[Node]:
    """Yield a node and those of its branches; what a branch gives is read as if it were given by the node itself."""
    node = Node()
    for number, value in fields(data):
        if isinstance(value, int):
            continue
        if number == _NODE_INPUT:
            node.inputs.append(_text(value))
        elif number == _NODE_OUTPUT:
            node.outputs.append(_text(value))
        elif number == _NODE_OPERATOR:
            node.operator = _text(value)
        elif number == _NODE_ATTRIBUTE:
            yield from _attribute(value, node, graph)
    yield node


def _attribute(data: memoryview, node: Node, graph: Graph) -> Iterator[Node]:
    entries = list(fields(data))
    axis = any(number == _ATTRIBUTE_NAME and _text(value) == "axis" for number, value in entries)
    for number, value in entries:
        if number == _ATTRIBUTE_INTEGER and isinstance(value, int) and axis:
            node.axis = value - (1 << 64) if value >> 63 else value
        elif number == _ATTRIBUTE_TENSOR and not isinstance(value, int):
            node.tensor = _tensor(value)[1]
        elif number == _ATTRIBUTE_GRAPH and not isinstance(value, int):
            branch = read_graph(value)
            graph.tables |= branch.tables
            yield from branch.nodes
            yield Node("Identity", branch.outputs, node.outputs)


def _tensor(data: memoryview) -> tuple[str, Sequence[int]]:
    name = ""
    shape: list[int] = []
    for number, value in fields(data):
        if number == _TENSOR_DIMENSIONS:
            shape += islice(numbers(value), _MOST_DIMENSIONS)
        elif number == _TENSOR_NAME and not isinstance(value, int):
            name = _text(value)
    return name, shape


def _text(value: memoryview | int) -> str:
    return "" if isinstance(value, int) else bytes(value).decode(errors="replace")
