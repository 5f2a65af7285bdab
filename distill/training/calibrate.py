"""From held-out predictions to what a scorer ships: its calibration, its cuts and its uncertainty.

Everything here is fitted on predictions of dialogues that the predicting model did not see. Figures are cross-fitted
too: what is measured on a fold was fitted on the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Ints, Mask
from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS, SCORE_RANGE
from scorer.engines.base import Scores
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

Array = npt.NDArray[np.floating]
CutsOf = Callable[[Array, Array], dict[str, list[float]]]

COVERAGE = 0.9
"""The share of dialogues whose judge's score lies within the uncertainty."""

_REACH = 0.02  # of all scores, to either side
_STEPS = 20  # from there to its end
_SWEEPS = 10
_SET_WEIGHT = 2.0  # compared to a cut: sets are what a selection keeps and throws away
_FEW_REACH, _FEW_WEIGHT = 0.15, 6.0
_REGIONS = 5
_MIN_REGION = 30
_SHOWN = (
    *(f"{head}.{name}" for head in HEADS for name in ("pearson", "spearman", "mae", "rmse", "quadratic_kappa")),
    "paper.accuracy",
    "paper.kappa",
    "paper.f1.sensibility",
    "paper.share.sensibility",
    "paper.judge_share.sensibility",
)


@dataclass(frozen=True, slots=True)
class Calibration:
    """One straight, rising line per head: judge = slope * score + intercept; each (2,)."""

    slope: tuple[float, float]
    intercept: tuple[float, float]

    def apply(self, scores: Array) -> Scores:
        """Return calibrated scores (N, 2), clipped to 0..10."""
        moved = np.asarray(scores) * np.asarray(self.slope) + np.asarray(self.intercept)
        return np.asarray(moved.clip(*SCORE_RANGE), dtype=np.float32)


def fit_line(scores: Array, labels: Array) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line from raw scores (N,) to labels (N,).

    Scores that do not rise with the labels stay as they are: no rising line fits.
    """
    x, y = np.asarray(scores, float), np.asarray(labels, float)
    varies = x.std() > 1e-6  # rounding alone gives equal numbers a spread
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var()) if varies else 0.0
    return (slope, float(y.mean() - slope * x.mean())) if slope > 0 else (1.0, 0.0)


def fit_calibration(scores: Array, labels: Array) -> Calibration:
    """Return the line of each head (``fit_line``) from raw scores (N, 2) to labels (N, 2)."""
    (slope_s, intercept_s), (slope_r, intercept_r) = map(fit_line, np.transpose(scores), np.transpose(labels))
    return Calibration((slope_s, slope_r), (intercept_s, intercept_r))


def cut_table(scores: Array, labels: Array) -> dict[str, list[float]]:
    """Return for each head the cuts at 0.5, 1.5 ... 9.5: exactly as large a share of scores lies beyond as of labels.

    A level that no label (every label) lies beyond gets 10.5 (-0.5), which no score (every score) exceeds.
    """
    table = {}
    for head, name in enumerate(HEADS):
        ordered = np.sort(scores[:, head].astype(np.float64))
        # A mean of judgements may equal level + 0.5: it does not lie beyond, as in ``to_levels``.
        below = [int((labels[:, head] <= level + 0.5).sum()) for level in range(10)]
        table[name] = [
            -0.5 if k == 0 else 10.5 if k == len(ordered) else round(float(ordered[k - 1] + ordered[k]) / 2, 4)
            for k in below
        ]
    return table


def balanced_cuts(
    scores: Array, labels: Array, *, reach: float = _REACH, set_weight: float = _SET_WEIGHT
) -> dict[str, list[float]]:
    """Return the cuts at 0.5, 1.5 ... 9.5 per head with which all shares together are nearest to the judge's.

    A judge's noise blurs how its two scores depend on each other; a regressor predicts without that noise, so its
    heads are more strongly correlated than the judge's (-0.67 against -0.34 on ChatGPT's labels). With ``cut_table``
    each cut keeps the judge's share, but a rule that reads two of them keeps 2.7 points too much. So the cuts are
    moved, by least squares over the share beyond each of the twenty cuts and, with ``set_weight``, the shares of the
    two sets that the published rules cut off at each threshold. No cut's own share moves by more than ``reach``.

    Coordinate descent over order statistics.
    """
    table = cut_table(scores, labels)
    balance = _Balance(scores, labels, reach, set_weight)
    for _ in range(_SWEEPS):
        before = {head: list(cuts) for head, cuts in table.items()}
        for head in HEADS:
            for level in range(len(table[head])):
                table[head][level] = balance.best(table, head, level)
        if table == before:
            break
    return table


def few_label_cuts(scores: Array, labels: Array) -> dict[str, list[float]]:
    """Return the cuts for some hundred labels of another judge than the scorer's: sets come before single cuts.

    Where most labels share one value, a cut of another judge falls among scores that the scorer ties together, and two
    points are too little: with 200 labels of a judge two points harsher the starter kept 6.6 points too much. So a cut
    may move further and sets count more; then it kept 1.6 too much.
    """
    return balanced_cuts(scores, labels, reach=_FEW_REACH, set_weight=_FEW_WEIGHT)


class _Balance:
    """Compares the shares that a table of cuts gives with the judge's."""

    def __init__(self, scores: Array, labels: Array, reach: float, set_weight: float) -> None:
        self._reach, self._set_weight = reach, set_weight
        self._scores = np.asarray(scores, dtype=np.float64)
        self._start = cut_table(scores, labels)
        self._wanted = _shares(np.asarray(labels, dtype=np.float64), JUDGE_CUTS)
        self._steps = {}
        for i, head in enumerate(HEADS):
            ordered = np.sort(self._scores[:, i])
            self._steps[head] = [self._candidates(ordered, cut) for cut in self._start[head]]

    def best(self, table: dict[str, list[float]], head: str, level: int) -> float:
        """Return where a cut brings all shares nearest to the judge's while the others stay; between its neighbours."""
        cuts = table[head]
        low = cuts[level - 1] if level else -np.inf
        high = cuts[level + 1] if level + 1 < len(cuts) else np.inf
        candidates = [cuts[level], *(cut for cut in self._steps[head][level] if low < cut < high)]
        return min(candidates, key=lambda cut: self._distance(table, head, level, cut))

    def _distance(self, table: dict[str, list[float]], head: str, level: int, cut: float) -> float:
        tried = {**table, head: [*table[head][:level], cut, *table[head][level + 1 :]]}
        off = _shares(self._scores, tried) - self._wanted
        off[len(HEADS) * len(self._start[head]) :] *= self._set_weight
        return float((off**2).sum())

    def _candidates(self, ordered: Array, cut: float) -> list[float]:
        """Return cuts between scores around one; none where no label, or every label, lies beyond it."""
        if not 0 <= cut <= SCORE_RANGE[1]:
            return []
        count = len(ordered)
        middle = int(np.searchsorted(ordered, cut))
        reach, step = max(1, int(self._reach * count)), max(1, int(self._reach / _STEPS * count))
        places = range(max(1, middle - reach), min(count, middle + reach + 1), step)
        return [round(float(ordered[k - 1] + ordered[k]) / 2, 4) for k in places]


def _shares(values: Array, cuts: Cuts) -> Array:
    """Return the shares beyond each cut, (20,), then those of S > T and R < T and of S < T and R > T, (18,)."""
    above = [values[:, i, None] > np.asarray(cuts[head]) for i, head in enumerate(HEADS)]  # (N, 10) each
    # S < T is S below the cut at T - 0.5; that no score equals a cut makes it the opposite of above.
    kept = above[0][:, 1:] & ~above[1][:, :-1]
    opposite = ~above[0][:, :-1] & above[1][:, 1:]
    return np.concatenate([part.mean(axis=0) for part in (*above, kept, opposite)])


def fit_uncertainty(scores: Array, labels: Array) -> Uncertainty:
    """Return split-conformal half-widths on held-out errors, in up to five regions of equally many scores.

    In each region the width is the ceil((n + 1) * COVERAGE)-th smallest absolute error (Vovk et al., Mondrian
    conformal prediction), so that coverage holds in each region for exchangeable dialogues, those of the training
    domain, and nowhere else. A region has at least 30 dialogues.
    """
    edges: dict[str, list[float]] = {}
    widths: dict[str, list[float]] = {}
    for i, head in enumerate(HEADS):
        score = scores[:, i].astype(np.float64)
        regions = max(1, min(_REGIONS, len(score) // _MIN_REGION))
        quantiles = np.quantile(score, np.arange(1, regions) / regions)
        edges[head] = [round(float(edge), 4) for edge in np.unique(quantiles)]
        region = np.searchsorted(edges[head], score, side="right")
        error = np.abs(score - labels[:, i])
        widths[head] = [_conformal(error[region == r]) for r in range(len(edges[head]) + 1)]
    return Uncertainty(coverage=COVERAGE, edges=edges, widths=widths)


def _conformal(errors: Array) -> float:
    """Return the width that covers a new error with at least that probability; the whole scale for too few errors."""
    rank = int(np.ceil((len(errors) + 1) * COVERAGE))
    if rank > len(errors):
        return SCORE_RANGE[1] - SCORE_RANGE[0]
    return float(np.ceil(np.sort(errors)[rank - 1] * 1e4) / 1e4)  # rounded up: it is to be covered itself


def other_folds(folds: Ints) -> Iterator[tuple[Mask, Mask]]:
    """Yield for each fold (rows of the other folds, rows of the fold), both masks (N,)."""
    for fold in np.unique(folds):
        yield folds != fold, folds == fold


def cross_calibrate(scores: Array, labels: Array, folds: Ints) -> Scores:
    """Return scores (N, 2), each fold's calibrated on the other folds' predictions."""
    calibrated = np.zeros(scores.shape, dtype=np.float32)
    for others, fold in other_folds(folds):
        calibrated[fold] = fit_calibration(scores[others], labels[others]).apply(scores[fold])
    return calibrated


def cross_levels(scores: Array, labels: Array, folds: Ints, cuts_of: CutsOf = balanced_cuts) -> Ints:
    """Return scores (N, 2) as the judge's integers, each fold by cuts that the other folds gave."""
    levels = np.zeros(scores.shape, dtype=np.int64)
    for others, fold in other_folds(folds):
        levels[fold] = to_levels(scores[fold], cuts_of(scores[others], labels[others]))
    return levels


def cross_coverage(scores: Array, labels: Array, folds: Ints) -> tuple[float, float]:
    """Return the share of labels within the uncertainty per head, its widths fitted on the other folds."""
    inside = np.zeros(scores.shape, dtype=bool)
    for others, fold in other_folds(folds):
        width = fit_uncertainty(scores[others], labels[others]).of(scores[fold])
        # Labels are exact and scores are float32: an error that equals the width is covered.
        inside[fold] = np.abs(scores[fold] - labels[fold]) <= width + 1e-4
    first, second = inside.mean(axis=0)
    return float(first), float(second)


def measure(scores: Array, labels: Array, folds: Ints, cuts_of: CutsOf = balanced_cuts) -> Mapping[str, Any]:
    """Return the figures that a checkpoint and a bundle carry, of cross-calibrated scores (N, 2), by name."""
    figures = all_figures(Pair.of(labels, scores, cross_levels(scores, labels, folds, cuts_of)))
    coverage = cross_coverage(scores, labels, folds)
    return {
        **{name: round(figures[name], 4) for name in _SHOWN if not np.isnan(figures[name])},
        "coverage": {head: round(value, 4) for head, value in zip(HEADS, coverage, strict=True)},
        "coverage_aim": COVERAGE,
    }
