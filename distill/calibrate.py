"""From held-out predictions to what a scorer ships: its calibration, its cuts and its uncertainty.

Everything here is fitted on predictions of dialogues that the predicting model did not see. Figures about it are
cross-fitted as well: what is measured on a fold was fitted on the other folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorer.dialogue import HEADS, SCORE_RANGE
from scorer.uncertainty import Uncertainty

Array = npt.NDArray[np.floating]
Rows = npt.NDArray[np.bool_]

COVERAGE = 0.9
"""The share of dialogues whose judge's score lies within the uncertainty."""

_REGIONS = 5
_MIN_REGION = 30


@dataclass(frozen=True, slots=True)
class Calibration:
    """A straight line a head, strictly rising: judge = slope * score + intercept; each (2,)."""

    slope: tuple[float, ...]
    intercept: tuple[float, ...]

    def apply(self, scores: Array) -> npt.NDArray[np.float32]:
        """Return calibrated scores (N, 2), clipped to 0..10."""
        moved = np.asarray(scores) * np.asarray(self.slope) + np.asarray(self.intercept)
        return np.asarray(moved.clip(*SCORE_RANGE), dtype=np.float32)


def fit_calibration(scores: Array, labels: Array) -> Calibration:
    """Return the least-squares line a head from raw scores (N, 2) to labels (N, 2).

    A head whose scores do not rise with the labels keeps them as they are: no rising line fits.
    """
    slopes, intercepts = [], []
    for x, y in zip(np.asarray(scores, float).T, np.asarray(labels, float).T, strict=True):
        varies = x.std() > 1e-6  # rounding alone gives equal numbers a spread
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / x.var()) if varies else 0.0
        rises = slope > 0
        slopes.append(slope if rises else 1.0)
        intercepts.append(float(y.mean() - slope * x.mean()) if rises else 0.0)
    return Calibration(tuple(slopes), tuple(intercepts))


def cut_table(scores: Array, labels: Array) -> dict[str, list[float]]:
    """Return for each head the cuts at 0.5, 1.5 ... 9.5: as large a share of scores lies beyond as of labels.

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


def fit_uncertainty(scores: Array, labels: Array, coverage: float = COVERAGE) -> Uncertainty:
    """Return split-conformal half-widths on held-out errors, in up to five regions of equally many scores.

    In each region the width is the ceil((n + 1) * coverage)-th smallest absolute error (Vovk et al., Mondrian
    conformal prediction), so that coverage holds in each region for exchangeable dialogues - those of the training
    domain - and nowhere else. Regions of fewer than 30 dialogues are not told apart.
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
        widths[head] = [_conformal(error[region == r], coverage) for r in range(len(edges[head]) + 1)]
    return Uncertainty(edges, widths, coverage)


def _conformal(errors: Array, coverage: float) -> float:
    """Return the width that covers a new error with at least that probability; the whole scale for too few errors."""
    rank = int(np.ceil((len(errors) + 1) * coverage))
    if rank > len(errors):
        return SCORE_RANGE[1] - SCORE_RANGE[0]
    return float(np.ceil(np.sort(errors)[rank - 1] * 1e4) / 1e4)  # rounded up: it is to be covered itself


def other_folds(folds: npt.NDArray[np.int64]) -> Iterator[tuple[Rows, Rows]]:
    """Yield for each fold (rows of the other folds, rows of the fold), both masks (N,)."""
    for fold in np.unique(folds):
        yield folds != fold, folds == fold


def cross_calibrate(scores: Array, labels: Array, folds: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return scores (N, 2), each fold's calibrated on the other folds' predictions."""
    calibrated = np.zeros(scores.shape, dtype=np.float32)
    for others, fold in other_folds(folds):
        calibrated[fold] = fit_calibration(scores[others], labels[others]).apply(scores[fold])
    return calibrated


def cross_coverage(scores: Array, labels: Array, folds: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the share of labels within the uncertainty a head, its widths fitted on the other folds."""
    inside = np.zeros(scores.shape, dtype=bool)
    for others, fold in other_folds(folds):
        width = fit_uncertainty(scores[others], labels[others]).of(scores[fold])
        # Labels are exact and scores are float32: an error that equals the width is covered.
        inside[fold] = np.abs(scores[fold] - labels[fold]) <= width + 1e-4
    first, second = inside.mean(axis=0)
    return float(first), float(second)
