"""What drift is against: scores from before, by category, and each dialogue's scores, to see which moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scorer.arrays import Floats, Hashes
from scorer.inputs.corpus import id_hash
from selection.errors import WatchError
from selection.files.labels import Index
from selection.watching.counting.cells import Cell, Rows
from selection.watching.counting.counts import SHOWN, Batch, Counts, joined
from selection.watching.observation import Observation, rows_of

_MOVED = 0.05
"""Points; a score that moved by less is the same, to the tolerance of a lower precision."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """Scores from before: ``whole`` and by category; ``keys`` (N,) and ``scores`` (N, 2) of single dialogues."""

    name: str
    whole: Cell
    categories: dict[str, Cell] = field(default_factory=dict)
    keys: Hashes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    scores: Floats = field(default_factory=lambda: np.zeros((0, 2)))

    def moved(self, rows: Rows) -> list[tuple[int, dict[str, Any]]]:
        """Return the rows that have other scores here, those that moved most, each with its place and what it was."""
        places = Index(self.keys).rows_of(rows["key"])
        mine = np.flatnonzero(places >= 0)
        before = self.scores[places[mine]]
        most = np.abs(rows["scores"][mine] - before).max(axis=1, initial=0)
        order = np.argsort(-most, kind="stable")[:SHOWN]
        return [
            (int(mine[k]), {"moved": float(most[k]), "before": before[k].tolist()}) for k in order if most[k] > _MOVED
        ]


def reference_of(name: str, observed: Iterable[Sequence[Observation]], outside: tuple[int, int] = (0, 0)) -> Reference:
    """Return a reference of observations, which come in parts; WatchError if there are none.

    ``outside`` is (outside the training domain, known) where only the number is known.
    """
    counts = Counts(span=1 << 40, wanted=0, recent_rows=1)
    keys: list[int] = []
    scores: list[tuple[float, float]] = []
    for part in observed:
        rows, names = rows_of(part)
        counts.add(Batch(rows=rows, names=names))
        keys += [id_hash(one.id) for one in part]
        scores += [(one.sensibility, one.rationality) for one in part]
    if not keys:
        raise WatchError(f"{name}: holds no scores, and drift is against them; name scores from before")
    distinct, first = np.unique(np.array(keys, dtype=np.uint64), return_index=True)
    cells = counts.cells()
    whole = joined(cells.values())
    whole.add_outside(*outside)
    return Reference(
        name=name,
        whole=whole,
        categories={counts.title(category): cell for category, cell in cells.items()},
        keys=distinct,
        scores=np.array(scores)[first],
    )


def first_rows(counts: Counts) -> Reference | None:
    """Return the first dialogues of a source as its reference, None until there are enough."""
    whole = joined(counts.reference.values())
    if len(whole) < counts.wanted or not counts.wanted:
        return None
    return Reference(
        name=f"the first {len(whole):,} dialogues",
        whole=whole,
        categories={counts.title(category): cell for category, cell in counts.reference.items()},
    )


def compared(counts: Counts, given: Reference | None) -> tuple[Reference | None, Rows]:
    """Return the reference, and the latest dialogues that none of are in it."""
    if given is not None:
        return given, counts.recent
    found = first_rows(counts)
    after = min(counts.after, len(counts.recent))
    return found, counts.recent[len(counts.recent) - after :] if found else counts.recent[:0]
