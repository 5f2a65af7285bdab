"""From what readers make of splits to windows: what only the whole input can tell is decided here, in order.

Ids are made unique, lines get the numbers that they have in their file, and windows are cut. So a window is the same
whoever read its records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.reading.chunks import Chunk, EndOfFile
from scorer.reading.cut import Cutter, Prepared, window_of
from scorer.reading.ids import Ids, Placed
from scorer.reading.splits import Split, load
from scorer.reading.windows import Mark

Item = Chunk | EndOfFile

CHANGED = "the input is not what was scored before, so it was changed or reordered; start afresh with --overwrite"


@dataclass(frozen=True, slots=True)
class Begun:
    """What an earlier run finished: so many windows, the ids of their dialogues in order, and where it goes on.

    ``position`` is how many bytes of the input are before that.
    """

    windows: int
    ids: Sequence[str]
    mark: Mark
    position: int = 0


def hash_before(corpus: Corpus, splits: Sequence[Split]) -> str | None:
    """Return the hash of all bytes of splits, None where one of them is no range and has no bytes of its own."""
    before = ""
    for split in splits:
        if not split.is_range:
            return None
        before = _and(before, load(corpus.sources[split.source], split)[1])
    return before


class Joiner:
    """Makes windows of ``size`` records from what readers made of ``splits``, each reader a stream of its own."""

    def __init__(self, splits: Sequence[Split], size: int, begun: Begun | None = None) -> None:
        """Begin where an earlier run ended."""
        self._splits = splits
        self._begun = begun
        self._first = begun.mark.split if begun else 0
        self._cutter = Cutter(size, begun.windows if begun else 0)
        self._ids = Ids()
        self._ids.know(begun.ids[: begun.mark.ids] if begun else ())
        self._given = begun.mark.ids if begun else 0
        self._lines = begun.mark.lines if begun else 0
        self._before: str | None = begun.mark.before if begun else ""

    def windows(self, readers: Sequence[Iterator[Item]]) -> Iterator[Prepared]:
        """Yield the windows in order; InputError where the input is not what an earlier run read."""
        skipped = self._begun.mark.record if self._begun else 0
        for number, split in enumerate(self._splits[self._first :]):
            if not split.is_range:
                self._before = None
                for chunk in _of_file(readers if split.shared else [readers[number % len(readers)]]):
                    yield from self._cut(self._ids.place(chunk, 0))
                continue
            self._lines = self._lines if split.start else 0
            chunk = cast("Chunk", next(readers[number % len(readers)]))
            placed = self._ids.place(chunk, self._lines)
            if self._begun and not number and _hash(placed.lines()[:skipped]) != self._begun.mark.within:
                raise InputError(CHANGED)
            yield from self._cut(placed, 0 if number else skipped, self._first + number)
            self._lines += chunk.reading.lines
            self._given += int(placed.alive.sum())
            self._before = None if self._before is None else _and(self._before, chunk.reading.sha256)
        for number, pieces in self._cutter.rest():
            yield window_of(pieces, number)

    def _cut(self, placed: Placed, first: int = 0, split: int | None = None) -> Iterator[Prepared]:
        for number, pieces in self._cutter.add(placed, first):
            mark = None
            if split is not None and self._before is not None:
                _, _, stop, lines = pieces[-1]
                mark = Mark(split, stop, self._lines, self._given, self._before, _hash(lines[:stop]))
            yield window_of(pieces, number, mark)


def _of_file(readers: Sequence[Iterator[Item]]) -> Iterator[Chunk]:
    """Yield the chunks of a whole file, which readers make in turn, until all have said that it ends."""
    turn = 0
    while isinstance(item := next(readers[turn % len(readers)]), Chunk):
        yield item
        turn += 1
    for number, reader in enumerate(readers):
        if number != turn % len(readers):
            next(reader)


def _hash(lines: Sequence[str]) -> str:
    return sha256("".join(lines).encode()).hexdigest()[:32]


def _and(before: str, more: str) -> str:
    return sha256(f"{before}{more}".encode()).hexdigest()[:32]
