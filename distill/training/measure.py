"""Figures of held-out predictions, cross-fitted: what is read on a fold was fitted on the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from distill.training.calibrate import balanced_cuts, other_folds
from scorer.dialogue import HEADS
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

_SHOWN = (
    *(f"{head}.{name}" for head in HEADS for name in ("pearson", "spearman", "mae", "rmse", "quadratic_kappa")),
    "paper.accuracy",
    "paper.kappa",
    "paper.f1.sensibility",
    "paper.share.sensibility",
    "paper.judge_share.sensibility",
)


def cross_levels(
    scores: npt.NDArray[Any], labels: npt.NDArray[Any], folds: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return scores (N, 2) as the judge's integers, each fold by cuts that the other folds gave."""
    levels = np.zeros(scores.shape, dtype=np.int64)
    for others, fold in other_folds(folds):
        levels[fold] = to_levels(scores[fold], balanced_cuts(scores[others], labels[others]))
    return levels


def summarise(pair: Pair) -> dict[str, float]:
    """Return the figures that a checkpoint and a bundle carry, by name."""
    figures = all_figures(pair)
    return {name: round(figures[name], 4) for name in _SHOWN if not np.isnan(figures[name])}
