"""Half-widths beside the scores: what belongs to which score, and the columns that `--uncertainty` writes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from scorer.bundle.bundle import load_bundle, write_bundle
from scorer.bundle.uncertainty import UNCERTAINTY_COLUMNS, Uncertainty
from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from scorer.errors import BundleError, OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import Summary, score_files
from scorer.run.score_file import read_metadata
from scorer.run.settings import ScoreSettings
from scorer.run.stream import score_stream
from tests.conftest import Parts, Run, read_scores, record, varied, write_lines

UNCERTAINTY = Uncertainty(
    edges={"sensibility": [4.0, 6.5], "rationality": []},
    widths={"sensibility": [0.5, 1.25, 2.1], "rationality": [3.0]},
    coverage=0.9,
)
NAMES = ["id", *HEADS, *UNCERTAINTY_COLUMNS]


@pytest.fixture(scope="module")
def uncertain(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    """The tiny scorer with an uncertainty."""
    info, files = parts
    folder = tmp_path_factory.mktemp("uncertain") / "tiny"
    write_bundle(folder, {**info, "uncertainty": UNCERTAINTY}, files)
    return Scorer.load(folder, engine="onnxruntime", threads=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write 40 dialogues, a broken record among them."""
    records: list[object] = [record(*(t.content for t in d.turns), id=f"d{i}") for i, d in enumerate(varied(40))]
    records.insert(7, {"messages": []})
    return write_lines(tmp_path / "in.jsonl", records)


def run(scorer: Scorer, source: Path, output: Path, **more: Any) -> Summary:
    settings = ScoreSettings(**{"uncertainty": True, "window": 16, **more})
    return score_files(scorer, Corpus([str(source)]), output, settings)


# Which width belongs to a score


def test_a_score_has_the_width_of_its_region_and_an_edge_that_of_the_higher() -> None:
    scores = np.array([[0, 0], [3.99, 5], [4, 10], [6.4, 1], [6.5, 2], [10, 3]], dtype=np.float32)
    widths = UNCERTAINTY.of(scores)
    assert widths.dtype == np.float32
    assert widths[:, 0].tolist() == pytest.approx([0.5, 0.5, 1.25, 1.25, 2.1, 2.1])
    assert widths[:, 1].tolist() == [3] * 6


def test_no_scores_have_no_widths() -> None:
    assert UNCERTAINTY.of(np.zeros((0, 2), dtype=np.float32)).shape == (0, 2)


# What a bundle may hold


def changed(**change: Any) -> dict[str, Any]:
    """Return the JSON with other edges or widths of sensibility, or another coverage; ``...`` leaves one out."""
    value: dict[str, Any] = msgspec.to_builtins(UNCERTAINTY)
    for name, entry in change.items():
        if name == "coverage":
            value[name] = entry
        else:
            value[name] = {**value[name], "sensibility": entry}
        if entry is ...:
            del value[name]
    return value


def test_one_dialogue_has_its_pair_of_widths_and_what_is_no_number_has_none() -> None:
    many = UNCERTAINTY.of(np.array([[5.0, 5.0], [np.nan, np.nan]], dtype=np.float32))
    assert np.isnan(many[1]).all()
    np.testing.assert_array_equal(UNCERTAINTY.of(np.array([5.0, 5.0], dtype=np.float32)), many[0])


def test_an_uncertainty_survives_json() -> None:
    assert msgspec.convert(json.loads(json.dumps(changed())), Uncertainty) == UNCERTAINTY


THREE = [
    *[..., None, 3, "12", "text", {}, [[1], [2]], ["1", "2", "3"], [None, 1, 2], [float("nan"), 1, 2]],
    *[[float("inf")] * 3, [True, True, True], [10**400, 1, 2], [1, 2, 3, 4], [0.5, 1, -1], [0.5, 1, 10.5, 2]],
]
COVERAGES: list[Any] = [..., None, "0.9", True, [], {}, 0, 1, -0.1, 1.1, 90, float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize(
    "change",
    [*({key: value} for key in ("edges", "widths") for value in THREE), *({"coverage": value} for value in COVERAGES)],
    ids=range(2 * len(THREE) + len(COVERAGES)),
)
def test_a_malformed_value_is_refused_and_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        msgspec.convert(changed(**change), Uncertainty)


@pytest.mark.parametrize("edges", [[6.5, 4.0], [4.0]])
def test_edges_that_do_not_fit_the_widths_are_refused(edges: list[float]) -> None:
    with pytest.raises(ValueError, match=f"uncertainty of sensibility: {len(edges)} edges and 3 widths"):
        msgspec.convert(changed(edges=edges), Uncertainty)


@pytest.mark.parametrize("value", [[], {}, changed(coverage=2), changed(widths=[10**400, 1, 1])], ids=range(4))
def test_a_bundle_with_a_malformed_uncertainty_is_refused(parts: Parts, tmp_path: Path, value: Any) -> None:
    info, files = parts
    with pytest.raises(BundleError, match=r"scorer\.json: .*uncertainty"):
        write_bundle(tmp_path / "bundle", {**info, "uncertainty": value}, files)


def test_a_bundle_gives_its_uncertainty_back(uncertain: Scorer, scorer: Scorer) -> None:
    assert uncertain.bundle.info.uncertainty == UNCERTAINTY
    assert load_bundle(uncertain.bundle.path).info.uncertainty == UNCERTAINTY
    assert scorer.bundle.info.uncertainty is None


# The columns


def columns(output: Path) -> tuple[list[str], list[str], Scores]:
    """Return the names of a score file's columns, its ids, and its numbers (N, 4)."""
    if output.suffix == ".csv":
        names, *rows = csv.reader(io.StringIO(output.read_text()))
        return names, [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=np.float32)
    if output.suffix == ".jsonl":
        records = [json.loads(line) for line in output.read_text().splitlines()]
        names = list(records[0])
        assert all(list(entry) == names for entry in records)
    else:
        table = read_scores(output)
        names, records = table.column_names, table.to_pylist()
    numbers = [[entry[name] for name in names[1:]] for entry in records]
    return names, [entry["id"] for entry in records], np.array(numbers, dtype=np.float32)


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
def test_every_kind_of_score_file_has_a_width_beside_each_score(
    uncertain: Scorer, source: Path, tmp_path: Path, name: str
) -> None:
    summary = run(uncertain, source, tmp_path / name)
    assert (summary.tally.scored, summary.tally.records, len(summary.tally.sums)) == (40, 41, 2)
    names, ids, numbers = columns(tmp_path / name)
    assert names == NAMES
    assert ids == [f"d{i}" for i in range(40)]
    assert numbers[:, 2:].tolist() == UNCERTAINTY.of(numbers[:, :2]).tolist()
    assert len(set(numbers[:, 2].tolist())) == 3  # every region
    if name == "out.parquet":
        assert [str(kind) for kind in pq.read_schema(tmp_path / name).types] == ["string", *["float"] * 4]
        assert read_metadata(tmp_path / name)["sha256"] == uncertain.bundle.sha256
    run(uncertain, source, tmp_path / "plain.parquet", uncertainty=False)
    plain = columns(tmp_path / "plain.parquet")
    assert plain[0] == NAMES[:3]
    assert numbers[:, :2].tolist() == plain[2].tolist()


def test_a_stream_has_the_same_columns(uncertain: Scorer, source: Path, tmp_path: Path) -> None:
    run(uncertain, source, tmp_path / "out.jsonl")
    scores, rejects = io.StringIO(), io.StringIO()
    score_stream(uncertain, Corpus([str(source)]), scores, rejects, ScoreSettings(uncertainty=True))
    assert [json.loads(line) for line in scores.getvalue().splitlines()] == [
        pytest.approx(json.loads(line), abs=1e-4) for line in (tmp_path / "out.jsonl").read_text().splitlines()
    ]


def test_a_window_of_rejects_alone_has_no_rows(uncertain: Scorer, tmp_path: Path) -> None:
    dialogues: list[object] = [record("i am sad", "so sorry", id="d")]
    source = write_lines(tmp_path / "in.jsonl", [*[{"messages": []}] * 3, *dialogues])
    run(uncertain, source, tmp_path / "out.csv", window=1)
    assert columns(tmp_path / "out.csv")[1] == ["d"]


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
def test_a_scorer_without_one_says_so_before_anything_is_written(
    scorer: Scorer, source: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BundleError, match=r": holds no uncertainty; train and export it again to have one$"):
        run(scorer, source, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_run_without_the_columns_is_not_resumed_with_them(uncertain: Scorer, source: Path, tmp_path: Path) -> None:
    run(uncertain, source, tmp_path / "out", uncertainty=False)
    with pytest.raises(OutputError, match="was begun with uncertainty False and this run has True; use the same"):
        run(uncertain, source, tmp_path / "out", existing="resume")


def test_the_command_writes_them_and_names_a_scorer_that_has_none(
    empathy: Run, uncertain: Scorer, scorer: Scorer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    done = empathy("score", source, "-o", output, "--scorer", uncertain.bundle.path, "--uncertainty", "-q")
    assert done.returncode == 0, done.stderr
    assert output.read_text().splitlines()[0] == ",".join(NAMES)
    refused = empathy("score", source, "--scorer", scorer.bundle.path, "--uncertainty")
    assert refused.returncode == 2
    assert "holds no uncertainty" in refused.stderr
    assert refused.stdout == ""
