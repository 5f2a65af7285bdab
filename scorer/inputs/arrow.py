"""Parquet and Arrow, with the columns of a record or of EmpatheticDialogues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from scorer.dialogue import HEADS
from scorer.errors import reason_of
from scorer.inputs import empathetic_dialogues
from scorer.inputs.cursor import Place, Records
from scorer.inputs.records.answers import keys_found
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import KEYS
from scorer.inputs.records.layouts import EXPECTED_KEYS, holds_dialogue

_USED = KEYS | {"id", "evaluation", "conversation", "category", "judge", *HEADS, *empathetic_dialogues.COLUMNS}
_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 25


def read_parquet(stream: BinaryIO, place: Place) -> Records:
    """Parquet with any of the columns of a record or of EmpatheticDialogues."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(stream)
        names = file.schema_arrow.names
        used = [name for name in names if _is_used(name, place)]
        batches = file.iter_batches(batch_size=_batch_rows(file, place), columns=used)
        yield from _read_batches(batches, names, stream, place)
    except (pa.ArrowException, OSError) as error:
        yield place.reject("broken_file", f"Parquet: {reason_of(error)}", line=place.line + 1)


def _is_used(name: str, place: Place) -> bool:
    """Whether a column is read: it may hold a dialogue, was mapped, or is kept."""
    columns = [*(place.fields or {}).values(), *(() if isinstance(place.keep, bool) else place.keep)]
    return place.keep is True or name in {*_USED, *columns, *(column.split(".")[0] for column in columns)}


def _batch_rows(file: Any, place: Place) -> int:
    """Return how many rows are read at once: fewer where whole rows are kept that are large, as with images."""
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups if place.keep is True else 0)]
    widest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1, widest))))


def read_arrow(stream: BinaryIO, place: Place) -> Records:
    """Arrow IPC, the stream form (a `datasets` folder) or the file form."""
    import pyarrow as pa

    try:
        head = stream.read(6)
        stream.seek(0)
        if head == b"ARROW1":
            file = pa.ipc.open_file(stream)
            batches, names = (file.get_batch(i) for i in range(file.num_record_batches)), file.schema.names
        else:
            reader = pa.ipc.open_stream(stream)
            batches, names = iter(reader), reader.schema.names
        yield from _read_batches(batches, names, stream, place)
    except (pa.ArrowException, OSError) as error:
        yield place.reject("broken_file", f"Arrow: {reason_of(error)}", line=place.line + 1)


def _read_batches(batches: Iterator[Any], names: list[str], stream: BinaryIO, place: Place) -> Records:
    is_rows = set(empathetic_dialogues.KEYS) <= set(names) and not place.fields
    conversations = empathetic_dialogues.Conversations(place) if is_rows else None
    if conversations is None and not place.fields and not holds_dialogue({name: [] for name in names}):
        detail = f"columns {keys_found(names).removeprefix('keys ')}, expected {EXPECTED_KEYS}, or --map FIELD=COLUMN"
        yield place.reject("wrong_columns", detail, line=0)
        return
    for batch in batches:
        used = [index for index, name in enumerate(batch.schema.names) if _is_used(name, place)]
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _rows(batch.select(used).slice(start, _BATCH_ROWS)):
                place.line += 1
                if isinstance(row, RecordError):
                    reject = place.reject(row.reason, row.detail)
                    if conversations is None:
                        yield reject
                    else:
                        conversations.refuse(reject)
                elif conversations is None:
                    yield from place.parse(row)
                else:
                    if conversations.add(row, ascii(row)):
                        yield from conversations.give_half()
            place.source.advance_to(stream.tell())
    if conversations is not None:
        yield from conversations.finish()


def _rows(batch: Any) -> Iterator[dict[str, Any] | RecordError]:
    """Yield the rows as Python values; where one has none, it alone is an error."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from _rows(batch.slice(index, 1))
        else:
            reason = "invalid_utf8" if isinstance(error, UnicodeDecodeError) else "wrong_type"
            yield RecordError(reason, f"the row cannot be read: {reason_of(error)}")
