"""A judge against a scorer, another judge and itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.agreement.compare import MIN_PAIRS, judge_against_judge, judge_against_scorer, judge_name, self_agreement
from distill.errors import AgreementError
from distill.labelled import LabelledSet
from scorer.dialogue import HEADS
from scorer.model import Scorer
from selection.metrics import Pair, all_figures
from selection.rules import to_levels
from tests.conftest import COUNT, JUDGE, labels, read, same

# Against a scorer


def test_a_judge_is_compared_with_a_scorer_by_the_scorers_cuts(labelled: LabelledSet, scorer: Scorer) -> None:
    found = judge_against_scorer(labelled, scorer, 4).measure(0)
    scores = scorer.score(labelled.dialogues)
    pair = Pair.of(labelled.scores, scores, to_levels(scores, scorer.bundle.info.cuts))
    same(found.figures, all_figures(pair, threshold=4))
    assert (found.reference, found.other, found.threshold) == ("judge-1", "tiny", 4)
    assert found.conversations == [f"c{i // 2}" for i in range(COUNT)]
    assert (found.intervals, found.warnings, found.notes) == ({}, [], [])


def test_dialogues_that_were_trained_on_are_warned_of(labelled: LabelledSet, partly_trained: Scorer) -> None:
    found = judge_against_scorer(labelled, partly_trained)
    assert len(found.pair) == COUNT
    (warning,) = found.warnings
    assert warning.startswith("15 of 60 dialogues were trained on, so these figures flatter tiny: ")
    assert "--unseen" in warning


def test_unseen_leaves_them_out(labelled: LabelledSet, partly_trained: Scorer) -> None:
    found = judge_against_scorer(labelled, partly_trained, unseen=True).measure(0)
    assert found.warnings == []
    assert found.pair.reference.tolist() == labelled.scores[15:].tolist()
    assert found.conversations == labelled.conversations[15:]
    same(found.figures, judge_against_scorer(labelled.take(np.arange(15, COUNT)), partly_trained).measure(0).figures)


def test_a_scorer_that_saw_everything_leaves_nothing_to_compare(labelled: LabelledSet, partly_trained: Scorer) -> None:
    found = judge_against_scorer(labelled.take(np.arange(15)), partly_trained, unseen=True)
    with pytest.raises(AgreementError, match=r"^0 dialogues are in both, expected at least 10$"):
        found.measure()


# Against another judge


def test_two_judges_are_matched_by_text(tmp_path: Path) -> None:
    first = read(tmp_path / "a.jsonl", labels(40))
    others = [{**entry, "id": f"other {i}"} for i, entry in enumerate(labels(45, seed=1))]
    for entry in others:
        entry["messages"] = [{**turn, "content": turn["content"].upper() + " "} for turn in entry["messages"]]
    second = read(tmp_path / "b.jsonl", list(reversed(others[5:])))
    found = judge_against_judge(first, second, ("a", "b"), 7).measure(0)
    pair = Pair.of(first.scores[5:], second.scores[::-1][:35], to_levels(second.scores[::-1][:35]))
    same(found.figures, all_figures(pair, threshold=7))
    assert (found.reference, found.other) == ("a", "b")
    assert found.notes == ["5 and 5 dialogues are in one set only"]
    assert found.conversations == first.conversations[5:]


def test_a_judge_agrees_with_its_own_labels(labelled: LabelledSet) -> None:
    found = judge_against_judge(labelled, labelled, ("a", "b")).measure(20)
    assert found.notes == []
    assert found.figures["paper.kappa"] == found.figures["sensibility.quadratic_kappa"] == 1
    assert found.figures["rationality.mae"] == 0
    assert found.intervals["paper.accuracy"] == (1, 1)


@pytest.mark.parametrize("common", [0, MIN_PAIRS - 1])
def test_judges_of_too_few_common_dialogues_are_refused(labelled: LabelledSet, common: int) -> None:
    found = judge_against_judge(labelled.take(np.arange(20)), labelled.take(np.arange(20 - common, 60)), ("a", "b"))
    with pytest.raises(AgreementError, match=f"^{common} dialogues are in both, expected at least 10$"):
        found.measure()


# Against itself


def judged(folder: Path, count: int, *judges: dict[str, Any] | None) -> LabelledSet:
    """Return dialogues that each of these judges scored, with other random scores each time."""
    records = [entry for i, judge in enumerate(judges) for entry in labels(count, seed=i, judge=judge)]
    return read(folder / "judged.jsonl", records)


def test_a_judge_is_compared_with_its_second_judgement(tmp_path: Path) -> None:
    hot = {**JUDGE, "temperature": 0.7}
    found = self_agreement(judged(tmp_path, 30, JUDGE, {"model": "judge-2"}, hot, JUDGE), 4)
    assert found is not None
    name, figures = found
    assert name == "judge with itself (30 dialogues, temperature 0, 0.7)"
    first, second = (
        np.array([[entry[head] for head in HEADS] for entry in labels(30, seed=seed)], dtype=float) for seed in (0, 2)
    )
    same(figures, all_figures(Pair.of(first, second, to_levels(second)), threshold=4))


@pytest.mark.parametrize(
    ("count", "judges", "name"),
    [
        (MIN_PAIRS, [None, None], f"judge with itself ({MIN_PAIRS} dialogues, temperature not stated)"),
        (MIN_PAIRS - 1, [None, None], None),  # too few
        (30, [JUDGE, {"model": "judge-2"}], None),  # two models are not one judge
        (30, [JUDGE], None),
    ],
)
def test_a_judge_is_compared_with_itself_where_enough_was_judged_twice(
    tmp_path: Path, count: int, judges: list[dict[str, Any] | None], name: str | None
) -> None:
    found = self_agreement(judged(tmp_path, count, *judges))
    assert (found and found[0]) == name


@pytest.mark.parametrize(
    ("judges", "name"),
    [
        ([None], "judge"),
        ([{"model": "b"}, {"model": "a"}], "a + b"),
        ([{"model": "b", "temperature": 1}, {"model": "b"}], "b"),
        ([{"model": name} for name in "abcd"], "4 judges"),
    ],
)
def test_a_judge_is_called_what_its_labels_say(tmp_path: Path, judges: list[dict[str, Any] | None], name: str) -> None:
    assert judge_name(judged(tmp_path, 2, *judges)) == name
