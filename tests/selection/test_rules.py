"""The published selection rules, on the judge's integers and on a scorer's own scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.dialogue import HEADS
from selection.rules import PAPER, RELEASE, RULES, Rule, both_low, rule_of, states, to_judge_scale, to_levels
from selection.settings import Limits, SelectSettings, Threshold

PAIRS = np.array([(s, r) for s in range(11) for r in range(11)])
THRESHOLDS = range(1, 10)


def paper(s: float, r: float, threshold: int) -> str:
    """Return the set as the paper puts it."""
    if s > threshold and r < threshold:
        return "sensibility"
    return "discard" if s < threshold and r > threshold else "rationality"


def release(s: float, r: float, threshold: int) -> str:
    """Return the set as the published script puts it."""
    if s > threshold and r < threshold:
        return "sensibility"
    return "rational" if r > threshold and s < threshold else "neutral"


def named(rule: Rule, scores: npt.NDArray[np.number], cuts: Cuts = JUDGE_CUTS, threshold: int = 5) -> list[str]:
    return [rule.sets[index] for index in rule.apply(scores, cuts, threshold)]


def rising(seed: int) -> Cuts:
    rng = np.random.default_rng(seed)
    return {head: sorted(round(float(cut), 1) for cut in rng.uniform(0, 10, 10)) for head in HEADS}


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_every_pair_of_the_judges_scores_goes_where_the_publication_says(threshold: int) -> None:
    assert named(PAPER, PAIRS, threshold=threshold) == [paper(s, r, threshold) for s, r in PAIRS]
    assert named(RELEASE, PAIRS, threshold=threshold) == [release(s, r, threshold) for s, r in PAIRS]


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_set_read_off_scores_is_that_of_their_integers(rule: Rule, threshold: int, kind: type[np.floating]) -> None:
    cuts = rising(threshold)
    equal = np.array([(s, r) for s in [-1, *cuts["sensibility"], 11] for r in [-1, *cuts["rationality"], 11]])
    scores = np.concatenate([equal, np.random.default_rng(0).uniform(-1, 11, (500, 2))]).astype(kind)
    found = rule.apply(scores, cuts, threshold)
    assert found.tolist() == rule.apply(to_levels(scores, cuts), threshold=threshold).tolist()


def test_the_mean_of_two_judgements_is_assigned_as_its_integer() -> None:
    means = np.array([[5.5, 4.5], [6.0, 4.5], [4.5, 5.5], [4.5, 6.0]])
    assert to_levels(means).tolist() == [[5, 4], [6, 4], [4, 5], [4, 6]]
    assert named(PAPER, means) == ["rationality", "sensibility", "rationality", "discard"]


def test_an_integer_is_the_number_of_cuts_that_a_score_exceeds() -> None:
    cuts = rising(3)
    scores = np.random.default_rng(1).uniform(-1, 11, (300, 2))
    expected = [
        [sum(score > cut for cut in cuts[head]) for head, score in zip(HEADS, row, strict=True)] for row in scores
    ]
    assert to_levels(scores, cuts).tolist() == expected
    assert to_levels(PAIRS).tolist() == PAIRS.tolist()
    assert to_levels(PAIRS).dtype == np.int64


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_no_scores_fall_into_no_set(rule: Rule) -> None:
    assert rule.apply(np.zeros((0, 2), dtype=np.float32)).tolist() == []
    assert to_levels(np.zeros((0, 2), dtype=np.float32)).shape == (0, 2)


def cut_at(cuts: Cuts, head: str, level: float) -> float:
    """Return the cut at a level of the judge's scale, on the straight line between its neighbours."""
    below = min(int(level - 0.5), 8)
    share = level - 0.5 - below
    return (1 - share) * cuts[head][below] + share * cuts[head][below + 1]


@pytest.mark.parametrize("threshold", [1, 9, 5, 4.5, 5.25, 1.35, 8.95, (5, 5), (3.5, 7.25), (9, 1), (1, 9), (6.7, 2)])
def test_a_state_says_on_which_side_of_its_own_threshold_a_score_lies(threshold: Threshold) -> None:
    cuts, scores = rising(7), np.random.default_rng(2).uniform(-1, 11, (400, 2))
    found = states(scores, cuts, threshold)
    assert found.dtype == np.int8
    both = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    for i, (head, at) in enumerate(zip(HEADS, both, strict=True)):
        low, high = cut_at(cuts, head, at - 0.5), cut_at(cuts, head, at + 0.5)
        expected = [1 if score > high else 0 if score > low else -1 for score in scores[:, i]]
        assert found[:, i].tolist() == expected


@pytest.mark.parametrize(
    ("threshold", "above", "below"), [(4.5, 6, 4), (4.49, 5, 3), (5, 6, 4), (5.49, 6, 4), (5.5, 7, 5)]
)
def test_a_threshold_between_integers_asks_for_half_a_point_more_or_less(
    threshold: float, above: int, below: int
) -> None:
    levels = np.arange(11)
    found = states(np.stack([levels, levels], axis=1), threshold=threshold)[:, 0]
    assert levels[found > 0].min() == above
    assert levels[found < 0].max() == below


def test_the_first_threshold_is_of_sensibility() -> None:
    assert named(PAPER, np.array([[7, 2]]), threshold=6) == ["sensibility"]
    assert PAPER.apply(np.array([[7, 2], [7, 7]]), threshold=(6.0, 8.0)).tolist() == [0, 0]
    assert PAPER.apply(np.array([[7, 2], [7, 7]]), threshold=(8.0, 6.0)).tolist() == [1, 2]


@pytest.mark.parametrize("threshold", [0, -1, 10, 9.001, (0.99, 5), (5, 9.01), (5, float("nan")), (float("inf"), 5)])
def test_neither_threshold_may_lie_outside_one_to_nine(threshold: Threshold) -> None:
    with pytest.raises(ValueError, match=r"threshold [-\d.infa]+, expected a number from 1 to 9"):
        states(PAIRS, threshold=threshold)


def alike(*cuts: float) -> Cuts:
    return {head: list(cuts) for head in HEADS}


CUT_TABLES = {
    "judge": JUDGE_CUTS,
    "rising": rising(4),
    "shrunk": alike(2, 2.5, 3, 3.5, 4, 4.75, 5.5, 6.5, 7, 8),
    "levels the judge never gave": alike(-0.5, -0.5, 2, 3, 4, 5, 6, 7, 10.5, 10.5),
    "beyond the range": alike(-0.5, 1, 2, 3, 4, 5, 6, 7, 8, 10.5),
    "at the ends": alike(0, 0, 2, 3, 4, 5, 6, 7, 10, 10),
    "equal": alike(2, 2, 2, 2, 2, 7, 7, 7, 7, 7),
}


def on_and_between(cuts: Cuts) -> npt.NDArray[np.float64]:
    """Return scores from 0 to 10: a grid and every cut."""
    columns = [np.unique(np.round([*np.linspace(0, 10, 401), *np.clip(cuts[head], 0, 10)], 3)) for head in HEADS]
    return np.stack([np.resize(column, max(map(len, columns))) for column in columns], axis=1)


@pytest.mark.parametrize("cuts", CUT_TABLES.values(), ids=list(CUT_TABLES))
def test_the_judges_scale_rises_with_the_score_within_its_range_and_a_score_lies_where_its_cuts_say(cuts: Cuts) -> None:
    scores = on_and_between(cuts)
    found = to_judge_scale(scores, cuts)
    for i in range(len(HEADS)):
        order = np.argsort(scores[:, i], kind="stable")
        score, judged = scores[order, i], found[order, i]
        assert ((np.diff(judged) > 0) == (np.diff(score) > 0)).all()
    assert found.min() >= 0
    assert found.max() <= 10
    assert to_levels(found).tolist() == to_levels(scores, cuts).tolist()
    for threshold in THRESHOLDS:
        assert states(found, threshold=threshold).tolist() == states(scores, cuts, threshold).tolist()


def test_the_judges_scale_is_exact_at_the_cuts_and_straight_between() -> None:
    cuts = CUT_TABLES["shrunk"]
    at_cuts = np.array(cuts["sensibility"])
    assert to_judge_scale(np.stack([at_cuts, at_cuts], axis=1), cuts).tolist() == [[k + 0.5] * 2 for k in range(10)]
    between = np.array([[0, 10], [1, 9], [2.25, 4.375]])
    assert to_judge_scale(between, cuts) == pytest.approx(np.array([[0, 10], [0.25, 9.75], [1, 5]]))
    outside = CUT_TABLES["beyond the range"]  # its first cut, -0.5, stands for 0.5, its last, 10.5, for 9.5
    assert to_judge_scale(np.array([[0, 10]]), outside) == pytest.approx(np.array([[0.5 + 0.5 / 1.5, 8.5 + 2 / 2.5]]))


def test_the_judges_own_scores_are_on_the_judges_scale() -> None:
    scores = np.random.default_rng(5).uniform(0, 10, (200, 2))
    assert to_judge_scale(scores) == pytest.approx(scores, abs=1e-12)
    assert to_judge_scale(PAIRS).tolist() == PAIRS.tolist()
    assert to_judge_scale(np.zeros((0, 2), dtype=np.float32)).shape == (0, 2)


def test_rules_are_known_by_their_names_and_say_where_they_are_from() -> None:
    assert {name: (rule.name, rule.sets) for name, rule in RULES.items()} == {
        "paper": ("paper", ("sensibility", "rationality", "discard")),
        "release": ("release", ("sensibility", "rational", "neutral")),
    }
    assert all("arXiv 2407.01937" in rule.source for rule in RULES.values())


def test_what_is_low_on_both_is_discarded_on_demand() -> None:
    low = both_low(states(PAIRS))
    assert low.tolist() == [s < 5 and r < 5 for s, r in PAIRS]
    found = named(PAPER.discarding(), PAIRS)
    assert found == ["discard" if s < 5 and r < 5 else paper(s, r, 5) for s, r in PAIRS]
    with pytest.raises(ValueError, match="not in tuple"):
        RELEASE.discarding()


def test_settings_name_a_rule_or_none() -> None:
    assert rule_of(SelectSettings(rule="paper")) is PAPER
    assert rule_of(SelectSettings(rule="release")) is RELEASE
    assert rule_of(SelectSettings(rule="paper", both_low="discard")) == PAPER.discarding() != PAPER
    assert rule_of(SelectSettings(rule="top-k", limits=Limits(count=5))) is None


def test_the_threshold_is_five_unless_given() -> None:
    assert named(PAPER, PAIRS) == [paper(s, r, 5) for s, r in PAIRS]
    assert states(PAIRS).tolist() == states(PAIRS, JUDGE_CUTS, 5).tolist()
    assert to_judge_scale(PAIRS).tolist() == PAIRS.tolist()


def test_cuts_beyond_the_scale_are_the_ends_of_the_judges() -> None:
    cuts = {key: [-0.5, -0.5, 1, 2, 3, 4, 5, 6, 10.5, 10.5] for key in HEADS}
    scores = np.array([[-0.5, -2], [10.5, 12], [0.25, 8.25]])
    found = to_judge_scale(scores, cuts)
    assert found[0].tolist() == [0.0, 0.0]
    assert found[1].tolist() == [8.5, 10.0]
    assert found[2] == pytest.approx([2.0, 8.0])


def test_cuts_inside_the_scale_leave_room_for_its_ends() -> None:
    cuts = {key: [1, *range(2, 9), 8.5, 9] for key in HEADS}
    found = to_judge_scale(np.array([[0, 10], [0.5, 9.5], [1, 9]]), cuts)
    assert found.tolist() == [[0, 10], [0.25, 9.75], [0.5, 9.5]]


def test_a_cut_beyond_the_scale_moves_its_end_alone() -> None:
    cuts = {head: [-0.5, 1, 2, 3, 4, 5, 6, 7, 8, 10.5] for head in HEADS}
    found = to_judge_scale(np.array([[10.5, 11], [-0.5, -1], [9.25, 0.25]]), cuts)
    assert found.tolist() == [[9.5, 10], [0, 0], [9, 1]]


def test_a_rule_asks_for_five_unless_told() -> None:
    assert PAPER.apply(PAIRS).tolist() == PAPER.apply(PAIRS, JUDGE_CUTS, 5).tolist()
    assert PAPER.apply(PAIRS).tolist() != PAPER.apply(PAIRS, JUDGE_CUTS, 6).tolist()
