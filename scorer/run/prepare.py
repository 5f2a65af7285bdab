"""From records to token ids, a window at a time: all that is done before the network runs.

A window is a run of records of the input, in order. What it comes to depends on its records alone, so that any process,
on any machine, may score it, and a killed run resumes at the window that it was in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoded, Encoder
from scorer.bundle.tokens import Tokens
from scorer.dialogue import Dialogue, content_hash
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.inputs.records.columns import columns_as_json
from scorer.run.windows import WHOLE, Share, Tally, large_conversations

_WINDOW_CHARACTERS = 1 << 24
_FIRST_WINDOW = 1 << 10

Record = Dialogue | Reject


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A window that is ready for the network.

    ``records`` is the hash of its records, ``size`` their number, and ``position`` how many bytes of the input were
    read by then. ``ids`` and ``tokens`` are of its dialogues, in order.
    ``kept`` are the columns to be kept, by name, as JSON, None where a record has none; ``keys`` are those of the first
    record. Of a window that was finished before, only the first four are given.
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

    @property
    def work(self) -> int:
        """The tokens that the network will see."""
        return len(self.tokens.ids)


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
    for number, records in enumerate(windows(corpus, size, keep)):
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
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    rejects = [record for record in records if isinstance(record, Reject)]
    encoded, poisoned = encode_apart(encoder, dialogues)
    if poisoned:
        dialogues = [dialogue for dialogue in dialogues if dialogue.id not in poisoned]
        rejects = sorted([*rejects, *poisoned.values()], key=lambda reject: (reject.source, reject.line))
    kept = {name: [_kept(dialogue).get(name) for dialogue in dialogues] for name in keep}
    return Prepared(
        number=number,
        records=records_hash(records),
        size=len(records),
        position=position,
        ids=[dialogue.id for dialogue in dialogues],
        tokens=Tokens.of(encoded),
        kept=kept,
        keys=(*dialogues[0].notes.used, *dialogues[0].notes.aside) if kept and dialogues else (),
        rejects=rejects,
        tally=_tally(domain, dialogues, encoded, rejects, kept),
    )


def windows(corpus: Corpus, size: int, keep: Sequence[str] = ()) -> Iterator[list[Record]]:
    """Yield windows of ``size`` records, fewer where these are so long that their text would fill the memory.

    The first ones are smaller, so that the network need not wait for a whole window to be read. Of a dialogue's record
    only the columns to ``keep`` remain, as JSON.
    """
    window: list[Record] = []
    characters = number = 0
    for record in corpus:
        if isinstance(record, Dialogue):
            record = with_columns(record, keep)
            characters += sum(len(turn.content) for turn in record.turns) + sum(map(len, _kept(record).values()))
        window.append(record)
        if len(window) >= min(size, _FIRST_WINDOW << min(number, 32)) or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters, number = [], 0, number + 1
    if window:
        yield window


def with_columns(dialogue: Dialogue, keep: Sequence[str]) -> Dialogue:
    """Return a dialogue with nothing of its record but the columns to keep, as JSON."""
    if keep:
        return replace(dialogue, record=columns_as_json(dialogue.record or {}, keep))
    return dialogue if dialogue.record is None else replace(dialogue, record=None)


def _kept(dialogue: Dialogue) -> Mapping[str, str]:
    return dialogue.record or {}


def records_hash(records: Sequence[Record]) -> str:
    """Return a hash of ids, contents and faults, by which a resumed run knows its input again, with kept columns."""
    state = sha256()
    for record in records:
        if isinstance(record, Dialogue):
            state.update(f"{record.id}\0{content_hash(record.turns)}\n".encode())
            for name, value in _kept(record).items():
                state.update(f"{name}\0{value}\n".encode())
        else:
            state.update(f"{record.line}\0{record.reason}\0{record.record}\n".encode())
    return state.hexdigest()[:32]


def encode_apart(encoder: Encoder, dialogues: Sequence[Dialogue]) -> tuple[list[Encoded], dict[str, Reject]]:
    """Return the token ids of dialogues with different ids, and by id a reject for each that the tokenizer fails on."""
    try:
        return encoder.encode(dialogues), {}
    except BaseException as error:  # a panic in the Rust library is no Exception
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        if len(dialogues) > 1:
            middle = len(dialogues) // 2
            first, last = encode_apart(encoder, dialogues[:middle]), encode_apart(encoder, dialogues[middle:])
            return first[0] + last[0], first[1] | last[1]
        (dialogue,) = dialogues
        detail = f"the tokenizer fails on it: {' '.join(str(error).split())[:200]}"
        text = dialogue.response[:500]
        return [], {dialogue.id: Reject(dialogue.source, dialogue.line, "tokenizer_failed", detail, dialogue.id, text)}


def _tally(
    domain: Domain,
    dialogues: Sequence[Dialogue],
    encoded: Sequence[Encoded],
    rejects: Sequence[Reject],
    kept: Mapping[str, Sequence[str | None]],
) -> Tally:
    outside: Mapping[str, Any] = domain.outside(dialogues, encoded) if dialogues else {}
    return Tally(
        scored=len(dialogues),
        repeats=len(encoded) - len({id(item) for item in encoded}),
        cut=sum(item.cut for item in encoded),
        cut_turns=sum(item.cut_turns for item in encoded),
        cut_tokens=sum(item.cut_tokens for item in encoded),
        tokens=sum(map(len, encoded)),
        rejected=dict(Counter(reject.reason for reject in rejects)),
        outside={name: int(rows.sum()) for name, rows in outside.items()},
        noted=dict(Counter(name for dialogue in dialogues for name in dialogue.notes.present)),
        lacking={name: count for name, column in kept.items() if (count := column.count(None))},
        conversations=large_conversations(dialogue.conversation for dialogue in dialogues),
    )
