"""The closing lines and the description of a scorer."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle
from scorer.cli.lines import closing_lines, describe, warnings
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.windows import Tally
from scorer.run.score import Summary
from tests.conftest import record, write_lines


def test_a_run_says_every_figure(scorer: Scorer) -> None:
    tally = Tally(scored=1000, cut=3, cut_turns=5, cut_tokens=70, sums=[7250.0, 4000.0])
    tally.rejected.update({"broken_json": 2, "empty_turn": 1})
    summary = Summary(tally, resumed=503, seconds=10.0, rejects=Path("out.csv.rejects.jsonl"))
    assert list(closing_lines(summary, scorer, Path("out.csv"))) == [
        "scored 1,000 of 1,003 records in 10.0 s (50 per second; onnxruntime fp32, 1 threads)",
        "resumed: 503 of them were finished before and not scored again",
        "means: sensibility 7.25, rationality 4.00",
        "truncated: 3 (5 context turns and 70 tokens left out)",
        "rejected: 3 (broken_json 2, empty_turn 1), see out.csv.rejects.jsonl",
        "wrote out.csv",
    ]


def test_a_run_without_scores_says_so(scorer: Scorer) -> None:
    tally = Tally()
    tally.rejected.update({"broken_json": 1})
    lines = list(closing_lines(Summary(tally, 0, 0.1, Path("r")), scorer, Path("out.csv")))
    assert lines[-1] == "nothing could be scored, so out.csv was not written"
    assert not any(line.startswith("means") for line in lines)


def test_files_that_were_passed_over_and_the_engines_notice_are_told(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry")])
    corpus = Corpus([str(tmp_path)])
    assert list(warnings(Tally(), scorer, corpus)) == []
    for number in range(5):
        (tmp_path / f"{number}.md").write_text("prose")
    monkeypatch.setattr(scorer.engine, "notice", "the CUDA provider does not start")
    first, second = warnings(Tally(), scorer, Corpus([str(tmp_path)]))
    assert first.startswith("5 files in folders hold no dialogues and were passed over: ")
    assert first.endswith(", ...")
    assert second == "the CUDA provider does not start"


def test_the_description_holds_origin_measures_and_cuts(bundle: Bundle) -> None:
    text = "\n".join(describe(bundle))
    for part in (bundle.sha256, "random words", "Apache-2.0", "64 tokens", "cuts rationality: 0.50 1.50", "not at all"):
        assert part in text
