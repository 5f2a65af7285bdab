"""Parquet and Arrow, with the columns of a record or of EmpatheticDialogues."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from scorer.dialogue import HEADS
from scorer.errors import reason_of
from scorer.inputs import empathetic_dialogues
from scorer.inputs.cursor import Place, Records
from scorer.inputs.records.answers import keys_found
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import KEYS
from scorer.inputs.records.layouts import EXPECTED_KEYS, holds_dialogue
from scorer.inputs.records.slices import MOST_BYTES, bounded

_USED = KEYS | {"id", "evaluation", "conversation", "category", "judge", *HEADS, *empathetic_dialogues.COLUMNS}
_Row = dict[str, Any] | RecordError
_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 25
_MOST_VALUES, _MOST_VALUES_PER_BYTE = 1 << 24, 64
_MOST_UNPACKED, _MOST_RATIO = 1 << 30, 200
"""A file may say to hold so much whatever its size, and so much more for each of its bytes."""


def read_parquet(stream: BinaryIO, place: Place) -> Records:
    """Parquet with any of the columns of a record or of EmpatheticDialogues."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream)
        used = used_columns(file.schema_arrow.names, place)
        groups = [group_chunks(file, index, used) for index in range(file.num_row_groups)]
        if fault := too_much([*chain.from_iterable(groups)], stream):
            yield place.reject("broken_file", f"Parquet: {fault}", line=0)
            return
        batches = (group_batches(stream, file, index, chunks, used) for index, chunks in enumerate(groups))
        names = file.schema_arrow.names
        yield from _read_batches(chain.from_iterable(batches), names, stream, place, checked=False)
    except faults() as error:
        yield place.reject("broken_file", f"Parquet: {reason_of(error)}", line=place.line + 1)


def faults() -> tuple[type[Exception], ...]:
    """Return what pyarrow raises for a file that cannot be read further."""
    import pyarrow as pa

    return pa.ArrowException, OSError, UnicodeDecodeError, MemoryError


def used_columns(names: Iterable[str], place: Place) -> list[str]:
    """Return the columns that are read: those that may hold a dialogue, were mapped, or are kept."""
    return [name for name in names if _is_used(name, place)]


def _is_used(name: str, place: Place) -> bool:
    columns = [*place.fields.values(), *(() if isinstance(place.keep, bool) else place.keep)]
    mapped = {*columns, *(column.split(".")[0] for column in columns)}
    return place.keep is True or name in mapped or name.strip().lower() in _USED


_Chunk = tuple[str, Any]
"""The path of a column, and what the file says of it in one row group."""


def group_chunks(file: Any, index: int, used: list[str]) -> list[_Chunk]:
    """Return what a Parquet file says of the columns that are read, in one row group."""
    paths = [file.schema.column(number).path for number in range(len(file.schema))]
    # Of a damaged footer `column` ends the process; reading a row raises for the same faults.
    next(file.iter_batches(1, row_groups=[index], columns=used), None)
    group = file.metadata.row_group(index)
    return [(path, group.column(number)) for number, path in enumerate(paths) if path.split(".")[0] in used]


def group_batches(stream: BinaryIO, file: Any, index: int, chunks: list[_Chunk], used: list[str]) -> Iterator[Any]:
    """Yield a row group of a Parquet file in record batches of some rows."""
    import pyarrow.parquet as pq

    if texts := sorted({path for path, chunk in chunks if _is_shared(chunk)}):
        # Else a text is copied as often as it stands there.
        file = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=texts)
    size = _batch_rows(file.metadata.row_group(index).num_rows, chunks)
    # pyarrow has no nested columns whose shared texts are of several row groups.
    yield from file.iter_batches(size, row_groups=[index], columns=used)


def most_values(size: int) -> int:
    """Return the most values that one column may say to hold in a file of so many bytes."""
    return _MOST_VALUES + _MOST_VALUES_PER_BYTE * size


def too_much(chunks: list[_Chunk], stream: BinaryIO) -> str:
    """Return what is said to be in a file that no file of its size holds; "" if there is none such."""
    size = stream.seek(0, io.SEEK_END)
    for name in sorted({path for path, _ in chunks}):
        column = [chunk for path, chunk in chunks if path == name]
        values = sum(chunk.num_values for chunk in column)
        unpacked = sum(chunk.total_uncompressed_size for chunk in column)
        if values > most_values(size):
            return f"column {name!a} has {values:,} values in a file of {size:,} bytes"
        if unpacked > _MOST_UNPACKED + _MOST_RATIO * size:
            return f"column {name!a} unpacks to {unpacked:,} bytes in a file of {size:,}"
    return ""


def _is_shared(chunk: Any) -> bool:
    """Whether a text of a column may be stored once and stand in many rows."""
    return chunk.physical_type == "BYTE_ARRAY" and any("DICTIONARY" in encoding for encoding in chunk.encodings)


def _batch_rows(rows: int, chunks: list[_Chunk]) -> int:
    """Return how many of a row group's rows are read at once: fewer where rows are large, as with images.

    With DELTA_BYTE_ARRAY each text may repeat all of the one before it.
    """
    sizes = [
        chunk.total_uncompressed_size / (1 if "DELTA_BYTE_ARRAY" in chunk.encodings else max(1, rows))
        for _, chunk in chunks
    ]
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1.0, *sizes, 1.0))))


def read_arrow(stream: BinaryIO, place: Place) -> Records:
    """Arrow IPC, the stream form (a `datasets` folder) or the file form."""
    try:
        names, batches = arrow_batches(stream)
        yield from _read_batches(batches, names, stream, place, checked=True)
    except faults() as error:
        yield place.reject("broken_file", f"Arrow: {reason_of(error)}", line=place.line + 1)


def arrow_batches(stream: BinaryIO) -> tuple[list[str], Iterator[Any]]:
    """Return the columns of Arrow IPC in either form, and its record batches, of which nothing is checked."""
    import pyarrow as pa

    head = stream.read(6)
    stream.seek(0)
    if head == b"ARROW1":
        file = pa.ipc.open_file(stream)
        return file.schema.names, (file.get_batch(index) for index in range(file.num_record_batches))
    reader = pa.ipc.open_stream(stream)
    return reader.schema.names, iter(reader)


def is_of_turns(names: Collection[str], place: Place) -> bool:
    """Whether a row of a table with these columns is one turn of a conversation."""
    return set(empathetic_dialogues.KEYS) <= set(names) and not place.fields


def holds_records(names: Collection[str], place: Place) -> bool:
    """Whether each row of a table with these columns may hold dialogues."""
    return bool(place.fields) or holds_dialogue({name: [] for name in names})


def _read_batches(
    batches: Iterator[Any], names: list[str], stream: BinaryIO, place: Place, *, checked: bool
) -> Records:
    conversations = empathetic_dialogues.Conversations(place) if is_of_turns(names, place) else None
    if conversations is None and not holds_records(names, place):
        detail = f"columns {keys_found(names).removeprefix('keys ')}, expected {EXPECTED_KEYS}, or --map FIELD=COLUMN"
        yield place.reject("wrong_columns", detail, line=0)
        return
    for batch in batches:
        for row in rows_of(batch, used_columns(batch.schema.names, place), checked=checked):
            place.line += 1
            if isinstance(row, RecordError):
                reject = place.reject(row.reason, row.detail)
                if conversations is None:
                    yield reject
                else:
                    conversations.refuse(reject)
            elif conversations is None:
                yield from place.parse(row)
            elif conversations.add(row, ascii(row)):
                yield from conversations.give_half()
            if place.line % _BATCH_ROWS == 0:
                place.source.advance_to(stream.tell())
        place.source.advance_to(stream.tell())
    if conversations is not None:
        yield from conversations.finish()


def rows_of(batch: Any, names: Collection[str], *, checked: bool = False) -> Iterator[_Row]:
    """Yield the rows of a record batch as Python values, with the columns of these names; ``checked`` as below."""
    for part in plain_parts(batch, names, checked=checked):
        yield from values_of(part)


def plain_parts(batch: Any, names: Collection[str], *, checked: bool) -> Iterator[Any | RecordError]:
    """Yield a record batch in slices of bounded size without dictionaries, and an error for each row that has none.

    ``checked`` is for batches from elsewhere: lengths and places are held against the bytes that they point into.
    """
    used = [index for index, name in enumerate(batch.schema.names) if name in names]
    for start in range(0, batch.num_rows, _BATCH_ROWS):
        yield from (_checked if checked else _bounded)(batch.select(used).slice(start, _BATCH_ROWS))


def values_of(part: Any | RecordError) -> Iterator[_Row]:
    """Yield the rows of one of these parts as Python values; where one has none, it alone is an error."""
    if isinstance(part, RecordError):
        yield part
        return
    try:
        yield from part.to_pylist()
    except (ValueError, OverflowError) as error:
        if part.num_rows > 1:
            for index in range(part.num_rows):
                yield from values_of(part.slice(index, 1))
        else:
            reason = "invalid_utf8" if isinstance(error, UnicodeDecodeError) else "wrong_type"
            yield RecordError(reason, f"the row cannot be read: {reason_of(error)}")


def _bounded(batch: Any) -> Iterator[Any | RecordError]:
    for part in bounded(batch):
        yield RecordError("record_too_long", f"the row takes more than {MOST_BYTES} bytes") if part is None else part


def _checked(batch: Any) -> Iterator[Any | RecordError]:
    """Yield slices of rows whose lengths and places lie within the batch's bytes, and an error for each other row.

    pyarrow checks none of them by itself: it would read memory that is not the batch's.
    """
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        if batch.num_rows > 1:
            half = batch.num_rows // 2
            yield from _checked(batch.slice(0, half))
            yield from _checked(batch.slice(half))
        else:
            yield from _checked_row(batch)
    else:
        yield from _bounded(batch)


def _checked_row(batch: Any) -> Iterator[Any | RecordError]:
    """Yield a row in a batch of which something is wrong, maybe in an entry of a dictionary that others use."""
    import pyarrow as pa

    columns = []
    try:
        for column in batch.columns:
            own = column
            if pa.types.is_dictionary(column.type):
                column.indices.validate(full=True)
                place = column.indices[0].as_py()
                if place is not None and not 0 <= place < len(column.dictionary):
                    raise pa.ArrowInvalid(f"a text is number {place} of {len(column.dictionary)}")
                own = pa.nulls(1) if place is None else column.dictionary.slice(place, 1)
            own.validate(full=True)
            columns.append(own)
    except (pa.ArrowInvalid, SystemError) as error:  # the latter for a dictionary of negative length
        reason = "invalid_utf8" if "UTF8" in str(error) else "wrong_type"
        yield RecordError(reason, f"the row cannot be read: {reason_of(error)}")
    else:
        yield from _bounded(pa.record_batch(columns, names=batch.schema.names))
