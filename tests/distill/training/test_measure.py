"""Held-out figures: read on a fold with what the other folds gave, rounded, and without what is not defined."""

from __future__ import annotations

import json
import math

import numpy as np
import numpy.typing as npt
import pytest

from distill.training.calibrate import balanced_cuts
from distill.training.measure import cross_levels, summarise
from scorer.dialogue import HEADS
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

Floats = npt.NDArray[np.float32]
Folds = npt.NDArray[np.int64]


def predictions(seed: int, count: int = 600, folds: int = 3) -> tuple[Floats, Floats, Folds]:
    """Return a scorer's scores, the judge's integers and the folds."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 10, (count, 2))
    scores = 5 + 0.4 * (truth - 5) + rng.normal(0, 0.3, (count, 2))
    return scores.astype(np.float32), truth.round().astype(np.float32), rng.integers(0, folds, count)


def test_a_fold_is_read_off_the_cuts_of_the_others() -> None:
    scores, labels, folds = predictions(0)
    levels = cross_levels(scores, labels, folds)
    for fold in range(3):
        cuts = balanced_cuts(scores[folds != fold], labels[folds != fold])
        assert levels[folds == fold].tolist() == to_levels(scores[folds == fold], cuts).tolist()


def test_a_folds_own_labels_change_nothing_in_it() -> None:
    scores, labels, folds = predictions(1)
    changed = labels.copy()
    changed[folds == 1] = 9
    before, after = cross_levels(scores, labels, folds), cross_levels(scores, changed, folds)
    assert after[folds == 1].tolist() == before[folds == 1].tolist()
    assert (after[folds != 1] != before[folds != 1]).mean() > 0.3


def test_the_judges_shares_are_kept_up_to_chance() -> None:
    scores, labels, folds = predictions(2, 6000)
    levels = cross_levels(scores, labels, folds)
    for i in range(2):
        mine, judges = (np.bincount(values[:, i].astype(int), minlength=11) / 6000 for values in (levels, labels))
        assert mine == pytest.approx(judges, abs=0.02)


def test_folds_may_have_any_numbers_and_any_order() -> None:
    scores, labels, folds = predictions(3)
    renamed = np.array([40, 7, 0])[folds]
    assert cross_levels(scores, labels, renamed).tolist() == cross_levels(scores, labels, folds).tolist()


def test_a_summary_holds_rounded_figures_and_no_nan() -> None:
    scores, labels, folds = predictions(4)
    pair = Pair.of(labels, scores, cross_levels(scores, labels, folds))
    summary, figures = summarise(pair), all_figures(pair)
    assert {
        f"{head}.{name}" for head in HEADS for name in ("pearson", "spearman", "mae", "rmse", "quadratic_kappa")
    } < {*summary}
    assert {"paper.accuracy", "paper.kappa", "paper.f1.sensibility", "paper.share.sensibility"} < {*summary}
    assert all(value == round(figures[name], 4) for name, value in summary.items())
    json.dumps(summary, allow_nan=False)


def test_a_summary_leaves_out_what_is_not_defined() -> None:
    scores, _, _ = predictions(5)
    labels = np.full(scores.shape, 5.0)
    pair = Pair.of(labels, scores, to_levels(scores))
    summary = summarise(pair)
    assert "sensibility.pearson" not in summary
    assert "sensibility.mae" in summary
    assert not any(math.isnan(value) for value in summary.values())
