"""Rows of a table in slices of bounded size: what a column takes is known only once it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST_BYTES = 1 << 25
"""A slice, and so a row, takes no more than this once it is decoded (32 MiB)."""

_CELL_BYTES = 16


def plain_type(kind: Any) -> Any:
    """Return a type without dictionaries, which pyarrow turns into Python values much more slowly."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(plain_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    return kind


def bounded(batch: Any) -> Iterator[Any]:
    """Yield a record batch in slices of at most ``MOST_BYTES``, decoded; None for a row that alone takes more."""
    import pyarrow as pa

    if sum(map(decoded_bytes, batch.columns)) <= MOST_BYTES:
        plain = pa.schema([field.with_type(plain_type(field.type)) for field in batch.schema])
        if plain != batch.schema:
            rows = batch.take(pa.array(range(batch.num_rows)))  # of a slice, all that it was cut from would be cast
            columns = [column.cast(field.type) for column, field in zip(rows.columns, plain, strict=True)]
            batch = pa.record_batch(columns, schema=plain)
        yield batch
    elif batch.num_rows > 1:
        half = batch.num_rows // 2
        yield from bounded(batch.slice(0, half))
        yield from bounded(batch.slice(half))
    else:
        yield None


def decoded_bytes(array: Any) -> int:  # noqa: PLR0911 - one per kind of type
    """Return about how many bytes the values of an Arrow array take, each counted as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, count = array.type, len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return decoded_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        values = array.dictionary
        if not len(values):
            return _CELL_BYTES * count
        if decoded_bytes(values) <= MOST_BYTES // max(1, count):  # as most are
            return _CELL_BYTES * count + decoded_bytes(values)
        if not _is_text(values.type):
            return count * decoded_bytes(values)
        lengths = pc.binary_length(values).take(array.indices)
        return _CELL_BYTES * count + int(pc.sum(lengths.cast(pa.int64())).as_py() or 0)
    if _is_text(kind):
        return _CELL_BYTES * count + int(pc.sum(pc.binary_length(array).cast(pa.int64())).as_py() or 0)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        offsets = array.offsets
        first, last = offsets[0].as_py(), offsets[-1].as_py()
        inner = (array.keys, array.items) if pa.types.is_map(kind) else (array.values,)
        return _CELL_BYTES * count + sum(decoded_bytes(part.slice(first, last - first)) for part in inner)
    if pa.types.is_fixed_size_list(kind):
        return _CELL_BYTES * count + decoded_bytes(
            array.values.slice(array.offset * kind.list_size, count * kind.list_size)
        )
    if pa.types.is_struct(kind):
        return _CELL_BYTES * count + sum(decoded_bytes(array.field(i).slice(0, count)) for i in range(kind.num_fields))
    return _CELL_BYTES * count + _shared(array)


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(kind) for check in checks)


def _shared(array: Any) -> int:
    """Return what values may take of buffers that several of them share (views, runs); nothing for plain numbers."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return 0
    if any(getattr(pa.types, name, bool)(kind) for name in ("is_string_view", "is_binary_view")):
        import numpy as np

        # A view is 16 bytes, of which its length comes first.
        lengths = np.frombuffer(array.buffers()[1], np.int32, 4 * (array.offset + len(array)))[::4]
        return int(lengths[array.offset :].astype(np.int64).sum())
    return len(array) * int(array.get_total_buffer_size())
