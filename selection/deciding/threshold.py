"""Every threshold at once: set sizes, shares and the match with a judge's set, and the choice of one.

Numbers are counted once into a table over the cuts of all thresholds; cumulative sums of it give the size of every
set at every pair of thresholds, exactly as ``Rule.apply`` would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorer.arrays import Floats, Ints, Mask, Numbers
from scorer.bundle.cuts import LEVELS, Cuts
from scorer.dialogue import HEADS
from selection.errors import SelectionError
from selection.folds import folds_of
from selection.metrics import resamples
from selection.settings import THRESHOLD_RANGE

STEP = 0.05
"""Distance between two thresholds that are tried."""

MATCH_FOLDS = 5

_PER_UNIT = round(1 / STEP)
_LOW, _HIGH = THRESHOLD_RANGE
THRESHOLDS = np.round(np.arange(round(_LOW * _PER_UNIT), round(_HIGH * _PER_UNIT) + 1) / _PER_UNIT, 2)
"""The K thresholds that are tried: 1, 1.05 ... 9."""

_EDGES = np.round(np.arange(round((_LOW - 0.5) * _PER_UNIT), round((_HIGH + 0.5) * _PER_UNIT) + 1) / _PER_UNIT, 2)


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """Set sizes by the thresholds of sensibility (rows) and rationality (columns), both ``THRESHOLDS``.

    ``first`` (K, K) counts S > T and R < T, ``opposite`` S < T and R > T; ``total`` is the number of dialogues.
    """

    first: Floats
    opposite: Floats
    total: float

    def shares(self) -> dict[float, tuple[float, float]]:
        """Return for one threshold on both heads the shares of the first and of the opposite set."""
        first, opposite = np.diag(self.first) / self.total, np.diag(self.opposite) / self.total
        return {float(at): (float(a), float(b)) for at, a, b in zip(THRESHOLDS, first, opposite, strict=True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The threshold whose set is nearest to the judge's. ``threshold`` and its 95 % interval have one entry per head.

    ``f1`` is the set's F1 where it was chosen, ``cross_validated`` that of thresholds chosen on other conversations;
    ``interval`` is the latter's, by a bootstrap over conversations that chooses again in each replicate.
    """

    threshold: tuple[float, float]
    threshold_interval: tuple[tuple[float, float], tuple[float, float]]
    f1: float
    cross_validated: float
    interval: tuple[float, float]
    dialogues: int


def bins_of(scores: Numbers, cuts: Cuts) -> Ints:
    """Return how many of the cuts of all thresholds each score (N, 2) exceeds, (N, 2)."""
    columns = [
        np.searchsorted(np.interp(_EDGES, LEVELS, cuts[head]), scores[:, i].astype(np.float64), side="left")
        for i, head in enumerate(HEADS)
    ]
    return np.stack(columns, axis=1)


def sweep(bins: Ints, weights: Floats | None = None) -> Sweep:
    """Return the set sizes at all pairs of thresholds, of dialogues that count ``weights`` (N,) or 1 each."""
    size = len(_EDGES) + 1
    table = np.bincount(bins[:, 0] * size + bins[:, 1], weights=weights, minlength=size * size).reshape(size, size)
    sums = np.zeros((size + 1, size + 1))
    sums[1:, 1:] = table.astype(np.float64).cumsum(axis=0).cumsum(axis=1)  # sums[a, b]: bins below a and below b
    count = len(THRESHOLDS)
    below = np.arange(count)  # T - 0.5 is this edge, T + 0.5 lies _PER_UNIT edges further
    above = below + _PER_UNIT
    # S < T: at most ``below`` edges exceeded; S > T: more than ``above``.
    low_r, low_s = sums[:, below + 1], sums[below + 1, :]
    first = low_r[-1] - low_r[above + 1]
    opposite = low_s[:, -1:] - low_s[:, above + 1]
    return Sweep(first, opposite, float(sums[-1, -1]))


def for_share(swept: Sweep, share: float) -> float:
    """Return the threshold of both heads whose first set is nearest to a share of the dialogues.

    Of several the one nearest to the middle of the scale, 5. SelectionError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise SelectionError(f"target share {share:g}, expected a number between 0 and 1")
    off = np.abs(np.diag(swept.first) / swept.total - share)
    return float(THRESHOLDS[_nearest_to_five(off <= off.min() + 1e-12)])


def match(
    scores: Numbers,
    cuts: Cuts,
    wanted: Mask,
    conversations: Sequence[str],
    *,
    one: bool = True,
    draws: int = 500,
    seed: int = 0,
) -> Match:
    """Choose the threshold whose first set has the best F1 against ``wanted`` (N,), the judge's first set.

    ``one`` for both heads, or one per head. Chosen on all dialogues; what the choice is worth is read off others, in
    ``MATCH_FOLDS`` folds of whole conversations. SelectionError if the judge's set is empty or they are too few.
    """
    if not wanted.any():
        raise SelectionError("the judge's set is empty, so no threshold can match it; give labels of more dialogues")
    bins = bins_of(scores, cuts)
    folds = folds_of(conversations, MATCH_FOLDS, seed)
    if len(np.unique(folds)) < 2:
        raise SelectionError(
            f"labels of {len(set(conversations))} conversations, too few to tell what a threshold is worth on others; "
            "give labels of more"
        )
    chosen = _choose(bins, wanted, np.ones(len(bins)), one=one)
    _, group = np.unique(np.asarray(conversations), return_inverse=True)
    places, values = [], []
    for weights in resamples(group, draws, seed):
        places.append(_choose(bins, wanted, weights, one=one))
        values.append(_cross_validated(bins, wanted, weights, folds, one=one))
    spread = np.percentile(THRESHOLDS[np.array(places)], [2.5, 97.5], axis=0)  # (2, heads)
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Match(
        threshold=(float(THRESHOLDS[chosen[0]]), float(THRESHOLDS[chosen[1]])),
        threshold_interval=tuple((float(spread[0, i]), float(spread[1, i])) for i in range(2)),  # type: ignore[arg-type]
        f1=_f1(*_overlap(bins, wanted, np.ones(len(bins)), chosen)),
        cross_validated=_cross_validated(bins, wanted, np.ones(len(bins)), folds, one=one),
        interval=(float(low), float(high)),
        dialogues=len(bins),
    )


def f1_table(bins: Ints, wanted: Mask, weights: Floats) -> Floats:
    """Return the F1 of the first set against the wanted one at all pairs of thresholds, (K, K)."""
    hits, taken = sweep(bins, weights * wanted).first, sweep(bins, weights).first
    return np.asarray(2 * hits / np.maximum(taken + float(weights @ wanted), 1e-12))


def _choose(bins: Ints, wanted: Mask, weights: Floats, *, one: bool) -> tuple[int, int]:
    table = f1_table(bins, wanted, weights)
    if one:
        diagonal = np.diag(table)
        place = _nearest_to_five(diagonal >= diagonal.max() - 1e-12)
        return place, place
    rows, columns = np.nonzero(table >= table.max() - 1e-12)
    nearest = (np.abs(THRESHOLDS[rows] - 5) + np.abs(THRESHOLDS[columns] - 5)).argmin()
    return int(rows[nearest]), int(columns[nearest])


def _cross_validated(bins: Ints, wanted: Mask, weights: Floats, folds: Ints, *, one: bool) -> float:
    sums = np.zeros(3)
    for fold in np.unique(folds):
        mine = folds == fold
        chosen = _choose(bins[~mine], wanted[~mine], weights[~mine], one=one)
        sums += _overlap(bins[mine], wanted[mine], weights[mine], chosen)
    return _f1(*sums)


def _overlap(bins: Ints, wanted: Mask, weights: Floats, chosen: tuple[int, int]) -> tuple[float, float, float]:
    """Return the weight of what is in both sets, in the chosen one and in the wanted one."""
    taken = (bins[:, 0] > chosen[0] + _PER_UNIT) & (bins[:, 1] <= chosen[1])
    return float(weights @ (taken & wanted)), float(weights @ taken), float(weights @ wanted)


def _f1(both: float, taken: float, wanted: float) -> float:
    return float(2 * both / (taken + wanted)) if taken + wanted > 0 else float("nan")


def _nearest_to_five(best: Mask) -> int:
    places = np.flatnonzero(best)
    return int(places[np.abs(THRESHOLDS[places] - 5).argmin()])
