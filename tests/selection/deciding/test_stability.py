"""How sure a selection is: chances against the normal distribution, sets against a judge that is simulated."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from scorer.bundle.uncertainty import Uncertainty
from selection.deciding.stability import (
    change_between,
    deviations,
    first_chance,
    most_doubtful,
    one_point_away,
    score_chance,
    under_error,
)
from selection.rules import PAPER, RELEASE, RULES, Rule

Array = npt.NDArray[np.float64]

UNEVEN = Uncertainty(
    edges={"sensibility": [3.0, 6.0], "rationality": [5.0]},
    widths={"sensibility": [1.0, 2.0, 3.0], "rationality": [0.5, 4.0]},
    coverage=0.9,
)


def normal(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Return scores and the deviations of a judge around them, some of them 0."""
    rng = np.random.default_rng(seed)
    deviation = rng.uniform(0.3, 2, (count, 2))
    deviation[::7] = 0
    return rng.uniform(0, 10, (count, 2)), deviation


def test_a_judge_of_this_deviation_lies_within_the_half_width_as_often_as_promised() -> None:
    scores = np.array([[2.9, 4.9], [3.0, 5.0], [6.0, 9.0]])
    found = deviations(UNEVEN, scores)
    for half, spread in zip([1, 0.5, 2, 4, 3, 4], found.ravel(), strict=True):
        error = NormalDist(0, spread)
        assert error.cdf(half) - error.cdf(-half) == pytest.approx(0.9, abs=1e-6)
    assert deviations(UNEVEN, scores.astype(np.float32)).tolist() == found.tolist()


@pytest.mark.parametrize("threshold", [5, 2.75, (4.0, 6.5)])
@pytest.mark.parametrize("margin", [0, 0.75, -1.5])
def test_a_chance_is_the_normal_distributions(threshold: float | tuple[float, float], margin: float) -> None:
    scores, deviation = normal(200)
    at_s, at_r = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    found = first_chance(scores, deviation, threshold, margin)
    for (s, r), (spread_s, spread_r), chance in zip(scores, deviation, found, strict=True):
        above = 1 - NormalDist(s, max(spread_s, 1e-12)).cdf(at_s + 0.5 + margin)
        below = NormalDist(r, max(spread_r, 1e-12)).cdf(at_r - 0.5 - margin)
        assert chance == pytest.approx(above * below, abs=3e-6)


def test_a_chance_is_how_often_the_rule_takes_what_the_judge_may_say() -> None:
    rng = np.random.default_rng(1)
    scores, deviation = rng.uniform(4, 7, (20, 2)), rng.uniform(0.5, 2, (20, 2))
    judged = np.rint(scores + deviation * rng.standard_normal((4000, 20, 2))).clip(0, 10)  # the judge gives integers
    taken = PAPER.apply(judged.reshape(-1, 2), threshold=(5.0, 6.0)).reshape(4000, 20) == 0
    assert first_chance(scores, deviation, (5.0, 6.0)) == pytest.approx(taken.mean(axis=0), abs=0.035)


def test_the_chance_of_a_score_is_the_normal_distributions() -> None:
    values, deviation = np.linspace(-3, 13, 50), np.linspace(0.2, 3, 50)
    expected = [1 - NormalDist(v, d).cdf(5.2) for v, d in zip(values, deviation, strict=True)]
    assert score_chance(values, deviation, 5.2) == pytest.approx(expected, abs=3e-6)
    assert score_chance(values, deviation, math.inf) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_a_score_that_is_certain_is_taken_exactly_where_the_rule_takes_it(rule: Rule) -> None:
    halves = np.array([(s / 2, r / 2) for s in range(21) for r in range(21)])  # also the means of two judgements
    for threshold in (3, 5, (4.0, 7.0)):
        chance = first_chance(halves, np.zeros_like(halves), threshold)
        assert chance.round(9).tolist() == (rule.apply(halves, threshold=threshold) == 0).tolist()


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("threshold", [5, 1, 9, (3.0, 7.0), 4.5])
def test_a_point_away_is_another_set_for_a_neighbouring_score(
    rule: Rule, threshold: float | tuple[float, float]
) -> None:
    labels = np.array([(s, r) for s in range(11) for r in range(11)])
    sets = dict(zip(map(tuple, labels.tolist()), rule.apply(labels, threshold=threshold).tolist(), strict=True))
    expected = [
        any(sets.get(near, here) != here for near in ((s - 1, r), (s + 1, r), (s, r - 1), (s, r + 1)))
        for (s, r), here in sets.items()
    ]
    assert one_point_away(labels, rule, threshold).tolist() == expected
    assert any(expected)
    assert not all(expected)


def test_most_doubtful_is_nearest_to_a_half_then_by_hash_whatever_the_order() -> None:
    chance = np.array([0.9, 0.5, 0.25, 0.75, 0.5, 0.0])
    hashes = np.array([1, 9, 8, 3, 2, 1 << 63], dtype=np.uint64)
    assert most_doubtful(chance, hashes, 4).tolist() == [4, 1, 3, 2]
    assert most_doubtful(chance, hashes, 100).tolist() == [4, 1, 3, 2, 0, 5]
    assert most_doubtful(chance, hashes, 0).tolist() == []
    order = np.random.default_rng(0).permutation(6)
    assert order[most_doubtful(chance[order], hashes[order], 4)].tolist() == [4, 1, 3, 2]


def test_a_comparison_counts_what_moved_and_what_both_have() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    found = change_between(first, second, PAPER.sets)
    assert found.moved == sum(a != b for a, b in zip(first, second, strict=True)) / 200
    for k, name in enumerate(PAPER.sets):
        mine, other = (set(np.flatnonzero(sets == k).tolist()) for sets in (first, second))
        assert found.jaccard[name] == len(mine & other) / len(mine | other)
    assert found.moved_interval is None


def test_the_same_selection_did_not_change_and_an_empty_set_has_no_index() -> None:
    found = change_between(np.array([0, 1, 1]), np.array([0, 1, 1]), PAPER.sets)
    assert (found.moved, found.jaccard["sensibility"], found.jaccard["rationality"]) == (0, 1, 1)
    assert math.isnan(found.jaccard["discard"])
    assert math.isnan(change_between(np.zeros(0, np.int64), np.zeros(0, np.int64), PAPER.sets).moved)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_the_mean_change_is_that_of_the_chances(rule: Rule) -> None:
    scores, deviation = normal(400, 3)
    at_s, at_r = 5.0, 4.0
    sets = rule.apply(scores, threshold=(at_s, at_r))
    moved = []
    for (s, r), (spread_s, spread_r), mine in zip(scores, np.maximum(deviation, 1e-9), sets, strict=True):
        judge_s, judge_r = NormalDist(s, spread_s), NormalDist(r, spread_r)
        first = (1 - judge_s.cdf(at_s + 0.5)) * judge_r.cdf(at_r - 0.5)
        opposite = judge_s.cdf(at_s - 0.5) * (1 - judge_r.cdf(at_r + 0.5))
        chances = {0: first, rule.opposite: opposite, 3 - rule.opposite: 1 - first - opposite}
        moved.append(1 - chances[int(mine)])
    found = under_error(scores, deviation, sets, rule, (at_s, at_r), draws=300)
    assert found.moved == pytest.approx(float(np.mean(moved)), abs=0.004)


def test_without_an_error_nothing_moves() -> None:
    scores = normal(300)[0]
    found = under_error(scores, np.zeros_like(scores), PAPER.apply(scores), PAPER, draws=5)
    assert (found.moved, found.moved_interval) == (0, (0, 0))
    assert found.jaccard == dict.fromkeys(PAPER.sets, 1)
    assert found.jaccard_interval == dict.fromkeys(PAPER.sets, (1, 1))


def test_a_set_that_is_empty_in_every_draw_has_no_index() -> None:
    scores = np.full((50, 2), (9.0, 1.0))
    found = under_error(scores, np.full_like(scores, 0.1), PAPER.apply(scores), PAPER, draws=5)
    assert found.jaccard["sensibility"] == 1
    assert found.jaccard_interval is not None
    assert math.isnan(found.jaccard["discard"])
    assert np.isnan(found.jaccard_interval["discard"]).all()


def test_the_seed_decides_what_is_drawn() -> None:
    scores, deviation = normal(100)
    sets = RELEASE.apply(scores)
    first, again, other = (under_error(scores, deviation, sets, RELEASE, draws=10, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
