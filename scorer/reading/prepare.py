"""From records to windows of token ids: all that is done before the network runs.

A window is a run of records of the input, in order. What it comes to depends on its records alone, so that any process,
on any machine, may score it, and a killed run resumes at the window that it was in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from hashlib import sha256

from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue, content_hash
from scorer.inputs.corpus import Corpus, UniqueIds
from scorer.reading.chunks import Record, characters_of, chunk_of, dialogue_line, reject_line, with_columns
from scorer.reading.counted import found_windows, is_counted
from scorer.reading.cut import Prepared, is_full, window_of
from scorer.reading.ids import as_it_is
from scorer.reading.splits import Reading
from scorer.reading.windows import WHOLE, Share


def prepare_windows(
    corpus: Corpus,
    encoder: Encoder,
    domain: Domain,
    size: int,
    done: Collection[int] = (),
    share: Share = WHOLE,
    keep: Sequence[str] = (),
) -> Iterator[Prepared]:
    """Yield the windows of a share, ``size`` records each, in order; of those ``done`` no more than their hash.

    ``keep`` are columns of the records that go with their dialogues.
    """
    for number, window in enumerate(windows(corpus, size, keep)):
        records = list(window)
        if not share.has(number):
            continue
        position = corpus.bytes_read
        if number in done:
            yield Prepared(number=number, records=records_hash(records), size=len(records), position=position)
        else:
            yield prepare(records, encoder, domain, keep, number=number, position=position)


def prepare(
    records: Sequence[Record],
    encoder: Encoder,
    domain: Domain,
    keep: Sequence[str] = (),
    *,
    number: int = 0,
    position: int = 0,
) -> Prepared:
    """Return one window ready for the network. A dialogue that the tokenizer fails on becomes a reject."""
    placed = as_it_is(chunk_of(records, encoder, domain, keep, Reading(position)))
    return window_of([(placed, 0, len(records), placed.lines())], number)


def windows(corpus: Corpus, size: int, keep: Sequence[str] = ()) -> Iterator[Iterable[Record]]:
    """Yield windows of ``size`` records, fewer where these are so long that their text would fill the memory.

    The first ones are smaller, so that the network need not wait for a whole window to be read. Of a dialogue's record
    only the columns to ``keep`` remain, as JSON. Each is to be gone through before the next.
    """
    if is_counted(corpus):
        unique = UniqueIds()
        for source in corpus.sources:
            source.bytes_read = 0
        for found in found_windows(corpus, size, lambda _: True):
            yield map(unique, found.records(keep))
        return
    window: list[Record] = []
    characters = number = 0
    for record in corpus:
        if isinstance(record, Dialogue):
            record = with_columns(record, keep)
            characters += characters_of(record)
        window.append(record)
        if is_full(number, size, len(window), characters):
            yield window
            window, characters, number = [], 0, number + 1
    if window:
        yield window


def records_hash(records: Iterable[Record]) -> str:
    """Return the hash of a window's records that ``scorer.reading.join.hash_of`` returns, without preparing them."""
    state = sha256()
    for record in records:
        if isinstance(record, Dialogue):
            state.update(dialogue_line(record.id, content_hash(record.turns), (record.record or {}).items()).encode())
        else:
            state.update(reject_line(record).encode())
    return state.hexdigest()[:32]
