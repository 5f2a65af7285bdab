"""Figures of agreement between two raters of the same dialogues, as functions of row weights.

A bootstrap draws conversations; how often a row was drawn is its weight. So one function gives the figure (all
weights 1) and its replicates, and nothing is sorted or counted row by row a thousand times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats, Ints
from scorer.dialogue import HEADS
from selection.rules import RULES, Rule, to_levels

LEVEL_COUNT = 11
_Z = 1.959964


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two raters' scores of the same dialogues, each (N, 2), and both as the judge's integers, each (N, 2).

    ``reference`` is the judge (or the first of two judges), ``other`` the scorer.
    """

    reference: Floats
    other: Floats
    reference_levels: Ints
    other_levels: Ints

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.reference)

    @classmethod
    def of(cls, reference: npt.NDArray[Any], other: npt.NDArray[Any], other_levels: Ints) -> Pair:
        """Join two raters; the reference is on the judge's scale."""
        return cls(np.asarray(reference, float), np.asarray(other, float), to_levels(reference), other_levels)


def all_figures(pair: Pair, weights: Floats | None = None, threshold: int = 5) -> dict[str, float]:
    """Return every figure by its dotted name: ``sensibility.pearson``, ``paper.kappa``, ``paper.f1.sensibility`` ...

    NaN where a figure is not defined: a correlation of constants, the recall of a score that the judge never gave.
    """
    weights = np.ones(len(pair)) if weights is None else weights
    parts = [(head, _head_figures(pair, i, weights)) for i, head in enumerate(HEADS)]
    parts += [(rule.name, _rule_figures(pair, rule, weights, threshold)) for rule in RULES.values()]
    return {f"{part}.{name}": value for part, figures in parts for name, value in figures.items()}


def _head_figures(pair: Pair, i: int, weights: Floats) -> dict[str, float]:
    x, y = pair.reference[:, i], pair.other[:, i]
    total = weights.sum()
    figures = {
        "pearson": correlation(x, y, weights),
        "spearman": correlation(ranks(x, weights), ranks(y, weights), weights),
        "mae": float((weights * np.abs(x - y)).sum() / total),
        "rmse": float(np.sqrt((weights * (x - y) ** 2).sum() / total)),
    }
    table = counts(pair.reference_levels[:, i], pair.other_levels[:, i], LEVEL_COUNT, weights)
    figures["quadratic_kappa"] = kappa(table, quadratic=True)
    given = table.sum(axis=1)
    for level in range(LEVEL_COUNT):
        figures[f"recall.{level}"] = float(table[level, level] / given[level]) if given[level] > 0 else float("nan")
    return figures


def _rule_figures(pair: Pair, rule: Rule, weights: Floats, threshold: int) -> dict[str, float]:
    """Return a rule's figures; both raters' sets are read off integers, so the judge's cuts serve both."""
    reference, other = (
        rule.apply(levels, threshold=threshold) for levels in (pair.reference_levels, pair.other_levels)
    )
    table = counts(reference, other, len(rule.sets), weights)
    total = table.sum()
    figures = {"accuracy": float(np.trace(table) / total), "kappa": kappa(table)}
    for k, name in enumerate(rule.sets):
        both, first, second = table[k, k], table[k].sum(), table[:, k].sum()
        figures[f"f1.{name}"] = ratio(2 * both, first + second)
        figures[f"jaccard.{name}"] = ratio(both, first + second - both)
        figures[f"share.{name}"] = float(second / total)
        figures[f"judge_share.{name}"] = float(first / total)
    return figures


def counts(first: Ints, second: Ints, size: int, weights: Floats) -> Floats:
    """Return the confusion table (size, size): weight of the rows where the raters gave (row, column)."""
    table = np.bincount(first * size + second, weights=weights, minlength=size * size)
    return np.asarray(table, dtype=np.float64).reshape(size, size)


def kappa(table: Floats, *, quadratic: bool = False) -> float:
    """Return Cohen's kappa of a confusion table, NaN where both raters always gave one and the same value.

    1 - (sum of w * observed) / (sum of w * expected), w = 0 on the diagonal and 1 or the squared distance off it
    (Cohen 1960, 1968).
    """
    size = len(table)
    distance = np.abs(np.arange(size)[:, None] - np.arange(size)[None, :])
    penalty = distance**2 if quadratic else (distance > 0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    chance = float((penalty * expected).sum())
    return 1 - float((penalty * table).sum()) / chance if chance > 0 else float("nan")


def correlation(x: Floats, y: Floats, weights: Floats) -> float:
    """Return the weighted Pearson correlation, NaN where either is constant."""
    share = weights / weights.sum()
    dx, dy = x - (share * x).sum(), y - (share * y).sum()
    spread = float((share * dx**2).sum() * (share * dy**2).sum())
    return float((share * dx * dy).sum() / np.sqrt(spread)) if spread > 1e-18 else float("nan")


def ranks(values: Floats, weights: Floats) -> Floats:
    """Return the ranks of values (N,) of which each occurs ``weights`` times, ties sharing the mean of theirs."""
    _, inverse = np.unique(values, return_inverse=True)
    count = np.bincount(inverse, weights=weights)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[inverse], dtype=np.float64)


DRAWS = 1000
"""Bootstrap replicates of an interval."""


def bootstrap(
    pair: Pair, conversations: Sequence[str], draws: int, seed: int = 0, threshold: int = 5
) -> dict[str, tuple[float, float]]:
    """Return a 95 % percentile interval for every figure, drawing whole conversations with replacement."""
    _, group = np.unique(np.asarray(conversations), return_inverse=True)
    replicates: dict[str, list[float]] = {}
    for weights in resamples(group, draws, seed):
        for name, value in all_figures(pair, weights, threshold).items():
            replicates.setdefault(name, []).append(value)
    return {name: interval(values) for name, values in replicates.items()}


def resamples(group: Ints, draws: int, seed: int) -> Iterator[Floats]:
    """Yield row weights (N,) for each of ``draws``: how often each row's group, numbered from 0, was drawn."""
    size = int(group.max()) + 1
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(size, size=size), minlength=size).astype(np.float64)[group]


def interval(values: Sequence[float], middle: float = 95) -> tuple[float, float]:
    """Return the middle 95 % (or ``middle``) of a figure's replicates, NaN where it is defined in none of them."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 - middle / 2, 50 + middle / 2])
    return float(low), float(high)


def ratio(part: float, whole: float) -> float:
    """Return a share of a whole, NaN of nothing."""
    return float(part / whole) if whole > 0 else float("nan")


def wilson(part: float, whole: float) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); NaN of nothing."""
    if not whole:
        return float("nan"), float("nan")
    share, extra = part / whole, _Z**2 / whole
    middle = (share + extra / 2) / (1 + extra)
    half = _Z / (1 + extra) * float(np.sqrt(share * (1 - share) / whole + extra / (4 * whole)))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))
