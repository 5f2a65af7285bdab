"""Chunks: records of a split that are ready for the network but for what only the whole input can tell.

Whoever reads makes them, in any process; `scorer.reading.join` makes windows of them. They are flat arrays, which is
what crosses processes fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Hashes
from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoded, Encoder
from scorer.bundle.tokenizer.faults import is_of_tokenizers
from scorer.bundle.tokens import Ints, Tokens
from scorer.dialogue import Dialogue, content_hash, render
from scorer.inputs.corpus import Corpus
from scorer.inputs.id_set import hash64
from scorer.inputs.parse import Reject
from scorer.inputs.records.columns import columns_as_json
from scorer.reading.splits import Reading, Split, read_split

Record = Dialogue | Reject

_CHUNK_RECORDS = 1 << 10
_CHUNK_CHARACTERS = 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Records in order: N, of which D are dialogues, the others rejects.

    ``rows`` (D,) is each dialogue's place among the records, and ``rejects`` has the place of each reject. ``poisoned``
    are rejects of dialogues that the tokenizer failed on, by their number among the dialogues; their text is -1.
    ``sources`` and ``lines`` (D,) say where each is from, lines counted from the split's beginning. ``ids`` are not
    unique yet; ``id_hashes`` (D,) are theirs, ``contents`` the hashes of the turns, ``conversations`` (D,) those of the
    conversations, ``text_hashes`` those of the texts. ``characters`` (D,) are what a dialogue takes in memory,
    ``outside`` says per feature which dialogues are outside the training domain, ``notes`` what reading noticed, by
    number. ``kept`` are columns to keep, as JSON, and ``keys`` those of the first record. ``reading`` is how far the
    split was read by then.
    """

    size: int
    rows: Ints
    rejects: list[tuple[int, Reject]]
    poisoned: dict[int, Reject]
    sources: list[str]
    lines: npt.NDArray[np.int64]
    ids: list[str]
    id_hashes: Hashes
    contents: list[str]
    conversations: Hashes
    characters: npt.NDArray[np.int64]
    tokens: Tokens
    text_hashes: Hashes
    cut_turns: Ints
    cut_tokens: Ints
    outside: dict[str, npt.NDArray[np.bool_]]
    notes: list[tuple[int, tuple[str, ...]]]
    kept: dict[str, list[str | None]]
    keys: tuple[str, ...]
    reading: Reading

    @property
    def position(self) -> int:
        """How many bytes of the input were read by then."""
        return self.reading.position


@dataclass(frozen=True, slots=True)
class SplitJob:
    """Which splits of a corpus are read, and what makes chunks of them; ``keep`` are the columns that go with them."""

    corpus: Corpus
    splits: Sequence[Split]
    encoder: Encoder
    domain: Domain
    keep: Sequence[str] = ()


def chunk_of(
    records: Sequence[Record], encoder: Encoder, domain: Domain, keep: Sequence[str], reading: Reading
) -> Chunk:
    """Return records as a chunk. Dialogues are as ``with_columns`` returns them."""
    rows = [row for row, record in enumerate(records) if isinstance(record, Dialogue)]
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    texts = [render(dialogue) for dialogue in dialogues]
    encoded, poisoned = encode_apart(encoder, dialogues, texts)
    good = [dialogue for number, dialogue in enumerate(dialogues) if number not in poisoned]
    tokens = Tokens.of(encoded)
    taken = np.array([number not in poisoned for number in range(len(dialogues))], dtype=bool)
    by_text = dict(zip(map(id, encoded), [text for n, text in enumerate(texts) if n not in poisoned], strict=True))
    distinct = list({id(item): item for item in encoded}.values())
    outside: Mapping[str, Any] = domain.outside(good, encoded) if good else {}
    kept = [dialogue.record or {} for dialogue in dialogues]
    return Chunk(
        size=len(records),
        rows=np.array(rows, dtype=np.int32),
        rejects=[(row, record) for row, record in enumerate(records) if isinstance(record, Reject)],
        poisoned=poisoned,
        sources=[dialogue.source for dialogue in dialogues],
        lines=np.array([dialogue.line for dialogue in dialogues], dtype=np.int64),
        ids=[dialogue.id for dialogue in dialogues],
        id_hashes=_hashes(dialogue.id for dialogue in dialogues),
        contents=[content_hash(dialogue.turns) for dialogue in dialogues],
        conversations=_hashes(dialogue.conversation for dialogue in dialogues),
        characters=np.array([characters_of(dialogue) for dialogue in dialogues], dtype=np.int64),
        tokens=replace(tokens, texts=_spread(tokens.texts, taken, -1)),
        text_hashes=_hashes("\0".join(by_text[id(item)]) for item in distinct),
        cut_turns=np.array([item.cut_turns for item in distinct], dtype=np.int32),
        cut_tokens=np.array([item.cut_tokens for item in distinct], dtype=np.int32),
        outside={name: _spread(flags, taken, fill=False) for name, flags in outside.items()},
        notes=[(n, present) for n, dialogue in enumerate(dialogues) if (present := dialogue.notes.present)],
        kept={name: [more.get(name) for more in kept] for name in keep},
        keys=(*dialogues[0].notes.used, *dialogues[0].notes.aside) if keep and dialogues else (),
        reading=reading,
    )


@dataclass(frozen=True, slots=True)
class EndOfFile:
    """What comes after the chunks of a split that is a whole file."""


def chunks_of(job: SplitJob, part: int, parts: int) -> Iterator[Chunk | EndOfFile]:
    """Yield the chunks that one of several readers makes of some splits.

    A range is one chunk. A split that is not shared belongs to one reader, every ``parts``-th to this one; a shared one
    is parsed by all of them, and its chunks are made in turn.
    """
    for number, split in enumerate(job.splits):
        if not split.shared and number % parts != part:
            continue
        reading = Reading()
        found = (
            with_columns(record, job.keep) if isinstance(record, Dialogue) else record
            for record in read_split(job.corpus, split, reading)
        )
        if split.is_range:
            yield chunk_of(list(found), job.encoder, job.domain, job.keep, reading)
            continue
        chunks = (
            chunk_of(records, job.encoder, job.domain, job.keep, replace(reading))
            for turn, records in enumerate(runs(found))
            if not split.shared or turn % parts == part
        )
        # The others wait for what is sent: of a small file all is made first, so that they are at theirs meanwhile.
        yield from chunks if split.shared or parts == 1 else list(chunks)
        yield EndOfFile()


def runs(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield records in lists that hold a chunk each: so many, or of so many characters."""
    run: list[Record] = []
    characters = 0
    for record in records:
        run.append(record)
        characters += characters_of(record) if isinstance(record, Dialogue) else 0
        if len(run) >= _CHUNK_RECORDS or characters >= _CHUNK_CHARACTERS:
            yield run
            run, characters = [], 0
    if run:
        yield run


def characters_of(dialogue: Dialogue) -> int:
    """Return how many characters a dialogue and what is kept of its record have."""
    return sum(len(turn.content) for turn in dialogue.turns) + sum(map(len, (dialogue.record or {}).values()))


def dialogue_line(id_: str, content: str, kept: Iterable[tuple[str, str]]) -> str:
    """Return what is hashed of a dialogue: its id, the hash of its turns, the columns kept as JSON."""
    return f"{id_}\0{content}\n" + "".join(f"{name}\0{value}\n" for name, value in kept)


def reject_line(reject: Reject) -> str:
    """Return what is hashed of a record that is no dialogue."""
    return f"{reject.line}\0{reject.reason}\0{reject.record}\n"


def with_columns(dialogue: Dialogue, keep: Sequence[str]) -> Dialogue:
    """Return a dialogue with nothing of its record but the columns to keep, as JSON."""
    if keep:
        return replace(dialogue, record=columns_as_json(dialogue.record or {}, keep))
    return dialogue if dialogue.record is None else replace(dialogue, record=None)


def _spread(values: npt.NDArray[Any], taken: npt.NDArray[np.bool_], fill: Any) -> npt.NDArray[Any]:
    """Return values of those rows that are ``taken`` in an array of all rows."""
    spread = np.full(len(taken), fill, dtype=values.dtype)
    spread[taken] = values
    return spread


def _hashes(texts: Iterable[str]) -> Hashes:
    return np.array([hash64(text) for text in texts], dtype=np.uint64)


def encode_apart(
    encoder: Encoder, dialogues: Sequence[Dialogue], texts: Sequence[tuple[str, str]], first: int = 0
) -> tuple[list[Encoded], dict[int, Reject]]:
    """Return the token ids of dialogues that ``render`` gave ``texts`` of, but of those that the tokenizer fails on.

    These have a reject each, by their number, counted from ``first``.
    """
    try:
        return encoder.encode_rendered(texts, dialogues), {}
    except BaseException as error:
        if not is_of_tokenizers(error):
            raise
        if len(dialogues) > 1:
            middle = len(dialogues) // 2
            one = encode_apart(encoder, dialogues[:middle], texts[:middle], first)
            other = encode_apart(encoder, dialogues[middle:], texts[middle:], first + middle)
            return one[0] + other[0], one[1] | other[1]
        (dialogue,) = dialogues
        detail = f"the tokenizer fails on it: {' '.join(str(error).split())[:200]}"
        text = dialogue.response[:500]
        return [], {first: Reject(dialogue.source, dialogue.line, "tokenizer_failed", detail, dialogue.id, text)}
