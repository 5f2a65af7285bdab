"""How far two samples lie apart, with intervals: of distributions (KS, PSI), of means and of shares.

Samples are histograms of fine bins. A KS distance read off bins is never larger than the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist

import numpy as np

from scorer.arrays import Floats
from selection.watching.counting.cells import Cell

_GROUPS, _DRAWS = 10, 200


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and the interval that it lies in: ``low`` to ``high``. NaN where it is not defined."""

    value: float
    low: float
    high: float


NOTHING = Figure(float("nan"), float("nan"), float("nan"))


def ks(reference: Floats, other: Floats, error: float = 0.05) -> Figure:
    """Return the largest distance between two distribution functions, of histograms (bins,) of the same bins.

    The interval misses with a chance of at most ``error``: each sample's function lies within sqrt(ln(4 / error) / 2n)
    of its own, everywhere, at any size (Dvoretzky, Kiefer and Wolfowitz 1956; Massart 1990).
    """
    n, m = float(reference.sum()), float(other.sum())
    if not n or not m:
        return NOTHING
    distance = float(np.abs(np.cumsum(reference) / n - np.cumsum(other) / m).max())
    half = sqrt(log(4 / error) / 2) * (1 / sqrt(n) + 1 / sqrt(m))
    return Figure(distance, max(0.0, distance - half), min(1.0, distance + half))


def psi(reference: Floats, other: Floats, seed: int = 0) -> Figure:
    """Return the population stability index: the sum of (q - p) ln(q / p) over ten bins of the reference's tenths.

    Half a dialogue is added to each bin. Two samples of one source have an index of about 9 (1/n + 1/m), which is taken
    off; the interval is 95 %, by a bootstrap that is turned about the estimate.
    """
    if not reference.sum() or not other.sum():
        return NOTHING
    below = np.cumsum(reference) / reference.sum()
    edges = np.unique(np.searchsorted(below, np.arange(1, _GROUPS) / _GROUPS - 1e-12, side="left") + 1)
    edges = np.concatenate([[0], edges[edges < len(reference)]])
    first, second = (np.add.reduceat(counts, edges) for counts in (reference, other))
    value = float(_psi(first, second))
    rng = np.random.default_rng(seed)
    draws = [
        rng.multinomial(int(counts.sum()), counts / counts.sum(), _DRAWS).astype(np.float64)
        for counts in (first, second)
    ]
    low, high = np.percentile(_psi(*draws), [2.5, 97.5])
    chance = (len(edges) - 1) * (1 / first.sum() + 1 / second.sum())
    ends = (value - chance, 2 * value - high, 2 * value - low)
    return Figure(*(float(max(0.0, end)) for end in ends))


def _psi(first: Floats, second: Floats) -> Floats:
    p, q = first + 0.5, second + 0.5
    p, q = p / p.sum(axis=-1, keepdims=True), q / q.sum(axis=-1, keepdims=True)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


def share(part: float, whole: float, error: float = 0.05) -> Figure:
    """Return a share with Wilson's score interval (1927)."""
    if not whole:
        return NOTHING
    z, value = _quantile(error), part / whole
    extra = z * z / whole
    middle = (value + extra / 2) / (1 + extra)
    half = z / (1 + extra) * sqrt(value * (1 - value) / whole + extra / (4 * whole))
    return Figure(value, max(0.0, middle - half), min(1.0, middle + half))


def share_change(reference: tuple[float, float], other: tuple[float, float], error: float = 0.05) -> Figure:
    """Return by how much a share, (part, whole), is larger than the reference's (Newcombe 1998, his method 10)."""
    before, after = share(*reference, error), share(*other, error)
    value = after.value - before.value
    down = sqrt((after.value - after.low) ** 2 + (before.high - before.value) ** 2)
    up = sqrt((after.high - after.value) ** 2 + (before.value - before.low) ** 2)
    return Figure(value, value - down, value + up)


def mean_changes(reference: Cell, other: Cell, error: float = 0.05) -> list[Figure]:
    """Return by how much each score's mean is larger than the reference's, (2,), by their variances."""
    if min(len(reference), len(other)) < 2:
        return [NOTHING, NOTHING]
    values = other.means - reference.means
    halves = _quantile(error) * np.sqrt(reference.variances / len(reference) + other.variances / len(other))
    return [
        Figure(value, value - half, value + half) for value, half in zip(values.tolist(), halves.tolist(), strict=True)
    ]


def _quantile(error: float) -> float:
    return NormalDist().inv_cdf(1 - error / 2)
