"""Conversations are assigned to folds by a hash: the same everywhere, whatever else is there, and evenly."""

from __future__ import annotations

import random

import numpy as np
import pytest

from selection.folds import HOLDOUT_PARTS, fold_of, folds_of, inner_holdout

MANY = [f"conversation {number}" for number in range(10_000)]


@pytest.mark.parametrize(
    ("conversation", "seed", "fold"),
    [("a", 0, 2), ("a", 1, 4), ("conversation 7", 0, 1), ("conversation 7", 1, 4), ("", 0, 4), ("žluť", 0, 2)],
)
def test_a_conversations_fold_is_the_same_on_every_machine_and_for_ever(
    conversation: str, seed: int, fold: int
) -> None:
    assert fold_of(conversation, 5, seed) == fold


def test_a_conversations_fold_does_not_depend_on_what_else_is_there() -> None:
    whole = dict(zip(MANY, folds_of(MANY, 7, 3).tolist(), strict=True))
    shuffled = random.Random(0).sample(MANY, 500)
    assert folds_of(shuffled, 7, 3).tolist() == [whole[name] for name in shuffled]
    assert folds_of([*shuffled, "another"], 7, 3).tolist()[:-1] == [whole[name] for name in shuffled]


def test_rows_of_one_conversation_stay_together() -> None:
    rows = ["x", "y", "x", "z", "y", "x"]
    folds = folds_of(rows, 1000, 0)
    assert len({(row, fold) for row, fold in zip(rows, folds.tolist(), strict=True)}) == 3
    held_out = inner_holdout(MANY[:50] * 2, 0)
    assert held_out[:50].tolist() == held_out[50:].tolist()


@pytest.mark.parametrize("folds", [2, 3, 10])
def test_folds_are_of_about_one_size(folds: int) -> None:
    counts = np.bincount(folds_of(MANY, folds, 0), minlength=folds)
    assert len(counts) == folds
    assert counts == pytest.approx(len(MANY) / folds, rel=0.1)


def test_another_seed_assigns_otherwise() -> None:
    first, second = folds_of(MANY, 5, 0), folds_of(MANY, 5, 1)
    assert (first == second).mean() == pytest.approx(0.2, abs=0.02)
    assert (inner_holdout(MANY, 0) & inner_holdout(MANY, 1)).mean() == pytest.approx(0.01, abs=0.005)


@pytest.mark.parametrize("folds", [5, HOLDOUT_PARTS])
def test_an_inner_split_takes_a_tenth_of_every_fold(folds: int) -> None:
    inner, fold = inner_holdout(MANY, 0), folds_of(MANY, folds, 0)
    assert inner.dtype == np.bool_
    for number in range(folds):
        assert inner[fold == number].mean() == pytest.approx(0.1, abs=0.03)


def test_no_conversations_are_in_no_fold() -> None:
    assert folds_of([], 5, 0).shape == (0,)
    assert folds_of([], 5, 0).dtype == np.int64
    assert inner_holdout([], 0).shape == (0,)
