"""Dialogues that a model wrote are known as such: read, selected in every layout, counted, shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import parse_record, to_record
from selection.settings import FORMATS
from tests.conftest import record, write_lines
from tests.selection.selection_data import fine, read_lines, select_from

ABOUT = {"model": "writer-1", "prompt": "ab" * 12}


def mixed() -> list[dict[str, Any]]:
    """Return ten dialogues, three of them synthetic: two are selected for sensibility, one is discarded."""
    scores = [(8, 2)] * 6 + [(2, 8)] * 4
    marks = [number in {0, 1, 9} for number in range(10)]
    return [
        record(f"i am {n}", f"so sorry {n}", id=f"d{n}", sensibility=s, rationality=r)
        | ({"synthetic": True, "synthesis": ABOUT} if made else {})
        for n, ((s, r), made) in enumerate(zip(scores, marks, strict=True))
    ]


@pytest.mark.parametrize(
    ("said", "synthetic"), [(True, True), ("true", True), ("True", True), (False, False), ("no", False), ([1], False)]
)
def test_a_record_says_that_it_is_synthetic(said: Any, synthetic: bool) -> None:
    dialogue = parse_record(record("i am sad", "so sorry", synthetic=said))
    assert dialogue.synthetic is synthetic
    for short in (True, False):
        again = to_record(dialogue, short=short)
        assert ("synthetic" in again) is synthetic
        assert parse_record(again).synthetic is synthetic


def test_a_selection_counts_them_by_set(tmp_path: Path) -> None:
    found = select_from(tmp_path / "x", mixed(), None)
    assert found.info["synthetic"] == 3
    assert {name: entry["synthetic"] for name, entry in found.info["sets"].items()} == {
        "sensibility": 2,
        "rationality": 0,
        "discard": 1,
    }


@pytest.mark.parametrize("layout", FORMATS)
def test_every_layout_keeps_the_mark_and_where_it_comes_from(layout: str, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", mixed())
    ran = fine(str(source), "-o", str(tmp_path / "sets"), "--format", layout)
    assert "3 (30.0%) are synthetic: sensibility 2, rationality 0, discard 1" in ran.stderr
    lines = read_lines(tmp_path / "sets" / "sensibility.jsonl")
    assert [line.get("synthesis") for line in lines] == [ABOUT, ABOUT, None, None, None, None]
    read = [one for one in Corpus([str(tmp_path / "sets" / "sensibility.jsonl")]) if isinstance(one, Dialogue)]
    assert [one.synthetic for one in read] == [True, True, False, False, False, False]


def test_a_report_shows_them(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", mixed())
    fine(str(source), "-o", str(tmp_path / "sets"))
    from tests.selection.report.report_data import report

    code, _ = report(tmp_path, "sets", "--json", str(tmp_path / "r.json"))
    assert code == 0
    (one,) = json.loads((tmp_path / "r.json").read_text())["sources"]
    assert one["provenance"]["synthetic"] == {"sensibility": 2, "rationality": 0, "discard": 1}
    assert "3 synthetic (sensibility 2, discard 1)" in (tmp_path / "r.html").read_text()
