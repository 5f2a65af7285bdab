"""Windows of the input: which of them a process scores, and what each of them, or a whole run, came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from scorer.dialogue import HEADS


@dataclass(frozen=True, slots=True)
class Share:
    """The windows that one of several processes scores: every ``count``-th, beginning with number ``index``."""

    index: int = 0
    count: int = 1

    def has(self, number: int) -> bool:
        """Whether the window of that number is in this share."""
        return number % self.count == self.index

    def split(self, parts: int) -> list[Self]:
        """Return this share in so many parts, in the order in which their windows come."""
        return [type(self)(self.index + part * self.count, self.count * parts) for part in range(parts)]

    def __str__(self) -> str:
        """Return it as it stands in names of files: counted from 1."""
        return f"{self.index + 1}-of-{self.count}"


WHOLE = Share()
"""The share of a process that is alone."""


@dataclass(slots=True)
class Tally:
    """What one window, or a whole run, came to. ``sums`` are of the scores, per head.

    ``repeats`` are dialogues of the same text as another one of their window, which was scored for both. ``rejected``
    counts records per reason, ``outside`` dialogues per way in which they lie outside the training domain, ``noted``
    dialogues per note of what reading left aside (see ``scorer.inputs.notes``), ``lacking`` dialogues without a column
    that is to be kept.
    """

    scored: int = 0
    repeats: int = 0
    cut: int = 0
    cut_turns: int = 0
    cut_tokens: int = 0
    tokens: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(HEADS))
    rejected: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    noted: dict[str, int] = field(default_factory=dict)
    lacking: dict[str, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """The records of the input: scored or rejected."""
        return self.scored + self.rejections

    @property
    def rejections(self) -> int:
        """The records that were no dialogue."""
        return sum(self.rejected.values())

    def add(self, other: Tally) -> None:
        """Add what another window came to."""
        for name in ("scored", "repeats", "cut", "cut_turns", "cut_tokens", "tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        for kind in ("rejected", "outside", "noted", "lacking"):
            counts: dict[str, int] = getattr(self, kind)
            for name, count in getattr(other, kind).items():
                counts[name] = counts.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Window:
    """One finished window: its place in the run, the hash of its records, and what it came to."""

    number: int
    records: str
    tally: Tally
