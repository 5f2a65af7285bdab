"""`empathy report` on the command line: what it reads, what it writes, and what is wrong in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from altair.utils.schemapi import debug_mode

from scorer.dialogue import Turn
from scorer.inputs.corpus import Corpus
from selection.files.labels import read_labels
from selection.report.build import figures
from selection.report.charts.draw import charts_of
from selection.report.charts.style import to_svg
from selection.report.page import render_report
from selection.report.sources.examples import CHARACTERS, EXAMPLE_KINDS, choose_examples, shown_turns
from selection.report.sources.selection_folder import read_selection
from selection.report.sources.texts import of_selection
from selection.settings import ReportSettings
from tests.conftest import write_lines
from tests.scorer.run.score_data import ABOUT, write_scores
from tests.selection.report.report_data import COUNT, labels, prepare, records, report, scores
from tests.selection.selection_data import FILES, fine, names, one_line


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
    line = one_line(*report(folder, *arguments))
    assert names(folder) == before
    return line


def select_again(folder: Path, output: str, *more: str) -> Path:
    fine(str(folder / "in.jsonl"), "--scores", str(folder / "s.parquet"), "-o", str(folder / output), *more)
    return folder / output


def test_a_page_and_its_numbers_are_written(folder: Path) -> None:
    with debug_mode(True):  # charts are what altair's schema says
        code, said = report(folder, "sets", "--json", str(folder / "r.json"))
    assert code == 0, said
    assert f"sets: {COUNT} dialogues; sensibility" in said
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert len(page) < 1_000_000
    assert "http" not in page.replace("http-equiv", "").replace('xmlns="http://www.w3.org/2000/svg"', "")
    info = json.loads((folder / "sets" / "selection.json").read_text())
    (source,) = json.loads((folder / "r.json").read_text())["sources"]
    assert source["overview"]["sets"]["sensibility"]["count"] == info["sets"]["sensibility"]["count"]
    assert source["provenance"]["scorer"]["sha256"] == ABOUT["sha256"]
    assert source["rejects"]["count"] == info["rejected"]["count"] == 1


def test_scores_with_their_dialogues_say_the_same_as_their_selection(folder: Path) -> None:
    selected = figures([folder / "sets"], ReportSettings())["sources"][0]
    bare = figures([folder / "s.parquet"], ReportSettings(), corpus=Corpus([str(folder / "in.jsonl")]))["sources"][0]
    for section in ("overview", "distributions", "thresholds", "categories", "lengths", "correlations", "reasons"):
        assert selected[section] == bare[section], section
    assert bare["matched"] == {"with_dialogue": COUNT, "scores_without_dialogue": 0, "dialogues_without_score": 0}
    assert selected["stability"]["chance"] == bare["stability"]["chance"]
    assert selected["stability"]["change"]["moved"] == pytest.approx(bare["stability"]["change"]["moved"])


@pytest.mark.parametrize("layout", ["openai", "sharegpt", "alpaca"])
def test_texts_are_found_in_every_format(folder: Path, layout: str) -> None:
    path = select_again(folder, layout, "--format", layout)
    rows = read_selection(path)
    picks = choose_examples(rows)
    found = of_selection(path, rows, [pick.row for pick in picks])
    known = {item["id"]: item["messages"] for item in records()}
    assert len(found) == len(picks) > 20
    for dialogue in found.values():
        assert [{"role": turn.role, "content": turn.content} for turn in dialogue.turns] == known[dialogue.id]


@pytest.mark.parametrize(
    "more",
    [
        ["--cap", "9"],
        pytest.param(["--rule", "top-k", "--count", "50"], marks=pytest.mark.slow),
        pytest.param(["--rule", "release", "--threshold-sensibility", "6.5"], marks=pytest.mark.slow),
    ],
)
def test_other_rules_sets_and_limits_make_a_page(folder: Path, more: list[str]) -> None:
    path = select_again(folder, "other", *more)
    found = figures([path], ReportSettings(), labels=read_labels([str(folder / "labels.jsonl")]))
    (source,) = found["sources"]
    assert sum(entry["count"] for entry in source["overview"]["sets"].values()) == COUNT
    assert source["provenance"]["limited"] == ("release" not in more)
    assert source["agreement"]["calibration"] is None or "release" in more
    charts = charts_of(found)
    drawn = dict.fromkeys(charts, "") | {"joint": to_svg("joint", *charts["joint"])}
    assert ("region of the sensibility set" in drawn["joint"]) == ("top-k" not in more)
    page = render_report(found, drawn)
    assert page.count("<article") > 20
    assert ("surplus" in page) == ("--cap" in more)


def test_labels_that_select_make_a_page_without_a_scorer(folder: Path) -> None:
    fine(str(folder / "labels.jsonl"), "-o", str(folder / "judged"))
    assert report(folder, "judged")[0] == 0
    assert "a judge&#39;s labels decided" in (folder / "r.html").read_text(encoding="utf-8")


def test_one_dialogue_is_enough(tmp_path: Path) -> None:
    write_scores(tmp_path / "one.parquet", {"a": (9.0, 1.0)})
    assert report(tmp_path, "one.parquet")[0] == 0


def test_examples_are_the_same_in_a_rerun_and_another_order(folder: Path) -> None:
    write_lines(folder / "in.jsonl", records()[::-1])
    both = read_selection(folder / "sets"), read_selection(select_again(folder, "again"))
    first, second = ([(rows.hashes[row], kind) for row, kind in choose_examples(rows)] for rows in both)
    assert first == second
    assert {kind for _, kind in first} == set(EXAMPLE_KINDS)
    assert len({row for row, _ in first}) == len(first)


def test_what_is_shown_of_a_dialogue_is_bounded() -> None:
    turns = [Turn("user", "a" * 5000), Turn("assistant", "b"), Turn("user", "c" * 100), Turn("assistant", "d" * 9000)]
    found, left_out = shown_turns(turns)
    assert sum(len(turn["content"]) for turn in found) == CHARACTERS
    assert left_out == 0
    assert [turn["cut"] > 0 for turn in found] == [True, False, False, True]
    assert found[-1]["content"] == "d" * (CHARACTERS - CHARACTERS // 3)
    assert shown_turns([Turn("user", "e"), *turns], 50 + 101 + 3)[1] == 3
    assert shown_turns([Turn("user", "hi"), Turn("assistant", "hello")]) == (
        [{"role": "user", "content": "hi", "cut": 0}, {"role": "assistant", "content": "hello", "cut": 0}],
        0,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("empty", "is neither a selection (it has no selection.json) nor scores"),
        ("sets --rule release", "--rule is about plain scores"),
        ("sets --dialogues in.jsonl", "--dialogues is about plain scores"),
        ("s.parquet --threshold 11", "threshold is 11.0, expected 1 to 9"),
        ("s.parquet --threshold nan", "threshold is nan, expected 1 to 9"),
        ("sets --judge-price -1", "judge price is -1.0, expected above 0"),
        ("sets --judge-price nan", "judge price is nan, expected above 0"),
        ("sets --labels labels.jsonl --judge-price 1", "leave --judge-price out"),
        ("s.parquet --dialogues other.jsonl", "none of the 2 dialogues is in s.parquet"),
        ("sets --labels others.jsonl", "none of the 2 labels is of a dialogue of sets"),
        ("sets --labels in.jsonl", "no labelled dialogue among"),
        ("bare.parquet", "says nothing of its scorer's cuts"),
        ("nan.parquet", "expected a number from 0 to 10"),
        ("none.parquet", "the sensibility set is empty"),
        ("sets --scorer sets", "--scorer is about plain scores"),
        ("s.parquet --scorer sets --raw-cuts", "give one of them"),
        ("sets --json empty --overwrite", "is a folder"),
        ("sets --json no/r.json", "the folder no does not exist"),
        ("s.parquet --json s.parquet --overwrite", "is an input as well"),
        ("sets --json labels.jsonl", "is not replaced"),
    ],
)
def test_faults_are_one_line(folder: Path, arguments: str, expected: str) -> None:
    (folder / "empty").mkdir()
    write_lines(folder / "other.jsonl", [item | {"id": f"x{item['id']}"} for item in records(2)])
    write_lines(folder / "others.jsonl", [item | {"id": f"x{item['id']}"} for item in labels(2)])
    write_scores(folder / "bare.parquet", scores(), {})
    write_scores(folder / "nan.parquet", {"a": (float("nan"), 1.0)})
    write_scores(folder / "none.parquet", {"a": (1.0, 9.0)})
    assert expected in refused(folder, *arguments.split())


def change_info(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(sets: Path) -> None:
        info = json.loads((sets / "selection.json").read_text())
        change(info)
        (sets / "selection.json").write_text(json.dumps(info))

    return damage


def change_table(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    path = "selection.parquet"
    return lambda sets: pq.write_table(change(pq.read_table(sets / path)), sets / path)


def not_a_number(table: pa.Table) -> pa.Table:
    column = pa.array([float("nan"), *table["sensibility"].to_pylist()[1:]], pa.float32())
    return table.set_column(table.schema.get_field_index("sensibility"), "sensibility", column)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (change_info(lambda info: info.update(format_version=2)), "`$.format_version`"),
        (change_info(lambda info: info.pop("sets")), "is damaged (Object missing required field `sets`"),
        (change_info(lambda info: info["rule"]["threshold"].update(rationality=99)), "is damaged"),
        (change_info(lambda info: info["sets"]["discard"].update(count=3)), "is damaged (its sets have"),
        (change_info(lambda info: info["sets"]["discard"].update(file="../../etc/passwd")), "expected one of its own"),
        (change_info(lambda info: info["sets"]["discard"].update(file="sensibility.jsonl")), "another one belongs"),
        (change_info(lambda info: info["scorer"].update(half_widths={"coverage": 2})), "is damaged"),
        (change_table(not_a_number), "row 1 has sensibility nan"),
        (change_table(lambda table: table.set_column(0, "id", [list(range(len(table)))])), "its column id holds int64"),
        (change_table(lambda table: table.slice(3)), "selection.json says"),
        (change_table(lambda table: table.drop_columns(["reason"])), "has no column reason"),
        (lambda sets: (sets / "selection.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (lambda sets: (sets / "discard.jsonl").write_bytes(b"{}\n" * COUNT), "is no dialogue"),
        (lambda sets: (sets / "discard.jsonl").write_bytes(b""), "ends before line"),
        (lambda sets: (sets / "discard.jsonl").unlink(), "No such file"),
    ],
)
def test_a_selection_that_was_tampered_with_is_one_line(
    folder: Path, damage: Callable[[Path], Any], expected: str
) -> None:
    damage(folder / "sets")
    assert expected in refused(folder, "sets")


def test_what_exists_is_kept_unless_overwritten(folder: Path) -> None:
    (folder / "r.html").write_text("mine")
    assert "exists already" in refused(folder, "sets")
    assert (folder / "r.html").read_text() == "mine"
    assert "written twice" in refused(folder, "sets", "--json", str(folder / "r.html"), "--overwrite")
    assert "is not replaced" in refused(folder, "sets", "--overwrite")
    (folder / "r.html").unlink()
    for more in ((), ("--overwrite",)):
        assert report(folder, "sets", *more)[0] == 0
    assert names(folder / "sets") == sorted([*FILES, "rejects.jsonl"])
    assert "<!DOCTYPE html>" in (folder / "r.html").read_text(encoding="utf-8")
