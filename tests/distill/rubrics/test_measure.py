"""Figures of variants, against others that compute the same, and what changed most."""

from __future__ import annotations

import numpy as np
import pytest

from distill.rubrics.changed import most_changed, reason_in
from distill.rubrics.measure import Measures, repeat_deviation
from selection.metrics import Pair, all_figures, bootstrap
from selection.rubrics.run import FIGURES
from selection.rules import to_levels

CONVERSATIONS = [f"c{i // 2}" for i in range(60)]


@pytest.fixture
def scores() -> np.ndarray:
    """Labels and two variants, (60, 3, 2); the last variant lacks five dialogues."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 11, (60, 2)).astype(float)
    found = np.stack([labels, *(np.clip(labels + rng.integers(-3, 4, (60, 2)), 0, 10) for _ in range(2))], axis=1)
    found[:5, 2] = np.nan
    return found


def test_figures_and_intervals_are_those_of_empathy_agree(scores: np.ndarray) -> None:
    labels, other = scores[:, 0], scores[:, 1]
    found = Measures(CONVERSATIONS, 5, 200).agreement(labels, other)
    pair = Pair.of(labels, other, to_levels(other))
    figures, intervals = all_figures(pair), bootstrap(pair, CONVERSATIONS, 200)
    assert list(found) == list(FIGURES)
    for key, figure in found.items():
        assert (figure.value, figure.low, figure.high) == pytest.approx((figures[key], *intervals[key]), abs=1e-5)


def test_a_difference_is_paired_and_of_dialogues_that_all_judged(scores: np.ndarray) -> None:
    labels, first, second = scores.transpose(1, 0, 2)
    measures = Measures(CONVERSATIONS, 5, 200)
    found = measures.difference(labels, first, second)
    pairs = [Pair.of(labels[5:], one[5:], to_levels(one[5:])) for one in (first, second)]
    for key in FIGURES:
        a, b = (all_figures(pair)[key] for pair in pairs)
        assert found[key].value == pytest.approx(b - a, abs=2e-5)
    same = measures.difference(labels, first, first)
    assert {(figure.value, figure.low, figure.high) for figure in same.values()} == {(0, 0, 0)}


def test_too_few_and_constant_scores_have_no_figures(scores: np.ndarray) -> None:
    few = scores[:9]
    assert Measures(CONVERSATIONS[:9], 5, 10).agreement(few[:, 0], few[:, 1]) == {}
    found = Measures(CONVERSATIONS, 5, 10).agreement(scores[:, 0], np.full((60, 2), 5.0))
    assert found["sensibility.pearson"].value is None
    assert found["sensibility.mae"].value is not None


def test_the_deviation_of_repeats_is_pooled_over_dialogues() -> None:
    scores = np.array([[[1, 2], [3, 2], [np.nan] * 2], [[5, 5], [5, 5], [8, 5]], [[4, 4], [np.nan] * 2, [np.nan] * 2]])
    # Variances 2 (1 degree of freedom) and 3 (2 of them): the root of (2 + 6) / 3.
    assert repeat_deviation(scores) == {"sensibility": pytest.approx(np.sqrt(8 / 3), abs=1e-5), "rationality": 0}
    assert repeat_deviation(scores[:, :1]) == {}


def test_what_changed_most_comes_first_and_what_nobody_judged_never() -> None:
    scores = np.array([[[1, 1], [1, 1]], [[1, 1], [4, 3]], [[0, 0], [9, 9]], [[np.nan] * 2, [9, 9]]], float)
    found = most_changed(scores, 10, ["a", "b", "c", "d"])
    assert [(one.row, one.distance) for one in found] == [(2, 18), (1, 5)]
    assert {(one.first, one.second) for one in found} == {(0, 1)}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"sensibility": 7, "rationality": 3, "reason": "Warm, \\"kind\\"."}', 'Warm, "kind".'),
        ('```json\n{"reason": "a\\nb",\n "sensibility": 1, "rationality": 1}\n```', "a b"),
        ('<think>{"reason": "a draft"}</think>{"sensibility": 1, "rationality": 1, "reason": "the last"}', "the last"),
        ('{"sensibility": 1, "rationality": 1}', None),
        ('{"sensibility": 1, "rationality": 1, "reason": ""}', None),
        ('{"sensibility": 1, "rationality": 1, "reason": "breaks off', None),
        ("<think> without an end", None),
    ],
)
def test_a_reason_is_read_from_any_reply(reply: str, reason: str | None) -> None:
    assert reason_in(reply) == reason
