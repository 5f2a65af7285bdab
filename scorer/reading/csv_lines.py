"""Rows of CSV, counted without parsing those that can be told by their quotation marks.

A line that leaves no quoted field open is a row by itself, which arrays show. Of any other line
``scorer.inputs.csv_rows.row_of`` says how many lines its row has, as it does where rows are parsed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Ends, Ints, Mask
from scorer.errors import InputError
from scorer.inputs.csv_rows import Table, records_of, row_of, table_of
from scorer.inputs.cursor import Place, Records
from scorer.inputs.json_lines import MAX_RECORD_BYTES, text_lines
from scorer.inputs.parse import Reject
from scorer.reading.lines import LINE_FEED, Lines, LinesPart, are_filled

_MARK = ord('"')
_LONGEST_ROW = 8 * MAX_RECORD_BYTES  # characters of four bytes, and one line more


class _MoreNeededError(Exception):
    """What was read so far does not tell where a row ends."""


def csv_lines(place: Place) -> CsvLines:
    """Return a table whose rows are records of their own; InputError where it cannot be read or is none now."""
    with place.source.open() as stream:
        table = table_of(text_lines(stream, place, blank=True), place)
    place.source.bytes_read = 0
    if isinstance(table, Reject):
        raise InputError(f"{place.source.name}: was changed while it was read, expected the header as before")
    return CsvLines(place, table, place.line)


class CsvLines(Lines):
    """Lines of CSV, of which a row may have several; see ``Counted``. An offset is a number of bytes."""

    def __init__(self, place: Place, table: Table, header: int) -> None:
        """Take a file at its beginning, where the ``header`` and what stands before it are so many lines."""
        super().__init__(place, packed=False)
        self._table, self._header = table, header
        self._looked = 0  # up to where lines were looked at, to tell where rows before them end

    def begin(self, offset: int, line: int, *, wanted: bool) -> None:
        """Begin a part of a window."""
        self._taken = offset
        self._part = CsvPart(self._place, offset, line, self._table) if wanted else None

    def part(self, end: int) -> LinesPart | None:
        """Return the part that was begun, up to the end of a row; None where it was not wanted."""
        part = super().part(end)
        if isinstance(part, CsvPart):
            part.ahead = self._block[end - self._at : max(0, self._looked - self._at)]
        return part

    def _ends(self, raw: Any) -> Iterator[Ends]:
        at, rest, is_long = self._position, b"", False
        header = 0 if at else self._header
        last = False
        while not last:
            block = self._read(raw)
            last = not block
            rest += block
            self._block, self._at = rest, at
            ends, filled, counts = self._rows(rest, max(header, int(is_long)), last=last)
            upto = int(ends[-1]) if len(ends) else 0
            if upto:
                filled[counts <= header] = False
                header = max(0, header - int(counts[-1]))
                filled[0] |= is_long
                is_long = False
                yield ends + at, filled, counts
            elif len(rest) >= MAX_RECORD_BYTES and b"\n" not in rest:  # more than a record may have: it is a row alone
                is_long, upto = True, len(rest)
            self._take(at + upto)
            at, rest = at + upto, rest[upto:]
        if is_long:
            yield np.array([at]), np.array([True]), np.array([1])

    def _rows(self, data: bytes, alone: int, *, last: bool) -> Ends:
        """Return the rows that ``data`` hold whole; the ``last`` ones need no line end.

        The first lines are ``alone``, whatever marks they have: a header, or the end of a line that is too long.
        """
        found = np.frombuffer(data, dtype=np.uint8)
        ends = np.flatnonzero(found == LINE_FEED) + 1
        is_cut = last and len(data) > (ends[-1] if len(ends) else 0)
        if is_cut:
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends])
        done, whole = alone, len(ends)
        within = np.zeros(len(ends), dtype=bool)
        for line in np.flatnonzero(_may_be_open(found, starts, ord(self._table.separator))).tolist():
            if line < done:
                continue
            try:
                done = self._end_of_row(data, starts, line, last=last)
            except _MoreNeededError:
                whole = line
                break
            within[line : done - 1] = True
        rows = np.flatnonzero(~within[:whole])
        begins, ends = starts[rows], ends[rows]
        filled = are_filled(ends - begins, found[ends - 2])
        if is_cut:
            filled[-1:] = True
        return ends, filled, rows + 1

    def _end_of_row(self, data: bytes, starts: Ints, line: int, *, last: bool) -> int:
        """Return the line behind the row that begins on a line; ``starts`` ends with that of what has no end yet."""
        whole, taken = len(starts) - 1, 0

        def text_of(line: int) -> str | Reject:
            part = data[starts[line] : starts[line + 1] if line < whole else None]
            return next(text_lines(io.BytesIO(part), self._place, blank=True, at_beginning=False))

        def following() -> tuple[int, str | Reject] | None:
            nonlocal taken
            after = line + taken + 1
            if after == whole and len(data) - int(starts[whole]) < MAX_RECORD_BYTES:
                if last:
                    return None
                raise _MoreNeededError
            taken += 1
            return after, text_of(after)

        first = text_of(line)
        back = [] if isinstance(first, Reject) else row_of(first, self._table, following)[2]
        behind = line + 1 + taken
        looked = int(starts[behind]) if behind <= whole else len(data)
        self._looked = max(self._looked, self._at + looked)
        return behind - len(back)


def _may_be_open(found: npt.NDArray[np.uint8], starts: Ints, separator: int) -> Mask:
    """Return which lines may leave a quoted field open, (len(starts) - 1,).

    Any other has an even number of quotation marks, of which every first one opens a field, or is the second of two
    within a field that is open.
    """
    marks = np.flatnonzero(found == _MARK)
    line = np.searchsorted(starts, marks, side="right") - 1
    marks, line = marks[line < len(starts) - 1], line[line < len(starts) - 1]
    counts = np.bincount(line, minlength=len(starts) - 1)
    number = np.arange(len(marks)) - (np.cumsum(counts) - counts)[line]
    before = found[marks - 1]
    opens = (marks == starts[line]) | (before == separator) | (before == _MARK)
    may_be: Mask = counts % 2 == 1
    may_be[line[(number % 2 == 0) & ~opens]] = True
    return may_be


class CsvPart(LinesPart):
    """Rows of one file that belong to one window.

    ``ahead`` are lines behind them that tell what the marks of the last ones mean.
    """

    def __init__(self, place: Place, start: int, line: int, table: Table) -> None:
        super().__init__(place, start, line)
        self._table = table
        self.ahead = b""

    @property
    def most_bytes(self) -> int:
        """How many bytes it holds at most: a row of several lines may be longer than a line."""
        return super().most_bytes + _LONGEST_ROW

    def records(self) -> Records:
        """Yield the records of these rows; ids are as they are in the file."""
        self._place.line = self._line
        data = self._data + self.ahead
        rows = text_lines(io.BytesIO(data), self._place, blank=True, at_beginning=self._start == 0)
        if self._start == 0:
            table_of(rows, self._place)  # the header is no row
        upto = self._line + self._data.count(b"\n") if self.ahead else None
        return records_of(rows, self._table, self._place, upto)
