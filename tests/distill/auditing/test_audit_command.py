"""`empathy audit` from end to end against a judge on loopback: verdicts, money, kills, and what it leaves behind."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from distill.cli.audit import audit
from scorer.bundle.bundle import Bundle, load_bundle
from scorer.cli.main import main
from scorer.errors import EmpathyError
from scorer.run.score_file import metadata_text, write_scores
from tests.conftest import record, write_lines
from tests.distill.auditing.spoken_judge import SpokenJudge, spoken_judge

COUNT = 600
PRICES = ("--price-in", "1", "--price-out", "1")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> tuple[Path, Path]:
    """A corpus whose texts say what a judge says, and scores near that, by the tiny scorer."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    said = np.stack([rng.choice([3, 5, 7, 8], COUNT, p=[0.2, 0.2, 0.3, 0.3]), rng.integers(1, 9, COUNT)], axis=1)
    records = [record(f"I am sad {i}", f"so sorry s{s}r{r} {i}", id=f"d{i}") for i, (s, r) in enumerate(said.tolist())]
    scores = (said + rng.normal(0, 0.4, said.shape)).clip(0, 10).astype(np.float32)
    columns = {"id": [f"d{i}" for i in range(COUNT)], "sensibility": scores[:, 0], "rationality": scores[:, 1]}
    write_scores(folder / "scores.parquet", columns, metadata_text(bundle.provenance()))
    return folder / "scores.parquet", write_lines(folder / "in.jsonl", records)


def options(corpus: tuple[Path, Path], judge: SpokenJudge, folder: Path, *more: object) -> list[str]:
    given = (*corpus, "--model", "judge-1", "--base-url", judge.url, "--store", folder / "store.sqlite", *more)
    return [*map(str, given), *PRICES, *([] if "--limit" in more else ["--limit", "0.7"])]


def run(arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(audit, arguments, env={"OPENAI_API_KEY": "none"})


def report(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "audit.json").read_text()))


@pytest.mark.slow
def test_a_scorer_that_agrees_is_trusted_after_few_questions(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    with spoken_judge() as judge:
        found = run(options(corpus, judge, tmp_path, "-o", tmp_path / "audit", "--json", tmp_path / "a.json"))
    assert (found.exit_code, found.exception) == (0, None), found.output
    about = report(tmp_path / "audit")
    assert (about["verdict"], about["answer"], about["labels"], about["dialogues"]) == ("trust", "above", 100, COUNT)
    assert sum(judge.asked.values()) == 100
    said = [int(word) for word in re.findall(r" s(\d+)r", corpus[1].read_text())]
    assert about["judge"]["mean.sensibility"]["low"] < np.mean(said) < about["judge"]["mean.sensibility"]["high"]
    assert json.loads((tmp_path / "a.json").read_text()) == about
    assert len((tmp_path / "audit" / "labels.jsonl").read_text().splitlines()) == 100
    assert "verdict: trust" in found.output


def test_a_moved_judge_wants_new_cuts_and_the_bundle_has_them(
    corpus: tuple[Path, Path], bundle: Bundle, tmp_path: Path
) -> None:
    with spoken_judge(moved=(-2, 0)) as judge:
        more = ("--scorer", bundle.path, "--write-bundle", tmp_path / "new", "-o", tmp_path / "audit")
        found = run(options(corpus, judge, tmp_path, *more))
    assert found.exit_code == 1, found.output
    about = report(tmp_path / "audit")
    assert about["verdict"] == "recalibrate"
    assert about["recalibrated"] > 0.7
    new = load_bundle(tmp_path / "new").info
    assert new.adapted_from is not None
    assert new.adapted_from.sha256 == bundle.sha256
    # The judge's 5.5 is now about 7.5 on the scorer's scale.
    assert new.cuts["sensibility"][5] == pytest.approx(7.5, abs=0.4)
    assert about["next"] == [f"empathy score {corpus[1]} -o rescored.parquet --scorer {tmp_path / 'new'}"]


@pytest.mark.slow
def test_a_judge_of_other_things_wants_training_and_the_command_is_one_to_type(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    lines = [json.loads(line) for line in corpus[1].read_text().splitlines()]
    for line in lines:
        line["messages"][-1]["content"] = "s{}r{} {}".format(*rng.integers(0, 11, 2), line["id"])
    other = write_lines(tmp_path / "in.jsonl", lines)
    with spoken_judge() as judge:
        more = ("-o", tmp_path / "audit", "--worth", 30)
        found = run(options((corpus[0], other), judge, tmp_path, *more))
    assert found.exit_code == 1
    about = report(tmp_path / "audit")
    assert about["verdict"] == "label and retrain"
    worth = [json.loads(line)["id"] for line in (tmp_path / "audit" / "worth-a-label.jsonl").read_text().splitlines()]
    labelled = [json.loads(line)["id"] for line in (tmp_path / "audit" / "labels.jsonl").read_text().splitlines()]
    assert len(worth) == 30
    assert not set(worth) & set(labelled)
    for step in about["next"]:  # the words are a command's, with options that it has
        words = shlex.split(step)
        command = main.get_command(None, words[1])  # type: ignore[arg-type]
        assert command is not None
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known
    assert str(tmp_path / "audit" / "worth-a-label.jsonl") in about["next"][0]


@pytest.mark.slow
def test_nothing_is_paid_twice_and_a_spent_budget_is_continued(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    with spoken_judge() as judge:
        short = run(options(corpus, judge, tmp_path, "-o", tmp_path / "audit", "--max-cost", "0.009"))
        stopped = report(tmp_path / "audit")
        before = sum(judge.asked.values())
        assert short.exit_code == 1
        assert stopped["verdict"] == "not sure"
        assert "--max-cost" in stopped["stopped"]
        assert 0 < stopped["usd"] <= 0.009
        assert 20 <= before < 100
        assert stopped["next"][0].startswith(f"empathy audit {corpus[0]} --dialogues {corpus[1]}")
        again = run(options(corpus, judge, tmp_path, "-o", tmp_path / "audit"))
        assert again.exit_code == 0, again.output
        assert set(judge.asked.values()) == {1}
        paid = run(options(corpus, judge, tmp_path))
        assert paid.exit_code == 0
        assert set(judge.asked.values()) == {1}
        assert "0 requests" in paid.output


@pytest.mark.slow
def test_a_killed_audit_goes_on_and_finds_what_an_undisturbed_one_finds(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    with spoken_judge(latency=0.05) as judge:
        (tmp_path / "killed").mkdir()
        arguments = options(corpus, judge, tmp_path / "killed", "-o", tmp_path / "a", "--concurrency", "4")
        code = "from distill.cli.audit import audit; audit()"
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while sum(judge.asked.values()) < 30 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        judge.latency = 0
        assert 30 <= sum(judge.asked.values()) < 100
        assert run(arguments).exit_code == 0
        twice = sum(judge.asked.values()) - len(judge.asked)
        assert twice <= 4  # what was in flight
        run(options(corpus, judge, tmp_path, "-o", tmp_path / "b"))
    first, second = report(tmp_path / "a"), report(tmp_path / "b")
    money = {"usd", "requests"}
    assert {k: v for k, v in first.items() if k not in money} == {k: v for k, v in second.items() if k not in money}


def test_a_dry_run_asks_nothing_and_says_the_most_that_it_may_cost(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    with spoken_judge() as judge:
        found = run(options(corpus, judge, tmp_path, "--dry-run", "--most", 200))
    assert found.exit_code == 0
    assert "at most 200 of 600 dialogues" in found.output
    assert "200 questions" in found.output
    assert not judge.asked
    assert not (tmp_path / "store.sqlite").exists()


@pytest.mark.slow
def test_dialogues_that_the_judge_refuses_count_against_the_answer(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in corpus[1].read_text().splitlines()]
    for line in lines[::3]:
        line["messages"][-1]["content"] += " refused"
    other = write_lines(tmp_path / "in.jsonl", lines)
    with spoken_judge() as judge:
        found = run(options((corpus[0], other), judge, tmp_path, "-o", tmp_path / "audit", "--most", 150))
    about = report(tmp_path / "audit")
    assert about["rejected"] > 30
    assert about["accuracy"]["estimate"] > 0.8  # among those that it judged
    assert (found.exit_code, about["verdict"]) == (1, "not sure")


@pytest.mark.slow
def test_draws_show_how_far_the_judge_agrees_with_itself(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    with spoken_judge() as judge:
        run(options(corpus, judge, tmp_path, "-o", tmp_path / "audit", "--draws", 2))
    about = report(tmp_path / "audit")
    assert about["noise"] == {"dialogues": 100, "variance": [0.0, 0.0], "same_set": 1.0}
    assert "rationality.pearson.corrected" in about["agreement"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--limit": "2"}, "limit"),
        ({"--threshold": "5.5"}, "threshold"),
        ({"--write-bundle": "."}, "exists already"),
        ({"-o": "."}, "holds no audit.json"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_is_asked(
    corpus: tuple[Path, Path], tmp_path: Path, change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    more = [part for flag, value in change.items() for part in (flag, value)]
    with spoken_judge() as judge:
        found = run(options(corpus, judge, tmp_path, *more))
    said = str(found.exception) if isinstance(found.exception, EmpathyError) else found.output
    assert found.exit_code != 0
    assert words in said
    assert not judge.asked


def test_what_does_not_belong_together_is_refused(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    with spoken_judge() as judge:
        lacking = write_lines(tmp_path / "few.jsonl", [record("I am sad", "so sorry s1r1", id="d0")])
        for sources, words in (
            ((corpus[0], lacking), "dialogues of the sample are not there"),
            ((corpus[0],), "no dialogues"),
            ((corpus[1],), "no scores among them"),
            ((corpus[0], "--dialogues", corpus[1]), "give --limit"),
        ):
            limit = () if words == "give --limit" else ("--limit", "0.7")
            given = [*map(str, sources), "--model", "m", "--base-url", judge.url, *limit]
            found = run([*given, "--store", str(tmp_path / "store.sqlite")])
            assert words in (found.output + str(found.exception)), words
        assert not judge.asked
