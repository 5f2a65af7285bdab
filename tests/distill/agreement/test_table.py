"""An agreement as JSON and as a table."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from rich.cells import cell_len

from distill.agreement.compare import Agreement, judge_against_judge
from distill.agreement.table import agreement_lines
from distill.labelled import LabelledSet
from selection.rules import RULES
from tests.conftest import labels, read


@pytest.fixture
def measured(tmp_path: Path) -> Agreement:
    """Two judges of whom one never varies in sensibility: some figures are not defined."""
    first, second = labels(30), labels(30, seed=1, sensibility=7)
    sets = [read(tmp_path / f"{i}.jsonl", records) for i, records in enumerate((first, second))]
    found = judge_against_judge(sets[0], sets[1], ("first", "second"))
    found.notes.append("a note")
    found.warnings.append("a warning")
    found.measure(20)
    found.rows["beside"] = {**found.figures, "paper.kappa": math.nan}
    return found


def test_the_json_is_valid_and_has_null_for_what_is_not_defined(measured: Agreement) -> None:
    found = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    assert found["figures"].keys() == measured.figures.keys()
    assert found["figures"]["sensibility.pearson"] is None
    assert found["intervals_95"]["sensibility.pearson"] == [None, None]
    assert found["beside"]["beside"]["paper.kappa"] is None
    assert found["figures"]["rationality.mae"] == pytest.approx(measured.figures["rationality.mae"], abs=1e-5)
    low, high = found["intervals_95"]["rationality.mae"]
    assert low < found["figures"]["rationality.mae"] < high
    known = {"reference": "first", "other": "second", "dialogues": 30, "conversations": 15, "threshold": 5}
    assert known | {"notes": ["a note"], "warnings": ["a warning"]} == {
        name: value for name, value in found.items() if name not in ("figures", "intervals_95", "beside")
    }


def test_the_table_has_one_line_per_figure_and_one_column_per_rater(measured: Agreement) -> None:
    lines = list(agreement_lines(measured))
    assert lines[0] == "first against second: 30 dialogues of 15 conversations, threshold 5"
    assert lines[2].split() == ["second", "beside"]
    rows = {line[: line.index("  ")]: line for line in lines if "  " in line.strip() and not line.startswith(" ")}
    low, high = measured.intervals["rationality.mae"]
    mae = f"{measured.figures['rationality.mae']:.3f}"
    assert rows["MAE, rationality"].split(maxsplit=2)[2].split() == [mae, f"[{low:.3f},", f"{high:.3f}]", mae]
    assert rows["Pearson, sensibility"].split()[-2:] == ["-", "-"]
    kappas = [line.split() for line in lines if line.startswith("three-way kappa")]
    assert [kappa[2] for kappa in kappas] == [f"{measured.figures[f'{name}.kappa']:.3f}" for name in RULES]
    assert [kappa[-1] == "-" for kappa in kappas] == [name == "paper" for name in RULES]
    assert {f"rule {rule.name} ({rule.source})" for rule in RULES.values()} < {*lines}
    assert "note: a note" in lines
    assert all(line.isprintable() for line in lines)


def test_the_table_tells_how_often_each_score_of_the_judge_was_found(measured: Agreement) -> None:
    lines = list(agreement_lines(measured))
    start = next(i for i, line in enumerate(lines) if line.startswith("recall of each score"))
    head, *rows = (line.split() for line in lines[start + 1 : start + 4])
    assert head == ["score", *map(str, range(11))]
    for row in rows:
        values = [measured.figures[f"{row[0]}.recall.{level}"] for level in range(11)]
        assert row[1:] == ["-" if math.isnan(value) else f"{value:.2f}" for value in values]
    assert rows[0][8] == "1.00"  # the other judge always says 7
    assert len({len(line) for line in lines[start + 1 : start + 4]}) == 1


def test_no_replicates_give_no_intervals(labelled: LabelledSet) -> None:
    found = judge_against_judge(labelled, labelled, ("a", "b")).measure(0)
    assert found.to_json()["intervals_95"] == {}
    assert "95 %" not in "\n".join(agreement_lines(found))


def test_wide_characters_are_counted_as_the_terminal_shows_them(measured: Agreement) -> None:
    measured.other, measured.rows = "评分者 🙂", {"もう一つ": measured.figures}
    assert len({cell_len(line) for line in list(agreement_lines(measured))[2:13]}) == 1
