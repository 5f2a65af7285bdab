"""Choosing what to label: the same whatever the order, more of the same with a larger count, and never twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from distill.errors import SampleError
from distill.sampling.strategies import choose_rows, wrong_set_chance
from distill.settings import STRATEGIES, SampleSettings
from scorer.dialogue import Dialogue
from scorer.errors import EmpathyError
from tests.conftest import make_dialogue

COUNT = 300
CUTS = {"sensibility": [k + 0.5 for k in range(10)], "rationality": [k + 0.5 for k in range(10)]}


def make_pool(count: int = COUNT) -> list[Dialogue]:
    """Return different dialogues, three a conversation."""
    return [
        replace(make_dialogue(f"number {i}", "so sorry"), id=f"d{i}", conversation=f"c{i // 3}") for i in range(count)
    ]


def choose(
    pool: list[Dialogue], count: int, strategy: str, *, seed: int = 0, whole: bool = False, **found: Any
) -> list[int]:
    return choose_rows(pool, count, SampleSettings(strategy=strategy, seed=seed, whole_conversations=whole), **found)


POOL, RNG = make_pool(), np.random.default_rng(0)
KNOWN: dict[str, Any] = {
    "scores": RNG.uniform(0, 10, (COUNT, 2)).astype(np.float32),
    "uncertainty": RNG.uniform(1, 3, (COUNT, 2)).astype(np.float32),
    "embeddings": RNG.standard_normal((COUNT, 16)).astype(np.float32),
}
"""What strategies choose by."""


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# What all strategies promise


def test_so_many_different_dialogues_are_chosen(strategy: str) -> None:
    chosen = choose(POOL, 100, strategy, **KNOWN)
    assert len(chosen) == len(set(chosen)) == 100
    assert all(type(row) is int for row in chosen)
    assert set(choose(POOL, COUNT, strategy, **KNOWN)) == set(range(COUNT))
    assert choose(POOL, 0, strategy, **KNOWN) == []


def test_the_order_of_the_input_changes_nothing(strategy: str) -> None:
    shuffle = np.random.default_rng(5).permutation(COUNT)
    known = {name: rows[shuffle] for name, rows in KNOWN.items()}
    shuffled = choose([POOL[row] for row in shuffle], 100, strategy, **known)
    assert [int(shuffle[row]) for row in shuffled] == choose(POOL, 100, strategy, **KNOWN)


@pytest.mark.parametrize("whole", [False, True])
def test_a_larger_count_is_the_smaller_choice_and_more(strategy: str, whole: bool) -> None:
    larger = choose(POOL, 200, strategy, whole=whole, **KNOWN)
    for count in (1, 7, 100):
        smaller = choose(POOL, count, strategy, whole=whole, **KNOWN)
        assert larger[: len(smaller)] == smaller


def test_two_rounds_choose_what_one_larger_would(strategy: str) -> None:
    first = choose(POOL, 80, strategy, **KNOWN)
    second = choose(POOL, 120, strategy, taken={POOL[row].id for row in first}, **KNOWN)
    assert first + second == choose(POOL, 200, strategy, **KNOWN)


def test_what_has_a_label_is_never_chosen_again(strategy: str) -> None:
    taken = [f"d{i}" for i in range(0, COUNT, 2)] + ["of another corpus"]
    chosen = choose(POOL, COUNT // 2, strategy, seed=3, taken=taken, **KNOWN)
    assert set(chosen) == set(range(1, COUNT, 2))


def test_another_seed_is_another_choice(strategy: str) -> None:
    chosen = [set(choose(POOL, 60, strategy, seed=seed, **KNOWN)) for seed in (0, 1)]
    assert 0 < len(chosen[0] & chosen[1]) < 50


def test_conversations_stay_whole_on_demand(strategy: str) -> None:
    chosen = choose(POOL, 100, strategy, whole=True, **KNOWN)
    assert 100 <= len(chosen) < 100 + 3  # the last conversation is not cut
    assert set(Counter(POOL[row].conversation for row in chosen).values()) == {3}


def test_the_rest_of_a_conversation_is_what_has_no_label(strategy: str) -> None:
    taken = {POOL[row].id for row in range(0, COUNT, 3)}
    chosen = choose(POOL, 50, strategy, whole=True, taken=taken, **KNOWN)
    assert set(Counter(POOL[row].conversation for row in chosen).values()) == {2}
    assert not taken & {POOL[row].id for row in chosen}


def test_a_choice_is_the_same_on_every_machine_and_for_ever() -> None:
    assert [POOL[row].id for row in choose(POOL, 5, "random")] == ["d260", "d36", "d143", "d258", "d267"]


def test_more_dialogues_leave_the_random_order_of_the_others() -> None:
    more = make_pool(2 * COUNT)
    order = [row for row in choose(more, len(more), "random") if row < COUNT]
    assert order == choose(POOL, COUNT, "random")


# Errors


@pytest.mark.parametrize(
    ("count", "strategy", "given", "words"),
    [
        (301, "random", {}, "a sample of 301, expected 0 to 300: there are 300 dialogues and 0 of them have labels"),
        (299, "random", {"taken": ["d0", "d1"]}, "expected 0 to 298: there are 300 dialogues and 2 of them"),
        (-1, "random", {}, "a sample of -1"),
        (9, "random", {"threshold": 0}, "threshold 0, expected a whole number from 1 to 9"),
        (9, "rare", {}, "strategy is 'rare', expected random or stratified or diverse or uncertain"),
        (9, "stratified", {}, "'stratified' chooses by scores and there are none"),
        (9, "uncertain", {}, "'uncertain' chooses by scores and there are none"),
        (9, "diverse", {"scores": KNOWN["scores"]}, "'diverse' chooses by embeddings and there are none"),
        (9, "uncertain", {"scores": KNOWN["scores"][:9]}, r"scores of shape \(9, 2\), expected \(300, 2\)"),
        (9, "uncertain", {"scores": KNOWN["embeddings"]}, r"scores of shape \(300, 16\), expected \(300, 2\)"),
        (9, "uncertain", {"scores": np.full((COUNT, 2), np.nan, np.float32)}, "no finite number"),
        (9, "diverse", {"embeddings": np.full((COUNT, 4), np.inf, np.float32)}, "embeddings hold a value"),
    ],
)
def test_what_cannot_be_chosen_is_one_clear_line(count: int, strategy: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(SampleError, match=words) as caught:
        choose(POOL, count, strategy, **given)
    assert isinstance(caught.value, EmpathyError)
    assert "\n" not in str(caught.value)


def test_an_id_that_occurs_twice_is_refused() -> None:
    with pytest.raises(SampleError, match="id 'd1' occurs twice"):
        choose([*POOL[:5], POOL[1]], 3, "random")


# stratified


def test_rare_scores_get_as_many_labels_as_frequent_ones() -> None:
    scores = np.full((COUNT, 2), (8, 2), dtype=np.float32)
    scores[:20] = (1, 7)
    scores[20:24] = (5, 5)
    chosen = choose(POOL, 34, "stratified", scores=scores)
    assert Counter(map(tuple, scores[chosen].tolist())) == {(8, 2): 15, (1, 7): 15, (5, 5): 4}


def test_cells_are_those_of_the_scorers_own_cuts() -> None:
    scores = np.linspace(4, 6, COUNT)[:, None].repeat(2, axis=1).astype(np.float32)
    cuts = {name: [0.1 * k for k in range(9)] + [5.9] for name in CUTS}
    chosen = choose(POOL, 20, "stratified", scores=scores, cuts=cuts)
    assert sum(scores[chosen, 0] > 5.9) == 10


def test_labels_that_are_there_count_for_their_cell() -> None:
    scores = np.where(np.arange(COUNT)[:, None] < 100, (2, 2), (8, 8)).astype(np.float32)
    chosen = choose(POOL, 40, "stratified", scores=scores, taken=[f"d{i}" for i in range(30)])
    assert sum(row < 100 for row in chosen) == 5  # 35 of either


def test_within_a_cell_categories_take_turns() -> None:
    pool = [replace(item, category="rare" if i < 30 else "common" if i < 200 else None) for i, item in enumerate(POOL)]
    scores = np.full((COUNT, 2), 5, dtype=np.float32)
    chosen = choose(pool, 60, "stratified", scores=scores)
    assert Counter(pool[row].category for row in chosen) == {"rare": 20, "common": 20, None: 20}


# diverse


def clusters(sizes: list[int]) -> np.ndarray[Any, Any]:
    """Return tight clusters of so many points each, far from one another."""
    rng = np.random.default_rng(2)
    centres = 10 * np.eye(len(sizes), 8)
    return (np.repeat(centres, sizes, axis=0) + 1e-3 * rng.standard_normal((sum(sizes), 8))).astype(np.float32)


def test_each_cluster_is_visited_before_any_is_visited_again() -> None:
    embeddings = clusters([280, 10, 5, 4, 1])
    chosen = choose(POOL, 5, "diverse", embeddings=embeddings)
    assert sorted(embeddings[chosen].argmax(axis=1).tolist()) == [0, 1, 2, 3, 4]


def test_what_is_labelled_is_kept_away_from() -> None:
    embeddings = clusters([100, 100, 100])
    taken = [f"d{i}" for i in range(200)]  # more than one block of centres
    taken.remove("d50")
    assert choose(POOL, 1, "diverse", embeddings=embeddings, taken=taken)[0] >= 200


def test_copies_are_chosen_last_and_by_their_hashes() -> None:
    embeddings = np.ones((COUNT, 4), dtype=np.float32)
    embeddings[7] = 2
    chosen = choose(POOL, COUNT, "diverse", embeddings=embeddings)
    assert 7 in chosen[:2]
    order = choose(POOL, COUNT, "random")
    assert chosen[2:] == [row for row in order if row not in chosen[:2]]


# uncertain


def test_the_chance_of_a_wrong_set_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    scores, widths = rng.uniform(2, 8, (20, 2)), rng.uniform(1, 4, (20, 2))
    draws = scores + widths / 1.6449 * rng.standard_normal((200_000, 20, 2))
    s, r = draws[..., 0], draws[..., 1]
    kept, discarded = (s > 5.5) & (r < 4.5), (s < 4.5) & (r > 5.5)
    expected = 1 - np.max([kept.mean(0), discarded.mean(0), (~kept & ~discarded).mean(0)], axis=0)
    np.testing.assert_allclose(wrong_set_chance(scores, widths, CUTS, 5), expected, atol=5e-3)


FIRST = np.arange(COUNT)[:, None] < 40


@pytest.mark.parametrize(
    ("first", "others", "widths", "threshold"),
    [
        ((5.5, 0.5), (9.5, 0.5), 1, 5),  # near a cut that decides; the others are surely kept
        ((7, 3), (7, 3), np.where(FIRST, 6, 0.5).repeat(2, axis=1), 5),  # a larger error makes the same score less sure
        ((9, 1), (10, 0), 0.9, 5),  # all but sure: chances of 1e-10 and less, to the fourth power
        ((7.5, 2), (5, 2), 1, 7),  # another threshold
        ((9.5, 4.5), np.where(FIRST[::-1], (5.5, 9.5), (9.5, 9.5)), 1, 5),  # the last 40 are near a cut of no effect
    ],
)
def test_what_the_scorer_is_least_sure_of_comes_first(first: Any, others: Any, widths: Any, threshold: int) -> None:
    scores = np.where(FIRST, first, others).astype(np.float32)
    uncertainty = np.broadcast_to(widths, scores.shape).astype(np.float32)
    chosen = choose(POOL, 40, "uncertain", scores=scores, uncertainty=uncertainty, threshold=threshold)
    assert sorted(chosen) == list(range(40))


def test_a_scorer_s_own_cuts_decide_what_is_uncertain() -> None:
    scores = np.where(FIRST, (5.5, 0.5), (9.5, 0.5)).astype(np.float32)
    cuts = {name: [0.1 * k for k in range(1, 11)] for name in CUTS}
    widths = np.ones((COUNT, 2), dtype=np.float32)
    chosen = choose(POOL, 40, "uncertain", scores=scores, uncertainty=widths, cuts=cuts)
    assert sum(row < 40 for row in chosen) < 40


def test_without_a_known_error_it_is_the_spread_of_the_scores() -> None:
    spread = np.broadcast_to(1.6449 * KNOWN["scores"].std(axis=0), (COUNT, 2)).astype(np.float32)
    given = choose(POOL, 50, "uncertain", scores=KNOWN["scores"], uncertainty=spread)
    assert len(set(given) & set(choose(POOL, 50, "uncertain", scores=KNOWN["scores"]))) >= 49


def test_more_than_one_corner_is_asked_about() -> None:
    scores = np.full((COUNT, 2), (5.5, 2), dtype=np.float32)
    scores[100:] = (6.2, 2)
    widths = np.full((COUNT, 2), 2, dtype=np.float32)
    chosen = choose(POOL, 60, "uncertain", scores=scores, uncertainty=widths)
    assert 0 < sum(row >= 100 for row in chosen) < 40  # two thirds by chance, none if only the least sure were taken
