"""Counts are exact, bounded, and outlive the process."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorer.errors import OutputError
from selection.errors import WatchError
from selection.rules import PAPER
from selection.watching.counting.cells import BIN
from selection.watching.counting.counts import CATEGORIES, DAYS, WINDOWS
from selection.watching.observation import Observation
from selection.watching.settings import WatchSettings
from selection.watching.snapshot import changes
from selection.watching.watch import Watch
from tests.selection.watching.watch_data import START, stream

VOLATILE = ("now", "rate", "version")


def figures(watch: Watch) -> dict[str, Any]:
    return {name: value for name, value in watch.snapshot().items() if name not in VOLATILE}


def test_figures_are_those_of_the_rows() -> None:
    rows = stream(3000, categories=("sad", "glad", None))
    with Watch(None) as watch:
        for start in range(0, len(rows), 7):
            watch.record(rows[start : start + 7])
        found = watch.snapshot()
    scores = np.array([(row.sensibility, row.rationality) for row in rows])
    assert found["total"] == found["all"]["count"] == 3000
    assert found["all"]["means"] == pytest.approx(scores.mean(axis=0), rel=1e-5)
    assert found["all"]["deviations"] == pytest.approx(scores.std(axis=0, ddof=1), rel=1e-5)
    for i in range(2):
        exact = np.quantile(scores[:, i], (0.05, 0.25, 0.5, 0.75, 0.95), method="inverted_cdf")
        assert found["all"]["quantiles"][i] == pytest.approx(exact, abs=BIN / 2 + 1e-6)
    assert found["all"]["sets"] == {name: sum(row.set == name for row in rows) for name in PAPER.sets}
    assert found["all"]["low"] == sum(row.low for row in rows) > 0
    sad = [row for row in rows if row.category == "sad"]
    assert found["categories"]["sad"]["all"]["sets"]["discard"] == sum(row.set == "discard" for row in sad)
    assert found["categories"]["without a category"]["all"]["count"] == 1000
    assert found["recent"]["means"] == pytest.approx(scores[-500:].mean(axis=0), rel=1e-5)


def test_a_restart_finds_all_that_was_counted(tmp_path: Path) -> None:
    """Whether it was closed, or what it wrote last is not folded."""
    path, rows = tmp_path / "w.sqlite", stream(2600, categories=("a", "b"))
    rows[2000:] = [replace(row, outside=True) for row in rows[2000:]]
    with Watch(path) as watch:
        watch.record(rows[:1500])
        before = figures(watch)
    with Watch(path) as again:
        assert figures(again) == before
        again.record(rows[1500:], positions={"s": 5}, outside=(2, 10))
        before = figures(again)
        copy = tmp_path / "copy.sqlite"
        for suffix in ("", "-wal"):
            (tmp_path / f"copy.sqlite{suffix}").write_bytes((tmp_path / f"w.sqlite{suffix}").read_bytes())
    with Watch(copy) as killed:
        assert figures(killed) == before
        assert killed.positions() == {"s": 5}
        assert killed.snapshot()["recent"]["outside"] == 502


KILLED = """
import sys
from pathlib import Path
from selection.watching.watch import Watch
from tests.selection.watching.watch_data import stream
watch = Watch(Path(sys.argv[1]))
rows = stream(100_000)
for start in range(0, len(rows), 5):
    watch.record(rows[start : start + 5])
    print(watch.total, flush=True)
"""


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    said, before = 0, 0
    for lines in (3, 150, 260):  # folding comes every 200 calls
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(lines):
            said = int(process.stdout.readline())
        process.kill()
        said = int((process.stdout.read().split() or [said])[-1])
        process.wait(10)
        process.stdout.close()
        with Watch(path) as watch:
            assert said <= watch.total <= said + 5
            assert watch.snapshot()["all"]["count"] == watch.total > before
            before = watch.total


def test_memory_and_file_are_bounded(tmp_path: Path) -> None:
    """However many windows, categories and texts come; the total is still that of all."""
    path = tmp_path / "w.sqlite"
    one = stream(1)[0]
    with Watch(path, WatchSettings(window=60, keep_texts=True)) as watch:
        for day in range(100):
            rows = [
                replace(
                    one, id=f"{day}.{k}", time=START + 86_400 * day + 700 * k, category=f"c{day}-{k}", text="x" * 9999
                )
                for k in range(60)
            ]
            watch.record([replace(row, low=True) for row in rows])
        found = watch.snapshot()
        assert found["total"] == found["all"]["count"] == 6000
        assert sum(entry["count"] for entry in found["windows"].values()) == 6000
        assert len(found["windows"]) <= WINDOWS + DAYS + 1
        assert len(found["categories"]) == CATEGORIES + 1
        assert found["categories"]["all others"]["all"]["count"] == 6000 - CATEGORIES
        assert {len(row["text"]) for row in found["lows"]} == {2000}
        before = figures(watch)
    assert path.stat().st_size < 6_000_000
    with Watch(path, WatchSettings(window=60, keep_texts=True)) as watch:
        assert figures(watch) == before


def test_a_late_row_of_a_window_that_was_joined_is_counted_once(tmp_path: Path) -> None:
    one = stream(1)[0]
    path = tmp_path / "w.sqlite"
    with Watch(path, WatchSettings(window=60)) as watch:
        for k in range(80):
            watch.record([replace(one, id=str(k), time=START + 60 * k, category=str(k % 3))])
            if k % 20 == 0:
                watch.record([replace(one, id=f"late {k}", time=START, category="0")])
    with Watch(path, WatchSettings(window=60)) as watch:
        found = watch.snapshot()
    assert found["total"] == found["all"]["count"] == sum(entry["count"] for entry in found["windows"].values()) == 84


def test_texts_are_kept_only_where_asked(tmp_path: Path) -> None:
    secret = replace(stream(1)[0], text="my secret", low=True)
    for keep in (False, True):
        path = tmp_path / f"{keep}.sqlite"
        with Watch(path, WatchSettings(keep_texts=keep)) as watch:
            watch.record([secret])
            assert ("text" in watch.snapshot()["lows"][0]) is keep
        assert (b"my secret" in path.read_bytes()) is keep


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sensibility": 10.5}, "scores \\(10.5"),
        ({"rationality": float("nan")}, "nan"),
        ({"time": float("inf")}, "time inf"),
        ({"time": -1.0}, "time -1"),
        ({"set": "none"}, "set 'none', expected sensibility, rationality, discard"),
    ],
)
def test_what_cannot_be_is_refused_whole(change: dict[str, Any], says: str) -> None:
    good = stream(2)
    with Watch(None) as watch:
        with pytest.raises(WatchError, match=says):
            watch.record([good[0], replace(good[1], **change)])
        assert watch.total == watch.snapshot()["all"]["count"] == 0


def test_a_state_has_one_writer_and_is_known_by_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with Watch(path):
        found: list[BaseException] = []

        def other() -> None:
            try:
                Watch(path)
            except OutputError as error:
                found.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "another process is writing it" in str(found[0])
    with sqlite3.connect(tmp_path / "other.sqlite") as other_base:
        other_base.execute("CREATE TABLE mine (a)")
    (tmp_path / "scores.jsonl").write_text('{"id": "a"}\n' * 100)
    for name in ("other.sqlite", "scores.jsonl"):
        kept = (tmp_path / name).read_bytes()
        with pytest.raises(WatchError, match=r"is no state|cannot be kept"):
            Watch(tmp_path / name)
        assert (tmp_path / name).read_bytes() == kept
    with pytest.raises(WatchError, match="does not exist; create it first"):
        Watch(tmp_path / "no" / "w.sqlite")


def test_a_damaged_state_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    with Watch(path) as watch:
        watch.record(stream(10))
    for damage in ("UPDATE cells SET data = x'00'", "UPDATE meta SET value = '{' WHERE name = 'counts'"):
        copy = tmp_path / "copy.sqlite"
        copy.write_bytes(path.read_bytes())
        with sqlite3.connect(copy) as base:
            base.execute(damage)
        base.close()
        with pytest.raises(WatchError, match="is damaged"):
            Watch(copy)


def test_many_threads_count_together() -> None:
    rows = stream(4000)
    with Watch(None) as watch:

        def count(part: list[Observation]) -> None:
            for row in part:
                watch.record([row])
                watch.snapshot() if row.id.endswith("00") else None

        threads = [threading.Thread(target=count, args=(rows[k::4],)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert watch.snapshot()["all"]["count"] == 4000


def test_changes_bring_one_state_to_the_next() -> None:
    rows = stream(2500, categories=("a", "b", "c"))
    with Watch(None, WatchSettings(window=60)) as watch:
        watch.record(rows[:100])
        state = watch.snapshot()
        for start in range(100, 2500, 100):
            watch.record(rows[start : start + 100])
            now = watch.snapshot()
            sent = json.loads(json.dumps(changes(state, now), allow_nan=False))
            if (state["reference"] is None) == (now["reference"] is None):  # else all windows have a distance from it
                assert len(sent["windows"]) < 6
            for name, value in sent.items():
                if name in ("windows", "categories"):
                    state[name] = {key: one for key, one in (state[name] | value).items() if one is not None}
                else:
                    state[name] = value
            assert state == json.loads(json.dumps(now))
