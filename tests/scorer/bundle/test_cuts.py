"""Cuts as they are read back: ten ascending numbers for each head, or a reason."""

from __future__ import annotations

import math
from typing import Any

import pytest

from scorer.bundle.cuts import JUDGE_CUTS, LEVELS, read_cuts
from scorer.dialogue import HEADS

GOOD: dict[str, Any] = {"sensibility": [*range(10)], "rationality": (-0.5, *[4.25] * 8, 10.5)}


def test_the_judges_own_cuts_lie_between_its_scores() -> None:
    assert LEVELS == (0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5)
    assert JUDGE_CUTS == {"sensibility": LEVELS, "rationality": LEVELS}
    assert read_cuts(JUDGE_CUTS) == {head: [*LEVELS] for head in HEADS}


def test_numbers_are_read_as_they_are() -> None:
    found = read_cuts({**GOOD, "other": 1})
    assert found == {"sensibility": [0.0, *range(1, 10)], "rationality": [-0.5, *[4.25] * 8, 10.5]}
    assert {type(number) for cuts in found.values() for number in cuts} == {float}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        (None, "expected 10 numbers"),
        ("0123456789", "expected 10 numbers"),
        (range(10), "expected 10 numbers"),
        ([*range(9)], "expected 10 numbers"),
        ([*range(11)], "expected 10 numbers"),
        ([*range(9), "9"], "expected 10 numbers"),
        ([*range(9), True], "expected 10 numbers"),
        ([*range(9), math.nan], "expected 10 numbers"),
        ([*range(9), math.inf], "expected 10 numbers"),
        ([1, 0, *range(2, 10)], "in ascending order"),
    ],
)
def test_other_cuts_are_refused(head: str, cuts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"cuts of {head} are .*{message}"):
        read_cuts({**GOOD, head: cuts})


@pytest.mark.parametrize("value", [None, [], [GOOD], 7])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="expected 10 numbers for each of sensibility and rationality"):
        read_cuts(value)


def test_a_head_may_not_be_missing() -> None:
    for head in HEADS:
        with pytest.raises(ValueError, match=f"cuts of {head} are None"):
            read_cuts({other: cuts for other, cuts in GOOD.items() if other != head})
