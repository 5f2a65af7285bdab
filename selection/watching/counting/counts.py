"""All that a watch has counted, in bounded memory: windows of time by category, the latest dialogues, a reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selection.watching.counting.cells import Cell, Row, Rows

NONE, OTHER = 0, 1
"""The categories of dialogues that have none, and of those whose category came when there was no room any more."""

CATEGORIES = 24
"""Categories that are counted one by one: the first that come."""

WINDOWS, DAYS = 48, 60
"""Windows of time that are kept as they are, and days that older ones are joined to; what is older still is one."""

SHOWN = 20
"""Dialogues of a kind that are shown: those that moved most, the latest that are low on both scores."""

DAY = 86_400
Key = tuple[int, int]
"""A window of time: its first second and its length, 0 for all that is older than the others."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """What one call counts: ``rows`` whose categories are places in ``names``, and what is shown of some of them.

    ``outside`` are (outside, known) of parts of which only the number outside the training domain is known.
    """

    rows: Rows
    names: Sequence[str | None] = ()
    outside: Sequence[tuple[int, int]] = ()
    moved: Sequence[dict[str, Any]] = ()
    lows: Sequence[dict[str, Any]] = ()


def together(batches: Sequence[Batch]) -> Batch:
    """Return batches as one."""
    parts, names = [], list[str | None]()
    for batch in batches:
        part = batch.rows.copy()
        part["category"] += len(names)
        parts.append(part)
        names += batch.names
    return Batch(
        rows=np.concatenate([np.zeros(0, dtype=Row), *parts]),
        names=names,
        outside=[part for batch in batches for part in batch.outside],
        moved=[one for batch in batches for one in batch.moved],
        lows=[one for batch in batches for one in batch.lows],
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Counts:
    """The state of a watch. ``add`` is all that changes it, so that the same batches give the same state.

    ``reference`` are cells by category of the first ``wanted`` dialogues; ``total`` counts all of them, ``after`` those
    since the reference was full. ``outside`` are the latest parts of which only the number outside the domain is
    known, of at least ``recent_rows`` dialogues together where there are so many.
    """

    span: int
    wanted: int
    recent_rows: int
    names: list[str] = field(default_factory=list)
    windows: dict[Key, dict[int, Cell]] = field(default_factory=dict)
    reference: dict[int, Cell] = field(default_factory=dict)
    recent: Rows = field(default_factory=lambda: np.zeros(0, dtype=Row))
    total: int = 0
    after: int = 0
    outside: list[tuple[int, int]] = field(default_factory=list)
    moved: list[dict[str, Any]] = field(default_factory=list)
    lows: list[dict[str, Any]] = field(default_factory=list)
    changed: set[tuple[Key, int]] = field(default_factory=set)
    gone: set[Key] = field(default_factory=set)

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        rows = batch.rows.copy()
        if len(rows):
            places = np.array([self._category(name) for name in batch.names], dtype=np.uint32)
            rows["category"] = places[rows["category"]]
            self._add_reference(rows)
            self._add_windows(rows)
            self.recent = np.concatenate([self.recent, rows])[-self.recent_rows :]
            self.total += len(rows)
        for part in batch.outside:
            if self.windows:
                key = self._key(float(rows["time"][-1])) if len(rows) else max(self.windows)
                self._cell(key, NONE).add_outside(*part)
            self.outside.append(part)
            while sum(known for _, known in self.outside[1:]) >= self.recent_rows:
                self.outside.pop(0)
        self.moved = sorted([*self.moved, *batch.moved], key=lambda one: -one["moved"])[:SHOWN]
        self.lows = [*self.lows, *batch.lows][-SHOWN:]
        self._tidy()

    @property
    def recent_outside(self) -> tuple[int, int]:
        """How many of the latest dialogues are outside the training domain, of how many of which that is known."""
        flags = self.recent["outside"]
        parts = [(int((flags == 1).sum()), int((flags >= 0).sum())), *self.outside]
        return sum(part for part, _ in parts), sum(known for _, known in parts)

    def _category(self, name: str | None) -> int:
        if not name:
            return NONE
        name = name[:80]
        if name in self.names:
            return self.names.index(name) + 2
        if len(self.names) == CATEGORIES:
            return OTHER
        self.names.append(name)
        return len(self.names) + 1

    def title(self, category: int) -> str:
        """Return the name of a category."""
        return {NONE: "without a category", OTHER: "all others"}.get(category) or self.names[category - 2]

    def _add_reference(self, rows: Rows) -> None:
        missing = self.wanted - sum(map(len, self.reference.values()))
        for category, some in _by(rows[: max(0, missing)], "category"):
            self.reference.setdefault(category, Cell()).add_rows(some)
        self.after += max(0, len(rows) - max(0, missing))

    def _key(self, time: float) -> Key:
        return int(time // self.span) * self.span, self.span

    def _cell(self, key: Key, category: int) -> Cell:
        self.changed.add((key, category))
        return self.windows.setdefault(key, {}).setdefault(category, Cell())

    def _add_windows(self, rows: Rows) -> None:
        starts = (rows["time"] // self.span).astype(np.int64) * self.span
        for start in np.unique(starts).tolist():
            for category, some in _by(rows[starts == start], "category"):
                self._cell((start, self.span), category).add_rows(some)

    def _tidy(self) -> None:
        """Join old windows to days, and old days to one."""
        short = sorted(key for key in self.windows if 0 < key[1] < DAY)
        for key in short[:-WINDOWS]:
            self._join(key, (key[0] // DAY * DAY, DAY))
        days = sorted(key for key in self.windows if key[1] == DAY)
        for key in days[:-DAYS]:
            self._join(key, (0, 0))

    def _join(self, key: Key, into: Key) -> None:
        for category, cell in self.windows.pop(key).items():
            self.changed.discard((key, category))
            self._cell(into, category).add(cell)
        self.gone.add(key)

    def cells(self) -> dict[int, Cell]:
        """Return the cell of each category, over all time."""
        found: dict[int, Cell] = {}
        for cells in self.windows.values():
            for category, cell in cells.items():
                found.setdefault(category, Cell()).add(cell)
        return found


def joined(cells: Iterable[Cell]) -> Cell:
    """Return some cells as one."""
    whole = Cell()
    for cell in cells:
        whole.add(cell)
    return whole


def cell_of(rows: Rows) -> Cell:
    """Return the cell of some rows."""
    cell = Cell()
    cell.add_rows(rows)
    return cell


def _by(rows: Rows, name: str) -> Iterator[tuple[int, Rows]]:
    for value in np.unique(rows[name]).tolist():
        yield value, rows[rows[name] == value]
