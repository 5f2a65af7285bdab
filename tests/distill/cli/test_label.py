"""`empathy label` as a user runs it, against a real server."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distill.agreement.compare import self_agreement
from distill.judge.rubric import Rubric
from distill.labelled import read_labelled
from tests.conftest import INTERRUPTIBLE, Run, record, write_lines
from tests.distill.judge.judge_server import Running, judge_server
from tests.distill.judge.labelling import KEY, check_labels, dialogues_file, options

ENVIRONMENT = {**os.environ, "OPENAI_API_KEY": KEY}
PRICES = {"price_in": 1, "price_out": 2}


class Command:
    """The command in one folder, against one server."""

    def __init__(self, empathy: Run, server: Running, folder: Path) -> None:
        self.empathy = empathy
        self.server = server
        self.folder = folder
        self.output = folder / "labels.jsonl"

    def __call__(self, source: Path, **more: Any) -> subprocess.CompletedProcess[str]:
        given = options(self.server, self.folder, **more)
        return self.empathy("label", source, "-o", self.output, "--overwrite", *given, env=ENVIRONMENT)


def test_labels_are_written_and_nothing_is_asked_twice(empathy: Run, tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "in.jsonl",
        [
            *(json.loads(line) for line in dialogues_file(tmp_path / "plain", 20).read_text().splitlines()),
            record("I am sad, number 3.", "So sorry 3.", id="again", category="sad", conversation="c9"),
            {"messages": []},
        ],
    )
    with judge_server() as server:
        label = Command(empathy, server, tmp_path)
        result = label(source, **PRICES)
        assert result.returncode == 0, result.stderr
        assert "labelled 21 of 22, 0 of them from the store" in result.stderr
        assert "in 20 requests" in result.stderr
        assert "rejected: 1 (no_response 1)" in result.stderr
        first = label.output.read_bytes()
        records = check_labels(label.output)
        again = label(source, **PRICES)
        assert "labelled 21 of 22, 20 of them from the store" in again.stderr
        assert "spent $0.0000 in 0 requests" in again.stderr
        assert "saved by the store: 20 questions, $0.0" in again.stderr
        assert label.output.read_bytes() == first
        larger = label(dialogues_file(tmp_path / "more.jsonl", 25), **PRICES)
        assert "labelled 25 of 25, 20 of them from the store" in larger.stderr
        assert sum(server.stats()["asked"].values()) == 25
    assert [entry["id"] for entry in records] == [*(f"d{i}" for i in range(20)), "again"]
    assert records[-1] | {"category": "sad", "conversation": "c9"} == records[-1]
    judge = records[0]["judge"]
    assert judge["cost_usd"] > 0
    host = server.url.split("/")[2]
    assert judge == {
        "model": "judge-1",
        "base_url": host,
        "rubric": Rubric().hash,
        "temperature": 0,
        "draw": 0,
        "cost_usd": judge["cost_usd"],
    }
    assert not (tmp_path / "labels.jsonl.rejects.jsonl").exists()  # the last run had none


def test_what_has_no_judgement_is_rejected_with_its_reason_and_the_reply(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 12)
    with judge_server(always=["number 7."], faults=["truncated"]) as server:
        label = Command(empathy, server, tmp_path)
        result = label(source)
        assert "labelled 11 of 12" in result.stderr
        assert "spent: no price is known in 16 requests" in result.stderr
        (reject,) = map(json.loads, (tmp_path / "labels.jsonl.rejects.jsonl").read_text().splitlines())
        assert (reject["id"], reject["line"], reject["reason"], reject["draw"]) == ("d7", 8, "no_scores", 0)
        assert reject["reply"].startswith('{"sensibility"')
        assert "in 0 requests" in label(source).stderr  # five attempts are five attempts
        assert "rejected: 1 (no_scores 1)" in label(source).stderr
        assert "in 5 requests" in label(source, retry_rejects=True).stderr


def test_a_run_that_labels_nothing_writes_nothing_and_exits_1(empathy: Run, tmp_path: Path) -> None:
    with judge_server(share=1, faults=["refusal"]) as server:
        label = Command(empathy, server, tmp_path)
        result = label(dialogues_file(tmp_path / "in.jsonl", 3))
    assert result.returncode == 1
    assert "nothing was labelled" in result.stderr
    assert not label.output.exists()
    reject = json.loads((tmp_path / "labels.jsonl.rejects.jsonl").read_text().splitlines()[0])
    assert (reject["reason"], reject["detail"]) == ("refused", "I can't judge that.")


def test_repeated_draws_are_lines_that_training_and_agreement_read(empathy: Run, tmp_path: Path) -> None:
    with judge_server() as server:
        label = Command(empathy, server, tmp_path)
        assert "labelled 40 of 40" in label(dialogues_file(tmp_path / "in.jsonl", 20), draws=2, temperature=1).stderr
    labelled = read_labelled([str(label.output)])
    assert len(labelled) == 20
    assert all(len(entry) == 2 for entry in labelled.judgements)
    repeated = self_agreement(labelled, 5)
    assert repeated is not None
    result = empathy("agree", label.output, "--bootstrap", "0")
    assert result.returncode == 0
    assert repeated[0] in result.stdout


def test_a_dry_run_prices_asks_nothing_and_leaves_nothing(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 10)
    with judge_server() as server:
        given = options(server, tmp_path, dry_run=True)
        result = empathy("label", source, *given, *options(server, tmp_path, **PRICES), env=ENVIRONMENT)
        assert result.returncode == 0, result.stderr
        assert "to ask: 10 questions (the store has 0 more" in result.stdout
        assert "price: $1 in, $2 out a million tokens (as given)" in result.stdout
        assert "give --price-in and --price-out" in empathy("label", source, *given).stdout
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
        assert server.stats()["requests"] == 0
        Command(empathy, server, tmp_path)(source)
        assert "to ask: 0 questions (the store has 10 more" in empathy("label", source, *given).stdout


def test_the_store_alone_gives_the_labels(empathy: Run, tmp_path: Path) -> None:
    with judge_server() as server:
        Command(empathy, server, tmp_path)(dialogues_file(tmp_path / "in.jsonl", 10))
    store = ("--store", tmp_path / "store.sqlite")
    result = empathy("label", "--export", "-o", tmp_path / "out.jsonl", *store)
    assert "wrote 10 judgements" in result.stderr
    assert len(check_labels(tmp_path / "out.jsonl")) == 10
    none = empathy("label", "--export", "-o", tmp_path / "none.jsonl", *store, "--model", "another")
    assert none.returncode == 1


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"max_cost": 1}, "--max-cost needs the price of judge-1"),
        ({"price_in": 1}, "give both"),
        ({"temperature": 3}, "--temperature is 3.0, expected 0 to 2"),
        ({"concurrency": 0}, "--concurrency is 0, expect"),
        ({"rubric": "/no/rubric"}, "cannot be read"),
        ({"key_env": "MY_KEY"}, "MY_KEY is not set"),
        ({"timeout": "nan"}, "--timeout is nan"),
        ({"model": ""}, "--model is empty"),
    ],
)
def test_what_cannot_be_is_one_line(empathy: Run, tmp_path: Path, more: dict[str, Any], text: str) -> None:
    with judge_server() as server:
        label = Command(empathy, server, tmp_path)
        result = label(dialogues_file(tmp_path / "in.jsonl", 2), **more)
        assert server.stats()["requests"] == 0
    assert result.returncode == 2
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_usage_errors_say_what_is_missing(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 2)
    (tmp_path / "there").write_text("x")
    for arguments, text in (
        ((source,), "no output"),
        (("-o", "x"), "no IN"),
        ((source, "-o", "x"), "no --model"),
        ((source, "-o", tmp_path / "there", "--model", "m"), "exists already"),
        ((source, "-o", tmp_path / "no" / "x", "--model", "m"), "does not exist; create it first"),
        ((source, "-o", tmp_path, "--model", "m"), "is a folder"),
        (("--export", "-o", "x", "--store", tmp_path / "none"), "no such store"),
        (("--export", source, "-o", "x"), "leave IN"),
        ((tmp_path / "there", "-o", "x", "--model", "m"), "no dialogue among 1 records; the first: broken_json"),
    ):
        result = empathy("label", *arguments, env=ENVIRONMENT)
        assert (result.returncode, text in result.stderr) == (2, True), (arguments, result.stderr)
        assert len(result.stderr.splitlines()) == 1


def test_a_second_process_exits_2_with_one_line(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 4)
    with judge_server(latency=1.5) as server, running(server, source, tmp_path, timeout=9) as first:
        while not server.stats()["requests"]:
            time.sleep(0.05)
        second = Command(empathy, server, tmp_path)(source)
        assert first.wait(30) == 0
    assert second.returncode == 2
    assert "another process labels with this store" in second.stderr
    assert len(second.stderr.splitlines()) == 1


def test_an_interrupt_waits_for_what_is_paid_and_the_rerun_goes_on(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 60)
    with judge_server(latency=0.3) as server:
        with running(server, source, tmp_path, concurrency=4) as process:
            while server.stats()["requests"] < 9:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"interrupted; " in said
        assert b"go on with the same command" in said
        assert not (tmp_path / "labels.jsonl").exists()
        assert Command(empathy, server, tmp_path)(source).returncode == 0
        asked = server.stats()["asked"]
    assert len(check_labels(tmp_path / "labels.jsonl")) == 60
    assert set(asked.values()) == {1}


def test_a_second_interrupt_does_not_wait_and_books_what_it_gave_up(tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 60)
    with judge_server(latency=30) as server, running(server, source, tmp_path, concurrency=4, timeout=60) as process:
        while server.stats()["requests"] < 4:
            time.sleep(0.02)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in said
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
        assert database.execute("SELECT status, detail FROM replies").fetchall() == [("lost", "given up")] * 4


def test_a_sample_is_labelled_and_a_larger_one_pays_for_the_rest(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 30)
    with judge_server() as server:
        label = Command(empathy, server, tmp_path)
        assert "labelled 8 of 8, 0 of them from the store" in label(source, sample=8, seed=3).stderr
        first = label.output.read_text().splitlines()
        assert "labelled 12 of 12, 8 of them from the store" in label(source, sample=12, seed=3).stderr
        assert label.output.read_text().splitlines()[:8] == first
        assert "labelled 5 of 5" in label(source, sample=5, strategy="stratified").stderr
        assert "a sample of 31, expected 0 to 30" in label(source, sample=31).stderr


def running(server: Running, source: Path, folder: Path, **more: Any) -> subprocess.Popen[bytes]:
    """Start the command and return its process, which listens to Ctrl-C even where the tests run in the background."""
    arguments = ["label", source, "-o", folder / "labels.jsonl", *options(server, folder, **more)]
    return subprocess.Popen([*INTERRUPTIBLE, *map(str, arguments)], env=ENVIRONMENT, stderr=subprocess.PIPE)
