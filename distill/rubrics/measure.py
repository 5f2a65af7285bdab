"""Scores of several variants -> how far each agrees with the labels, with the others and with itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from distill.agreement.compare import MIN_PAIRS
from distill.judge.records import by_head
from scorer.arrays import Floats, Ints, Mask
from scorer.dialogue import HEADS
from selection.metrics import correlation, counts, interval, kappa, resamples
from selection.rubrics.check import changed_share
from selection.rubrics.run import FIGURES, Between, Figure
from selection.rules import PAPER, to_levels

_Row = dict[str, float]


class Measures:
    """Figures over the same dialogues; intervals are 95 %, by bootstrap over conversations.

    The replicates of all figures draw the same conversations, so that a difference of two is a paired one.
    """

    def __init__(self, conversations: Sequence[str], threshold: int, draws: int) -> None:
        """Take the conversation of each dialogue (N,), T of the paper's rule, and the number of replicates."""
        _, self._group = np.unique(np.asarray(conversations), return_inverse=True)
        self._threshold = threshold
        self._draws = draws

    def agreement(self, first: Floats, second: Floats) -> dict[str, Figure]:
        """Return the agreement of two raters (N, 2), on the dialogues that both judged; {} if these are too few."""
        both = all_judged(first, second)
        if both.sum() < MIN_PAIRS:
            return {}
        values, *replicates = self._rows(first, second, both)
        return _figures(values, replicates)

    def difference(self, reference: Floats, first: Floats, second: Floats) -> dict[str, Figure]:
        """Return the second's agreement with a reference less the first's, on the dialogues that all judged."""
        all_ = all_judged(reference, first, second)
        if all_.sum() < MIN_PAIRS:
            return {}
        rows = zip(self._rows(reference, first, all_), self._rows(reference, second, all_), strict=True)
        values, *replicates = [{key: b[key] - a[key] for key in FIGURES} for a, b in rows]
        return _figures(values, replicates)

    def between(self, names: Sequence[str], scores: Floats) -> tuple[Between, ...]:
        """Return every pair of variants, whose scores are (N, V, 2)."""
        found = []
        for i, j in combinations(range(len(names)), 2):
            first, second = scores[:, i], scores[:, j]
            both = all_judged(first, second)
            moved = (second - first)[both]
            found.append(
                Between(
                    first=names[i],
                    second=names[j],
                    dialogues=int(both.sum()),
                    agreement=self.agreement(first, second),
                    shift=rounded_by_head(moved.mean(axis=0)) if len(moved) else {},
                    changed=changed_share(first[both], second[both], self._threshold),
                )
            )
        return tuple(found)

    def _rows(self, reference: Floats, other: Floats, rows: Mask) -> list[_Row]:
        """Return the figures, and then those of each replicate."""
        x, y = reference[rows].astype(float), other[rows].astype(float)
        first, second = (PAPER.apply(to_levels(scores), threshold=self._threshold) for scores in (x, y))
        group: Ints = np.unique(self._group[rows], return_inverse=True)[1]
        replicates = resamples(group, self._draws, 0) if self._draws else ()
        return [_row(x, y, (first, second), weights) for weights in (np.ones(len(x)), *replicates)]


def _row(x: Floats, y: Floats, sets: tuple[Ints, Ints], weights: Floats) -> _Row:
    """Return the figures of two raters (N, 2) and their sets: those of ``metrics.all_figures`` that are shown."""
    found = {f"{head}.pearson": correlation(x[:, i], y[:, i], weights) for i, head in enumerate(HEADS)}
    errors = weights @ np.abs(x - y) / weights.sum()
    found |= {f"{head}.mae": float(errors[i]) for i, head in enumerate(HEADS)}
    return found | {"paper.kappa": kappa(counts(sets[0], sets[1], len(PAPER.sets), weights))}


def all_judged(*raters: Floats) -> Mask:
    """Return which dialogues all raters (N, 2) judged."""
    return np.asarray(~np.isnan(np.stack(raters)).any(axis=(0, 2)))


def _figures(values: _Row, replicates: Sequence[_Row]) -> dict[str, Figure]:
    found = {}
    for key, value in values.items():
        low, high = interval([row[key] for row in replicates])
        found[key] = Figure(value=_null(value), low=_null(low), high=_null(high))
    return found


def repeat_deviation(scores: Floats) -> dict[str, float]:
    """Return the standard deviation of a dialogue's repeats (N, K, 2), pooled over dialogues; {} without repeats.

    The root of the mean of the variances, each with its K - 1 degrees of freedom.
    """
    counts = (~np.isnan(scores[:, :, 0])).sum(axis=1)
    twice = scores[counts >= 2]
    if not len(twice):
        return {}
    squares = (twice - np.nanmean(twice, axis=1, keepdims=True)) ** 2
    free = (counts[counts >= 2] - 1).sum()
    return rounded_by_head(np.sqrt(np.nansum(squares, axis=(0, 1)) / free))


def rounded_by_head(values: Floats) -> dict[str, float]:
    """Return a value per head, by its name, to five digits behind the point."""
    return by_head([round(float(value), 5) for value in values])


def _null(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)
