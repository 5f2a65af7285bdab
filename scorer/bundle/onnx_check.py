"""Look into an ONNX file without running it: a bundle's model may hold known operators and its own weights only.

ONNX Runtime reads tensors from paths that a model names, and custom operators from libraries; neither belongs in a file
that is passed around. Nor does anything that repeats: a loop runs as often as it says. The file is a protocol buffer
(onnx.proto, field numbers below), of which a few fields matter, so it is read here and the base install needs no
protobuf.
"""

from __future__ import annotations

from scorer.bundle.onnx_graph import embedding_rows, read_graph, size_follows_values
from scorer.bundle.protobuf import DamagedError, fields

STANDARD_DOMAINS = ("", "ai.onnx")

_NAMES = """
    Abs Add And Cast CastLike Ceil Clip Cos Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
    HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not Or Pow Reciprocal
    Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Sub Sum Tanh Where Xor

    ArgMax CumSum GroupNormalization LayerNormalization LogSoftmax RMSNormalization ReduceL2 ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum Softmax

    AveragePool BatchNormalization Conv Einsum Gemm MatMul

    Concat Constant ConstantOfShape Dropout Expand Flatten Gather GatherElements GatherND Pad Range Reshape
    ScatterElements ScatterND Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze

    DequantizeLinear QuantizeLinear

    If
"""
OPERATORS = frozenset(_NAMES.split())
"""The operators that exports of encoders write, and their like. None repeats, reads files or draws at random.

``If`` runs nothing twice: exporters write it for DeBERTa, and no encoder has one in another.
"""

_MOST_FIELDS = 4_000_000
"""A large encoder comes to a tenth of this."""

_DAMAGED = "it is damaged, expected an ONNX model"

# Where a message holds messages: {message: {field number: message}}.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "opset": {},
    "tensor": {},
}
_MODEL_TRAINING, _MODEL_FUNCTIONS, _MODEL_GRAPH = 20, 25, 7
_DOMAINS = {("opset", 1), ("node", 7)}
_OPERATOR = ("node", 4)
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14
_BRANCHES = 2


class OnnxFileError(ValueError):
    """The bytes are no ONNX model, or one that a bundle must not hold."""


def check_onnx(data: bytes) -> int:
    """Return how many token ids a model has vectors for; OnnxFileError unless a bundle may hold it.

    It must be a model of ``OPERATORS`` that holds all of its weights, looks ``input_ids`` up in a table, and whose work
    depends on the shape of its inputs only, never on what they hold.
    """
    if data[4:8] == b"ORTM":  # whatever follows, ONNX Runtime takes it for its own format
        raise OnnxFileError("it is in ONNX Runtime's own format, expected an ONNX model")
    try:
        return _rows(memoryview(data))
    except DamagedError as error:
        raise OnnxFileError(f"it is {error}, expected an ONNX model") from None


def _rows(data: memoryview) -> int:
    _Check().message(data, "model", 0, 0)
    graphs = [value for number, value in fields(data) if number == _MODEL_GRAPH and not isinstance(value, int)]
    if len(graphs) != 1:  # protobuf would merge several
        raise OnnxFileError(f"it holds {len(graphs) or 'no'} graph{'s' * (len(graphs) > 1)}, expected an ONNX model")
    graph = read_graph(graphs[0])
    node = size_follows_values(graph)
    if node is not None:
        raise OnnxFileError(
            f"how much its operator {node.operator} does depends on what a dialogue says, expected on its length only"
        )
    rows = embedding_rows(graph)
    if rows is None:
        raise OnnxFileError("it looks input_ids up in no table of its own, expected an encoder with an embedding")
    return rows


class _Check:
    """Walks through messages and counts their fields."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def message(self, data: memoryview, message: str, depth: int, graphs: int) -> None:
        """Check a message and those in it; ``graphs`` is the number of graphs around it."""
        if depth > 100:
            raise OnnxFileError("its graphs are nested over 100 deep")
        for number, value in fields(data):
            self._left -= 1
            if self._left < 0:
                raise OnnxFileError(f"it has over {_MOST_FIELDS:,} fields, expected a model that an export wrote")
            child = _CHILDREN[message].get(number)
            if child is not None:
                if isinstance(value, int):
                    raise OnnxFileError(_DAMAGED)
                self.message(value, child, depth + 1, graphs + (child == "graph"))
            else:
                _check_field(message, number, value, graphs)


def _check_field(message: str, number: int, value: memoryview | int, graphs: int) -> None:
    if message == "model" and number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
        raise OnnxFileError("it defines functions or training steps of its own, expected standard operators")
    if message == "tensor" and (number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value == 1)):
        raise OnnxFileError("it reads weights from another file; export it as one file")
    if isinstance(value, int):
        return
    if (message, number) in _DOMAINS:
        domain = bytes(value[:100]).decode(errors="replace")
        if domain not in STANDARD_DOMAINS:
            raise OnnxFileError(f"it uses operators of the domain {domain!a}; export it with standard ones only")
    if (message, number) == _OPERATOR:
        operator = bytes(value[:100]).decode(errors="replace")
        if operator not in OPERATORS:
            raise OnnxFileError(f"it uses the operator {operator!a}, expected those that encoders are exported to")
        if operator == "If" and graphs >= _BRANCHES:
            raise OnnxFileError("it has a branch (If) in a branch, expected an encoder")
