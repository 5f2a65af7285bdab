"""The numbers of a report, against what is counted by hand and row by row, and drift against its definitions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scorer.bundle.cuts import JUDGE_CUTS
from scorer.dialogue import HEADS
from selection.files.labels import LabelTable
from selection.metrics import wilson
from selection.report.numbers import figures as of
from selection.report.numbers.drift import drift, ks, ks_limit, psi
from selection.report.numbers.judged import agreement, cost, redraws
from selection.report.sources.rows import UNKNOWN, Facts, Rows
from selection.rules import RULES
from tests.scorer.run.score_data import ABOUT, BY_HAND, CUTS, SCORES
from tests.selection.report.report_data import COUNT, labels, rows_of, scores
from tests.selection.selection_data import labels_of

RNG = np.random.default_rng(0)


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return rows_of(tmp_path / "s.parquet", scores())


@pytest.fixture
def table(tmp_path: Path) -> LabelTable:
    return labels_of(tmp_path, labels())


def test_sets_are_those_by_hand_and_their_reasons_add_up(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "s.parquet", SCORES)
    sets, reasons = of.overview(rows)["sets"], of.reasons(rows)["rows"]
    assert {name: entry["count"] for name, entry in sets.items()} == Counter(set_ for _, set_, _ in BY_HAND.values())
    for name, entry in sets.items():
        assert sum(row["count"] for row in reasons if row["set"] == name) == entry["count"]
    assert sum(row["share"] for row in reasons) == pytest.approx(1)


def test_the_joint_histogram_and_its_margins_are_those_of_numpy(rows: Rows) -> None:
    found = of.distributions(rows)
    edges = found["edges"]
    expected, _, _ = np.histogram2d(rows.scores[:, 0], rows.scores[:, 1], bins=(edges, edges))
    table = np.zeros_like(expected)
    for s, r, count in found["joint"]:
        table[s, r] = count
    assert (table == expected).all()
    for i, head in enumerate(HEADS):
        sums = np.sum(list(found["heads"][head]["counts"].values()), axis=0)
        assert sums.tolist() == expected.sum(axis=1 - i).tolist()
        assert found["heads"][head]["mean"] == pytest.approx(rows.scores[:, i].mean(), rel=1e-6)
        assert found["cuts"][head] == [CUTS[head][4], CUTS[head][5]]


def test_a_judges_whole_numbers_have_bins_of_their_own(tmp_path: Path) -> None:
    found = of.distributions(rows_of(tmp_path / "s.parquet", {"a": (10.0, 0.0), "b": (9.0, 1.0)}, raw=True))
    assert (found["whole_numbers"], found["scale"]) == (True, "judge")
    assert found["edges"] == [*np.arange(-0.5, 11)]
    assert sorted(found["joint"]) == [[9, 1, 1], [10, 0, 1]]


@pytest.mark.parametrize("rule", ["paper", "release"])
def test_the_sweep_at_the_chosen_threshold_is_the_selection(tmp_path: Path, rule: str) -> None:
    rows = rows_of(tmp_path / "s.parquet", scores(), rule=rule, threshold=(6.5, 6.5))
    sets = of.overview(rows)["sets"]
    found = of.by_threshold(rows)
    (mine,) = [row for row in found["shares"] if row["threshold"] == 6.5]
    assert {name: mine[name] for name in sets} == pytest.approx({name: entry["share"] for name, entry in sets.items()})
    assert found["chosen"] == {"sensibility": 6.5, "rationality": 6.5}
    for row in found["shares"]:
        assigned = RULES[rule].apply(rows.scores, rows.info.cuts, row["threshold"])
        assert row[found["sets"][0]] == pytest.approx((assigned == 0).mean())


def with_facts(rows: Rows, categories: int = 3) -> Rows:
    rng = np.random.default_rng(3)
    codes, turns, words = rng.integers([[-1], [1], [0]], [[categories], [12], [130]], (3, len(rows)))
    names = tuple(f"e{k}" for k in range(categories))
    return replace(rows, facts=Facts(categories=codes, names=names, turns=turns, words=words))


def test_categories_are_counted_row_by_row(rows: Rows) -> None:
    rows = with_facts(rows)
    facts = rows.facts
    assert facts is not None
    found = of.by_category(rows)
    assert [row["kept"] for row in found["rows"]] == sorted((row["kept"] for row in found["rows"]), reverse=True)
    for row in found["rows"]:
        mine = facts.categories == facts.names.index(row["name"])
        assert row["count"] == mine.sum()
        assert row["kept"] == pytest.approx((rows.sets[mine] == 0).mean())
        assert row["sensibility"] == pytest.approx(rows.scores[mine, 0].mean(), rel=1e-5)
        assert row["borderline"] == pytest.approx(rows.borderline[mine].mean())
        assert sum(row["shares"].values()) == pytest.approx(1)
    assert sum(row["count"] for row in found["rows"]) + found["without"] == COUNT


def test_rare_categories_are_one_row(rows: Rows) -> None:
    found = of.by_category(with_facts(rows, categories=of.CATEGORIES + 20))
    assert len(found["rows"]) == of.CATEGORIES + 1
    assert f"{found['categories'] - of.CATEGORIES} others" in [row["name"] for row in found["rows"]]
    assert sum(row["count"] for row in found["rows"]) + found["without"] == COUNT


def test_lengths_cover_every_dialogue_once(rows: Rows) -> None:
    found = of.by_length(with_facts(rows))
    for name in ("words", "turns"):
        assert sum(row["count"] for row in found[name]) == COUNT
    assert found["words"][0]["name"] == "1–5"
    assert found["turns"][-1]["name"] == "8+"


def test_sections_without_data_say_what_they_need(rows: Rows) -> None:
    none = np.full(COUNT, UNKNOWN)
    bare = replace(rows, facts=Facts(categories=none, names=(), turns=none, words=none))
    assert "--dialogues" in of.by_category(bare)["needs"]
    assert "--dialogues" in of.by_length(bare)["needs"]
    assert of.correlations(bare)["names"] == list(HEADS)


def test_stability_is_the_mean_of_the_chances(rows: Rows, tmp_path: Path) -> None:
    found, inside = of.stability(rows), rows.sets == 0
    assert rows.chance is not None
    assert found["expected_precision"] == pytest.approx(rows.chance[inside].mean(), rel=1e-5)
    assert found["expected_recall"] == pytest.approx(rows.chance[inside].sum() / rows.chance.sum(), rel=1e-5)
    assert sum(found["chance"]["inside"]) == inside.sum()
    assert 0 < found["change"]["moved"] < 1
    raw = of.stability(rows_of(tmp_path / "raw.parquet", scores(), raw=True))
    assert "half-widths" in raw["needs"]
    assert "a point higher or lower" in raw["borderline_means"]


def test_agreement_counts_the_labelled_dialogues(rows: Rows, table: LabelTable) -> None:
    found = agreement(rows, table)
    places = table.rows_of(rows.hashes)
    mine = places >= 0
    wanted = RULES["paper"].apply(table.scores[places[mine]], JUDGE_CUTS, 5)
    confusion = [[int(((wanted == i) & (rows.sets[mine] == j)).sum()) for j in range(3)] for i in range(3)]
    assert found["sets"]["confusion"] == confusion
    assert (found["dialogues"], found["conversations"]) == (200, 100)
    precision = found["sets"]["figures"]["precision"]
    assert precision["value"] == pytest.approx(confusion[0][0] / sum(row[0] for row in confusion))
    low, high = precision["interval"]
    assert low <= precision["value"] <= high
    calibration = found["calibration"]["rows"]
    assert sum(row["count"] for row in calibration) == 200
    at_five = next(row for row in found["by_threshold"] if row["threshold"] == 5)
    assert at_five["f1"] == pytest.approx(found["sets"]["figures"]["f1 sensibility"]["value"])


def test_a_judge_that_judged_twice_is_compared_with_itself(rows: Rows, table: LabelTable, tmp_path: Path) -> None:
    assert "two judgements" in redraws(rows, table)["needs"]
    twice = labels(10)
    again = [{**item, "sensibility": 10, "rationality": 0} for item in twice]
    read = labels_of(tmp_path, [*twice, *again])
    found = redraws(rows, read)
    kept = sum(item["sensibility"] > 5 > item["rationality"] for item in twice)
    assert found["dialogues"] == 10
    assert found["moved"] == pytest.approx(1 - kept / 10)
    assert found["jaccard"]["sensibility"] == pytest.approx(kept / 10)


def test_the_price_is_the_labels_own_or_the_one_given(rows: Rows, table: LabelTable, tmp_path: Path) -> None:
    found = cost(rows, None, None)
    assert (found["judged"], found["avoided"]) == (0, COUNT)
    assert "--judge-price" in found["needs"]
    found = cost(rows, table, 0.01)
    assert (found["judged"], found["avoided"], found["usd_avoided"]) == (200, COUNT - 200, pytest.approx(2.0))
    priced = labels_of(tmp_path, labels(cost_usd=0.5))
    assert cost(rows, priced, None)["usd_all"] == pytest.approx(COUNT * 0.5)


def test_wilson_is_the_textbooks_interval() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10)[0] == 0
    assert np.isnan(wilson(0, 0)).all()


def test_plain_makes_null_of_what_json_cannot_hold() -> None:
    value = of.plain({"a": float("nan"), "b": (1, [float("inf"), 2.5]), "c": None, "d": True})
    assert json.loads(json.dumps(value, allow_nan=False)) == {"a": None, "b": [1, [None, 2.5]], "c": None, "d": True}


def test_ks_is_the_largest_distance_of_the_distribution_functions() -> None:
    first, second = RNG.normal(size=300), RNG.normal(0.3, 1, size=200)
    at = np.concatenate([first, second])
    expected = max(abs((first <= x).mean() - (second <= x).mean()) for x in at)
    assert ks(first, second) == pytest.approx(expected)
    assert ks(first, first) == 0
    assert ks(np.zeros(3), np.ones(4)) == 1


def test_equal_distributions_pass_the_limit_19_times_in_20() -> None:
    beyond = [ks(*RNG.normal(size=(2, 400))) > ks_limit(400, 400) for _ in range(400)]
    assert 0.015 < np.mean(beyond) < 0.085


def test_psi_is_its_definition_and_bears_empty_bins_and_ties() -> None:
    reference = np.repeat(np.arange(10.0), 100)
    other = np.repeat(np.arange(10.0), np.arange(1, 11) * 20)
    p = (np.full(10, 100) + 0.5) / 1005
    q = (np.arange(1, 11) * 20 + 0.5) / 1105
    assert psi(reference, other) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi(reference, reference) == 0
    assert np.isfinite(psi(reference, np.full(50, 99.0)))
    assert psi(np.full(50, 5.0), np.full(70, 5.0)) == pytest.approx(0, abs=1e-3)


def test_the_same_scores_have_no_drift(rows: Rows, tmp_path: Path) -> None:
    found = drift(rows, rows_of(tmp_path / "b.parquet", scores()))
    assert found["scale"] == "own"
    for head in found["heads"].values():
        assert (head["ks"], head["psi"], head["mean_difference"]) == (0, 0, 0)
    assert found["common"]["moved"] == 0
    assert set(found["common"]["jaccard"].values()) == {1.0}
    others = rows_of(tmp_path / "c.parquet", {f"other-{id_}": pair for id_, pair in scores().items()})
    assert drift(rows, others)["common"] is None
    assert drift(rows, rows_of(tmp_path / "d.parquet", scores(), rule="release"))["common"] is None


def test_a_shift_is_seen_and_who_moved_is_counted(rows: Rows, tmp_path: Path) -> None:
    second = rows_of(tmp_path / "b.parquet", dict(list(scores(shift=1.5).items())[COUNT // 2 :]))
    found = drift(rows, second)
    head, common = found["heads"]["sensibility"], found["common"]
    assert head["mean_difference"] > 1
    assert head["ks"] > head["ks_95"]
    assert head["psi"] > 0.25
    assert common["dialogues"] == len(second)
    flows = np.array(common["flows"])
    assert flows.sum() == common["dialogues"]
    assert 0 < np.trace(flows) < flows.sum()
    assert common["moved"] == pytest.approx(1 - np.trace(flows) / flows.sum())


def test_other_cuts_are_compared_on_the_judges_scale(rows: Rows, tmp_path: Path) -> None:
    halved = {head: [cut / 2 for cut in cuts] for head, cuts in CUTS.items()}
    given = {id_: (s / 2, r / 2) for id_, (s, r) in scores().items()}
    found = drift(rows, rows_of(tmp_path / "b.parquet", given, {**ABOUT, "cuts": halved}))
    assert found["scale"] == "judge"
    assert found["common"]["moved"] < 0.01
    assert found["heads"]["rationality"]["ks"] < 0.02
