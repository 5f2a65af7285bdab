"""How sure a selection is: the chance that the judge would have chosen otherwise, and how much of a set changes.

The judge's score is taken to be normal around the scorer's, which is calibrated to be right on average, with the
deviation that the scorer's half-widths give. On ChatGPT's published labels and out-of-fold scores the mean chance of
another set is 27.0 % by this model and was 27.4 % in truth (``benchmarks.selection``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats, Hashes, Ints, Mask, Numbers
from scorer.bundle.uncertainty import Uncertainty
from selection.metrics import interval
from selection.rules import Rule, states
from selection.settings import DOUBT, Threshold, per_head

# numpy has no error function; between points 0.005 apart the line is off by less than 1e-6.
_GRID = np.linspace(-8, 8, 3201)
_NORMAL = np.array([NormalDist().cdf(float(z)) for z in _GRID])


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two selections of the same dialogues: the share that moved, and each set's Jaccard index.

    Intervals, where a change was drawn many times, are the middle 90 % of the draws.
    """

    moved: float
    jaccard: dict[str, float]
    moved_interval: tuple[float, float] | None = None
    jaccard_interval: dict[str, tuple[float, float]] | None = None


def deviations(error: Uncertainty, scores: Numbers) -> Floats:
    """Return the standard deviations of the judge's scores around the scorer's, both (N, 2)."""
    z = NormalDist().inv_cdf((1 + error.coverage) / 2)
    return error.of(scores.astype(np.float64)).astype(np.float64) / z


def first_chance(scores: Numbers, deviation: Floats, threshold: Threshold = 5, margin: float = 0) -> Floats:
    """Return the chance (N,) that the judge gives S > T + margin and R < T - margin: that it would take a dialogue.

    The judge gives integers, so that S > T begins half a point beyond T.
    """
    sensibility, rationality = per_head(threshold)
    above = score_chance(scores[:, 0], deviation[:, 0], sensibility + 0.5 + margin)
    below = 1 - score_chance(scores[:, 1], deviation[:, 1], rationality - 0.5 - margin)
    return above * below


def score_chance(values: Numbers, deviation: Floats, level: float) -> Floats:
    """Return the chance (N,) that the judge's value lies above a level, for values with a normal error."""
    off = values.astype(np.float64) - level
    # A value that is certain and at the level does not lie above it, as a score at a cut does not.
    z = np.where((off == 0) & (deviation == 0), -np.inf, off / np.maximum(deviation, 1e-9))
    return np.asarray(np.interp(z, _GRID, _NORMAL))


def borderline(chance: Floats, taken: Mask, doubt: float = DOUBT) -> Mask:
    """Return which dialogues the judge would decide otherwise with a chance of at least ``doubt``, (N,).

    ``chance`` is that of taking a dialogue, ``taken`` what was decided: both (N,).
    """
    return np.asarray(np.where(taken, 1 - chance, chance) >= doubt)


def one_point_away(labels: Numbers, rule: Rule, threshold: Threshold = 5) -> Mask:
    """Return which judged dialogues (N,) would change their set if one score were a point higher or lower."""
    sets = rule.apply(labels, threshold=threshold)
    changed = np.zeros(len(labels), dtype=bool)
    for head in (0, 1):
        for step in (-1, 1):
            moved = labels.astype(np.float64)
            moved[:, head] = np.clip(moved[:, head] + step, 0, 10)
            changed |= rule.apply(moved, threshold=threshold) != sets
    return changed


def most_doubtful(chance: npt.NDArray[np.floating], hashes: Hashes, count: int) -> Ints:
    """Return the ``count`` rows whose place the judge is most likely to correct, most doubtful first.

    Nearest to a chance of one half; ties by the hash of the id, so that the order of the input does not matter.
    """
    return np.lexsort((hashes, np.abs(chance - 0.5)))[:count]


def change_between(first: Ints, second: Ints, names: Sequence[str]) -> Change:
    """Return what differs between two selections of the same dialogues, as indices (N,) into the sets' names."""
    jaccard = {}
    for k, name in enumerate(names):
        either = int(((first == k) | (second == k)).sum())
        jaccard[name] = float(((first == k) & (second == k)).sum() / either) if either else float("nan")
    return Change(float((first != second).mean()) if len(first) else float("nan"), jaccard)


def under_error(
    scores: Numbers,
    deviation: Floats,
    sets: Ints,
    rule: Rule,
    threshold: Threshold = 5,
    draws: int = 200,
    seed: int = 0,
) -> Change:
    """Return how the sets would differ from a judge's, drawn ``draws`` times from the scorer's error.

    A parametric bootstrap: each draw adds normal errors to the scores and reads the rule on the judge's scale.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        judged = scores + deviation * rng.standard_normal(scores.shape)
        drawn.append(change_between(sets, rule.assign(states(judged, threshold=threshold)), rule.sets))
    moved, moved_interval = _spread([change.moved for change in drawn])
    jaccard = {name: _spread([change.jaccard[name] for change in drawn]) for name in rule.sets}
    return Change(
        moved,
        {name: mean for name, (mean, _) in jaccard.items()},
        moved_interval,
        {name: middle for name, (_, middle) in jaccard.items()},
    )


def _spread(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean and the middle 90 % of the values that are defined, NaN where none is."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan"), interval(values, 90)
