"""Rows of a Parquet or Arrow file, counted without decoding them; a row group of which no row is wanted is not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Any

import numpy as np

from scorer.arrays import Ends
from scorer.errors import reason_of
from scorer.inputs.arrow import (
    arrow_batches,
    faults,
    group_batches,
    group_chunks,
    holds_records,
    is_of_turns,
    most_values,
    plain_parts,
    too_much,
    used_columns,
    values_of,
)
from scorer.inputs.cursor import Place, Records
from scorer.inputs.files.sources import open_raw
from scorer.inputs.records.faults import RecordError

_STEP = 1 << 16
"""Rows that are counted at once."""


class Rows:
    """Rows of a table; see ``Counted``. An offset is a number of rows.

    Parquet says how many rows each row group has. Of Arrow the batches are gone over, and none is decoded.
    """

    in_bytes = False

    def __init__(self, place: Place, groups: list[int] | None) -> None:
        """Take a file at its beginning; ``groups`` are the rows of each row group of Parquet, None for Arrow."""
        self._place = place
        self._source = place.source
        self._groups = groups
        self._position = 0
        self._start, self._wanted = 0, False
        self._row = 0  # the first row that is wanted still
        self._batches: Iterator[tuple[int, Any]] | None = None
        self._held: tuple[int, Any] | None = None

    def ends(self, offset: int) -> Iterator[Ends]:
        """Yield where rows end, from ``offset`` on."""
        at = 0
        for rows in self._counts() if self._groups is None else self._groups:
            for start in range(max(at, offset), at + rows, _STEP):
                stop = min(start + _STEP, at + rows)
                yield np.arange(start + 1, stop + 1), np.ones(stop - start, dtype=bool), np.arange(1, stop - start + 1)
            at += rows

    def begin(self, offset: int, line: int, *, wanted: bool) -> None:
        """Begin a part of a window."""
        assert line == offset
        self._start, self._wanted = offset, wanted

    def part(self, end: int) -> RowsPart | None:
        """Return the part that was begun, up to a row; None where it was not wanted."""
        return RowsPart(self, self._place, self._start, end) if self._wanted else None

    def position(self, end: int) -> int:
        """Return about how many bytes of the file were read up to there."""
        if self._groups is None:
            return self._position
        return (self._source.size or 0) * end // sum(self._groups)

    def pieces(self, start: int, end: int) -> Iterator[Any | RecordError]:
        """Yield some rows in plain slices, and an error for each that has none, or for what cannot be read further.

        The slices depend on the file and these two places alone.
        """
        self._row = start
        if self._batches is None or self._held is None or start < self._held[0]:
            self._batches, self._held = (self._of_arrow if self._groups is None else self._of_parquet)(), None
        try:
            while start < end:
                if self._held is None or self._held[0] + self._held[1].num_rows <= start:
                    self._held = next(self._batches, None)
                    if self._held is None:
                        return
                    continue
                at, batch = self._held
                if at >= end:  # there are fewer rows than the file says
                    return
                start = max(start, at)
                rows = batch.slice(start - at, end - start)
                names = used_columns(batch.schema.names, self._place)
                yield from plain_parts(rows, names, checked=self._groups is None)
                start += rows.num_rows
        except faults() as error:
            self._batches = self._held = None
            yield RecordError("broken_file", f"{'Arrow' if self._groups is None else 'Parquet'}: {reason_of(error)}")

    def _counts(self) -> Iterator[int]:
        """Yield how many rows each batch of Arrow has, and one more for the reject where they end early."""
        try:
            with open_raw(self._source.name) as stream:
                for batch in arrow_batches(stream)[1]:
                    self._position = stream.tell()
                    yield batch.num_rows
        except faults():
            yield 1

    def _of_arrow(self) -> Iterator[tuple[int, Any]]:
        at = 0
        with open_raw(self._source.name) as stream:
            for batch in arrow_batches(stream)[1]:
                yield at, batch
                at += batch.num_rows

    def _of_parquet(self) -> Iterator[tuple[int, Any]]:
        import pyarrow.parquet as pq

        end, seen = 0, []
        with open_raw(self._source.name) as stream:
            file = pq.ParquetFile(stream)
            used = used_columns(file.schema_arrow.names, self._place)
            for index, rows in enumerate(self._groups or ()):
                at, end = end, end + rows
                if end <= self._row:
                    continue
                chunks = group_chunks(file, index, used)
                seen += chunks
                if fault := too_much(seen, stream):
                    raise OSError(fault)
                for batch in group_batches(stream, file, index, chunks, used):
                    yield at, batch
                    at += batch.num_rows
                    if end <= self._row:
                        break


class RowsPart:
    """Rows of one file that belong to one window, decoded when they are asked for."""

    def __init__(self, rows: Rows, place: Place, start: int, end: int) -> None:
        self._rows, self._place = rows, place
        self._start, self._end = start, end
        self._digest: bytes | None = None

    def records(self) -> Records:
        """Yield the records of these rows; ids are as they are in the file."""
        place = self._place
        place.line = self._start
        for piece in self._pieces():
            for row in values_of(piece):
                place.line += 1
                if isinstance(row, RecordError):
                    yield place.reject(row.reason, row.detail)
                else:
                    yield from place.parse(row)

    def digest(self) -> bytes:
        """Return a hash of the values in the columns that are read, however the file stores them."""
        if self._digest is None:
            for _ in self._pieces():
                pass
        assert self._digest is not None
        return self._digest

    def _pieces(self) -> Iterator[Any | RecordError]:
        state = sha256()
        for piece in self._rows.pieces(self._start, self._end):
            state.update(_bytes_of(piece))
            yield piece
        self._digest = state.digest()


def _bytes_of(piece: Any | RecordError) -> Any:
    """Return the bytes of some rows that only their values decide.

    A copy has neither what stands before and behind them nor what lies under nulls.
    """
    import pyarrow as pa

    if isinstance(piece, RecordError):
        return f"{piece.reason}\0{piece.detail}\n".encode()
    with suppress(pa.ArrowNotImplementedError):  # views and runs cannot be copied so, and are hashed as they lie there
        piece = piece.take(pa.array(range(piece.num_rows)))
    names = "\0".join(piece.schema.names)
    return f"{piece.num_rows}\0{names}\n".encode() + piece.serialize().to_pybytes()


def rows_of_table(place: Place) -> Rows | None:
    """Return the rows of a Parquet or Arrow file; None where they are not to be counted.

    So it is where each is a turn of a conversation, and where the whole file is one reject.
    """
    import pyarrow.parquet as pq

    try:
        with open_raw(place.source.name) as stream:
            is_parquet = stream.read(4) == b"PAR1"
            stream.seek(0)
            if is_parquet:
                file = pq.ParquetFile(stream)
                names, metadata = file.schema_arrow.names, file.metadata
                groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
                has_rows = 0 < sum(groups) <= most_values(place.source.size or 0) and min(groups) >= 0
            else:
                names, batches = arrow_batches(stream)
                groups, has_rows = None, any(batch.num_rows for batch in batches)
    except faults():
        return None
    if not has_rows or is_of_turns(names, place) or not holds_records(names, place):
        return None
    return Rows(place, groups)
