"""What scoring would judge, counted without scoring: what a corpus holds and how it was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue, render
from scorer.inputs.corpus import id_hash
from scorer.inputs.id_set import HashSet
from scorer.inputs.notes import COUNTED, NoteCounts
from scorer.inputs.parse import Reject

MUCH = 0.1
"""One conversation with a larger share of the dialogues is worth a warning, from ``FEW`` dialogues on."""

FEW = 20
_KEYS = 1 << 20  # conversations that are counted one by one; those that come later are not looked at

NOTES = {
    "ends_in_user": "dialogues end in a user turn, so an earlier answer is judged",
    "later_turns": "dialogues go on after the judged turn",
    "tool_turns": "dialogues have tool turns, which the scorer does not read",
    "parts": "dialogues have images, sound or files, which the scorer does not read",
    "thoughts": "dialogues have thoughts, which are not part of the judged answer",
}
"""What a note means to whoever uses the scores."""


@dataclass(slots=True)
class Look:
    """The counts of one source, or of all. ``add`` takes a window of records; ``merge`` another source's counts.

    Memory grows by some 30 bytes per dialogue, and by a short text for each of the first million conversations.
    """

    notes: NoteCounts = field(default_factory=NoteCounts)
    rejected: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    repeated: int = 0
    conversations: Counter[int] = field(default_factory=Counter)
    _texts: HashSet = field(default_factory=HashSet)

    def add(self, records: Iterable[Dialogue | Reject], encoder: Encoder) -> None:
        """Count a window of records; what is truncated is so at the encoder's length."""
        dialogues = []
        for record in records:
            if isinstance(record, Reject):
                self.rejected[record.reason] += 1
                continue
            dialogues.append(record)
            self.notes.add(record.notes)
            text = id_hash("\0".join(render(record)))
            self.repeated += text in self._texts
            self._texts.add(text)
            key = id_hash(record.conversation)
            if key in self.conversations or len(self.conversations) < _KEYS:
                self.conversations[key] += 1
        self.truncated += sum(item.cut for item in encoder.encode(dialogues))

    @property
    def dialogues(self) -> int:
        """How many dialogues would be scored."""
        return self.notes.dialogues

    @property
    def largest(self) -> int:
        """How many dialogues the largest conversation has."""
        return max(self.conversations.values(), default=0)

    def warnings(self) -> Iterator[str]:
        """Yield what should be known before scores are used."""
        yield from note_warnings({name: self.notes.dialogues_with(name) for name in NOTES})
        if rejects := self.rejected.total():
            yield f"{rejects:,} records are no dialogues and would not be scored"
        if self.dialogues >= FEW and self.largest > MUCH * self.dialogues:
            share = self.largest / self.dialogues
            yield f"one conversation has {share:.0%} of the dialogues; if it is none, say its key: --map conversation="

    def to_json(self) -> dict[str, Any]:
        """Return every figure."""
        return {
            "layouts": dict(self.notes.layouts),
            "keys_used": dict(self.notes.used),
            "keys_left_aside": dict(self.notes.aside),
            "dialogues": self.dialogues,
            "rejected": dict(self.rejected),
            **{name: self.notes.dialogues_with(name) for name in COUNTED},
            "truncated": self.truncated,
            "repeated_texts": self.repeated,
            "conversations": len(self.conversations),
            "largest_conversation": self.largest,
            "warnings": list(self.warnings()),
        }


def note_warnings(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each note that any dialogue has."""
    for name, meaning in NOTES.items():
        if count := counts.get(name, 0):
            yield f"{count:,} {meaning}"
