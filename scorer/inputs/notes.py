"""What reading a record noticed and left aside, per dialogue and counted: nothing is dropped without being told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Notes:
    """How one dialogue was read. Records of one shape share one object, so that a million cost no memory.

    ``layout`` is the name of the layout; ``used`` and ``aside`` are the record's keys that were and were not read.
    """

    layout: str = ""
    used: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    tool_turns: int = 0
    """Tool calls and results without text for the scorer: left out of the context."""
    parts: int = 0
    """Images, sound and files: left out of their turns."""
    thoughts: int = 0
    """Thoughts taken off assistant turns."""
    later_turns: int = 0
    """Turns after the response that is judged."""
    ends_in_user: bool = False
    """Whether the last turn with text is the user's: the judged one is then an earlier one."""
    top_system: bool = False
    """Whether a system prompt beside the turns was put before them."""
    answer: str = ""
    """Which answer of a preference pair is judged: ``chosen``, ``rejected``, or nothing where there is no pair."""

    @property
    def present(self) -> tuple[str, ...]:
        """The names of the notes of ``COUNTED`` that this dialogue has; of turns after the response, one alone."""
        if self is PLAIN:
            return ()
        left_out = "later_turns" if self.ends_in_user else ""
        return tuple(name for name in COUNTED if name != left_out and getattr(self, name))


PLAIN = Notes()
"""Of a dialogue that no reader made."""

COUNTED = tuple(item.name for item in fields(Notes) if item.type in ("int", "bool"))
"""The notes that are numbers."""


@dataclass(slots=True)
class NoteCounts:
    """Notes of many dialogues: equal ones are counted together, and resolved when asked for."""

    seen: Counter[Notes] = field(default_factory=Counter)

    def add(self, notes: Notes) -> None:
        """Count one dialogue's notes."""
        self.seen[notes] += 1

    def merge(self, other: NoteCounts) -> None:
        """Add the counts of another part of the corpus."""
        self.seen.update(other.seen)

    @property
    def dialogues(self) -> int:
        """How many dialogues were counted."""
        return self.seen.total()

    @property
    def layouts(self) -> Counter[str]:
        """Dialogues per layout."""
        return self._count(lambda notes: (notes.layout,))

    @property
    def used(self) -> Counter[str]:
        """Dialogues per key that was read."""
        return self._count(lambda notes: notes.used)

    @property
    def aside(self) -> Counter[str]:
        """Dialogues per key that was left aside."""
        return self._count(lambda notes: notes.aside)

    def total(self, name: str) -> int:
        """Return the sum of one note of ``COUNTED``: tool turns in all, thoughts in all."""
        return sum(int(getattr(notes, name)) * count for notes, count in self.seen.items())

    def dialogues_with(self, name: str) -> int:
        """Return how many dialogues have one note of ``COUNTED``."""
        return sum(count for notes, count in self.seen.items() if name in notes.present)

    def _count(self, names: Callable[[Notes], tuple[str, ...]]) -> Counter[str]:
        found: Counter[str] = Counter()
        for notes, count in self.seen.items():
            for name in names(notes):
                found[name] += count
        return found
