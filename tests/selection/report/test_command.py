"""`empathy report` on the command line: what it reads, what it writes, and what is wrong in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.dialogue import Turn
from scorer.inputs.corpus import Corpus
from selection.files.labels import read_labels
from selection.report.build import ReportSettings, figures
from selection.report.charts.draw import build
from selection.report.charts.style import to_svg
from selection.report.page import render
from selection.report.sources.examples import CHARACTERS, KINDS, choose, shown
from selection.report.sources.selection_folder import read_selection
from selection.report.sources.texts import of_selection
from tests.conftest import write_lines
from tests.scorer.run.score_data import ABOUT, write_scores
from tests.selection.report.report_data import COUNT, labels, prepare, records, scores
from tests.selection.selection_data import fine, invoke, names, one_line

SETS = ("sensibility.jsonl", "rationality.jsonl", "discard.jsonl")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("report"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of what the tests of this file read, to be changed at will."""
    return shutil.copytree(made, tmp_path / "work")


def refused(folder: Path, *arguments: str) -> str:
    """Return the one line with which the command refuses; nothing may have been written."""
    before = names(folder)
    places = [str(folder / item) if (folder / item).exists() else item for item in arguments]
    result = invoke(*places, "-o", str(folder / "r.html"), command="report")
    assert names(folder) == before
    return one_line(result.exit_code, result.stderr)


def test_a_page_and_its_numbers_are_written(folder: Path) -> None:
    result = invoke(
        str(folder / "sets"), "-o", str(folder / "r.html"), "--json", str(folder / "r.json"), command="report"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert f"sets: {COUNT} dialogues; sensibility" in result.stderr
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert len(page) < 1_000_000
    assert "http" not in page.replace("http-equiv", "").replace('xmlns="http://www.w3.org/2000/svg"', "")
    found = json.loads((folder / "r.json").read_text())
    info = json.loads((folder / "sets" / "selection.json").read_text())
    (source,) = found["sources"]
    assert source["overview"]["sets"]["sensibility"]["count"] == info["sets"]["sensibility"]["count"]
    assert source["provenance"]["scorer"]["sha256"] == ABOUT["sha256"]
    assert source["rejects"]["count"] == info["rejected"]["count"] == 1


def test_scores_with_their_dialogues_say_the_same_as_their_selection(folder: Path) -> None:
    dealt = figures([folder / "sets"], ReportSettings())["sources"][0]
    bare = figures([folder / "s.parquet"], ReportSettings(), corpus=Corpus([str(folder / "in.jsonl")]))["sources"][0]
    for section in ("overview", "distributions", "thresholds", "categories", "lengths", "correlations", "reasons"):
        assert dealt[section] == bare[section], section
    assert bare["matched"] == {"with_dialogue": COUNT, "scores_without_dialogue": 0, "dialogues_without_score": 0}
    assert dealt["stability"]["chance"] == bare["stability"]["chance"]
    assert dealt["stability"]["change"]["moved"] == pytest.approx(bare["stability"]["change"]["moved"])


@pytest.mark.parametrize("layout", ["openai", "sharegpt", "alpaca"])
def test_texts_are_found_in_every_format(folder: Path, layout: str) -> None:
    fine(
        str(folder / "in.jsonl"), "--scores", str(folder / "s.parquet"), "-o", str(folder / layout), "--format", layout
    )
    rows = read_selection(folder / layout)
    picks = choose(rows)
    texts = of_selection(folder / layout, rows, [pick.row for pick in picks])
    known = {item["id"]: item["messages"] for item in records()}
    assert len(texts) == len(picks) > 20
    for text in texts.values():
        turns = [(turn["role"], turn["content"]) for turn in known[text.id]]
        expected = turns if layout != "alpaca" or turns[0][0] == "user" else [("user", ""), *turns]
        assert [(turn.role, turn.content) for turn in text.turns] == expected


@pytest.mark.parametrize(
    "more",
    [["--rule", "top-k", "--count", "50"], ["--cap", "9"], ["--rule", "release", "--threshold-sensibility", "6.5"]],
)
def test_other_rules_sets_and_limits_make_a_page(folder: Path, more: list[str]) -> None:
    fine(str(folder / "in.jsonl"), "--scores", str(folder / "s.parquet"), "-o", str(folder / "other"), *more)
    found = figures([folder / "other"], ReportSettings(), labels=read_labels([str(folder / "labels.jsonl")]))
    (source,) = found["sources"]
    assert sum(entry["count"] for entry in source["overview"]["sets"].values()) == COUNT
    assert source["provenance"]["limited"] == ("release" not in more)
    assert source["agreement"]["calibration"] is None or "release" in more
    charts = build(found)
    drawn = dict.fromkeys(charts, "") | {"joint": to_svg("joint", *charts["joint"])}
    assert ("region of the sensibility set" in drawn["joint"]) == ("top-k" not in more)
    page = render(found, drawn)
    assert page.count("<article") > 20
    assert ("surplus" in page) == ("--cap" in more)


def test_labels_that_select_make_a_page_without_a_scorer(folder: Path) -> None:
    fine(str(folder / "labels.jsonl"), "-o", str(folder / "judged"))
    assert invoke(str(folder / "judged"), "-o", str(folder / "r.html"), command="report").exit_code == 0
    assert "a judge&#39;s labels decided" in (folder / "r.html").read_text(encoding="utf-8")


def test_one_dialogue_is_enough(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "one.parquet", {"a": (9.0, 1.0)})
    assert invoke(str(path), "-o", str(tmp_path / "r.html"), command="report").exit_code == 0


def test_examples_are_the_same_in_a_rerun_and_another_order(made: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", records()[::-1])
    fine(str(tmp_path / "in.jsonl"), "--scores", str(made / "s.parquet"), "-o", str(tmp_path / "sets"))
    first, second = read_selection(made / "sets"), read_selection(tmp_path / "sets")
    picked = [[(rows.hashes[pick.row], pick.kind) for pick in choose(rows)] for rows in (first, second)]
    assert picked[0] == picked[1]
    assert {pick.kind for pick in choose(first)} == set(KINDS)
    assert len({row for row, _ in picked[0]}) == len(picked[0])


def test_what_is_shown_of_a_dialogue_is_bounded() -> None:
    turns = [Turn("user", "a" * 5000), Turn("assistant", "b"), Turn("user", "c" * 100), Turn("assistant", "d" * 9000)]
    found, left_out = shown(turns)
    assert sum(len(turn["content"]) for turn in found) == CHARACTERS
    assert left_out == 0
    assert [turn["cut"] > 0 for turn in found] == [True, False, False, True]
    assert found[-1]["content"] == "d" * (CHARACTERS - CHARACTERS // 3)
    assert shown([Turn("user", "hi"), Turn("assistant", "hello")]) == (
        [{"role": "user", "content": "hi", "cut": 0}, {"role": "assistant", "content": "hello", "cut": 0}],
        0,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["empty"], "is neither a selection (it has no selection.json) nor scores"),
        (["sets", "--rule", "release"], "--rule is about plain scores"),
        (["sets", "--dialogues", "in.jsonl"], "--dialogues is about plain scores"),
        (["s.parquet", "--threshold", "11"], "threshold 11, expected a number from 1 to 9"),
        (["s.parquet", "--threshold", "nan"], "threshold nan, expected a number from 1 to 9"),
        (["sets", "--judge-price", "-1"], "judge price -1, expected US dollars"),
        (["sets", "--judge-price", "nan"], "judge price nan, expected US dollars"),
        (["sets", "--labels", "labels.jsonl", "--judge-price", "1"], "leave --judge-price out"),
        (["s.parquet", "--dialogues", "other.jsonl"], "none of the 2 dialogues is in s.parquet"),
        (["sets", "--labels", "others.jsonl"], "none of the 2 labels is of a dialogue of sets"),
        (["sets", "--labels", "in.jsonl"], "no labelled dialogue among"),
        (["bare.parquet"], "says nothing of its scorer's cuts"),
        (["nan.parquet"], "expected a number from 0 to 10"),
        (["none.parquet"], "the sensibility set is empty"),
        (["sets", "--scorer", "sets"], "--scorer is about plain scores"),
        (["s.parquet", "--scorer", "sets", "--raw-cuts"], "give one of them"),
    ],
)
def test_faults_are_one_line(folder: Path, arguments: list[str], expected: str) -> None:
    (folder / "empty").mkdir()
    write_lines(folder / "other.jsonl", [item | {"id": f"x{item['id']}"} for item in records(2)])
    write_lines(folder / "others.jsonl", [item | {"id": f"x{item['id']}"} for item in labels(2)])
    write_scores(folder / "bare.parquet", scores(), {})
    write_scores(folder / "nan.parquet", {"a": (float("nan"), 1.0)})
    write_scores(folder / "none.parquet", {"a": (1.0, 9.0)})
    assert expected in refused(folder, *arguments)


def edit(folder: Path, change: Any) -> None:
    path = folder / "sets" / "selection.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda info: info.update(format_version=2), "expected empathy-selection version 1"),
        (lambda info: info.pop("sets"), "lacks or garbles 'sets'"),
        (lambda info: info["rule"]["threshold"].update(rationality=99), "threshold or cuts of rationality"),
        (lambda info: info["sets"]["discard"].update(count=3), "selection.json says"),
        (lambda info: info["sets"]["discard"].update(file="../../etc/passwd"), "expected one of its own"),
        (lambda info: info["sets"]["discard"].update(file="sensibility.jsonl"), "another one belongs there"),
        (lambda info: info["scorer"].update(half_widths={"coverage": 2}), "lacks or garbles"),
    ],
)
def test_a_selection_that_was_tampered_with_is_one_line(folder: Path, change: Any, expected: str) -> None:
    edit(folder, change)
    assert expected in refused(folder, "sets")


def test_files_of_a_selection_that_are_cut_or_gone_are_one_line(folder: Path) -> None:
    sets = folder / "sets"
    path = sets / "sensibility.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"{}\n" * 400)
    assert "line 1 is no dialogue" in refused(folder, "sets") or "is no dialogue" in refused(folder, "sets")
    path.write_bytes(whole[:50])
    assert "select again" in refused(folder, "sets")
    path.unlink()
    assert "No such file" in refused(folder, "sets")
    path.write_bytes(whole)
    table = pq.read_table(sets / "selection.parquet")
    values = table["sensibility"].to_pylist()
    column = pa.array([float("nan"), *values[1:]], pa.float32())
    pq.write_table(
        table.set_column(table.schema.get_field_index("sensibility"), "sensibility", column), sets / "selection.parquet"
    )
    assert "row 1 has sensibility nan" in refused(folder, "sets")
    pq.write_table(table.drop_columns(["reason"]), sets / "selection.parquet")
    assert "has no column reason" in refused(folder, "sets")


def test_what_exists_is_kept_unless_overwritten(folder: Path) -> None:
    (folder / "r.html").write_text("mine")
    assert "exists already" in refused(folder, "sets")
    assert (folder / "r.html").read_text() == "mine"
    arguments = [str(folder / "sets"), "-o", str(folder / "r.html"), "--overwrite"]
    assert invoke(*arguments, command="report").exit_code == 0
    assert names(folder / "sets") == sorted(["selection.json", "selection.parquet", "rejects.jsonl", *SETS])
    assert "<!DOCTYPE html>" in (folder / "r.html").read_text(encoding="utf-8")
    assert "does not exist" in refused(folder, "sets", "--json", str(folder / "no" / "r.json"), "--overwrite")
    assert "written twice" in refused(folder, "sets", "--json", str(folder / "r.html"), "--overwrite")
    assert "is a source" in refused(folder, "s.parquet", "--json", str(folder / "s.parquet"), "--overwrite")
