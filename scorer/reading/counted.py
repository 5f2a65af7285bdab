"""Windows of inputs whose records are counted without parsing them: lines of JSON, rows of CSV or of a table.

A window has so many lines that are not empty, or so many bytes of them, or so many rows. So every process knows where
each window lies from one pass over the input, and parses its own windows alone; what a window comes to depends on what
lies there alone. Only ids need the whole input: see ``scorer.reading.ids`` and, where several processes share a run,
``scorer.run.joined``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import numpy as np

from scorer.arrays import Ends
from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.cursor import Place, Records
from scorer.inputs.files.sources import STDIN, Source
from scorer.inputs.formats import counted_as
from scorer.reading.chunks import Chunk, Record, chunk_of, runs, with_columns
from scorer.reading.csv_lines import csv_lines
from scorer.reading.cut import Prepared, window_limit, window_of_counted
from scorer.reading.ids import Ids, as_it_is
from scorer.reading.lines import Lines
from scorer.reading.rows import rows_of_table
from scorer.reading.splits import Reading
from scorer.reading.windows import WINDOW_BYTES, WindowPlace


class Part(Protocol):
    """What of a window lies in one source."""

    def records(self) -> Records:
        """Yield its records in order; ids are as they are in the file."""
        ...

    def digest(self) -> bytes:
        """Return a hash of what lies there."""
        ...


class Counted(Protocol):
    """A source that is gone over once, from one offset to its end, and gives the parts of windows in passing."""

    in_bytes: bool
    """Whether an offset is a number of bytes."""

    def ends(self, offset: int) -> Iterator[Ends]:
        """Yield where records end, from ``offset`` on; nothing is parsed. InputError where it cannot be read."""
        ...

    def begin(self, offset: int, line: int, *, wanted: bool) -> None:
        """Begin a part behind so many lines or rows."""
        ...

    def part(self, end: int) -> Part | None:
        """Return the part that was begun, up to an end that was just yielded; None where it was not wanted."""
        ...

    def position(self, end: int) -> int:
        """Return how many bytes of the file were read up to there."""
        ...


def counted(corpus: Corpus, source: Source) -> Counted | None:
    """Return a source as one whose records are counted, None where only parsing tells; InputError if unreadable."""
    if source.name == STDIN or "::" in source.name or not source.size:
        return None
    place = Place(source, corpus.labels, corpus.fields, keep=corpus.keeps_records)
    kind = counted_as(source, corpus.fields)
    if kind == "table":
        return rows_of_table(place)
    if kind == "csv":
        return csv_lines(place)
    return Lines(place, packed=kind == "packed lines") if kind else None


def is_counted(corpus: Corpus) -> bool:
    """Whether the records of all files can be counted without parsing them; InputError where one cannot be read."""
    return all(counted(corpus, source) for source in corpus.sources)


@dataclass(frozen=True, slots=True)
class Found:
    """A window's number and place, how many bytes of the corpus are before its end, and its parts if it is wanted.

    The parts are to be read before the next window is looked for.
    """

    number: int
    place: WindowPlace
    position: int
    parts: Sequence[Part]

    def records(self, keep: Sequence[str] = ()) -> Iterator[Record]:
        """Yield the records. Of a dialogue's record only the columns to ``keep`` remain, as JSON."""
        for part in self.parts:
            for record in part.records():
                yield with_columns(record, keep) if isinstance(record, Dialogue) else record

    def sha256(self) -> str:
        """Return a hash of what lies there; nothing is parsed that was not."""
        return sha256(b"".join(part.digest() for part in self.parts)).hexdigest()


def found_windows(
    corpus: Corpus, size: int, wanted: Callable[[int], bool], after: tuple[int, WindowPlace] | None = None
) -> Iterator[Found]:
    """Yield every window of ``size`` records, or those after one; parts only of those whose number is ``wanted``.

    InputError where a file cannot be read or was changed.
    """
    number, begun = after or (-1, WindowPlace(0, 0, 0, 0, 0, 0))
    number, first, start, line = number + 1, begun.last, begun.end, begun.end_line
    rows = before = 0  # of the window that is begun: its records, and its bytes in files before this one
    parts: list[Part] = []
    for index in range(begun.last, len(corpus.sources)):
        source = corpus.sources[index]
        read = counted(corpus, source)
        if read is None:
            raise InputError(f"{source.name}: was changed while it was read, expected lines or rows as before")
        files = sum(earlier.size or 0 for earlier in corpus.sources[:index])
        offset, lines = (begun.end, begun.end_line) if index == begun.last else (0, 0)
        seen = 0  # lines of this file up to the window that is begun
        base = offset  # where the window's part in this file begins
        read.begin(base, lines, wanted=wanted(number))
        for ends, filled, counts in read.ends(offset):
            upto = np.cumsum(filled)
            at = 0
            while at < len(ends):
                done = int(upto[at - 1]) if at else 0
                full = int(np.searchsorted(upto, done + window_limit(number, size) - rows))
                large = int(np.searchsorted(ends, base + WINDOW_BYTES - before)) if read.in_bytes else len(ends)
                stop = max(at, min(full, large))
                if stop >= len(ends):
                    rows += int(upto[-1]) - done
                    break
                end, end_line = int(ends[stop]), lines + seen + int(counts[stop])
                parts += filter(None, [read.part(end)])
                source.bytes_read = read.position(end)
                place = WindowPlace(first, start, line, index, end, end_line)
                yield Found(number, place, files + source.bytes_read, parts)
                number, first, start, line = number + 1, index, end, end_line
                rows, before, base, at, parts = 0, 0, end, stop + 1, []
                read.begin(base, end_line, wanted=wanted(number))
            seen += int(counts[-1])
            offset = int(ends[-1])
        before += offset - base if read.in_bytes else 0
        if offset > base:
            parts += filter(None, [read.part(offset)])
        source.bytes_read = read.position(offset)
        last = index, offset, lines + seen
    if rows:
        yield Found(number, WindowPlace(first, start, line, *last), files + source.bytes_read, parts)


@dataclass(frozen=True, slots=True)
class ReadWindow:
    """A window as a reader made it: its number, its place, the hash of what lies there, and its records as chunks."""

    number: int
    place: WindowPlace
    position: int
    sha256: str
    chunks: Sequence[Chunk]


def read_window(found: Found, encoder: Encoder, domain: Domain, keep: Sequence[str]) -> ReadWindow:
    """Return a window that was found, read; ``keep`` are columns of the records that go with their dialogues.

    Memory holds the texts of one chunk at a time.
    """
    reading = Reading(found.position)
    chunks = [chunk_of(records, encoder, domain, keep, reading) for records in runs(found.records(keep))]
    chunks = chunks or [chunk_of([], encoder, domain, keep, reading)]
    return ReadWindow(found.number, found.place, found.position, found.sha256(), chunks)


def counted_windows(read: Iterable[ReadWindow], known: Iterable[str] = (), *, unique: bool) -> Iterator[Prepared]:
    """Yield windows in the order of the input.

    Their ids are made ``unique``, among each other and those that are ``known``, where all of the input is there.
    """
    ids = Ids()
    ids.know(known)
    for window in read:
        placed = [ids.place(chunk, 0) if unique else as_it_is(chunk) for chunk in window.chunks]
        yield window_of_counted(placed, window.number, window.place, window.sha256)
