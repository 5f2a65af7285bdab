"""Score files say which scorer made them, and hold the scores to the last bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from scorer.bundle.bundle import Bundle
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus, id_hash
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.score_file import as_csv_text, from_csv_text, read_metadata, score_line
from scorer.run.score_table import read_columns, read_scores
from scorer.run.settings import ScoreSettings
from tests.conftest import record, write_lines

FORMULAS = ["=1+1", "+1", "-5", "@SUM(1)", "\uff1d1", "'=1", "''=1", '=HYPERLINK("x","y")']
BEHIND = ["  =cmd", "\u3000=1", "\ufeff+1", "\u2212\u2060", "\ufe66x", "\x00@a"]
HARMLESS = ["a=1", "'a", "''", "1-2", "id-1"]


def test_a_line_gives_the_float32_back() -> None:
    for value in np.random.default_rng(0).uniform(0, 10, 500).astype(np.float32):
        found = json.loads(score_line('a "quoted" \\ id', value, np.float32(0)))
        assert np.float32(found["sensibility"]) == value
        assert found["id"] == 'a "quoted" \\ id'


def test_a_file_that_says_nothing_of_its_scorer_has_no_metadata(tmp_path: Path) -> None:
    assert read_metadata(tmp_path / "scores.csv") == {}


@pytest.mark.parametrize(("name", "content"), [("a.csv.meta.json", b"{"), ("a.parquet", b"PAR1 is not enough")])
def test_metadata_that_cannot_be_read_are_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OutputError, match=r"a\.(csv\.meta\.json: is damaged|parquet: its metadata cannot be read)"):
        read_metadata(tmp_path / name.removesuffix(".meta.json"))


def test_ids_that_a_spreadsheet_would_run_stay_text_and_are_read_back(bundle: Bundle, tmp_path: Path) -> None:
    ids = [*FORMULAS, *HARMLESS]
    rows = [record("hello", f"number {n}", id=id_) | {"=note": f"@{n}", "n": -n} for n, id_ in enumerate(ids, 1)]
    source, output = write_lines(tmp_path / "in.jsonl", rows), tmp_path / "scores.csv"
    settings = ScoreSettings(keep=("=note", "n"))
    score_files(Scorer.load(bundle.path), Corpus([str(source)], keep_records=True), output, settings)
    with open(output, encoding="utf-8", newline="") as file:
        header, *found = csv.reader(file)
    assert header == ["id", "sensibility", "rationality", "=note", "n"]
    assert [row[0] for row in found] == [f"'{id_}" for id_ in FORMULAS] + HARMLESS
    assert not any(row[0].lstrip().startswith(("=", "+", "-", "@")) for row in found)
    assert [row[3:] for row in found] == [[f"'@{n}", f"-{n}"] for n in range(1, len(ids) + 1)]
    table = read_scores(output)
    assert table.hashes.tolist() == [id_hash(id_) for id_ in ids]
    assert read_columns(output)["id"].tolist() == ids


@pytest.mark.parametrize("text", [*FORMULAS, *BEHIND, *HARMLESS, "", "'", "\n=1", "\t=1", " =1", "'" * 9 + "+"])
def test_a_text_of_csv_is_read_as_it_was(text: str) -> None:
    assert from_csv_text(as_csv_text(text)) == text
    assert as_csv_text(text).startswith("'") or text not in FORMULAS + BEHIND
