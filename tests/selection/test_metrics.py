"""Every figure against scikit-learn and SciPy, weights against repeated rows, and the bootstrap over conversations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scorer.dialogue import HEADS
from selection.metrics import LEVEL_COUNT, Pair, all_figures, bootstrap, correlation, counts, kappa, ranks
from selection.rules import RULES, to_levels

SEEDS = [0, 1, 2]
LEVELS = range(LEVEL_COUNT)


def make_pair(seed: int, count: int = 400) -> Pair:
    """Return integers of a judge, some of them means of two, and a scorer that follows them with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(5.5, 2, (count, 2))
    judge = truth.round().clip(0, 10)
    judge[::5] = (judge[::5] + (judge[::5] + 1).clip(0, 10)) / 2
    scores = (5 + 0.7 * (truth - 5) + rng.normal(0, 1, (count, 2))).clip(0, 10).round(1)  # round: ties here too
    return Pair.of(judge, scores, to_levels(scores))


def take(pair: Pair, rows: npt.NDArray[np.int64]) -> Pair:
    return Pair(pair.reference[rows], pair.other[rows], pair.reference_levels[rows], pair.other_levels[rows])


def sklearn() -> Any:
    return pytest.importorskip("sklearn.metrics")


def stats() -> Any:
    return pytest.importorskip("scipy.stats")


def differing(first: dict[str, float], second: dict[str, float], tolerance: float = 1e-9) -> set[str]:
    """Return the names of figures that are not the same in both."""
    assert first.keys() == second.keys()
    return {
        name
        for name, value in first.items()
        if not (math.isnan(value) and math.isnan(second[name])) and not abs(value - second[name]) <= tolerance
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_correlations_are_scipys(seed: int) -> None:
    pair = make_pair(seed)
    figures = all_figures(pair)
    for i, head in enumerate(HEADS):
        x, y = pair.reference[:, i], pair.other[:, i]
        assert len(np.unique(x)) < 25  # ties
        assert figures[f"{head}.pearson"] == pytest.approx(stats().pearsonr(x, y).statistic, abs=1e-12)
        assert figures[f"{head}.spearman"] == pytest.approx(stats().spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_and_kappa_of_scores_are_scikit_learns(seed: int) -> None:
    pair = make_pair(seed)
    figures, metrics = all_figures(pair), sklearn()
    for i, head in enumerate(HEADS):
        x, y = pair.reference[:, i], pair.other[:, i]
        a, b = pair.reference_levels[:, i], pair.other_levels[:, i]
        assert figures[f"{head}.mae"] == pytest.approx(metrics.mean_absolute_error(x, y))
        assert figures[f"{head}.rmse"] == pytest.approx(math.sqrt(metrics.mean_squared_error(x, y)))
        quadratic = metrics.cohen_kappa_score(a, b, labels=LEVELS, weights="quadratic")
        assert figures[f"{head}.quadratic_kappa"] == pytest.approx(quadratic, abs=1e-12)
        given = sorted(set(a.tolist()))
        recalls = metrics.recall_score(a, b, labels=given, average=None)
        assert [figures[f"{head}.recall.{level}"] for level in given] == pytest.approx(recalls.tolist())
        assert all(math.isnan(figures[f"{head}.recall.{level}"]) for level in set(LEVELS) - set(given))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("threshold", [3, 5, 7])
def test_figures_of_a_rule_are_scikit_learns(seed: int, name: str, threshold: int) -> None:
    pair, rule, metrics = make_pair(seed), RULES[name], sklearn()
    figures = all_figures(pair, threshold=threshold)
    first = rule.apply(pair.reference_levels, threshold=threshold)
    second = rule.apply(pair.other_levels, threshold=threshold)
    assert len(set(first.tolist())) == len(set(second.tolist())) == 3
    assert figures[f"{name}.accuracy"] == pytest.approx(metrics.accuracy_score(first, second))
    assert figures[f"{name}.kappa"] == pytest.approx(metrics.cohen_kappa_score(first, second), abs=1e-12)
    f1 = metrics.f1_score(first, second, labels=[0, 1, 2], average=None)
    jaccard = metrics.jaccard_score(first, second, labels=[0, 1, 2], average=None)
    for k, part in enumerate(rule.sets):
        assert figures[f"{name}.f1.{part}"] == pytest.approx(f1[k])
        assert figures[f"{name}.jaccard.{part}"] == pytest.approx(jaccard[k])
        assert figures[f"{name}.share.{part}"] == pytest.approx((second == k).mean())
        assert figures[f"{name}.judge_share.{part}"] == pytest.approx((first == k).mean())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weights", [None, "quadratic"])
def test_kappa_with_row_weights_is_scikit_learns(seed: int, weights: str | None) -> None:
    rng = np.random.default_rng(seed)
    first, second, rows = rng.integers(0, 5, 300), rng.integers(0, 5, 300), rng.uniform(0, 3, 300)
    second[:150] = first[:150]
    table = counts(first, second, 5, rows)
    assert table == pytest.approx(sklearn().confusion_matrix(first, second, sample_weight=rows))
    expected = sklearn().cohen_kappa_score(first, second, weights=weights, sample_weight=rows)
    assert kappa(table, quadratic=weights == "quadratic") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks_are_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 20, 200) / 4
    assert ranks(values, np.ones(len(values))).tolist() == stats().rankdata(values).tolist()
    assert ranks(np.zeros(0), np.zeros(0)).tolist() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_are_repeated_rows(seed: int) -> None:
    pair = make_pair(seed)
    drawn = np.random.default_rng(seed).integers(0, 4, len(pair))
    repeated = all_figures(take(pair, np.repeat(np.arange(len(pair)), drawn)))
    weighted = all_figures(pair, drawn.astype(float))
    assert differing(weighted, repeated) == set()


def test_the_same_scores_agree_in_everything() -> None:
    pair = make_pair(0)
    figures = all_figures(Pair.of(pair.reference, pair.reference, pair.reference_levels))
    for name, value in figures.items():
        if not math.isnan(value) and "share" not in name:
            assert value == pytest.approx(0 if name.endswith(("mae", "rmse")) else 1), name


def test_what_is_not_defined_is_nan() -> None:
    constant = np.full((20, 2), 7.0)
    varied = np.arange(40.0).reshape(20, 2) / 4
    figures = all_figures(Pair.of(constant, varied, to_levels(varied)))
    assert math.isnan(figures["sensibility.pearson"])
    assert math.isnan(figures["rationality.spearman"])
    assert figures["sensibility.recall.7"] == pytest.approx(0.1)
    assert math.isnan(figures["sensibility.recall.3"])
    both = all_figures(Pair.of(constant, constant, to_levels(constant)))
    for name in ("sensibility.quadratic_kappa", "paper.kappa", "paper.f1.sensibility", "release.jaccard.rational"):
        assert math.isnan(both[name]), name
    assert both["paper.accuracy"] == 1


@pytest.mark.parametrize("value", [0.1, 4.7, 1e-9])
def test_equal_numbers_have_no_correlation_however_they_are_rounded(value: float) -> None:
    for count in (3, 10, 777):
        assert math.isnan(correlation(np.full(count, value), np.arange(count, dtype=float), np.ones(count)))


def test_a_pair_keeps_both_scales() -> None:
    judge, scores = np.array([[1, 9], [4.5, 5]], dtype=np.float32), np.array([[3, 4], [5, 6]], dtype=np.float32)
    pair = Pair.of(judge, scores, np.array([[2, 8], [4, 5]]))
    assert len(pair) == 2
    assert pair.reference.dtype == pair.other.dtype == np.float64
    assert pair.reference_levels.tolist() == [[1, 9], [4, 5]]
    assert pair.other_levels.tolist() == [[2, 8], [4, 5]]


def names(count: int, size: int) -> list[str]:
    """Return the conversation of each of ``count`` rows, ``size`` rows a conversation."""
    return [f"c{row // size}" for row in range(count)]


def test_intervals_are_reproducible_and_follow_the_seed() -> None:
    pair = make_pair(0)
    first, again, other = (bootstrap(pair, names(400, 2), 30, seed) for seed in (0, 0, 1))
    assert repr(first) == repr(again)
    assert first.keys() == all_figures(pair).keys()
    assert first["sensibility.pearson"] != other["sensibility.pearson"]


def test_whole_conversations_are_drawn() -> None:
    pair = make_pair(1, 60)
    tripled = take(pair, np.repeat(np.arange(60), 3))
    single = bootstrap(pair, names(60, 1), 100)
    whole = bootstrap(tripled, [name for name in names(60, 1) for _ in range(3)], 100)
    apart = bootstrap(tripled, names(180, 1), 100)
    # Three copies of each row in one conversation say no more than one row does; as conversations of their own they do.
    for k in (0, 1):
        first, second = ({name: interval[k] for name, interval in found.items()} for found in (whole, single))
        assert differing(first, second) == set()
    for name in ("sensibility.pearson", "rationality.mae", "paper.accuracy"):
        assert np.diff(apart[name]) < 0.8 * np.diff(single[name]), name


def test_one_conversation_leaves_nothing_to_draw() -> None:
    pair = make_pair(2, 50)
    figures = all_figures(pair)
    for name, (low, high) in bootstrap(pair, ["all"] * 50, 10).items():
        assert low == high or math.isnan(low)
        assert differing({name: low}, {name: figures[name]}) == set()


def test_an_interval_is_as_wide_as_theory_says() -> None:
    pair = make_pair(3, 1500)
    found = bootstrap(pair, names(1500, 1), 200)
    figures = all_figures(pair)
    for i, head in enumerate(HEADS):
        error = np.abs(pair.reference[:, i] - pair.other[:, i])
        low, high = found[f"{head}.mae"]
        assert low < figures[f"{head}.mae"] < high
        assert high - low == pytest.approx(2 * 1.96 * error.std() / math.sqrt(1500), rel=0.25)
    share = figures["paper.accuracy"]
    low, high = found["paper.accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 1500), rel=0.25)


def test_intervals_are_of_the_threshold_that_was_asked_for() -> None:
    pair = make_pair(0)
    low, high = bootstrap(pair, names(400, 1), 50, threshold=8)["paper.share.sensibility"]
    assert low < all_figures(pair, threshold=8)["paper.share.sensibility"] < high < 0.1


def test_replicates_without_a_figure_take_no_part_in_its_interval() -> None:
    scores = np.full((40, 2), 5.0)
    scores[::2] = 7
    scores[0] = 9  # drawn by two of three replicates
    found = bootstrap(Pair.of(scores, scores, to_levels(scores)), names(40, 1), 50)
    assert found["sensibility.recall.9"] == (1.0, 1.0)
    assert np.isnan(found["sensibility.recall.1"]).all()
