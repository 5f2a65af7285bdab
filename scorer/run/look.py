"""What scoring would judge, counted without scoring: what a corpus holds and how it was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from scorer.bundle.domain import Domain
from scorer.bundle.encode import Encoder
from scorer.dialogue import render
from scorer.inputs.id_set import HashSet, hash64
from scorer.inputs.notes import COUNTED, NoteCounts
from scorer.inputs.parse import Reject
from scorer.reading.chunks import Record
from scorer.reading.prepare import prepare
from scorer.reading.windows import Tally

_KEYS = 1 << 20  # conversations of a source that are counted one by one; those that come later are not looked at

NOTES = {
    "ends_in_user": "dialogues end in a user turn, so an earlier answer is judged",
    "later_turns": "dialogues go on after the judged turn",
    "tool_turns": "dialogues have tool turns, which the scorer does not read",
    "parts": "dialogues have images, sound or files, which the scorer does not read",
    "thoughts": "dialogues have thoughts, which are not part of the judged answer",
}
"""What a note means to whoever uses the scores."""


@dataclass(slots=True)
class SourceLook:
    """The counts of one source. ``repeated`` are texts that were there before, also in an earlier source.

    ``first_rejects`` has the first reject of each reason.
    """

    notes: NoteCounts = field(default_factory=NoteCounts)
    tally: Tally = field(default_factory=Tally)
    repeated: int = 0
    conversations: Counter[int] = field(default_factory=Counter)
    first_rejects: dict[str, Reject] = field(default_factory=dict)

    def merge(self, other: SourceLook) -> None:
        """Add another source's counts."""
        self.notes.merge(other.notes)
        self.tally.add(other.tally)
        self.repeated += other.repeated
        self.conversations.update(other.conversations)
        self.first_rejects = other.first_rejects | self.first_rejects

    def to_json(self) -> dict[str, Any]:
        """Return every figure."""
        return {
            "layouts": dict(self.notes.layouts),
            "keys_used": dict(self.notes.used),
            "keys_left_aside": dict(self.notes.aside),
            "dialogues": self.tally.scored,
            "rejected": dict(self.tally.rejected),
            "first_rejects": {reason: str(reject) for reason, reject in self.first_rejects.items()},
            **{name: self.notes.dialogues_with(name) for name in COUNTED},
            "truncated": self.tally.cut,
            "repeated_texts": self.repeated,
            "conversations": len(self.conversations),
            "largest_conversation": max(self.conversations.values(), default=0),
        }


@dataclass(slots=True)
class Look:
    """The counts of a corpus, per source. Memory: some 30 bytes per dialogue, and 100 per conversation."""

    sources: dict[str, SourceLook] = field(default_factory=dict)
    _texts: HashSet = field(default_factory=HashSet)

    def add(self, records: Sequence[Record], encoder: Encoder, domain: Domain) -> None:
        """Count a window of records; what is truncated is so at the encoder's length."""
        for name, group in groupby(records, key=lambda record: record.source):
            mine = list(group)
            source = self.sources.setdefault(name, SourceLook())
            source.tally.add(prepare(mine, encoder, domain).tally)
            for record in mine:
                if isinstance(record, Reject):
                    source.first_rejects.setdefault(record.reason, record)
                else:
                    source.notes.add(record.notes)
                    source.repeated += not self._texts.add(hash64("\0".join(render(record))))
                    key = hash64(record.conversation)
                    if key in source.conversations or len(source.conversations) < _KEYS:
                        source.conversations[key] += 1

    @property
    def whole(self) -> SourceLook:
        """The counts of all sources together."""
        found = SourceLook()
        for source in self.sources.values():
            found.merge(source)
        return found


def tally_warnings(tally: Tally, domain: Domain) -> Iterator[str]:
    """Yield what should be known before the scores of a run are used; the same for a look and for a run."""
    yield from note_warnings(tally.noted)
    if not tally.scored:
        yield "no dialogue could be scored"
    if share := tally.largest_share:
        yield (
            f"one conversation key covers {share:.0%} of the dialogues; if they are several conversations, "
            "say which column tells them apart: --map conversation=COLUMN"
        )
    if warning := domain.warning(tally.outside, tally.scored):
        yield warning


def note_warnings(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each note that any dialogue has."""
    for name, meaning in NOTES.items():
        if count := counts.get(name, 0):
            yield f"{count:,} {meaning}"
