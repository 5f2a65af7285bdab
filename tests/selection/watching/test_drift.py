"""Figures of drift against their definitions, and alerts: none by chance, one within the window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selection.report.numbers.drift import ks as ks_of_scores
from selection.watching.alerts import Alert
from selection.watching.counting.cells import BINS, Cell
from selection.watching.counting.counts import cell_of
from selection.watching.counting.drift import ks, psi, share, share_change
from selection.watching.counting.reference import reference_of
from selection.watching.observation import rows_of
from selection.watching.settings import WatchSettings
from selection.watching.watch import Watch
from tests.selection.watching.watch_data import stream


def cell(count: int, seed: int, shift: float = 0.0) -> Cell:
    return cell_of(rows_of(stream(count, seed, shift))[0])


def test_ks_is_that_of_the_scores() -> None:
    """To what falls into one bin; and two of one source are within the interval."""
    first, second = stream(2000, 1), stream(700, 2, 0.8)
    exact = ks_of_scores(np.array([one.rationality for one in first]), np.array([one.rationality for one in second]))
    found = ks(cell(2000, 1).histogram(1), cell(700, 2, 0.8).histogram(1))
    assert exact - 0.02 < found.value <= exact
    assert found.low < found.value < found.high
    same = [ks(cell(600, k).histogram(0), cell(600, 100 + k).histogram(0)) for k in range(20)]
    assert all(one.low == 0 for one in same)


def test_psi_of_one_source_is_nothing_and_its_interval_holds_the_truth() -> None:
    same = [psi(cell(600, k).histogram(0), cell(600, 100 + k).histogram(0)) for k in range(20)]
    assert np.mean([one.value for one in same]) < 0.01  # without what chance adds
    truth = psi(cell(50_000, 1).histogram(1), cell(50_000, 2, 0.7).histogram(1)).value
    held = [psi(cell(800, k).histogram(1), cell(800, 100 + k, 0.7).histogram(1)) for k in range(40)]
    assert sum(one.low <= truth <= one.high for one in held) >= 34


def test_shares_have_known_intervals() -> None:
    """Wilson's of 5 in 100, and Newcombe's own example of method 10 (1998, table II, 56/70 against 48/80)."""
    assert (share(5, 100).low, share(5, 100).high) == pytest.approx((0.0215, 0.1118), abs=1e-4)
    found = share_change((48, 80), (56, 70))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_nothing_has_no_figures() -> None:
    assert np.isnan(ks(np.zeros(BINS), np.ones(BINS)).value)
    assert np.isnan(psi(np.ones(BINS), np.zeros(BINS)).value)
    assert np.isnan(share(0, 0).low)


@pytest.mark.parametrize("seed", range(20))
def test_an_undisturbed_source_gives_no_alert(seed: int) -> None:
    with Watch(None) as watch:
        rows = stream(3000, seed)
        for start in range(0, len(rows), 50):
            watch.record(rows[start : start + 50])
        assert watch.alerts.entries == []


@pytest.mark.parametrize("lot", [1, 64, 5000])
def test_another_source_is_noticed_within_the_window_and_forgotten_when_it_ends(lot: int) -> None:
    """However many come at once."""
    told: list[Alert] = []
    rows = stream(1800, 1) + stream(1000, 2, 1.5) + stream(1500, 3)
    with Watch(None, on_alert=told.append) as watch:
        for start in range(0, len(rows), lot):
            watch.record(rows[start : start + lot])
        names = {alert.name for alert in watch.alerts.entries}
        assert {"drift rationality", "set sensibility"} <= names
        assert 1800 < min(alert.dialogues for alert in watch.alerts.entries) <= 1800 + 500
        assert watch.alerts.open == []
        assert len(told) == 2 * len(watch.alerts.entries)
        hint = watch.snapshot()["hints"]
        assert not [one for one in hint if one["weight"] == 2]


def test_shares_outside_and_low_have_limits_without_a_reference() -> None:
    rows = [one for one in stream(3000, 4, 0.0) if one.low][:60]
    outside = [type(one)(one.time, one.id, None, 6, 3, "sensibility", outside=True) for one in rows]
    with Watch(None, WatchSettings(recent=50)) as watch:
        watch.record(rows)
        assert [alert.name for alert in watch.alerts.open] == ["low"]
        watch.record(outside)
        assert [alert.name for alert in watch.alerts.open] == ["outside"]
        hints = {one["command"].split()[1] for one in watch.snapshot()["hints"] if one["weight"] == 2}
        assert hints == {"audit"}


def test_a_reference_knows_which_dialogues_moved() -> None:
    before = stream(400, 1)
    reference = reference_of("old.parquet", [before[:100], before[100:]])
    after = [
        type(one)(one.time, one.id, "c", *pair, "sensibility")
        for one, pair in zip(before[:3], ((1, 1), (9, 9), (before[2].sensibility, before[2].rationality)), strict=True)
    ]
    with Watch(None, reference=reference) as watch:
        watch.record(after)
        found = watch.snapshot()
    assert {one["id"] for one in found["moved"]} == {before[0].id, before[1].id}
    moved = max(np.abs(np.array(one["scores"]) - one["before"]).max() for one in found["moved"])
    assert found["moved"][0]["moved"] == pytest.approx(moved, rel=1e-4)
    assert found["reference"]["name"] == "old.parquet"


def test_an_alert_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with Watch(path) as watch:
        watch.record(stream(1500, 1) + stream(600, 2, 1.5))
        before = watch.alerts.open
        assert before
    with Watch(path) as watch:
        assert watch.alerts.open == before
        assert watch.mark_told(before[0].number, 1).told == 1
    with Watch(path) as watch:
        assert [alert.told for alert in watch.alerts.open] == [1] + [0] * (len(before) - 1)
