"""The cuts of a scorer: the points of its own scale that are the judge's 0.5, 1.5 ... 9.5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scorer.dialogue import HEADS
from scorer.settings import in_range

LEVELS = tuple(level + 0.5 for level in range(10))
"""The judge's score is above or below these; for each a scorer has a cut on its own scale."""

Cuts = Mapping[str, Sequence[float]]
"""For each head ten ascending numbers on the scorer's scale that stand for 0.5, 1.5 ... 9.5 on the judge's."""

JUDGE_CUTS: Cuts = dict.fromkeys(HEADS, LEVELS)
"""The cuts of the judge's own scale."""


def read_cuts(value: Any) -> dict[str, list[float]]:
    """Return the cuts that JSON holds; ValueError says what is wrong with them."""
    if not isinstance(value, Mapping):
        raise ValueError(f"cuts are {value!r}, expected {len(LEVELS)} numbers for each of {' and '.join(HEADS)}")
    found = {}
    for head in HEADS:
        numbers = value.get(head)
        if not isinstance(numbers, (list, tuple)) or len(numbers) != len(LEVELS) or not all(map(in_range, numbers)):
            raise ValueError(f"cuts of {head} are {numbers!r}, expected {len(LEVELS)} numbers")
        if list(numbers) != sorted(numbers):
            raise ValueError(f"cuts of {head} are {numbers}, expected them in ascending order")
        found[head] = [float(number) for number in numbers]
    return found
