"""Windows of the input: which of them a process scores, and what each of them, or a whole run, came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Self

from msgspec import Meta

from scorer.dialogue import HEADS
from scorer.values import Amount, Count, Portion

# A conversation with more than this share of the dialogues, and so many of them, is worth a warning.
_MUCH, _MANY = 0.1, 10
_Sums = Annotated[list[Amount], Meta(min_length=len(HEADS), max_length=len(HEADS))]
_SHARE_KEPT = 0.05  # of a window: a conversation with less of each has no large share of all


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
    dialogues per note of what reading left aside (see ``scorer.inputs.notes``), ``conversations`` dialogues per
    conversation that has much of its window, ``lacking`` dialogues without a column that is to be kept.
    """

    scored: Count = 0
    repeats: Count = 0
    cut: Count = 0
    cut_turns: Count = 0
    cut_tokens: Count = 0
    tokens: Count = 0
    sums: _Sums = field(default_factory=lambda: [0.0] * len(HEADS))
    rejected: dict[str, Count] = field(default_factory=dict)
    outside: dict[str, Count] = field(default_factory=dict)
    noted: dict[str, Count] = field(default_factory=dict)
    lacking: dict[str, Count] = field(default_factory=dict)
    conversations: dict[str, Count] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """The records of the input: scored or rejected."""
        return self.scored + self.rejections

    @property
    def rejections(self) -> int:
        """The records that were no dialogue."""
        return sum(self.rejected.values())

    @property
    def largest_share(self) -> float:
        """The share of the largest conversation in the dialogues, where it is worth a warning; else 0."""
        most = max(self.conversations.values(), default=0)
        return most / self.scored if most >= _MANY and most > _MUCH * self.scored else 0.0

    def add(self, other: Tally) -> None:
        """Add what another window came to."""
        for name in ("scored", "repeats", "cut", "cut_turns", "cut_tokens", "tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        for kind in ("rejected", "outside", "noted", "lacking", "conversations"):
            counts = getattr(self, kind)
            for name, count in getattr(other, kind).items():
                counts[name] = counts.get(name, 0) + count


def large_conversations(hashes: Iterable[int]) -> dict[str, int]:
    """Return the conversations that have much of a window, by the hash of their key, and how many dialogues each has.

    Summed over windows they show one that has much of a corpus, without keeping every key.
    """
    counts = Counter(hashes)
    least = max(2, _SHARE_KEPT * counts.total())
    return {f"{key:016x}": count for key, count in counts.items() if count >= least}


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the window after one begins: ``record`` records into the split of that number.

    Before the split are ``lines`` lines of its file and ``ids`` dialogues of the whole input. ``before`` is the hash of
    all bytes before it, ``within`` that of its records up to there.
    """

    split: Count
    record: Count
    lines: Count
    ids: Count
    before: str
    within: str


WINDOW_BYTES = 1 << 24
"""A window with so many bytes of lines is whole, whatever these are."""


@dataclass(frozen=True, slots=True)
class WindowPlace:
    """Where a counted window lies: from offset ``start`` in the source of that number to before ``end`` in another.

    Offsets are bytes of lines (unpacked ones where they are compressed) or rows of a table. The sources between belong
    to it as a whole. ``line`` and ``end_line`` are the lines or rows of these two files before that.
    """

    first: Count
    start: Count
    line: Count
    last: Count
    end: Count
    end_line: Count


@dataclass(frozen=True, slots=True)
class Window:
    """One finished window: its place in the run, the hash of its records, and what it came to.

    ``shard`` and ``rejected`` are the hashes of its files of scores and of rejects, None where it has none. ``mark`` is
    where the next window begins, None where reading cannot begin there. A window that was found by counting has its
    ``place``, the hash of its ``bytes``, and in a run of several processes the hash of its file of ``ids``; ``records``
    is then of what they are before ids are compared.
    """

    number: Count
    records: str
    tally: Tally
    shard: str | None = None
    rejected: str | None = None
    mark: Mark | None = None
    place: WindowPlace | None = None
    bytes: str | None = None
    ids: str | None = None


@dataclass(frozen=True, slots=True)
class FinishedInput:
    """What a finished file was made from: the hash of all windows of the input, of so many records each."""

    sha256: str
    windows: int
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideDomain:
    """How many of the dialogues scored lie outside the scorer's training domain, by feature and ``any`` of them.

    ``of_training`` is the share of the training dialogues themselves.
    """

    dialogues: Count
    counts: dict[str, Count]
    of_training: Portion


def outside_of(windows: Iterable[Window], of_training: float) -> OutsideDomain:
    """Return what some windows together had outside the domain."""
    whole = Tally()
    for window in windows:
        whole.add(window.tally)
    return OutsideDomain(dialogues=whole.scored, counts=whole.outside, of_training=of_training)


def input_of(records: Sequence[str], window: int) -> FinishedInput:
    """Return what an input is, from the hashes of its windows in order, cut with ``window`` records at most."""
    return FinishedInput(sha256("\n".join(records).encode()).hexdigest(), len(records), window)
