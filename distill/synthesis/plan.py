"""What a corpus lacks: dialogues by category and region of the two scores, and how many to ask for where."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.synthesis.settings import REGIONS
from scorer.arrays import Numbers
from scorer.bundle.cuts import Cuts
from scorer.dialogue import Dialogue
from selection.rules import states

BETWEEN = "between"
"""Where a score lies at the threshold, so that no region has the dialogue."""

_MOST_TURNS = 8
_MOST_WORDS = 120


@dataclass(frozen=True, slots=True)
class Cell:
    """One category in one region: how many dialogues the corpus ``has`` there, and how many are asked for."""

    category: str | None
    region: str
    has: int
    ask: int


@dataclass(frozen=True, slots=True)
class Style:
    """How long the corpus's dialogues are: numbers of turns as often as they occur, words of the middle half of turns.

    Turns are even, from 2 to 8: the person's and the listener's by turns.
    """

    turns: tuple[int, ...]
    words: tuple[int, int]


def regions_of(scores: Numbers, cuts: Cuts, threshold: float) -> list[str]:
    """Return the region of each of the scores (N, 2) on the scale of ``cuts``, ``BETWEEN`` where there is none."""
    names = {place: name for name, place in REGIONS.items()}
    places = states(scores, cuts, threshold).tolist()
    return [names.get((sensibility, rationality), BETWEEN) for sensibility, rationality in places]


def plan_cells(
    categories: Sequence[str | None], regions: Sequence[str], wanted: Sequence[str], count: int
) -> list[Cell]:
    """Return every category with every wanted region, and how many of ``count`` dialogues to ask for in each.

    Each next one goes where corpus and plan have the fewest, so that the emptiest cells rise to one level. A larger
    count asks for no fewer anywhere. Dialogues without a category are a category only where none has one.
    """
    named: list[str | None] = [*sorted({category for category in categories if category is not None})]
    has = Counter(zip(categories, regions, strict=True))
    cells: list[tuple[str | None, str]] = [(name, region) for name in named or [None] for region in wanted]
    waiting = [(has[cell], number) for number, cell in enumerate(cells)]
    heapq.heapify(waiting)
    asked = Counter[int]()
    for _ in range(count):
        level, number = waiting[0]
        asked[number] += 1
        heapq.heapreplace(waiting, (level + 1, number))
    return [Cell(name, region, has[name, region], asked[number]) for number, (name, region) in enumerate(cells)]


def style_of(dialogues: Sequence[Dialogue]) -> Style:
    """Return how long the dialogues are."""
    said = [[turn for turn in dialogue.turns if turn.role in {"user", "assistant"}] for dialogue in dialogues]
    turns = Counter(min(_MOST_TURNS, max(2, len(one) + len(one) % 2)) for one in said)
    least = max(1, len(dialogues) // 100)  # a length that is rarer is left out: each stands for one in a hundred
    words = np.array([min(_MOST_WORDS, len(turn.content.split())) for one in said for turn in one])
    low, high = np.percentile(words, (25, 75)).round().astype(int).tolist()
    lengths = [length for length, count in sorted(turns.items()) for _ in range(count // least)]
    return Style(tuple(lengths), (max(3, low), max(8, high)))
