"""The recipe of the starter, end to end by `benchmarks.starter --smoke` on tiny encoders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.learning_curve import main as learning_curve
from benchmarks.left_out_kinds import main as left_out_kinds
from benchmarks.recipes import main as recipes
from benchmarks.starter import chained, main
from distill.training.checkpoint import load_checkpoint
from distill.training.soft import read_soft
from scorer.bundle.bundle import load_bundle
from tests.conftest import record, write_lines
from tests.distill.tiny import labelled_records, write_backbone


def test_neighbours_become_one_dialogue_of_four_turns() -> None:
    first, second, third = (record(f"i am {n}", f"so {n}") for n in "abc")
    shares: dict[str, object] = {"conversations": [{"from": "user", "value": "x"}]}
    found = list(chained([first, second, shares, third]))
    assert [len(row.get("messages", [])) for row in found] == [2, 2, 4, 0, 2]  # type: ignore[arg-type]
    assert found[2]["messages"] == [*first["messages"], *second["messages"]]


@pytest.mark.slow
def test_the_smoke_run_makes_a_bundle_and_continues_where_it_was(tmp_path: Path) -> None:
    rows = [
        {
            "context": " </s> ".join(turn["content"] for turn in row["messages"][:-1]),
            "response": row["messages"][-1]["content"],
            "evaluation": f"- Rationality: {row['rationality']} - Sensibility: {row['sensibility']}",
        }
        for row in labelled_records(240)
    ]
    release = tmp_path / "val_results.json"
    release.write_text(json.dumps(rows))
    unlabelled = write_lines(tmp_path / "more.jsonl", [record(f"i am sad {n}", f"so sorry {n}") for n in range(40)])
    arguments = [str(release), str(unlabelled), "--work", str(tmp_path / "work"), "--smoke", "--jobs", "2"]
    arguments += ["--teacher-backbone", str(write_backbone(tmp_path / "teacher", kind="mpnet"))]
    arguments += ["--student-backbone", str(write_backbone(tmp_path / "student"))]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    soft = read_soft(tmp_path / "work" / "soft.parquet")
    assert soft.re_paired > 0
    student = load_checkpoint(tmp_path / "work" / "student").info
    assert student.settings.counterexamples > 0
    assert student.training.unlabelled == len(soft) - len(set(soft.hashes) & set(student.training.content_hashes))
    further = read_soft(tmp_path / "work" / "further.parquet")
    assert (further.re_paired, len(further.info.teachers)) == (0, 1)
    last = load_checkpoint(tmp_path / "work" / "student-3").info
    assert last.epochs_before == 2 * student.settings.epochs
    assert last.training.unlabelled > student.training.unlabelled
    assert load_bundle(tmp_path / "work" / "starter").info.name == "starter"
    again = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert again.exit_code == 0
    assert " s  empathy" not in again.output  # nothing was run twice
    left_out = ["--student-backbone", arguments[-1], "-o", str(tmp_path / "left-out"), "--kinds", "hostile"]
    left_out += ["--sample", "20", "--more", "--epochs 1 --max-length 64", "--jobs", "2"]
    labels, taught = tmp_path / "work" / "labels.json", tmp_path / "work" / "soft.parquet"
    table = CliRunner().invoke(left_out_kinds, [str(labels), str(taught), *left_out], catch_exceptions=False).output
    assert table.splitlines()[-1].startswith("| hostile | ")
    curve = [str(release), *arguments[-4:], "--unlabelled", str(unlabelled), "--sizes", "60,120", "--seeds", "1,2"]
    table = (
        CliRunner()
        .invoke(learning_curve, [*curve, "--epochs", "1", "--max-length", "64"], catch_exceptions=False)
        .output
    )
    cells = [line.split(" | ") for line in table.splitlines()[2:]]
    assert [row[0] for row in cells] == ["| 60", "| 120"]
    assert "nan" not in str([row[3:] for row in cells])  # so little training may end in one score, of which r is none
    both = [str(release), str(unlabelled), "-o", str(tmp_path / "recipes"), *arguments[-4:], "--labels", "80"]
    both += ["--recipes", "release 0.1.0,now", "--contexts", "20", "--epochs", "1", "--max-length", "64"]
    table = CliRunner().invoke(recipes, both, catch_exceptions=False).output
    names = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line.startswith("| ")]
    assert names[:6] == ["recipe", "teacher", "release 0.1.0", "now", "kept", "real"]
