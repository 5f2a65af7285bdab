"""`empathy label` as a user runs it, against a real server."""

from __future__ import annotations

import json
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
from tests.conftest import Run, record, write_lines
from tests.distill.conftest import Serve
from tests.distill.judge.judge_server import Running
from tests.distill.judge.labelling import check_labels, dialogues_file, environment, options, started
from tests.selection.selection_data import one_line


class Command:
    """The command in one folder, against one server; called, it runs to its end."""

    def __init__(self, empathy: Run, folder: Path) -> None:
        self.empathy = empathy
        self.folder = folder
        self.source = folder / "in.jsonl"
        self.output = folder / "labels.jsonl"
        self.server = Running("http://127.0.0.1:9/v1")  # where nobody listens

    def line(self, **more: Any) -> list[object]:
        return ["label", self.source, "-o", self.output, *options(self.server, self.folder, **more)]

    def __call__(self, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.empathy(*map(str, self.line(overwrite=True, **more)), env=environment())

    def dry_run(self, **more: Any) -> str:
        given = options(self.server, self.folder, dry_run=True, **more)
        return str(self.empathy("label", self.source, *given, env=environment()).stdout)

    def rejects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "labels.jsonl.rejects.jsonl").read_text().splitlines()]


@pytest.fixture
def label(empathy: Run, tmp_path: Path) -> Command:
    return Command(empathy, tmp_path)


def test_labels_are_written_and_nothing_is_asked_twice(label: Command, serve: Serve) -> None:
    plain = [json.loads(line) for line in dialogues_file(label.folder / "plain", 20).read_text().splitlines()]
    again = record("I am sad, number 3.", "So sorry 3.", id="again", category="sad", conversation="c9")
    write_lines(label.source, [*plain, again, {"messages": []}])
    label.server = serve()
    prices = {"price_in": 1, "price_out": 2}
    result = label(**prices)
    assert result.returncode == 0, result.stderr
    assert "labelled 21 of 22, 0 of them from the store" in result.stderr
    assert "in 20 requests" in result.stderr
    assert "rejected: 1 (no_response 1)" in result.stderr
    first = label.output.read_bytes()
    records = check_labels(label.output)
    repeated = label(**prices)
    assert "labelled 21 of 22, 20 of them from the store" in repeated.stderr
    assert "spent $0.0000 in 0 requests" in repeated.stderr
    assert "saved by the store: 20 questions, $0.0" in repeated.stderr
    assert label.output.read_bytes() == first
    dialogues_file(label.source, 25)
    assert "labelled 25 of 25, 20 of them from the store" in label(**prices).stderr
    assert sum(label.server.stats()["asked"].values()) == 25
    assert [entry["id"] for entry in records] == [*(f"d{i}" for i in range(20)), "again"]
    assert records[-1] | {"category": "sad", "conversation": "c9"} == records[-1]
    judge = records[0]["judge"]
    assert judge.pop("cost_usd") > 0
    host = label.server.url.split("/")[2]
    assert judge == {"model": "judge-1", "base_url": host, "rubric": Rubric().hash, "temperature": 0, "draw": 0}
    assert not (label.folder / "labels.jsonl.rejects.jsonl").exists()  # the last run had none


def test_what_has_no_judgement_is_rejected_with_its_reason_and_the_reply(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 12)
    label.server = serve(always=["number 7."], faults=["truncated"])
    result = label()
    assert "labelled 11 of 12" in result.stderr
    assert "spent: no price is known in 16 requests" in result.stderr
    (reject,) = label.rejects()
    assert (reject["id"], reject["line"], reject["reason"], reject["draw"]) == ("d7", 8, "no_scores", 0)
    assert reject["reply"].startswith('{"sensibility"')
    again = label().stderr
    assert "in 0 requests" in again  # five attempts are five attempts
    assert "rejected: 1 (no_scores 1)" in again
    assert "in 5 requests" in label(retry_rejects=True).stderr


def test_a_run_that_labels_nothing_writes_nothing_and_exits_1(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 3)
    label.server = serve(share=1, faults=["refusal"])
    result = label()
    assert result.returncode == 1
    assert "nothing was labelled" in result.stderr
    assert not label.output.exists()
    assert {(reject["reason"], reject["detail"]) for reject in label.rejects()} == {("refused", "I can't judge that.")}


def test_repeated_draws_are_lines_that_training_and_agreement_read(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 20)
    label.server = serve()
    assert "labelled 40 of 40" in label(draws=2, temperature=1).stderr
    labelled = read_labelled([str(label.output)])
    assert [len(entry) for entry in labelled.judgements] == [2] * 20
    repeated = self_agreement(labelled, 5)
    assert repeated is not None
    result = label.empathy("agree", label.output, "--bootstrap", "0")
    assert result.returncode == 0
    assert repeated[0] in result.stdout


def test_a_dry_run_prices_asks_nothing_and_leaves_nothing(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 10)
    label.server = serve()
    priced = label.dry_run(price_in=1, price_out=2)
    assert "to ask: 10 questions (the store has 0 more" in priced
    assert "price: $1 in, $2 out per million tokens (as given)" in priced
    assert "give --price-in and --price-out" in label.dry_run()
    assert [path.name for path in label.folder.iterdir()] == ["in.jsonl"]
    assert label.server.stats()["requests"] == 0
    label()
    assert "to ask: 0 questions (the store has 10 more" in label.dry_run()


def test_the_store_alone_gives_the_labels(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 10)
    label.server = serve()
    label()
    label.output.unlink()
    export = ("label", "--export", "-o", label.output, "--store", label.folder / "store.sqlite")
    assert "wrote 10 judgements" in label.empathy(*export).stderr
    assert len(check_labels(label.output)) == 10
    assert label.empathy(*export, "--overwrite", "--model", "another").returncode == 1


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"max_cost": 1}, "--max-cost needs the price of judge-1"),
        ({"price_in": 1}, "give both"),
        ({"temperature": 3}, "temperature is 3.0, expected 0 to 2"),
        ({"rubric": "/no/rubric"}, "cannot be read"),
        ({"key_env": "MY_KEY"}, "MY_KEY is not set"),
        ({"timeout": "nan"}, "timeout is nan"),
        ({"model": ""}, "--model is empty"),
    ],
)
def test_what_cannot_be_is_one_line(label: Command, more: dict[str, Any], text: str) -> None:
    dialogues_file(label.source, 2)
    result = label(**more)
    assert text in one_line(result.returncode, result.stderr)


def test_usage_errors_say_what_is_missing(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 2)
    (tmp_path / "there").write_text("x")
    for arguments, text in (
        ((source,), "no output"),
        (("-o", "x"), "no IN"),
        ((source, "-o", "x"), "no --model"),
        ((source, "-o", tmp_path / "there", "--model", "m"), "exists already"),
        ((source, "-o", tmp_path / "no" / "x", "--model", "m"), "does not exist; create it first"),
        ((source, "-o", tmp_path, "--model", "m"), "holds the input"),
        (("--export", "-o", "x", "--store", tmp_path / "none"), "no such store"),
        (("--export", source, "-o", "x"), "leave IN"),
        ((tmp_path / "there", "-o", "x", "--model", "m"), "no dialogue among 1 records; the first: broken_json"),
    ):
        result = empathy("label", *arguments, env=environment())
        assert text in one_line(result.returncode, result.stderr)


@pytest.mark.slow
def test_a_second_process_exits_2_with_one_line(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 4)
    label.server = serve(latency=6)
    with started(*label.line(timeout=30)) as first:
        label.server.wait_for(requests=1)
        second = label()
        assert first.wait(60) == 0
    assert "another process is writing it" in one_line(second.returncode, second.stderr)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
@pytest.mark.parametrize("batch", [False, True])
def test_a_signal_leaves_what_is_paid_in_the_store_and_the_rerun_continues(
    label: Command, serve: Serve, number: signal.Signals, batch: bool
) -> None:
    dialogues_file(label.source, 24)
    label.server = serve(latency=0.3, batch={"polls": 3})
    more = {"batch": True, "poll": 0.1} if batch else {"concurrency": 4}
    with started(*label.line(**more)) as process:
        label.server.wait_for(**({"batches": 1} if batch else {"requests": 9}))
        process.send_signal(number)
        _, said = process.communicate(timeout=90)
    code, word = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}[number]
    assert process.returncode == code
    kept = f"what was answered is in {label.folder / 'store.sqlite'}: run the same command again to continue"
    assert said.decode().splitlines()[-1] == f"empathy: {word}; {kept}"
    assert not label.output.exists()
    assert label(**more).returncode == 0
    assert len(check_labels(label.output)) == 24
    assert set(label.server.stats()["asked"].values()) == {1}


@pytest.mark.slow
def test_a_second_signal_does_not_wait_and_books_what_it_gave_up(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 60)
    label.server = serve(latency=30)
    with started(*label.line(concurrency=4, timeout=60)) as process:
        label.server.wait_for(requests=4)
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.3)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 143
    assert b"Traceback" not in said
    with closing(sqlite3.connect(label.folder / "store.sqlite")) as database:
        assert database.execute("SELECT status, detail FROM replies").fetchall() == [("lost", "given up")] * 4


@pytest.mark.slow
def test_a_sample_is_labelled_and_a_larger_one_pays_for_the_rest(label: Command, serve: Serve) -> None:
    dialogues_file(label.source, 30)
    label.server = serve()
    assert "labelled 8 of 8, 0 of them from the store" in label(sample=8, seed=3).stderr
    first = label.output.read_text().splitlines()
    assert "labelled 12 of 12, 8 of them from the store" in label(sample=12, seed=3).stderr
    assert label.output.read_text().splitlines()[:8] == first
    assert "labelled 5 of 5" in label(sample=5, strategy="stratified").stderr
    assert "a sample of 31, expected 0 to 30" in label(sample=31).stderr
