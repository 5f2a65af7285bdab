"""Who is taken where there is not room for all, against a reference that takes one unit after another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selection.deciding.ranking import TAKEN, Limits, Units, Why, admit, rank_key
from selection.rules import PAPER

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


def rows(units: Units, order: npt.NDArray[np.int64]) -> Units:
    return Units(**{name: getattr(units, name)[order] for name in Units.__dataclass_fields__})


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


@pytest.mark.parametrize("seed", SEEDS)
def test_a_budget_alone_leaves_nothing_better_than_what_it_takes(seed: int) -> None:
    units = make_units(seed)
    found = admit(units, Limits(count=25))
    left = units.key[found == Why.BUDGET]
    if len(left) and (found == Why.RULE).any():
        assert units.key[found == Why.RULE].min() >= left.max()
    assert ((found == Why.NOT_ELIGIBLE) == ~units.eligible).all()


def small(
    keys: list[float],
    *,
    eligible: list[bool] | None = None,
    sizes: list[int] | None = None,
    categories: list[int] | None = None,
    hashes: list[int] | None = None,
) -> Units:
    count = len(keys)
    return Units(
        key=np.array(keys),
        hashes=np.array(hashes or range(count), dtype=np.uint64),
        eligible=np.array(eligible or [True] * count),
        sizes=np.array(sizes or [1] * count),
        tokens=np.full(count, 10),
        categories=np.array(categories or [0] * count),
    )


def names(units: Units, **limits: float) -> list[str]:
    return [Why(code).name for code in admit(units, Limits(**limits))]  # type: ignore[arg-type]


def test_ties_go_to_the_smaller_hash() -> None:
    assert names(small([1, 1, 1, 1], hashes=[9, 2, 7, 4]), count=2) == ["BUDGET", "RULE", "BUDGET", "RULE"]


def test_no_room_is_filled_with_a_worse_unit_that_would_fit() -> None:
    assert names(small([3, 2, 1], sizes=[2, 3, 1]), count=4) == ["RULE", "BUDGET", "BUDGET"]
    assert names(small([3, 2, 1], sizes=[2, 3, 1]), cap=4) == ["RULE", "CAP", "CAP"]


def test_a_floor_takes_eligible_units_before_better_ones() -> None:
    units = small([9, 1, 8], eligible=[False, True, False])
    assert names(units, floor=1) == ["NOT_ELIGIBLE", "RULE", "NOT_ELIGIBLE"]
    assert names(units, floor=2) == ["FLOOR", "RULE", "NOT_ELIGIBLE"]


def test_a_floor_comes_before_better_units_where_the_budget_is_short() -> None:
    units = small([5, 4, 3, 1], categories=[0, 0, 0, 1])
    assert names(units, count=2) == ["RULE", "RULE", "BUDGET", "BUDGET"]
    assert names(units, count=2, floor=1) == ["FLOOR", "BUDGET", "BUDGET", "FLOOR"]


def test_the_tokens_of_a_unit_are_counted_not_its_dialogues() -> None:
    assert names(small([3, 2, 1], sizes=[9, 9, 9]), tokens=20) == ["RULE", "RULE", "BUDGET"]
    assert names(small([3, 2, 1]), tokens=9) == ["BUDGET"] * 3


def test_a_share_is_of_all_dialogues_not_of_the_eligible_ones() -> None:
    units = small([4, 3, 2, 1, 0, 0], eligible=[True] * 3 + [False] * 3)
    assert names(units, share=0.5) == ["RULE"] * 3 + ["NOT_ELIGIBLE"] * 3
    assert names(units, share=1 / 3) == ["RULE"] * 2 + ["BUDGET"] + ["NOT_ELIGIBLE"] * 3


def test_without_limits_the_rule_decides() -> None:
    assert names(small([1, 2], eligible=[True, False])) == ["RULE", "NOT_ELIGIBLE"]
    assert not Limits()
    assert all(bool(Limits(**{name: 1})) for name in Limits.__dataclass_fields__)


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
