"""Windows of files whose every line is read by itself: ranges of bytes, found by line ends without parsing.

A window has so many lines that are not empty, or so many bytes. So every process knows where each window lies from one
look at the bytes, at the speed of memory, and parses its own windows alone; what a window comes to depends on its bytes
alone. Only ids need the whole input: see ``scorer.reading.ids`` and, where several processes share a run,
``scorer.run.joined``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue
from scorer.errors import InputError, reason_of
from scorer.inputs.corpus import Corpus
from scorer.inputs.cursor import Place
from scorer.inputs.formats import is_of_lines
from scorer.inputs.json_lines import MAX_RECORD_BYTES, read_lines
from scorer.inputs.parse import Reject
from scorer.inputs.sources import STDIN, Source, open_raw
from scorer.reading.chunks import Chunk, chunk_of, with_columns
from scorer.reading.cut import Prepared, window_limit, window_of_lines
from scorer.reading.ids import Ids, as_it_is
from scorer.reading.splits import Reading
from scorer.reading.windows import LinesPlace, Window

WINDOW_BYTES = 1 << 24
"""A window with so many bytes is whole, whatever its lines."""

_BLOCK_BYTES = 1 << 20
_LINE_FEED, _RETURN = 10, 13

_Ends = npt.NDArray[np.int64]


def is_all_lines(corpus: Corpus) -> bool:
    """Whether each line of each file is read by itself, from files that can be read from anywhere.

    InputError where one cannot be read.
    """
    return all(
        source.name != STDIN and "::" not in source.name and source.size and is_of_lines(source, corpus.fields)
        for source in corpus.sources
    )


def places(corpus: Corpus, size: int, after: tuple[int, LinesPlace] | None = None) -> Iterator[tuple[int, LinesPlace]]:
    """Yield the number and the place of every window of ``size`` records, or of those after one; nothing is parsed.

    InputError where a file cannot be read.
    """
    number, begun = after or (-1, LinesPlace(0, 0, 0, 0, 0, 0))
    number, first, start, line = number + 1, begun.last, begun.end, begun.end_line
    rows = before = 0  # of the window that is begun: its lines, and its bytes in files before this one
    for index in range(begun.last, len(corpus.sources)):
        offset, lines = (begun.end, begun.end_line) if index == begun.last else (0, 0)
        seen = 0  # lines of this file up to the window that is begun
        base = offset  # where the window's part in this file begins
        for ends, filled in _line_ends(corpus.sources[index], offset):
            upto = np.cumsum(filled)
            at = 0
            while at < len(ends):
                done = int(upto[at - 1]) if at else 0
                full = int(np.searchsorted(upto, done + window_limit(number, size) - rows))
                large = int(np.searchsorted(ends, base + WINDOW_BYTES - before))
                stop = max(at, min(full, large))
                if stop >= len(ends):
                    rows += int(upto[-1]) - done
                    break
                end, end_line = int(ends[stop]), lines + seen + stop + 1
                yield number, LinesPlace(first, start, line, index, end, end_line)
                number, first, start, line = number + 1, index, end, end_line
                rows, before, base, at = 0, 0, end, stop + 1
            seen += len(ends)
            offset = int(ends[-1])
        before += offset - base
        last = index, offset, lines + seen
    if rows:
        yield number, LinesPlace(first, start, line, *last)


def _line_ends(source: Source, offset: int) -> Iterator[tuple[_Ends, npt.NDArray[np.bool_]]]:
    """Yield where lines end, from one that begins at ``offset`` on, and which of them are not empty."""
    begins, position, before = offset, offset, 0
    try:
        with open_raw(source.name) as raw:
            raw.seek(offset)
            while block := raw.read(min(_BLOCK_BYTES, (source.size or 0) - position)):  # what comes later is not of it
                found = np.frombuffer(block, dtype=np.uint8)
                at = np.flatnonzero(found == _LINE_FEED)
                if len(at):
                    ends = at + (position + 1)
                    lengths = np.diff(ends, prepend=begins)
                    last = found[at - 1]  # before the line feed, else of no use
                    last[0] = found[at[0] - 1] if at[0] else before
                    yield ends, (lengths > 2) | ((lengths == 2) & (last != _RETURN))
                    begins = int(ends[-1])
                position += len(block)
                before = int(found[-1])
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read further: {reason_of(error)}") from error
    if position > begins:
        yield np.array([position], dtype=np.int64), np.array([True])


@dataclass(frozen=True, slots=True)
class Lines:
    """What the lines of a window hold: its records in order, and the SHA-256 of its bytes.

    ``position`` is how many bytes of the corpus are before its end.
    """

    records: list[Dialogue | Reject]
    sha256: str
    position: int


def read_place(corpus: Corpus, place: LinesPlace, keep: Sequence[str] = ()) -> Lines:
    """Return the records of a window; InputError where a file cannot be read, or has become shorter.

    Ids are as they are in the file. Of a dialogue's record only the columns to ``keep`` remain, as JSON.
    """
    state = sha256()
    records: list[Dialogue | Reject] = []
    for source, start, data in _parts(corpus, place, state):
        at = Place(source, corpus.labels, corpus.fields or None, keep=corpus.keeps_records)
        at.line = 0 if start == 0 else place.line
        records += (
            with_columns(record, keep) if isinstance(record, Dialogue) else record
            for record in read_lines(io.BytesIO(data), at, at_beginning=start == 0)
        )
    return Lines(records, state.hexdigest(), position_of(corpus, place))


@dataclass(frozen=True, slots=True)
class LinesChunk:
    """A window as a reader made it: its number, its place, and its records as a chunk."""

    number: int
    place: LinesPlace
    chunk: Chunk

    @property
    def position(self) -> int:
        """How many bytes of the input are before its end."""
        return self.chunk.position


def lines_chunk(
    corpus: Corpus, place: LinesPlace, number: int, encoder: Encoder, domain: Domain, keep: Sequence[str]
) -> LinesChunk:
    """Return a window that is read from its place; ``keep`` are columns of the records that go with their dialogues."""
    read = read_place(corpus, place, keep)
    reading = Reading(read.position, 0, read.sha256)
    return LinesChunk(number, place, chunk_of(read.records, encoder, domain, keep, reading))


def line_windows(chunks: Iterable[LinesChunk], known: Iterable[str] = (), *, unique: bool) -> Iterator[Prepared]:
    """Yield windows in the order of the input.

    Their ids are made ``unique``, among each other and those that are ``known``, where all of the input is there.
    """
    ids = Ids()
    ids.know(known)
    for made in chunks:
        placed = ids.place(made.chunk, 0) if unique else as_it_is(made.chunk)
        yield window_of_lines(placed, made.number, made.place)


def is_there(corpus: Corpus, size: int, window: Window) -> bool:
    """Whether a window of ``size`` records lies where it did and has the same bytes; nothing else is looked at."""
    place = window.place
    if place is None or place.last >= len(corpus.sources):
        return False
    before = LinesPlace(0, 0, 0, place.first, place.start, place.line)
    found = next(places(corpus, size, (window.number - 1, before)), None)
    return found == (window.number, place) and hash_at(corpus, place) == window.bytes


def position_of(corpus: Corpus, place: LinesPlace) -> int:
    """Return how many bytes of a corpus are before the end of a window."""
    return sum(source.size or 0 for source in corpus.sources[: place.last]) + place.end


def hash_at(corpus: Corpus, place: LinesPlace) -> str:
    """Return the SHA-256 of a window's bytes, "" where the corpus ends before."""
    state = sha256()
    try:
        for _ in _parts(corpus, place, state):
            pass
    except InputError:
        return ""
    return state.hexdigest()


def _parts(corpus: Corpus, place: LinesPlace, state: Any) -> Iterator[tuple[Source, int, bytes]]:
    """Yield each file that a window has a part of, where that begins and its bytes; ``state`` hashes all of them.

    Of a line that is longer than any record only so much is given as shows that it is.
    """
    if place.last >= len(corpus.sources):
        raise InputError(f"the input has {len(corpus.sources)} files and had {place.last + 1}, so it was changed")
    for index in range(place.first, place.last + 1):
        source = corpus.sources[index]
        start = place.start if index == place.first else 0
        end = place.end if index == place.last else source.size or 0
        data = bytearray()
        try:
            with open_raw(source.name) as raw:
                raw.seek(start)
                left = end - start
                while left and (block := raw.read(min(left, _BLOCK_BYTES))):
                    left -= len(block)
                    state.update(block)
                    data += block[: max(0, WINDOW_BYTES + MAX_RECORD_BYTES + 1 - len(data))]
        except OSError as error:
            raise InputError(f"{source.name}: cannot be read further: {reason_of(error)}") from error
        if left:
            raise InputError(f"{source.name}: ended {left:,} bytes early, so it was changed while it was read")
        source.bytes_read = end
        if data:
            yield source, start, bytes(data)
