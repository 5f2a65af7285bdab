"""The published selection rules, on the judge's integers and on a scorer's own scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from scorer.dialogue import HEADS
from selection.rules import JUDGE_CUTS, PAPER, RELEASE, RULES, Cuts, Rule, to_levels

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


def test_both_rules_agree_on_the_first_set_and_on_its_opposite() -> None:
    sets = [rule.apply(PAIRS) for rule in RULES.values()]
    assert all((found == 0).tolist() == (sets[0] == 0).tolist() for found in sets)
    opposites = [(rule.apply(PAIRS) == rule.opposite).tolist() for rule in RULES.values()]
    assert opposites[0] == opposites[1]
    assert {name: rule.name for name, rule in RULES.items()} == {"paper": "paper", "release": "release"}


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_scorers_scores_are_read_off_its_own_cuts(rule: Rule, threshold: int) -> None:
    scale = np.array([0.4, 0.7]), np.array([3.0, 1.0])
    cuts = {head: [0.5 * (1 + 2 * k) * scale[0][i] + scale[1][i] for k in range(10)] for i, head in enumerate(HEADS)}
    scores = (PAIRS * scale[0] + scale[1]).astype(np.float32)
    assert rule.apply(scores, cuts, threshold).tolist() == rule.apply(PAIRS, threshold=threshold).tolist()
    assert to_levels(scores, cuts).tolist() == PAIRS.tolist()


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_set_read_off_scores_is_that_of_their_integers(rule: Rule, threshold: int, kind: type[np.floating]) -> None:
    cuts = rising(threshold)
    equal = np.array([(s, r) for s in [-1, *cuts["sensibility"], 11] for r in [-1, *cuts["rationality"], 11]])
    scores = np.concatenate([equal, np.random.default_rng(0).uniform(-1, 11, (500, 2))]).astype(kind)
    found = rule.apply(scores, cuts, threshold)
    assert found.tolist() == rule.apply(to_levels(scores, cuts), threshold=threshold).tolist()


def test_the_mean_of_two_judgements_is_dealt_as_its_integer() -> None:
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


def test_equal_cuts_leave_out_the_level_between_them() -> None:
    cuts = {head: [*[2.0] * 5, *[7.0] * 5] for head in HEADS}
    scores = np.linspace(0, 10, 101)[:, None].repeat(2, axis=1)
    assert set(to_levels(scores, cuts).ravel().tolist()) == {0, 5, 10}


@pytest.mark.parametrize("threshold", [-1, 0, 10, 11])
def test_a_threshold_outside_one_to_nine_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match=f"threshold {threshold}, expected a number from 1 to 9"):
        PAPER.apply(PAIRS, threshold=threshold)


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_no_scores_fall_into_no_set(rule: Rule) -> None:
    assert rule.apply(np.zeros((0, 2), dtype=np.float32)).tolist() == []
    assert to_levels(np.zeros((0, 2), dtype=np.float32)).shape == (0, 2)
