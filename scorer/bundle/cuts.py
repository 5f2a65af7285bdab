"""The cuts of a scorer: where its own scale stands for the judge's."""

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
    return {head: _cuts_of(head, value.get(head)) for head in HEADS}


def _cuts_of(head: str, values: Any) -> list[float]:
    numbers = values if isinstance(values, (list, tuple)) and all(map(in_range, values)) else ()
    if len(numbers) != len(LEVELS):
        raise ValueError(f"cuts of {head} are {values!r}, expected {len(LEVELS)} numbers")
    if list(numbers) != sorted(numbers):
        raise ValueError(f"cuts of {head} are {values}, expected them in ascending order")
    return [float(number) for number in numbers]
