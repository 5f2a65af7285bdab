"""Drift between two batches: against its definitions, and what a shift does to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorer.run.score_table import read_scores
from selection.deciding.settings import SelectSettings
from selection.report.numbers.drift import drift, ks, ks_limit, psi
from selection.report.sources.rows import Rows, deal
from tests.scorer.run.score_data import ABOUT, write_scores
from tests.selection.report.report_data import COUNT, scores

RNG = np.random.default_rng(0)


def rows_of(path: Path, given: dict[str, tuple[float, float]], **about: object) -> Rows:
    return deal(read_scores(write_scores(path, given, {**ABOUT, **about})), SelectSettings(), raw=False)


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


def test_the_same_scores_have_no_drift(tmp_path: Path) -> None:
    first, second = (rows_of(tmp_path / name, scores()) for name in ("a.parquet", "b.parquet"))
    found = drift(first, second)
    assert found["scale"] == "own"
    for head in found["heads"].values():
        assert (head["ks"], head["psi"], head["mean_difference"]) == (0, 0, 0)
    assert found["common"]["moved"] == 0
    assert set(found["common"]["jaccard"].values()) == {1.0}


def test_a_shift_is_seen_and_who_moved_is_counted(tmp_path: Path) -> None:
    first = rows_of(tmp_path / "a.parquet", scores())
    second = rows_of(tmp_path / "b.parquet", dict(list(scores(shift=1.5).items())[COUNT // 2 :]))
    found = drift(first, second)
    assert found["heads"]["sensibility"]["mean_difference"] > 1
    assert found["heads"]["sensibility"]["ks"] > found["heads"]["sensibility"]["ks_95"]
    assert found["heads"]["sensibility"]["psi"] > 0.25
    common = found["common"]
    assert common["dialogues"] == len(second)
    flows = np.array(common["flows"])
    assert flows.sum() == common["dialogues"]
    assert common["moved"] == pytest.approx(1 - np.trace(flows) / flows.sum())
    assert 0 < common["moved"] < 1


def test_no_id_in_both_or_other_sets_compare_no_dialogues(tmp_path: Path) -> None:
    first = rows_of(tmp_path / "a.parquet", scores())
    other = rows_of(tmp_path / "b.parquet", {f"other-{id_}": pair for id_, pair in scores().items()})
    assert drift(first, other)["common"] is None
    table = read_scores(write_scores(tmp_path / "c.parquet", scores()))
    assert drift(first, deal(table, SelectSettings(rule="release"), raw=False))["common"] is None


def test_other_cuts_are_compared_on_the_judges_scale(tmp_path: Path) -> None:
    first = rows_of(tmp_path / "a.parquet", scores())
    halved = {head: [cut / 2 for cut in cuts] for head, cuts in ABOUT["cuts"].items()}  # type: ignore[attr-defined]
    given = {id_: (s / 2, r / 2) for id_, (s, r) in scores().items()}
    found = drift(first, rows_of(tmp_path / "b.parquet", given, cuts=halved))
    assert found["scale"] == "judge"
    assert found["common"]["moved"] < 0.01
    assert found["heads"]["rationality"]["ks"] < 0.02
