"""Calibration, cuts and uncertainty: what they promise, and that no fold is measured with its own labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from distill.training.calibrate import (
    COVERAGE,
    Calibration,
    balanced_cuts,
    cross_calibrate,
    cross_coverage,
    cross_levels,
    cut_table,
    few_label_cuts,
    fit_calibration,
    fit_uncertainty,
    measure,
)
from scorer.bundle.cuts import JUDGE_CUTS, LEVELS
from scorer.dialogue import HEADS
from selection.metrics import Pair, all_figures
from selection.rules import PAPER, to_levels

Floats = npt.NDArray[np.float32]

GRID = np.linspace(3, 7, 50)[:, None].repeat(2, axis=1)


def predictions(seed: int, count: int = 1000) -> tuple[Floats, Floats]:
    """Return scores shrunk to the mean, all different, and the judge's integers, whose noise grows with the score."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(1, 9, (count, 2))
    labels = (truth + rng.normal(0, 0.2 + 0.15 * truth)).round().clip(0, 10)
    scores = 5 + 0.5 * (truth - 5) + rng.normal(0, 0.1, (count, 2))
    return scores.astype(np.float32), labels.astype(np.float32)


def shares_beyond(values: npt.NDArray[np.floating], cuts: list[float]) -> list[float]:
    return [float((values > cut).mean()) for cut in cuts]


def level_counts(levels: npt.NDArray[Any]) -> list[list[int]]:
    """Return how often each head has each of the judge's scores."""
    return [np.bincount(levels[:, i].astype(int), minlength=11).tolist() for i in range(2)]


# Calibration


def test_the_line_is_that_of_least_squares() -> None:
    scores, labels = predictions(0)
    found = fit_calibration(scores, labels)
    for i in range(2):
        slope, intercept = np.polyfit(scores[:, i].astype(float), labels[:, i].astype(float), 1)
        assert (found.slope[i], found.intercept[i]) == pytest.approx((slope, intercept))
    calibrated = found.apply(scores)
    assert calibrated.dtype == np.float32
    assert np.abs(calibrated - labels).mean() < np.abs(scores - labels).mean()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 4.7, 10.0])
def test_a_head_that_is_constant_stays_as_it_is(value: float, kind: type[np.floating]) -> None:
    labels = np.random.default_rng(0).integers(0, 11, (777, 2)).astype(np.float32)
    for count in (10, 777):
        found = fit_calibration(np.full((count, 2), value, dtype=kind), labels[:count])
        assert found == Calibration((1.0, 1.0), (0.0, 0.0))


def test_a_head_that_falls_with_the_labels_stays_as_it_is_and_the_other_is_fitted() -> None:
    scores, labels = predictions(1)
    labels[:, 1] = 10 - labels[:, 1]
    found = fit_calibration(scores, labels)
    assert (found.slope[1], found.intercept[1]) == (1.0, 0.0)
    assert found.slope[0] == pytest.approx(fit_calibration(*predictions(1)).slope[0])


@pytest.mark.parametrize("seed", range(20))
def test_calibration_rises_strictly_even_where_scores_say_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.uniform(0, 10, (30, 2)), rng.integers(0, 11, (30, 2)).astype(float)
    found = fit_calibration(scores, labels)
    assert min(found.slope) > 0
    assert (np.diff(GRID * found.slope + found.intercept, axis=0) > 0).all()


def test_calibrated_scores_stay_on_the_scale() -> None:
    far = Calibration((10.0, 10.0), (-45.0, -45.0)).apply(np.array([[0, 10], [5, 5.1]], dtype=np.float32))
    assert far.ravel().tolist() == pytest.approx([0, 10, 5, 6], abs=1e-5)


# Cuts


@pytest.mark.parametrize("seed", range(5))
def test_cuts_keep_the_judges_shares(seed: int) -> None:
    scores, labels = predictions(seed)
    cuts = cut_table(scores, labels)
    for i, head in enumerate(HEADS):
        assert shares_beyond(scores[:, i], cuts[head]) == shares_beyond(labels[:, i], [*LEVELS])
        assert cuts[head] == sorted(cuts[head])
    assert level_counts(to_levels(scores, cuts)) == level_counts(labels)


def test_cuts_keep_the_shares_of_means_of_judgements() -> None:
    scores, labels = predictions(0)
    labels[::2] = (labels[::2] + labels[1::2]) / 2  # halves, which equal the judge's cuts
    assert (labels % 1 == 0.5).any()
    assert level_counts(to_levels(scores, cut_table(scores, labels))) == level_counts(to_levels(labels))


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_are_tied_stay_together_and_cost_no_more_than_their_own_share(seed: int) -> None:
    scores, labels = predictions(seed)
    scores = np.asarray(np.round(scores * 2) / 2, dtype=np.float32)
    cuts = cut_table(scores, labels)
    levels = to_levels(scores, cuts)
    for i, head in enumerate(HEADS):
        largest = max(np.unique(scores[:, i], return_counts=True)[1]) / len(scores)
        for mine, judges in zip(
            shares_beyond(scores[:, i], cuts[head]), shares_beyond(labels[:, i], [*LEVELS]), strict=True
        ):
            assert abs(mine - judges) <= largest
        for value in np.unique(scores[:, i]):
            assert len(set(levels[scores[:, i] == value, i].tolist())) == 1
        assert cuts[head] == sorted(cuts[head])


@pytest.mark.parametrize("make", [cut_table, balanced_cuts])
def test_levels_that_the_judge_never_reached_are_reached_by_no_score(
    make: Callable[..., dict[str, list[float]]],
) -> None:
    scores, labels = predictions(0)
    cuts = make(scores, labels.clip(3, 7))
    assert all((cuts[head][:3], cuts[head][7:]) == ([-0.5] * 3, [10.5] * 3) for head in HEADS)
    everything = np.array([[0, 0], [10, 10], [3, 8]], dtype=np.float32)
    levels = to_levels(np.concatenate([scores, everything]), cuts)
    assert (levels.min(), levels.max()) == (3, 7)


def test_a_skipped_level_is_reached_by_no_score_and_equal_labels_by_every_one() -> None:
    scores, labels = predictions(0)
    labels[labels == 5] = 6
    assert 5 not in to_levels(scores, cut_table(scores, labels))
    assert (to_levels(scores, cut_table(scores, np.full_like(labels, 8))) == 8).all()


def test_the_judges_own_scores_need_no_other_cuts() -> None:
    judge = np.arange(11, dtype=np.float32)[:, None].repeat(2, axis=1)
    assert cut_table(judge, judge) == {head: [*JUDGE_CUTS[head]] for head in HEADS}


# Uncertainty


def test_nine_of_ten_fresh_labels_lie_within_in_every_region() -> None:
    inside: dict[tuple[int, int], list[bool]] = {}
    for seed in range(60):
        scores, labels = predictions(seed)
        fresh, judged = predictions(1000 + seed)
        found = fit_uncertainty(scores, labels)
        assert [len(found.widths[head]) for head in HEADS] == [5, 5]
        covered = np.abs(fresh - judged) <= found.of(fresh)
        for i, head in enumerate(HEADS):
            region = np.searchsorted(found.edges[head], fresh[:, i], side="right")
            for number in range(5):
                inside.setdefault((i, number), []).extend(covered[region == number, i].tolist())
    coverage = {key: float(np.mean(values)) for key, values in inside.items()}
    assert len(coverage) == 10
    assert min(coverage.values()) >= COVERAGE - 0.01  # of 12 000 labels each, whose own error is 0.003
    assert max(coverage.values()) <= COVERAGE + 0.02


def test_widths_are_wide_where_the_judge_is_uncertain() -> None:
    found = fit_uncertainty(*predictions(0, 3000))
    assert all(found.widths[head][4] > 1.5 * found.widths[head][1] for head in HEADS)


@pytest.mark.parametrize("value", [5.12341, 4.98764, 6.00004])
def test_errors_that_are_all_alike_are_covered(value: float) -> None:
    scores = np.full((200, 2), value, dtype=np.float32)
    labels = np.random.default_rng(0).choice([4, 6], (200, 2)).astype(np.float32)
    assert (np.abs(scores - labels) <= fit_uncertainty(scores, labels).of(scores)).mean() >= COVERAGE


@pytest.mark.parametrize(("count", "regions"), [(1, 1), (59, 1), (60, 2), (149, 4), (150, 5), (1000, 5)])
def test_a_region_has_thirty_dialogues_at_least(count: int, regions: int) -> None:
    found = fit_uncertainty(*predictions(0, count))
    assert [len(found.widths[head]) for head in HEADS] == [regions, regions]


@pytest.mark.parametrize(("count", "known"), [(8, False), (9, True)])
def test_too_few_errors_promise_nothing(count: int, known: bool) -> None:
    found = fit_uncertainty(*predictions(0, count))
    assert all((found.widths[head] != [10.0]) == known for head in HEADS)


# Cross-fitting


def split(seed: int, count: int = 600, folds: int = 4) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    return (*predictions(seed, count), np.random.default_rng(seed).integers(0, folds, count))


@pytest.mark.parametrize("cross", [cross_calibrate, cross_levels])
def test_labels_of_a_fold_change_the_other_folds_only(cross: Callable[..., npt.NDArray[Any]]) -> None:
    scores, labels, folds = split(1)
    changed = labels.copy()
    changed[folds == 2] = 10 - changed[folds == 2]
    before, after = cross(scores, labels, folds), cross(scores, changed, folds)
    assert after[folds == 2].tolist() == before[folds == 2].tolist()
    for fold in (0, 1, 3):
        assert (after[folds == fold] != before[folds == fold]).mean() > 0.02


def test_a_fold_is_calibrated_and_cut_by_all_the_others_whatever_their_numbers() -> None:
    scores, labels, folds = split(2)
    calibrated, levels = (cross(scores, labels, folds * 7 + 3) for cross in (cross_calibrate, cross_levels))
    assert calibrated.dtype == np.float32
    for fold in range(4):
        others, mine = folds != fold, folds == fold
        known = scores[others], labels[others]
        assert calibrated[mine].tolist() == fit_calibration(*known).apply(scores[mine]).tolist()
        assert levels[mine].tolist() == to_levels(scores[mine], balanced_cuts(*known)).tolist()


@pytest.mark.slow
def test_cross_fitted_levels_keep_the_judges_shares_up_to_chance() -> None:
    scores, labels, folds = split(2, 6000)
    levels = cross_levels(scores, labels, folds)
    for mine, judges in zip(level_counts(levels), level_counts(labels), strict=True):
        assert np.array(mine) / 6000 == pytest.approx(np.array(judges) / 6000, abs=0.02)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_coverage_is_measured_with_the_other_folds_widths(order: tuple[int, int]) -> None:
    scores, _, _ = split(3)
    folds = np.repeat(order, [200, 400])
    labels = np.where((folds == 0)[:, None], scores, scores + 5)
    # Widths are 0 for fold 1 and 5 for fold 0: only fold 0 lies within. With their own widths all rows would.
    share = float((folds == 0).mean())
    assert cross_coverage(scores, labels, folds) == pytest.approx((share, share))


def test_cross_fitted_coverage_is_what_was_promised() -> None:
    assert cross_coverage(*split(4, 4000)) == pytest.approx((COVERAGE, COVERAGE), abs=0.02)


def test_a_summary_holds_rounded_figures_and_leaves_out_what_is_not_defined() -> None:
    scores, labels, folds = split(5)
    figures = all_figures(Pair.of(labels, scores, cross_levels(scores, labels, folds)))
    found = dict(measure(scores, labels, folds))
    assert found.pop("coverage_aim") == COVERAGE
    assert found.pop("coverage") == dict(zip(HEADS, np.round(cross_coverage(scores, labels, folds), 4), strict=True))
    assert {f"{head}.{name}" for head in HEADS for name in ("pearson", "mae", "quadratic_kappa")} < {*found}
    assert {"paper.kappa", "paper.f1.sensibility", "paper.share.sensibility"} < {*found}
    assert all(value == round(figures[name], 4) for name, value in found.items())
    constant = measure(scores, np.full_like(labels, 5), folds)
    assert "sensibility.pearson" not in constant
    assert "sensibility.mae" in constant
    json.dumps(constant, allow_nan=False)


# Balanced cuts


def tangled(seed: int, size: int = 3000) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return noiseless predictions and the noisy labels that they predict, heads pulling in opposite directions."""
    rng = np.random.default_rng(seed)
    depth = rng.standard_normal(size)
    signal = np.stack([7 + 1.5 * depth, 4 - 1.6 * depth], axis=1) + rng.normal(0, 0.5, (size, 2))
    labels = (signal + rng.normal(0, 1.5, (size, 2))).round().clip(0, 10)
    return signal, labels


@pytest.mark.parametrize("seed", range(3))
def test_balanced_cuts_bring_the_sets_to_the_judges_share(seed: int) -> None:
    scores, labels = tangled(seed)
    wanted = np.bincount(PAPER.apply(labels), minlength=3) / len(labels)
    alone, balanced = cut_table(scores, labels), balanced_cuts(scores, labels)
    found = [np.bincount(PAPER.apply(scores, cuts), minlength=3) / len(labels) for cuts in (alone, balanced)]
    gaps = [np.abs(shares - wanted) for shares in found]
    assert gaps[0][0] > 0.02
    assert gaps[1][0] < 0.75 * gaps[0][0]
    for i, head in enumerate(HEADS):
        assert balanced[head] == sorted(balanced[head])
        mine = np.array(shares_beyond(scores[:, i], balanced[head]))
        assert np.abs(mine - np.array(shares_beyond(labels[:, i], [*LEVELS]))).max() <= 0.0205


def test_cuts_that_keep_every_share_are_not_moved() -> None:
    labels = np.random.default_rng(0).integers(0, 11, (2000, 2)).astype(float)
    scores = labels / 2 + 3
    assert balanced_cuts(scores, labels) == cut_table(scores, labels)


@pytest.mark.parametrize("make", [balanced_cuts, few_label_cuts])
def test_cuts_from_a_dozen_labels_stay_in_order(make: Callable[..., dict[str, list[float]]]) -> None:
    for seed in range(25):
        table = make(*tangled(seed, 12))
        assert all(cuts == sorted(cuts) for cuts in table.values()), seed


def test_a_cut_passes_over_few_scores() -> None:
    most = 0
    for seed in range(10):
        scores, labels = tangled(seed, 200)
        for i, head in enumerate(HEADS):
            before, after = (
                np.array(shares_beyond(scores[:, i], make(scores, labels)[head])) for make in (cut_table, balanced_cuts)
            )
            most = max(most, round(200 * float(np.abs(after - before).max())))
    assert most == 4  # a fiftieth
