"""A kind of file that is fuzzed, and what must hold of what is read from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from scorer.bundle.cuts import read_cuts
from scorer.run.score_table import ScoreTable
from tests.fuzz.mutants import Mutate

Found = Iterator[str]
"""What of a file that was accepted is nonsense."""

_COUNTS = frozenset(
    "count used borderline judgements dialogues judged both_low scores_without_dialogue scored repeats cut_turns "
    "cut_tokens turns steps examples response_tokens trained_on held_out responses rejected_count conversations "
    "unlabelled seconds number contexts checked pad_id max_length vocabulary window shards complete".split()
)
_SHARES = frozenset("share moved kept flips f1 finished coverage outside_share".split())
_FREE = frozenset("scorer measured made settings metadata seed created".split())
"""Parts that only other programs read, or that are checked where they are used."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A file by its name in a folder, how it is damaged, how it is read in that folder, and its share of mutants.

    ``read`` yields what is nonsense in a result; ``needs`` are what other files that it reads begin with.
    """

    name: str
    mutate: Mutate
    read: Callable[[Path], Found]
    weight: int = 1
    needs: tuple[str, ...] = ()


def need(fine: bool, what: str) -> Found:
    """Yield ``what`` unless all is fine."""
    if not fine:
        yield what


def numbers(value: Any, path: str = "") -> Found:
    """Yield the numbers of a record that are none, and negative counts and shares beyond 0 to 1."""
    plain = value if isinstance(value, (dict, list, tuple, int, float, str)) else msgspec.to_builtins(value)
    if isinstance(plain, dict):
        for key, one in plain.items():
            if key not in _FREE:
                yield from numbers(one, f"{path}.{key}")
    elif isinstance(plain, (list, tuple)):
        for one in plain:
            yield from numbers(one, path)
    elif isinstance(plain, float) and not math.isfinite(plain):
        yield f"{path[1:]} is {plain}"
    elif isinstance(plain, (int, float)) and not isinstance(plain, bool):
        name = path.rpartition(".")[2]
        if name in _COUNTS and plain < 0:
            yield f"{path[1:]} is {plain}"
        if name in _SHARES and not 0 <= plain <= 1:
            yield f"{path[1:]} is {plain}"


def table(found: ScoreTable) -> Found:
    """Yield what is wrong with a table of scores."""
    scores = found.scores
    yield from need(scores.dtype == np.float32 and scores.shape == (len(found.hashes), 2), "shape")
    yield from need(bool(((scores >= 0) & (scores <= 10)).all()), "a score out of 0 to 10")
    yield from need(len(np.unique(found.hashes)) == len(found), "ids repeat")
    yield from need(bool(read_cuts(found.cuts)), "cuts")
    if found.error is not None:
        yield from need(bool(np.isfinite(found.error.of(scores)).all()), "half-widths")
