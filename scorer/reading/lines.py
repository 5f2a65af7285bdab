"""Lines of a file, compressed or not, counted by their line ends in one pass over its bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Ends, Ints, Mask
from scorer.errors import InputError, reason_of
from scorer.inputs.cursor import Place, Records
from scorer.inputs.files.compressed import TruncatedStreamError
from scorer.inputs.files.sources import open_raw
from scorer.inputs.formats import truncated
from scorer.inputs.json_lines import MAX_RECORD_BYTES, read_lines
from scorer.reading.windows import WINDOW_BYTES

_BLOCK_BYTES = 1 << 20
LINE_FEED, _RETURN = 10, 13


def are_filled(lengths: Ints, last: npt.NDArray[np.uint8]) -> Mask:
    """Return which lines are not empty, by their bytes with the line feed, and the byte before it."""
    filled: Mask = (lengths > 2) | ((lengths == 2) & (last != _RETURN))
    return filled


class Lines:
    """JSON lines; see ``Counted``. An offset is a number of bytes, of what is unpacked where they are ``packed``."""

    in_bytes = True

    def __init__(self, place: Place, *, packed: bool) -> None:
        """Take a file at its beginning."""
        self._place = place
        self._source = place.source
        self._packed = packed
        self._fault = ""
        self._block, self._at = b"", 0
        self._position = 0  # up to where it was read
        self._taken = 0  # up to where bytes of the part are taken
        self._part: LinesPart | None = None

    def ends(self, offset: int) -> Iterator[Ends]:
        """Yield where lines end, from one that begins at ``offset`` on, and which of them are not empty."""
        self._position = offset
        try:
            with self._open(offset) as raw:
                yield from self._ends(raw)
        except TruncatedStreamError as error:
            self._fault = str(error)
        except OSError as error:
            raise InputError(f"{self._source.name}: cannot be read further: {reason_of(error)}") from error
        if self._fault:  # one record more: the reject that says so
            yield np.array([self._position + 1]), np.array([True]), np.array([1])

    def _ends(self, raw: Any) -> Iterator[Ends]:
        begins, before = self._position, 0
        while block := self._read(raw):
            self._block, self._at = block, self._position - len(block)
            found = np.frombuffer(block, dtype=np.uint8)
            at = np.flatnonzero(found == LINE_FEED)
            if len(at):
                ends = at + (self._at + 1)
                last = found[at - 1]  # before the line feed, else of no use
                last[0] = found[at[0] - 1] if at[0] else before
                yield ends, are_filled(np.diff(ends, prepend=begins), last), np.arange(1, len(ends) + 1)
                begins = int(ends[-1])
            self._take(self._position)
            before = int(found[-1])
        if self._position > begins:
            yield np.array([self._position]), np.array([True]), np.array([1])

    def begin(self, offset: int, line: int, *, wanted: bool) -> None:
        """Begin a part of a window."""
        self._taken = offset
        self._part = LinesPart(self._place, offset, line) if wanted else None

    def part(self, end: int) -> LinesPart | None:
        """Return the part that was begun, up to the end of a line; None where it was not wanted."""
        self._take(end)
        if self._part is not None and self._fault:
            self._part.fault = self._fault
        return self._part

    def position(self, end: int) -> int:
        """Return how many bytes of the file were read up to there."""
        return self._source.bytes_read if self._packed else end

    @contextmanager
    def _open(self, offset: int) -> Iterator[Any]:
        if not self._packed:
            with open_raw(self._source.name) as raw:
                raw.seek(offset)
                yield raw
            return
        self._source.bytes_read = 0
        with self._source.open() as stream:
            while offset and (block := stream.raw.read(min(offset, _BLOCK_BYTES))):  # it has no middle to begin at
                offset -= len(block)
            yield stream.raw

    def _read(self, raw: Any) -> bytes:
        """Return the next block, empty at the end; what a file gets while it is read is not of it."""
        left = _BLOCK_BYTES if self._packed else (self._source.size or 0) - self._position
        block: bytes = raw.read(min(_BLOCK_BYTES, left))
        if left and not block and not self._packed:
            raise InputError(f"{self._source.name}: ended {left:,} bytes early, so it was changed while it was read")
        self._position += len(block)
        return block

    def _take(self, upto: int) -> None:
        if self._part is not None:
            self._part.add(memoryview(self._block)[self._taken - self._at : upto - self._at])
        self._taken = upto


class LinesPart:
    """Lines of one file that belong to one window.

    Of a line that is longer than any record only so much is kept as shows that it is.
    """

    def __init__(self, place: Place, start: int, line: int) -> None:
        self._place = place
        self._start, self._line = start, line
        self._data, self._state = bytearray(), sha256()
        self.fault = ""

    @property
    def most_bytes(self) -> int:
        """How many bytes it holds at most."""
        return WINDOW_BYTES + MAX_RECORD_BYTES + 1

    def add(self, data: memoryview) -> None:
        """Take the bytes that come next."""
        self._state.update(data)
        self._data += data[: max(0, self.most_bytes - len(self._data))]

    def records(self) -> Records:
        """Yield the records of these lines; ids are as they are in the file."""
        place, data = self._place, self._data
        place.line = self._line
        if self.fault:
            data = data[: data.rfind(b"\n") + 1]  # the rest of a line was lost
        yield from read_lines(io.BytesIO(data), place, at_beginning=self._start == 0)
        if self.fault:
            yield truncated(place, self.fault)

    def digest(self) -> bytes:
        """Return the SHA-256 of these bytes."""
        return self._state.digest()
