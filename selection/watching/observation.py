"""One scored dialogue as watching sees it, and how scores of a scorer become such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from scorer.arrays import Numbers
from scorer.bundle.cuts import Cuts
from scorer.dialogue import SCORE_RANGE
from scorer.inputs.corpus import id_hash
from selection.errors import WatchError
from selection.rules import PAPER, both_low, states
from selection.watching.counting.cells import Row, Rows

_LATEST = 253_402_300_800.0  # the year 10000


@dataclass(frozen=True, slots=True)
class Observation:
    """A scored dialogue: ``time`` in unix seconds, the two scores from 0 to 10, and what the paper's rule makes of it.

    ``set`` is one of ``PAPER.sets``; ``low`` says that both scores lie below the threshold. ``outside`` says whether
    the dialogue lies outside the scorer's training domain, None where nobody knows. ``text`` is stored only by a
    ``Watch`` that was told to.
    """

    time: float
    id: str
    category: str | None
    sensibility: float
    rationality: float
    set: str
    low: bool = False
    outside: bool | None = None
    text: str | None = None


def observations(
    times: Sequence[float],
    ids: Sequence[str],
    scores: Numbers,
    cuts: Cuts,
    *,
    categories: Sequence[str | None] | None = None,
    outside: Sequence[bool | None] | None = None,
    texts: Sequence[str | None] | None = None,
    threshold: float = 5,
) -> list[Observation]:
    """Return N scored dialogues as observations; ``scores`` is (N, 2), ``cuts`` are those of their scorer."""
    where = states(np.asarray(scores), cuts, threshold)
    sets, low = PAPER.assign(where), both_low(where)
    nothing: Sequence[None] = [None] * len(ids)
    columns = zip(
        times,
        ids,
        categories or nothing,
        np.asarray(scores, dtype=np.float64).tolist(),
        sets.tolist(),
        low.tolist(),
        outside if outside is not None else nothing,
        texts or nothing,
        strict=True,
    )
    return [
        Observation(
            time, id_, category or None, s, r, PAPER.sets[place], is_low, None if out is None else bool(out), text
        )
        for time, id_, category, (s, r), place, is_low, out, text in columns
    ]


def rows_of(observed: Sequence[Observation]) -> tuple[Rows, list[str | None]]:
    """Return observations as rows that are counted, and the names that their categories are places in.

    WatchError for one that cannot be.
    """
    names = list(dict.fromkeys(one.category for one in observed))
    place = {name: number for number, name in enumerate(names)}
    rows: Rows = np.zeros(len(observed), dtype=Row)
    for number, one in enumerate(observed):
        _check(one)
        rows[number] = (
            one.time,
            id_hash(one.id),
            (one.sensibility, one.rationality),
            PAPER.sets.index(one.set),
            one.low,
            -1 if one.outside is None else int(one.outside),
            place[one.category],
        )
    return rows, names


def _check(one: Observation) -> None:
    low, high = SCORE_RANGE
    scores = (one.sensibility, one.rationality)
    if not all(low <= score <= high for score in scores):
        raise WatchError(f"{one.id!a}: scores {scores}, expected numbers from {low:g} to {high:g}")
    if not (isfinite(one.time) and 0 <= one.time < _LATEST):
        raise WatchError(f"{one.id!a}: time {one.time}, expected seconds since 1970")
    if one.set not in PAPER.sets:
        raise WatchError(f"{one.id!a}: set {one.set!a}, expected {', '.join(PAPER.sets)}")
