"""Calibration, cuts and uncertainty against a plain reference, to the last digit, on few dialogues."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from distill.training.calibrate import (
    COVERAGE,
    Calibration,
    balanced_cuts,
    cross_coverage,
    cut_table,
    few_label_cuts,
    fit_calibration,
    fit_uncertainty,
    measure,
)
from scorer.dialogue import HEADS
from selection.metrics import Pair, all_figures

Floats = npt.NDArray[np.float64]
Table = dict[str, list[float]]


def data(seed: int, count: int) -> tuple[Floats, Floats]:
    """Return scores and the judge's integers, the heads pulling in opposite directions."""
    rng = np.random.default_rng(seed)
    depth = rng.standard_normal(count)
    signal = np.stack([6 + 1.5 * depth, 4 - 1.6 * depth], axis=1) + rng.normal(0, 0.5, (count, 2))
    return signal, (signal + rng.normal(0, 1.5, (count, 2))).round().clip(0, 10)


def plain_table(scores: Floats, labels: Floats) -> Table:
    table: Table = {}
    for head, name in enumerate(HEADS):
        ordered = sorted(scores[:, head].tolist())
        table[name] = []
        for level in range(10):
            below = sum(label <= level + 0.5 for label in labels[:, head].tolist())
            if 0 < below < len(ordered):
                table[name].append(round((ordered[below - 1] + ordered[below]) / 2, 4))
            else:
                table[name].append(10.5 if below else -0.5)
    return table


def plain_distance(scores: Floats, labels: Floats, table: Table, weight: float) -> float:
    """Return the weighted squares of what the shares are off, in plain loops over dialogues."""
    judge = {head: [level + 0.5 for level in range(10)] for head in HEADS}
    total, rows = 0.0, range(len(scores))

    def above(values: Floats, cuts: Table, row: int, head: int, level: int) -> bool:
        return bool(values[row, head] > cuts[HEADS[head]][level])

    for head in range(2):
        for level in range(10):
            mine = sum(above(scores, table, row, head, level) for row in rows)
            total += ((mine - sum(above(labels, judge, row, head, level) for row in rows)) / len(scores)) ** 2
    for first, second in ((0, 1), (1, 0)):
        for level in range(9):
            counts = [
                sum(
                    above(values, cuts, row, first, level + 1) and not above(values, cuts, row, second, level)
                    for row in rows
                )
                for values, cuts in ((scores, table), (labels, judge))
            ]
            total += (weight * (counts[0] - counts[1]) / len(scores)) ** 2
    return total


def plain_balance(scores: Floats, labels: Floats, reach: float, weight: float) -> Table:
    table, count = plain_table(scores, labels), len(scores)
    start = {head: list(cuts) for head, cuts in table.items()}
    for _ in range(10):
        before = {head: list(cuts) for head, cuts in table.items()}
        for number, head in enumerate(HEADS):
            ordered = sorted(scores[:, number].tolist())
            for level in range(10):
                tries = [table[head][level]]
                middle = sum(score < start[head][level] for score in ordered)
                place = max(1, middle - max(1, int(reach * count)))
                while 0 <= start[head][level] <= 10 and place < min(count, middle + max(1, int(reach * count)) + 1):
                    cut = round((ordered[place - 1] + ordered[place]) / 2, 4)
                    low = table[head][level - 1] if level else -math.inf
                    high = table[head][level + 1] if level < 9 else math.inf
                    tries += [cut] if low < cut < high else []
                    place += max(1, int(reach / 20 * count))
                found = [
                    plain_distance(
                        scores, labels, {**table, head: [*table[head][:level], cut, *table[head][level + 1 :]]}, weight
                    )
                    for cut in tries
                ]
                best = min(range(len(tries)), key=lambda n: round(found[n], 12))
                table[head][level] = tries[best]
        if table == before:
            break
    return table


def test_a_table_is_the_plain_one() -> None:
    for seed in range(4):
        scores, labels = data(seed, 61)
        assert cut_table(scores, labels) == plain_table(scores, labels)
        labels[::2] -= 0.5  # means of judgements
        assert cut_table(scores, labels) == plain_table(scores, labels)


@pytest.mark.parametrize(
    ("seed", "count", "reach", "weight"), [(0, 40, 0.3, 2.0), (1, 50, 0.2, 6.0), (2, 90, 0.5, 1.0)]
)
def test_balanced_cuts_are_the_plain_ones(seed: int, count: int, reach: float, weight: float) -> None:
    scores, labels = data(seed, count)
    found, expected = (
        balanced_cuts(scores, labels, reach=reach, set_weight=weight),
        plain_balance(scores, labels, reach, weight),
    )
    assert expected != cut_table(scores, labels)
    distances = [plain_distance(scores, labels, table, weight) for table in (found, expected)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-12)
    assert found == expected


def test_the_settings_of_the_cuts() -> None:
    scores, labels = data(5, 400)
    default = balanced_cuts(scores, labels)
    assert default == balanced_cuts(scores, labels, reach=0.02, set_weight=2.0)
    for reach, weight in ((0.03, 2.0), (0.02, 40.0)):
        assert default != balanced_cuts(scores, labels, reach=reach, set_weight=weight)
    few = few_label_cuts(scores, labels)
    assert few == balanced_cuts(scores, labels, reach=0.15, set_weight=6.0)
    assert few != balanced_cuts(scores, labels, reach=0.15) != default
    assert few != balanced_cuts(scores, labels, set_weight=6.0)


def test_the_scores_own_precision_is_no_matter() -> None:
    scores, labels = data(6, 200)
    narrow, wide = scores.astype(np.float32), scores.astype(np.float32).astype(np.float64)
    assert balanced_cuts(narrow, labels.astype(np.int64)) == balanced_cuts(wide, labels)
    assert cut_table(narrow, labels) == cut_table(wide, labels)


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, 2.0), (1.5, -1.0), (0.001, 5.0)])
def test_a_line_is_found_again(slope: float, intercept: float) -> None:
    scores = np.array([[1.0, 9.0], [2.0, 4.0], [4.0, 2.0], [7.0, 3.0]])
    labels = scores * slope + intercept
    found = fit_calibration(scores, labels)
    assert found.slope == pytest.approx([slope] * 2)
    assert found.intercept == pytest.approx([intercept] * 2)
    applied = found.apply(scores)
    assert applied.dtype == np.float32
    assert applied.ravel().tolist() == pytest.approx(labels.clip(0, 10).ravel().tolist(), rel=1e-5)


def test_labels_that_say_nothing_leave_scores_as_they_are() -> None:
    scores = np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    assert fit_calibration(scores, np.full((3, 2), 5.0)) == Calibration((1.0, 1.0), (0.0, 0.0))
    assert fit_calibration(scores, np.array([[1, 1], [0, 0], [1, 5]])) == Calibration((1.0, 1.0), (0.0, 0.0))


def errors(*sizes: float) -> tuple[Floats, Floats]:
    """Return scores of 5 and labels that lie so far above."""
    scores = np.full((len(sizes), 2), 5.0)
    return scores, scores + np.array(sizes)[:, None]


@pytest.mark.parametrize(("count", "rank"), [(9, 9), (10, 10), (11, 11), (18, 18), (19, 18), (20, 19), (29, 27)])
def test_a_width_is_the_error_of_its_rank(count: int, rank: int) -> None:
    found = fit_uncertainty(*errors(*(n / 8 for n in range(count, 0, -1))))
    assert found.coverage == COVERAGE == 0.9
    assert found.widths == {head: [rank / 8] for head in HEADS}
    assert found.edges == {head: [] for head in HEADS}


@pytest.mark.parametrize("count", [1, 8])
def test_too_few_errors_have_the_whole_scale(count: int) -> None:
    assert fit_uncertainty(*errors(*[1.0] * count)).widths == {head: [10.0] for head in HEADS}


def test_a_width_is_rounded_up_to_the_fourth_digit() -> None:
    for error, width in ((0.12341, 0.1235), (0.12349, 0.1235), (0.5, 0.5), (0.0, 0.0)):
        assert fit_uncertainty(*errors(*[error] * 9)).widths["sensibility"] == pytest.approx([width], abs=1e-9)


@pytest.mark.parametrize(("count", "regions"), [(59, 1), (60, 2), (90, 3), (119, 3), (179, 5), (180, 5), (400, 5)])
def test_regions_part_the_scores_evenly_and_a_score_on_an_edge_is_above_it(count: int, regions: int) -> None:
    scores = np.stack([np.arange(count) / 64.0, np.arange(count)[::-1] / 64.0], axis=1)
    labels = scores + np.arange(count)[:, None] % 7
    found = fit_uncertainty(scores, labels)
    for i, head in enumerate(HEADS):
        edges = [round(float(np.quantile(scores[:, i], k / regions)), 4) for k in range(1, regions)]
        assert list(found.edges[head]) == edges
        bounds = [-math.inf, *edges, math.inf]
        for number in range(regions):
            inside = (scores[:, i] >= bounds[number]) & (scores[:, i] < bounds[number + 1])
            ordered = sorted(np.abs(scores - labels)[inside, i].tolist())
            assert found.widths[head][number] == pytest.approx(
                ordered[math.ceil((len(ordered) + 1) * 0.9) - 1], abs=1e-4
            )


def test_equal_scores_make_one_region() -> None:
    found = fit_uncertainty(*errors(*[1.0] * 100))
    assert [len(set(found.edges[head])) for head in HEADS] == [1, 1]
    assert [len(found.widths[head]) for head in HEADS] == [2, 2]
    assert found.widths["rationality"] == [10.0, 1.0]


def test_an_error_that_equals_the_width_is_covered_and_a_larger_one_is_not() -> None:
    folds = np.repeat([0, 1], 9)
    for more, share in ((0.0, 1.0), (0.00009, 1.0), (0.0002, 0.5), (0.5, 0.5)):
        scores, labels = errors(*[1.0] * 9, *[1.0 + more] * 9)
        assert cross_coverage(scores, labels, folds) == (share, share)


def test_the_figures_that_a_checkpoint_carries() -> None:
    scores, labels = data(7, 120)
    folds = np.arange(120) % 3
    found = measure(scores, labels, folds)
    figures = {"pearson", "spearman", "mae", "rmse", "quadratic_kappa"}
    paper = {"accuracy", "kappa", "f1.sensibility", "share.sensibility", "judge_share.sensibility"}
    assert set(found) == {
        *(f"{head}.{name}" for head in HEADS for name in figures),
        *(f"paper.{name}" for name in paper),
        "coverage",
        "coverage_aim",
    }
    levels: dict[str, Any] = {}

    def cuts_of(some: npt.NDArray[np.floating], _: npt.NDArray[np.floating]) -> Table:
        levels.setdefault("sizes", []).append(len(some))
        return {head: [level + 0.5 for level in range(10)] for head in HEADS}

    other = measure(scores, labels, folds, cuts_of)
    assert levels["sizes"] == [80, 80, 80]
    whole = np.stack([np.searchsorted([level + 0.5 for level in range(10)], scores[:, i]) for i in range(2)], axis=1)
    expected = all_figures(Pair.of(labels, scores, whole))
    assert {name: round(expected[name], 4) for name in other if name in expected} == {
        name: value for name, value in other.items() if name in expected
    }
    assert list(other["coverage"]) == [*HEADS]
    assert all(value == round(value, 4) for value in other["coverage"].values())
