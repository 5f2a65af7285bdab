"""Read a protocol buffer's fields without a schema: all that is needed to look into an ONNX file."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class DamagedError(ValueError):
    """The bytes are no protocol buffer."""


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield (field number, value) of a message: bytes for length-delimited fields, else the number."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if number == 0 or key >= 1 << 32 or kind not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise DamagedError("damaged")  # of a larger key protobuf drops the upper bits, and reads another field
        if kind in (_VARINT, _BYTES):
            size, position = _varint(data, position)
            if kind == _VARINT:
                yield number, size
                continue
        else:
            size = 8 if kind == _FIXED64 else 4
        if position + size > len(data):
            raise DamagedError("cut short")
        yield number, data[position : position + size]
        position += size


def numbers(value: memoryview | int) -> Iterator[int]:
    """Yield the integers of one occurrence of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    position = 0
    while position < len(value):
        number, position = _varint(value, position)
        yield number


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise DamagedError("cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DamagedError("damaged")
