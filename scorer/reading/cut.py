"""Windows, cut from chunks in their place with arrays: the same whoever read the records, and in whichever pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from scorer.bundle.tokens import Tokens
from scorer.inputs.parse import Reject
from scorer.reading.chunks import Chunk
from scorer.reading.ids import Placed, RawIds
from scorer.reading.windows import Mark, Tally, WindowPlace, large_conversations

_WINDOW_CHARACTERS = 1 << 24
_FIRST_WINDOW = 1 << 10

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A window that is ready for the network.

    ``records`` is the hash of its records, ``size`` their number, and ``position`` how many bytes of the input were
    read by then. ``ids`` and ``tokens`` are of its dialogues, in order.
    ``kept`` are the columns to be kept, by name, as JSON, None where a record has none; ``keys`` are those of the first
    record. ``mark`` is where the next window begins, where reading can begin there. One that was found by counting has
    its ``place``, the hash of its ``bytes``, and all ids in it as they stand there. Of a window that was finished
    before, only the first four are given.
    """

    number: int
    records: str
    size: int
    position: int
    ids: list[str] = field(default_factory=list)
    tokens: Tokens = field(default_factory=lambda: Tokens.of([]))
    kept: dict[str, list[str | None]] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    rejects: list[Reject] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    mark: Mark | None = None
    place: WindowPlace | None = None
    bytes: str | None = None
    raw_ids: RawIds | None = None

    @property
    def work(self) -> int:
        """The tokens that the network will see."""
        return len(self.tokens.ids)


Piece = tuple[Placed, int, int, Sequence[str]]
"""Records of a chunk, from one place to before another, and what is hashed of each."""


def window_limit(number: int, size: int) -> int:
    """Return how many records a window has at most: the first ones have fewer, so that the network need not wait."""
    return min(size, _FIRST_WINDOW << min(number, 32))


def is_full(number: int, size: int, records: int, characters: int) -> bool:
    """Whether a window with so many records is whole, or so long that its text would fill the memory."""
    return records >= window_limit(number, size) or characters >= _WINDOW_CHARACTERS


class Cutter:
    """Cuts placed chunks into windows of ``size`` records."""

    def __init__(self, size: int, number: int = 0) -> None:
        """Begin with the window of that number."""
        self._size = size
        self._number = number
        self._pieces: list[Piece] = []
        self._records = self._characters = 0

    def add(self, placed: Placed, first: int = 0) -> Iterator[tuple[int, list[Piece]]]:
        """Take a chunk from its record ``first`` on; yield the windows that are whole now, each with its number."""
        lines, upto = placed.lines(), placed.characters
        while first < len(lines):
            base = int(upto[first - 1]) if first else 0
            long = int(np.searchsorted(upto, base + _WINDOW_CHARACTERS - self._characters)) + 1
            stop = min(len(lines), first + window_limit(self._number, self._size) - self._records, max(long, first + 1))
            self._pieces.append((placed, first, stop, lines))
            self._records += stop - first
            self._characters += int(upto[stop - 1]) - base
            first = stop
            if is_full(self._number, self._size, self._records, self._characters):
                yield from self.rest()

    def rest(self) -> Iterator[tuple[int, list[Piece]]]:
        """Yield the window that is begun, if there is one."""
        if self._pieces:
            yield self._number, self._pieces
            self._pieces, self._records, self._characters = [], 0, 0
            self._number += 1


def window_of(pieces: Sequence[Piece], number: int = 0, mark: Mark | None = None) -> Prepared:
    """Return the window that some pieces make, in order."""
    rows = [_good_rows(placed, start, stop) for placed, start, stop, _ in pieces]
    chunks = [placed.chunk for placed, *_ in pieces]
    tokens, repeats = _tokens(chunks, rows)
    return _window(pieces, rows, tokens, repeats, number, mark)


def window_of_counted(placed: Sequence[Placed], number: int, place: WindowPlace, bytes_: str) -> Prepared:
    """Return the window that the records of a place make, whose bytes have that hash.

    Its batches depend on its bytes alone, and not on what other windows hold: they have the texts of dialogues, too,
    that are rejects because of ids elsewhere.
    """
    chunks = [one.chunk for one in placed]
    pieces = [(one, 0, one.chunk.size, one.lines()) for one in placed]
    rows = [_good_rows(one, 0, one.chunk.size) for one in placed]
    encoded = [np.flatnonzero(chunk.tokens.texts >= 0) for chunk in chunks]
    tokens, _ = _tokens(chunks, encoded)
    good = np.concatenate([np.isin(some, mine) for some, mine in zip(encoded, rows, strict=True)])
    tokens = replace(tokens, texts=tokens.texts[good])
    window = _window(pieces, rows, tokens, len(tokens.texts) - len(np.unique(tokens.texts)), number, None)
    own = [id_ == content for chunk in chunks for id_, content in zip(chunk.ids, chunk.contents, strict=True)]
    raw_ids = RawIds(np.concatenate([chunk.id_hashes for chunk in chunks]), np.array(own, dtype=bool))
    return replace(window, place=place, bytes=bytes_, raw_ids=raw_ids)


def _window(
    pieces: Sequence[Piece], rows: Sequence[_Rows], tokens: Tokens, repeats: int, number: int, mark: Mark | None
) -> Prepared:
    chunks = [placed.chunk for placed, *_ in pieces]
    rejects, poisoned = [], False
    for placed, start, stop, _ in pieces:
        rejects += [reject for place, reject in placed.rejects if start <= place < stop]
        found = [reject for row, reject in placed.poisoned.items() if start <= placed.chunk.rows[row] < stop]
        rejects, poisoned = rejects + found, poisoned or bool(found)
    if poisoned:
        rejects.sort(key=lambda reject: (reject.source, reject.line))
    kept = {
        name: [chunk.kept[name][row] for chunk, some in zip(chunks, rows, strict=True) for row in some.tolist()]
        for name in (chunks[0].kept if chunks else ())
    }
    return Prepared(
        number=number,
        records=hash_of(pieces),
        size=sum(stop - start for _, start, stop, _ in pieces),
        position=chunks[-1].position if chunks else 0,
        ids=[placed.ids[row] for (placed, *_), some in zip(pieces, rows, strict=True) for row in some.tolist()],
        tokens=tokens,
        kept=kept,
        keys=next((chunk.keys for chunk in chunks if chunk.keys), ()),
        rejects=rejects,
        tally=_tally(chunks, rows, tokens, repeats, rejects, kept),
        mark=mark,
    )


def hash_of(pieces: Sequence[Piece]) -> str:
    """Return a hash of ids, contents and faults, by which a resumed run knows its input again, with kept columns."""
    state = sha256()
    for _, start, stop, lines in pieces:
        state.update("".join(lines[start:stop]).encode())
    return state.hexdigest()[:32]


def _good_rows(placed: Placed, start: int, stop: int) -> _Rows:
    """Return which dialogues of a chunk are scored, of those from one record to before another."""
    chunk = placed.chunk
    first, last = np.searchsorted(chunk.rows, (start, stop))
    rows = np.arange(first, last, dtype=np.int64)
    return rows[placed.alive[rows] & (chunk.tokens.texts[rows] >= 0)]


def _tokens(chunks: Sequence[Chunk], rows: Sequence[_Rows]) -> tuple[Tokens, int]:
    """Return the token ids of some dialogues, each text once, and how many repeat another's text."""
    hashes = [chunk.text_hashes[chunk.tokens.texts[some]] for chunk, some in zip(chunks, rows, strict=True)]
    _, first, which = np.unique(np.concatenate([*hashes, _NO_HASHES]), return_index=True, return_inverse=True)
    order = np.argsort(first)  # texts in the order in which they come
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    # Where each of these texts stands in the chunks' arrays, put one behind the other.
    texts, starts, firsts, before = [], [], [], 0
    for chunk, some in zip(chunks, rows, strict=True):
        mine = chunk.tokens.texts[some]
        texts.append(chunk.tokens.lengths[mine])
        starts.append(chunk.tokens.starts[mine] + before)
        firsts.append(chunk.tokens.first_segment[mine])
        before += len(chunk.tokens.ids)
    row = first[order]  # the dialogue that each text is taken from
    lengths = np.concatenate([*texts, _NO_ROWS])[row]
    ends = np.cumsum(lengths)
    source = np.repeat(np.concatenate([*starts, _NO_ROWS])[row] - (ends - lengths), lengths)
    ids = np.concatenate([*(chunk.tokens.ids for chunk in chunks), _NO_IDS])
    return Tokens(
        ids[source + np.arange(len(source))],
        np.concatenate([_NO_ROWS, [0], ends]).astype(np.int64),
        np.concatenate([*firsts, _NO_IDS])[row],
        place[which].astype(np.int32),
    ), len(which) - len(row)


_NO_HASHES = np.zeros(0, dtype=np.uint64)
_NO_ROWS = np.zeros(0, dtype=np.int64)
_NO_IDS = np.zeros(0, dtype=np.int32)


def _tally(
    chunks: Sequence[Chunk],
    rows: Sequence[_Rows],
    tokens: Tokens,
    repeats: int,
    rejects: Sequence[Reject],
    kept: dict[str, list[str | None]],
) -> Tally:
    parts = list(zip(chunks, rows, strict=True))
    noted: Counter[str] = Counter()
    for chunk, some in parts:
        scored = set(some.tolist()) if chunk.notes else set()
        noted.update(name for row, names in chunk.notes if row in scored for name in names)
    texts = [(chunk, chunk.tokens.texts[some]) for chunk, some in parts]
    cut = [(chunk.cut_turns[which], chunk.cut_tokens[which]) for chunk, which in texts]
    outside: Counter[str] = Counter()
    for chunk, some in parts:
        outside.update({name: int(flags[some].sum()) for name, flags in chunk.outside.items()})
    return Tally(
        scored=len(tokens),
        repeats=repeats,
        cut=sum(int((lost > 0).sum()) for _, lost in cut),
        cut_turns=sum(int(turns.sum()) for turns, _ in cut),
        cut_tokens=sum(int(lost.sum()) for _, lost in cut),
        tokens=int(tokens.lengths[tokens.texts].sum()),
        rejected=dict(Counter(reject.reason for reject in rejects)),
        outside=dict(outside) if len(tokens) else {},
        noted=dict(noted),
        lacking={name: count for name, column in kept.items() if (count := column.count(None))},
        conversations=large_conversations(
            number for chunk, some in parts for number in chunk.conversations[some].tolist()
        ),
    )
