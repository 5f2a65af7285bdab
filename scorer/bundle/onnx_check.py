"""Look into an ONNX file without running it: a bundle's model may hold standard operators and its own weights only.

ONNX Runtime reads tensors from paths that a model names, and custom operators from libraries; neither belongs in a file
that is passed around. The file is a protocol buffer (onnx.proto, field numbers below), of which a few fields matter, so
it is read here and the base install needs no protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator

STANDARD_DOMAINS = ("", "ai.onnx")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DAMAGED = "it is damaged, expected an ONNX model"
_SHORT = "it is cut short, expected an ONNX model"

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
_TENSOR_EXTERNAL_DATA, _TENSOR_LOCATION = 13, 14


class OnnxFileError(ValueError):
    """The bytes are no ONNX model, or one that a bundle must not hold."""


def check_onnx(data: bytes) -> None:
    """Raise OnnxFileError unless ``data`` is a model of standard operators that holds all of its weights."""
    if data[4:8] == b"ORTM":  # whatever follows, ONNX Runtime takes it for its own format
        raise OnnxFileError("it is in ONNX Runtime's own format, expected an ONNX model")
    numbers = {number for number, _ in _fields(memoryview(data))}
    if _MODEL_GRAPH not in numbers:
        raise OnnxFileError("it holds no graph, expected an ONNX model")
    if numbers & {_MODEL_TRAINING, _MODEL_FUNCTIONS}:
        raise OnnxFileError("it defines functions or training steps of its own, expected standard operators")
    _check(memoryview(data), "model", 0)


def _check(data: memoryview, message: str, depth: int) -> None:
    if depth > 100:
        raise OnnxFileError("its graphs are nested over 100 deep")
    for number, value in _fields(data):
        child = _CHILDREN[message].get(number)
        if child is not None:
            if isinstance(value, int):
                raise OnnxFileError(_DAMAGED)
            _check(value, child, depth + 1)
        elif message == "tensor" and (number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_LOCATION and value == 1)):
            raise OnnxFileError("it reads weights from another file; export it as one file")
        elif (message, number) in _DOMAINS and not isinstance(value, int):
            domain = bytes(value).decode(errors="replace")
            if domain not in STANDARD_DOMAINS:
                raise OnnxFileError(f"it uses operators of the domain {domain!a}; export it with standard ones only")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield (field number, value) of a message: bytes for length-delimited fields, else the number."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if key >= 1 << 32 or kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise OnnxFileError(_DAMAGED)  # of a larger key protobuf drops the upper bits, and reads another field
        if kind in (_VARINT, _BYTES):
            size, position = _varint(data, position)
            if kind == _VARINT:
                yield number, size
                continue
        else:
            size = 8 if kind == _FIXED64 else 4
        if position + size > len(data):
            raise OnnxFileError(_SHORT)
        yield number, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise OnnxFileError(_SHORT)
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OnnxFileError(_DAMAGED)
