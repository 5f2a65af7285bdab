"""Who is taken where there is not room for all, against a reference that takes one unit after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selection.deciding.ranking import TAKEN, Units, Why, admit, rank_key
from selection.rules import PAPER
from selection.settings import Limits
from tests.selection.deciding.evidence_data import rows

SEEDS = range(40)


def make_units(seed: int, count: int = 60) -> Units:
    """Return units of one to four dialogues, with many ties, as many eligible as the seed says."""
    rng = np.random.default_rng(seed)
    return Units(
        key=rng.integers(-6, 7, count) / 2,
        hashes=rng.permutation(count).astype(np.uint64) + np.uint64(1 << 63),  # beyond what int64 holds
        eligible=rng.random(count) < (seed % 5) / 4,
        sizes=rng.integers(1, 5, count) if seed % 2 else np.ones(count, dtype=np.int64),
        tokens=rng.integers(0, 50, count),
        categories=rng.integers(0, 4, count),
    )


def draw_limits(seed: int) -> Limits:
    """Return any mixture of limits, some too narrow for anything and some too wide to matter."""
    rng = np.random.default_rng(1000 + seed)
    some = rng.random(5) < 0.5
    floor, more = int(rng.integers(1, 9)), int(rng.integers(0, 25))
    return Limits(
        share=float(rng.choice([0.01, 0.25, 0.5, 1.0])) if some[0] else None,
        count=int(rng.integers(1, 120)) if some[1] else None,
        tokens=int(rng.integers(1, 1500)) if some[2] else None,
        floor=floor if some[3] else None,
        cap=floor + more if some[4] else None,
    )


def admit_slowly(units: Units, limits: Limits) -> list[Why]:
    """Return why each unit is taken or not, by going through them one after another."""
    why = [Why.RULE if eligible else Why.NOT_ELIGIBLE for eligible in units.eligible]
    order = sorted(range(len(why)), key=lambda u: (not units.eligible[u], -units.key[u], int(units.hashes[u])))
    for category in set(units.categories.tolist()):
        mine = [u for u in order if units.categories[u] == category]
        if limits.floor is not None:
            have = 0
            for u in mine:
                if have < limits.floor:
                    why[u] = Why.FLOOR
                have += int(units.sizes[u])
        if limits.cap is not None:
            fill(why, [u for u in mine if why[u] <= TAKEN], units.sizes, limits.cap, Why.CAP)
    share = None if limits.share is None else round(limits.share * int(units.sizes.sum()))
    for amounts, room in ((units.sizes, limits.count), (units.sizes, share), (units.tokens, limits.tokens)):
        if room is not None:
            floors_first = [u for wanted in (Why.FLOOR, Why.RULE) for u in order if why[u] == wanted]
            fill(why, floors_first, amounts, room, Why.BUDGET)
    if limits.count is None and share is None and limits.tokens is None:
        return [Why.RULE if w == Why.FLOOR and one else w for w, one in zip(why, units.eligible, strict=True)]
    return why


def fill(why: list[Why], queue: list[int], amounts: npt.NDArray[np.int64], room: int, reason: Why) -> None:
    """Leave, for this reason, every unit of the queue from the first on that has no room."""
    for u in queue:
        room -= int(amounts[u])
        if room < 0:
            why[u] = reason


def taken(units: Units, limits: Limits) -> npt.NDArray[np.bool_]:
    return np.asarray(admit(units, limits) <= TAKEN)


@pytest.mark.parametrize("seed", SEEDS)
def test_units_are_taken_as_one_after_another(seed: int) -> None:
    units, limits = make_units(seed), draw_limits(seed)
    assert admit(units, limits).tolist() == admit_slowly(units, limits)


def test_the_drawn_limits_try_every_way_to_be_taken_or_left() -> None:
    found = np.concatenate([admit(make_units(seed), draw_limits(seed)) for seed in SEEDS])
    assert set(found.tolist()) == set(Why)


@pytest.mark.parametrize("seed", SEEDS)
def test_limits_hold(seed: int) -> None:
    units, limits = make_units(seed), draw_limits(seed)
    mine = taken(units, limits)
    by_category = np.bincount(units.categories[mine], units.sizes[mine], minlength=4)
    if limits.cap is not None:
        assert by_category.max() <= limits.cap
    if limits.count is not None:
        assert units.sizes[mine].sum() <= limits.count
    if limits.share is not None:
        assert units.sizes[mine].sum() <= round(limits.share * units.sizes.sum())
    if limits.tokens is not None:
        assert units.tokens[mine].sum() <= limits.tokens
    if limits.floor is None:
        assert units.eligible[mine].all()
    elif limits == Limits(floor=limits.floor):
        there = np.bincount(units.categories, units.sizes, minlength=4)
        assert (by_category >= np.minimum(limits.floor, there)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_the_input_changes_no_units_fate(seed: int) -> None:
    units, limits = make_units(seed), draw_limits(seed)
    order = np.random.default_rng(seed).permutation(len(units.key))
    assert admit(rows(units, order), limits).tolist() == admit(units, limits)[order].tolist()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["share", "count", "tokens"])
def test_a_larger_budget_takes_all_that_a_smaller_one_takes(seed: int, name: str) -> None:
    units, limits = make_units(seed), draw_limits(seed)
    before = np.zeros(len(units.key), dtype=bool)
    for step in range(1, 26):
        amount: dict[str, Any] = {name: {"share": step / 25, "count": 6 * step, "tokens": 64 * step}[name]}
        now = taken(units, replace(limits, **amount))
        assert (now >= before).all()
        before = now


R, F, C, B, N = Why.RULE, Why.FLOOR, Why.CAP, Why.BUDGET, Why.NOT_ELIGIBLE


@pytest.mark.parametrize(
    ("units", "limits", "expected"),
    [
        # Ties go to the smaller hash.
        ({"key": [1, 1, 1, 1], "hashes": [9, 2, 7, 4]}, {"count": 2}, [B, R, B, R]),
        # No room is filled with a worse unit that would fit.
        ({"key": [3, 2, 1], "sizes": [2, 3, 1]}, {"count": 4}, [R, B, B]),
        ({"key": [3, 2, 1], "sizes": [2, 3, 1]}, {"cap": 4}, [R, C, C]),
        # A floor takes eligible units before better ones.
        ({"key": [9, 1, 8], "eligible": [False, True, False]}, {"floor": 1}, [N, R, N]),
        ({"key": [9, 1, 8], "eligible": [False, True, False]}, {"floor": 2}, [F, R, N]),
        # A floor comes before better units where the budget is short.
        ({"key": [5, 4, 3, 1], "categories": [0, 0, 0, 1]}, {"count": 2}, [R, R, B, B]),
        ({"key": [5, 4, 3, 1], "categories": [0, 0, 0, 1]}, {"count": 2, "floor": 1}, [F, B, B, F]),
        # The tokens of a unit are counted, not its dialogues: 10 each.
        ({"key": [3, 2, 1], "sizes": [9, 9, 9]}, {"tokens": 20}, [R, R, B]),
        ({"key": [3, 2, 1]}, {"tokens": 9}, [B, B, B]),
        # A share is of all dialogues, not of the eligible ones.
        ({"key": [4, 3, 2, 1, 0, 0], "eligible": [True] * 3 + [False] * 3}, {"share": 0.5}, [R, R, R, N, N, N]),
        ({"key": [4, 3, 2, 1, 0, 0], "eligible": [True] * 3 + [False] * 3}, {"share": 1 / 3}, [R, R, B, N, N, N]),
        # Without limits the rule decides.
        ({"key": [1, 2], "eligible": [True, False]}, {}, [R, N]),
    ],
)
def test_who_is_taken_by_hand(units: dict[str, Any], limits: dict[str, Any], expected: list[Why]) -> None:
    count = len(units["key"])
    standard = {"hashes": range(count), "eligible": [True] * count, "sizes": [1] * count, "categories": [0] * count}
    columns = {name: np.array(values) for name, values in {**standard, "tokens": [10] * count, **units}.items()}
    assert admit(Units(**columns), Limits(**limits)).tolist() == expected
    assert bool(Limits(**limits)) == bool(limits)


@pytest.mark.parametrize("limits", [Limits(), Limits(floor=1, cap=2), Limits(count=1, share=0.5, tokens=3)])
def test_of_no_units_none_is_taken(limits: Limits) -> None:
    none = rows(make_units(0), np.zeros(0, dtype=np.int64))
    assert admit(none, limits).shape == (0,)


PAIRS = np.array([(s, r) for s in range(11) for r in range(11)], dtype=np.float64)


@pytest.mark.parametrize("threshold", [5, 3.4, (4.0, 7.0), (6.25, 2.0)])
def test_a_margin_is_how_far_the_nearer_score_may_move(threshold: float | tuple[float, float]) -> None:
    at_s, at_r = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    found = rank_key(PAIRS, "margin", threshold)
    assert found.tolist() == [min(s - at_s, at_r - r) for s, r in PAIRS]
    # A score has to lie half a point beyond its threshold.
    assert ((found > 0.5) == (PAPER.apply(PAIRS, threshold=threshold) == 0)).all()


def test_the_other_keys_are_the_scores_and_their_difference() -> None:
    assert rank_key(PAIRS, "sensibility").tolist() == PAIRS[:, 0].tolist()
    assert rank_key(PAIRS, "rationality").tolist() == PAIRS[:, 1].tolist()
    assert rank_key(PAIRS, "difference").tolist() == [s - r for s, r in PAIRS]
