"""`empathy agree` as a user runs it: the table, the JSON, the pictures, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from scorer.bundle.bundle import Bundle
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import Run, labels, record, write_lines
from tests.distill.tiny import labelled_file, labelled_records
from tests.selection.selection_data import invoke, one_line

PNG = b"\x89PNG\r\n"


def agree(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return invoke(*map(str, arguments), command="agree")


def test_a_table_a_json_and_pictures(bundle: Bundle, tmp_path: Path, empathy: Run) -> None:
    path = write_lines(tmp_path / "labels.jsonl", [*labelled_records(60), record("i am sad", "so sorry")])
    what = ("--baselines", "--bootstrap", "50", "--json", tmp_path / "a.json", "--pictures", tmp_path / "pictures")
    result = empathy("agree", path, "--scorer", bundle.path, *what)
    assert result.returncode == 0, result.stderr
    for text in ("judge against tiny: 60 dialogues of 30 conversations", "three-way kappa", "TF-IDF + ridge", "recall"):
        assert text in result.stdout
    assert "1 records had no dialogue or label" in result.stdout
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["dialogues"] == 60
    low, high = found["intervals_95"]["sensibility.mae"]
    assert low <= found["figures"]["sensibility.mae"] <= high
    for name in ("scatter.png", "confusion.png", "sets.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(PNG)


def test_two_judges(tmp_path: Path) -> None:
    first = labelled_file(tmp_path / "first.jsonl", 60)
    second = write_lines(tmp_path / "second.jsonl", [{**row, "sensibility": 5} for row in labelled_records(40)])
    result = agree(first, "--against", second, "--bootstrap", "0")
    assert result.exit_code == 0, result.stderr
    assert "40 dialogues" in result.stdout
    assert "20 and 0 dialogues are in one set only" in result.stdout
    assert "[" not in result.stdout.split("rule paper")[0].split("\n", 2)[2]
    few = write_lines(tmp_path / "few.jsonl", labels(5))
    refused = agree(few, "--against", few)
    assert one_line(refused.exit_code, refused.stderr) == "5 dialogues are in both, expected at least 10"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scorer", "x", "--against", "y"], "give one of them"),
        (["--scorer", "nowhere"], "no such folder"),
        (["--against", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--threshold", "10"], "10 is not in the range"),
        (["--scores", "nowhere.parquet"], "does not exist"),
    ],
)
def test_bad_arguments_are_one_line(arguments: list[str], message: str, tmp_path: Path, empathy: Run) -> None:
    result = empathy("agree", labelled_file(tmp_path / "labels.jsonl", 60), *arguments)
    assert message in one_line(result.returncode, result.stderr)


def test_a_score_file_is_compared_too(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    scores = tmp_path / "out.parquet"
    score_files(scorer, Corpus([str(source)]), scores, ScoreSettings(window=16))
    found = agree(source, "--scores", scores, "--bootstrap", "20", "--json", tmp_path / "out.json")
    assert found.exit_code == 0, found.stderr
    assert found.stdout.startswith("judge-1 against out.parquet: 60 dialogues of 30 conversations, threshold 5\n")
    written = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert written["dialogues"] == 60
    assert written["intervals_95"]


def test_the_command_warns_of_what_was_trained_on(partly_trained: Scorer, source: Path) -> None:
    arguments = (source, "--scorer", partly_trained.bundle.path, "--bootstrap", "0")
    warned, unseen = agree(*arguments), agree(*arguments, "--unseen")
    assert (warned.exit_code, unseen.exit_code) == (0, 0)
    assert "empathy: warning: 15 of 60 dialogues were trained on" in warned.stderr
    assert "warning: 15" not in unseen.stderr
    assert "45 dialogues" in unseen.stdout.splitlines()[0]
