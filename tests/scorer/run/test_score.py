"""Whole files through the scorer: input order, windows, resume after a kill, settings that change nothing."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scorer.errors import OutputError, RejectedError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import Summary, score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import AtEachBatch, Killed, kill_after, read_scores, record, varied, write_lines


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write 60 dialogues of mixed length, five broken lines among them."""
    records: list[object] = [record(*(t.content for t in d.turns), id=f"d{i}") for i, d in enumerate(varied(60))]
    for place in (3, 17, 30, 31, 62):
        records.insert(place, {"messages": []})
    return write_lines(tmp_path / "in.jsonl", records)


def run(scorer: Scorer, source: Path, output: Path, settings: ScoreSettings | None = None) -> Summary:
    return score_files(scorer, Corpus([str(source)]), output, settings)


def test_rows_come_in_input_order_and_rejects_keep_their_line(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    summary = run(scorer, source, tmp_path / "out.parquet", ScoreSettings(window=16))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == [f"d{i}" for i in range(60)]
    assert [str(field.type) for field in table.schema] == ["string", "float", "float"]
    assert (summary.tally.records, summary.tally.scored, summary.tally.rejections) == (65, 60, 5)
    assert isinstance(summary.rejects, Path)
    lines = [int(line.split('"line": ')[1].split(",")[0]) for line in summary.rejects.read_text().splitlines()]
    assert lines == [4, 18, 31, 32, 63]
    means = np.array(summary.tally.sums) / 60
    assert means == pytest.approx(
        [np.mean(table[name].to_numpy()) for name in ("sensibility", "rationality")], abs=1e-4
    )


@pytest.mark.parametrize(
    "settings",
    [
        ScoreSettings(batch_size=1),
        ScoreSettings(batch_size=256, batch_tokens=1_000_000),
        ScoreSettings(batch_tokens=1),
        ScoreSettings(window=7),
        ScoreSettings(window=1),
    ],
)
def test_scores_do_not_depend_on_batches_or_windows(
    scorer: Scorer, source: Path, tmp_path: Path, settings: ScoreSettings
) -> None:
    run(scorer, source, tmp_path / "a.parquet")
    run(scorer, source, tmp_path / "b.parquet", settings)
    first, second = (pq.read_table(tmp_path / name) for name in ("a.parquet", "b.parquet"))
    for name in ("sensibility", "rationality"):
        np.testing.assert_allclose(first[name].to_numpy(), second[name].to_numpy(), atol=1e-5)


def test_scores_do_not_depend_on_the_order(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    lines = source.read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (tmp_path / "shuffled.jsonl").write_text("".join(lines))
    run(scorer, source, tmp_path / "a.parquet")
    run(scorer, tmp_path / "shuffled.jsonl", tmp_path / "b.parquet")
    first, second = (
        {row["id"]: row["sensibility"] for row in pq.read_table(tmp_path / name).to_pylist()}
        for name in ("a.parquet", "b.parquet")
    )
    assert first.keys() == second.keys()
    assert all(first[key] == pytest.approx(second[key], abs=1e-5) for key in first)


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_a_killed_run_resumes_to_the_same_result(scorer: Scorer, source: Path, tmp_path: Path, name: str) -> None:
    settings = ScoreSettings(window=8, existing="resume")
    run(scorer, source, tmp_path / "whole.parquet", settings)
    for batches in (3, 2, 0, 1):
        with pytest.raises(Killed):
            score_files(scorer, Corpus([str(source)]), tmp_path / name, settings, kill_after(batches))
    last = AtEachBatch()
    summary = score_files(scorer, Corpus([str(source)]), tmp_path / name, settings, last)
    assert summary.resumed > 40
    assert [note for note in last.notes if "skipped" in note] == [f"skipped {summary.resumed} finished records"]
    assert (summary.tally.records, summary.tally.scored) == (65, 60)
    whole, resumed = (read_scores(tmp_path / path) for path in ("whole.parquet", name))
    assert whole.select(["id", "sensibility", "rationality"]).equals(resumed)
    rejects = tmp_path / "out" / "rejects.jsonl" if name == "out" else tmp_path / f"{name}.rejects.jsonl"
    assert len(rejects.read_text().splitlines()) == 5


def test_resuming_on_a_changed_or_shortened_input_is_refused(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    settings = ScoreSettings(window=8, existing="resume")
    with pytest.raises(Killed):
        score_files(scorer, Corpus([str(source)]), tmp_path / "out", settings, kill_after(4))
    text = source.read_text()
    source.write_text(text.replace("sad", "glad"))
    with pytest.raises(OutputError, match="changed or reordered"):
        run(scorer, source, tmp_path / "out", settings)
    source.write_text("".join(text.splitlines(keepends=True)[:10]))
    with pytest.raises(OutputError, match="changed or reordered"):
        run(scorer, source, tmp_path / "out", settings)


@pytest.mark.parametrize("left", [8, 16])
def test_an_input_that_ends_before_the_finished_windows_is_refused(
    scorer: Scorer, source: Path, tmp_path: Path, left: int
) -> None:
    settings = ScoreSettings(window=8, existing="resume")
    with pytest.raises(Killed):
        score_files(scorer, Corpus([str(source)]), tmp_path / "out", settings, kill_after(4))
    finished = len((tmp_path / "out" / "_manifest.jsonl").read_text().splitlines()) - 1
    assert finished > left // 8
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:left]))  # whole windows, all as they were
    with pytest.raises(OutputError, match=rf"window {left // 8} of the input is not what was scored before"):
        run(scorer, source, tmp_path / "out", settings)
    assert '"complete"' not in (tmp_path / "out" / "_manifest.jsonl").read_text()


def test_strict_stops_at_the_first_bad_record(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"in.jsonl:4: no_response"):
        run(scorer, source, tmp_path / "out.parquet", ScoreSettings(strict=True))
    assert not (tmp_path / "out.parquet").exists()


def test_cuts_are_counted(scorer: Scorer, tmp_path: Path) -> None:
    long = " ".join(["sad"] * 100)
    source = write_lines(tmp_path / "in.jsonl", [record("hi", "so", long, "great"), record("hi", "so")])
    summary = run(scorer, source, tmp_path / "out.parquet")
    assert (summary.tally.cut, summary.tally.cut_turns) == (1, 2)
    assert summary.tally.cut_tokens > 40
