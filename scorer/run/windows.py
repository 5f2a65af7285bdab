"""What scoring came to: counts and sums of one window, or of a whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scorer.dialogue import HEADS


@dataclass(slots=True)
class Tally:
    """What one window, or a whole run, came to. ``sums`` are of the scores, by head.

    ``repeats`` are dialogues of the same text as another one of their window, which was scored for both.
    """

    scored: int = 0
    repeats: int = 0
    cut: int = 0
    cut_turns: int = 0
    cut_tokens: int = 0
    tokens: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(HEADS))
    rejected: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)

    @property
    def records(self) -> int:
        """The records of the input: scored or rejected."""
        return self.scored + self.rejected.total()

    def add(self, other: Tally) -> None:
        """Add what another window came to."""
        self.scored += other.scored
        self.repeats += other.repeats
        self.cut += other.cut
        self.cut_turns += other.cut_turns
        self.cut_tokens += other.cut_tokens
        self.tokens += other.tokens
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.rejected.update(other.rejected)
        self.outside.update(other.outside)

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """Return a tally from JSON; KeyError or TypeError if it is none."""
        counters = {name: Counter(value[name]) for name in ("rejected", "outside")}
        return cls(**{**value, **counters})


@dataclass(frozen=True, slots=True)
class Window:
    """One finished window: its place in the run, the hash of its records, and what it came to."""

    number: int
    records: str
    tally: Tally
