"""Several judges' labels are combined by what each is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.labelled import read_labelled
from distill.panel.agreement import compare_judges, panel_lines
from distill.panel.reliability import MIN_COMPLETE, Reliability, estimate_reliability
from scorer.arrays import Floats
from scorer.dialogue import HEADS
from tests.conftest import labels, write_lines


def judged(
    rng: np.random.Generator, count: int, errors: list[float], scales: list[float] | None = None, spread: float = 1.5
) -> tuple[Floats, Floats]:
    """Return what is true, (N, 2), and what judges with such errors say of it, (N, J, 2)."""
    truth = rng.normal(5, spread, (count, len(HEADS)))
    said = [
        5 + scale * (truth - 5) + number * 0.3 + rng.normal(0, error, truth.shape)
        for number, (error, scale) in enumerate(zip(errors, scales or [1.0] * len(errors), strict=True))
    ]
    return truth, np.stack(said, axis=1)


def estimated(values: Floats) -> Reliability:
    found = estimate_reliability([f"judge {number}" for number in range(values.shape[1])], values)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("errors", "scales"), [([0.8, 2.0], None), ([0.8, 1.5, 2.5], None), ([0.8, 1.2, 0.5, 3.0], [1.2, 1.0, 0.8, 1.0])]
)
def test_errors_are_found_and_the_combination_beats_the_mean_and_every_judge(
    errors: list[float], scales: list[float] | None
) -> None:
    truth, values = judged(np.random.default_rng(0), 4000, errors, scales)
    found = estimated(values)
    assert found.error == pytest.approx(np.stack([errors] * 2, axis=1), abs=0.12)
    scores = found.combine(values)
    for head in range(len(HEADS)):
        reached = float(np.corrcoef(scores[:, head], truth[:, head])[0, 1])
        others = [float(np.corrcoef(one, truth[:, head])[0, 1]) for one in values[:, :, head].T]
        assert reached > max(others)
        assert reached > float(np.corrcoef(values[:, :, head].mean(axis=1), truth[:, head])[0, 1])
    assert found.share.sum(axis=0) == pytest.approx([1, 1])


def test_who_judges_higher_than_the_others_shifts_no_dialogue_that_only_it_judged() -> None:
    truth, values = judged(np.random.default_rng(1), 2000, [0.5, 0.5])
    values[:, 1] += 2
    values[1000:1500, 0] = values[1500:, 1] = np.nan
    scores = estimated(values).combine(values)
    parts = [float((scores - truth)[rows].mean()) for rows in (slice(1000), slice(1000, 1500), slice(1500, None))]
    assert parts == pytest.approx([parts[0]] * 3, abs=0.1)
    assert ((scores >= 0) & (scores <= 10)).all()


def test_a_judge_that_guesses_hardly_counts() -> None:
    rng = np.random.default_rng(2)
    _, values = judged(rng, 500, [1.0, 1.0, 1.0])
    values[:, 2] = rng.uniform(0, 10, (500, 2))
    assert (estimated(values).share[2] < 0.03).all()


@pytest.mark.parametrize("case", ["one judge", "few dialogues", "no two judged the same", "opposite", "a constant"])
def test_what_cannot_be_told_is_not_guessed(case: str) -> None:
    _, values = judged(np.random.default_rng(3), MIN_COMPLETE * 2, [1.0, 1.0])
    if case == "one judge":
        values = values[:, :1]
    elif case == "few dialogues":
        values = values[: MIN_COMPLETE - 1]
    elif case == "no two judged the same":
        values[::2, 0] = values[1::2, 1] = np.nan
    elif case == "opposite":
        values[:, 1] = 10 - values[:, 0]
    else:
        values[:, 1] = 5
    assert estimate_reliability([str(number) for number in range(values.shape[1])], values) is None


def test_labels_of_judges_are_combined_where_they_are_read(tmp_path: Path) -> None:
    count = 3 * MIN_COMPLETE
    truth, values = judged(np.random.default_rng(4), count, [0.5, 2.0])
    records: list[dict[str, Any]] = []
    for number, name in enumerate(("good", "bad", "good")):  # the good one judges twice
        own = values[:, number % 2] + (0 if number < 2 else 0.2)
        given = labels(count, seed=number, judge={"model": name, "temperature": 0.7})
        records += [
            {**entry, **dict(zip(HEADS, np.clip(one, 0, 10).tolist(), strict=True))}
            for entry, one in zip(given, own, strict=True)
        ]
    labelled = read_labelled([str(write_lines(tmp_path / "l.jsonl", records))])
    assert labelled.reliability is not None
    assert labelled.reliability.names == ("good", "bad")
    assert (labelled.reliability.share[0] > 0.8).all()
    plain = values.mean(axis=1)
    assert np.abs(labelled.scores - truth).mean() < np.abs(plain - truth).mean()
    panel = compare_judges(labelled)
    assert panel is not None
    assert [entry.name for entry in (*panel.pairs, *panel.selves)] == [
        "good with bad",
        "good with itself, temperature 0.7",
    ]
    assert panel.selves[0].figures["sensibility.pearson"] > 0.99
    text = "\n".join(panel_lines(panel))
    assert "labels are combined by reliability, estimated from 150 dialogues" in text
    few = read_labelled([str(write_lines(tmp_path / "few.jsonl", [*records[:20], *records[count : count + 20]]))])
    expected = [np.mean([getattr(one, HEADS[0]) for one in row]) for row in few.judgements]
    assert few.scores[:, 0].tolist() == pytest.approx(expected, abs=1e-5)
    panel = compare_judges(few)
    assert panel is not None
    assert "labels of several judges are averaged" in "\n".join(panel_lines(panel))
    assert panel.to_json()["combined"] == "mean"
