"""Files that grow, are renamed, replaced, cut or damaged: each row is counted once."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from selection.errors import WatchError
from selection.watching.settings import WatchSettings
from selection.watching.sources.follow import Follower, Reading, read_reference
from selection.watching.sources.rows import Columns, seconds
from selection.watching.watch import Watch
from tests.scorer.run.score_data import ABOUT, BY_HAND, KINDS, OUTSIDE, write_scores
from tests.selection.watching.watch_data import growing, line


def count(watch: Watch, *sources: Path, reading: Reading | None = None) -> int:
    """Return how many rows are counted behind a step of a follower that takes up what the state says."""
    follower = Follower(sources, watch, reading or Reading())
    follower.step()
    assert follower.step() == 0
    return watch.total


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_score_file_is_read_with_its_cuts(kind: str, tmp_path: Path) -> None:
    path = write_scores(tmp_path / kind, about={**ABOUT, **OUTSIDE}, shards=2 if kind == "scores" else 1)
    with Watch(None) as watch:
        assert count(watch, path) == len(BY_HAND)
        found = watch.snapshot()
    names = [name for _, name, _ in BY_HAND.values()]
    assert found["all"]["sets"] == {name: names.count(name) for name in ("sensibility", "rationality", "discard")}
    if kind != "scores":
        assert (found["all"]["outside"], found["all"]["outside_known"]) == (1, len(BY_HAND))
    assert found["problems"] == []
    with Watch(None) as watch:
        count(watch, path, reading=Reading(raw_cuts=True))
        names = [name for *_, name in BY_HAND.values()]
        assert watch.snapshot()["all"]["sets"]["sensibility"] == names.count("sensibility")


def test_a_file_that_grows_is_counted_by_whole_lines(tmp_path: Path) -> None:
    path, state = growing(tmp_path), tmp_path / "w.sqlite"
    text = "".join(line(f"d{k}", category="ü" * (k % 3)) for k in range(20)).encode()
    for end in range(0, len(text) + 1, 97):
        path.write_bytes(text[:end])
        with Watch(state) as watch:  # a restart between any two
            assert count(watch, path) == text[:end].count(b"\n")
    path.write_bytes(text)
    with Watch(state) as watch:
        assert count(watch, path) == 20


def test_a_file_that_was_renamed_copied_or_begun_anew(tmp_path: Path) -> None:
    path, state = growing(tmp_path), tmp_path / "w.sqlite"
    path.write_text("".join(line(f"d{k}") for k in range(10)))
    with Watch(state) as watch:
        assert count(watch, tmp_path) == 10
    path.rename(tmp_path / "s.1.jsonl")  # as logrotate does
    shutil.copy(tmp_path / "s.jsonl.meta.json", tmp_path / "s.1.jsonl.meta.json")
    path.write_text(line("new"))
    with Watch(state) as watch:
        assert count(watch, tmp_path) == 11
    shutil.copy(tmp_path / "s.1.jsonl", path)
    with path.open("a") as file:
        file.write(line("and more"))
    with Watch(state) as watch:
        assert count(watch, tmp_path) == 12
    path.write_text("".join(line(f"e{k}") for k in range(3)))  # in its place, shorter
    os.utime(path, (1, 1))
    with Watch(state) as watch:
        assert count(watch, tmp_path) == 15


def test_csv_is_read_by_whole_rows(tmp_path: Path) -> None:
    path, state = growing(tmp_path, "s.csv"), tmp_path / "w.sqlite"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "sensibility", "rationality", "response", "category"])
        for k in range(12):
            writer.writerow([f"'=d{k}", 9, 3, 'two\nlines, "quoted"', "sad"])
    text = path.read_bytes()
    for end in range(0, len(text) + 1, 61):
        path.write_bytes(text[:end])
        with Watch(state) as watch:
            count(watch, path)
            assert watch.snapshot()["problems"] == []
    path.write_bytes(text)
    with Watch(state, WatchSettings(keep_texts=True)) as watch:
        assert count(watch, path) == 12
        assert watch.snapshot()["categories"]["sad"]["all"]["count"] == 12


def test_a_folder_waits_for_shards_to_be_whole(tmp_path: Path) -> None:
    """A shard counts once its manifest names it, a file once its run is finished; rejects and what is hidden never."""
    folder = write_scores(tmp_path / "scores", shards=3, finish=False)
    (folder / "part-000009.parquet").write_bytes((folder / "part-000000.parquet").read_bytes()[:-1])
    write_scores(tmp_path / "one.parquet", finish=False)
    (tmp_path / "x.rejects.jsonl").write_text("{}\n")
    (tmp_path / ".s.jsonl.1.tmp").write_text(line("hidden"))
    with Watch(None) as watch:
        assert count(watch, tmp_path) == len(BY_HAND)
        found = watch.snapshot()
        assert (found["all"]["outside"], found["all"]["outside_known"], found["problems"]) == (3, len(BY_HAND), [])


def test_what_is_wrong_is_said_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = growing(tmp_path)
    bad = [line("a", 11), line("b", "x"), line(None), "{", "[]", '"text"', line("c", float("nan")), "\xff"]
    path.write_bytes(
        (line("good") + "".join(one.rstrip("\n") + "\n" for one in bad) + "\n" + line(7)).encode("latin-1")
    )
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with Watch(None) as watch:
        assert count(watch, tmp_path) == 2
        problems = {one["source"]: one["text"] for one in watch.snapshot()["problems"]}
    assert problems["s.jsonl"].startswith("8 rows could not be read; the first: row 2: scores [11, 3.0]")
    assert "its metadata cannot be read" in problems["torn.parquet"]
    assert "has no column id" in problems["other.csv"]


def test_times_categories_and_texts_come_from_columns(tmp_path: Path) -> None:
    path = growing(tmp_path)
    times = ["2026-11-27T10:00:00Z", 1795773600, "2026-11-27 11:30"]
    path.write_text("".join(line(k, at=time, topic="t", reply="r") for k, time in enumerate(times)) + line(3, at="x"))
    with Watch(None) as watch:
        count(watch, path, reading=Reading(Columns(category="topic", time="at", text="reply")))
        found = watch.snapshot()
    assert [window["count"] for window in found["windows"].values()] == [2, 1]
    assert found["categories"]["t"]["all"]["count"] == 3
    assert "at 'x', expected unix seconds or" in found["problems"][0]["text"]
    assert seconds("2026-11-27T12:00:00+02:00") == seconds("2026-11-27T10:00:00")
    for wrong in (None, "nan", -1, "1e300", [], {}):
        with pytest.raises(ValueError, match="expected"):
            seconds(wrong)


def test_two_scorers_and_a_scorer_that_is_assumed_are_said(tmp_path: Path) -> None:
    for name, sha in (("a", "aa" * 32), ("b", "bb" * 32)):
        growing(tmp_path, f"{name}.jsonl").write_text(line(name))
        (tmp_path / f"{name}.jsonl.meta.json").write_text(json.dumps({**ABOUT, "sha256": sha}))
    (tmp_path / "none.jsonl").write_text(line("x"))
    other = write_scores(tmp_path / "before.csv", about={**ABOUT, "sha256": "cc" * 32})
    reading = Reading()
    read_reference(other, reading)
    other.unlink()
    with Watch(None) as watch:
        assert count(watch, tmp_path, reading=reading) == 3
        problems = {one["source"]: one["text"] for one in watch.snapshot()["problems"]}
    assert "and the reference are of 4 scorers" in problems["scorers"]
    assert "aaaaaaaaaaaa" in problems["scorers"]
    assert "taken to be those of starter, the included scorer" in problems["none.jsonl"]


def test_a_reference_is_scores(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.parquet", about={**ABOUT, **OUTSIDE})
    found = read_reference(path, Reading())
    assert (len(found.whole), found.whole.outside) == (len(BY_HAND), (1, len(BY_HAND)))
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "scorer.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for name, says in (
        ("bundle", "is a scorer, and keeps no scores"),
        ("no", "no such file"),
        ("empty", "holds no scores"),
    ):
        with pytest.raises(WatchError, match=says):
            read_reference(tmp_path / name, Reading())
