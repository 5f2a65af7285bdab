"""`empathy label` as a user runs it, against a real server."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
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
from tests.distill.judge.labelling import ENVIRONMENT, check_labels, dialogues_file, options, started

Ask = Callable[..., "subprocess.CompletedProcess[str]"]
PRICES = {"price_in": 1, "price_out": 2}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "labels.jsonl"


@pytest.fixture
def label(empathy: Run, tmp_path: Path, output: Path) -> Ask:
    """Run the command in this folder, against a server."""

    def run(server: Running, source: Path, **more: Any) -> subprocess.CompletedProcess[str]:
        given = options(server, tmp_path, overwrite=True, **more)
        return empathy("label", source, "-o", output, *given, env=ENVIRONMENT)

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_labels_are_written_and_nothing_is_asked_twice(label: Ask, serve: Serve, tmp_path: Path, output: Path) -> None:
    again = record("I am sad, number 3.", "So sorry 3.", id="again", category="sad", conversation="c9")
    plain = lines(dialogues_file(tmp_path / "plain", 20))
    source = write_lines(tmp_path / "in.jsonl", [*plain, again, {"messages": []}])
    server = serve()
    result = label(server, source, **PRICES)
    assert result.returncode == 0, result.stderr
    assert "labelled 21 of 22, 0 of them from the store" in result.stderr
    assert "in 20 requests" in result.stderr
    assert "rejected: 1 (no_response 1)" in result.stderr
    first = output.read_bytes()
    records = check_labels(output)
    repeated = label(server, source, **PRICES)
    assert "labelled 21 of 22, 20 of them from the store" in repeated.stderr
    assert "spent $0.0000 in 0 requests" in repeated.stderr
    assert "saved by the store: 20 questions, $0.0" in repeated.stderr
    assert output.read_bytes() == first
    larger = label(server, dialogues_file(tmp_path / "more.jsonl", 25), **PRICES)
    assert "labelled 25 of 25, 20 of them from the store" in larger.stderr
    assert sum(server.stats()["asked"].values()) == 25
    assert [entry["id"] for entry in records] == [*(f"d{i}" for i in range(20)), "again"]
    assert records[-1] | {"category": "sad", "conversation": "c9"} == records[-1]
    judge = records[0]["judge"]
    assert judge.pop("cost_usd") > 0
    host = server.url.split("/")[2]
    assert judge == {"model": "judge-1", "base_url": host, "rubric": Rubric().hash, "temperature": 0, "draw": 0}
    assert not (tmp_path / "labels.jsonl.rejects.jsonl").exists()  # the last run had none


def test_what_has_no_judgement_is_rejected_with_its_reason_and_the_reply(
    label: Ask, serve: Serve, tmp_path: Path
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 12)
    server = serve(always=["number 7."], faults=["truncated"])
    result = label(server, source)
    assert "labelled 11 of 12" in result.stderr
    assert "spent: no price is known in 16 requests" in result.stderr
    (reject,) = lines(tmp_path / "labels.jsonl.rejects.jsonl")
    assert (reject["id"], reject["line"], reject["reason"], reject["draw"]) == ("d7", 8, "no_scores", 0)
    assert reject["reply"].startswith('{"sensibility"')
    again = label(server, source).stderr
    assert "in 0 requests" in again  # five attempts are five attempts
    assert "rejected: 1 (no_scores 1)" in again
    assert "in 5 requests" in label(server, source, retry_rejects=True).stderr


def test_a_run_that_labels_nothing_writes_nothing_and_exits_1(
    label: Ask, serve: Serve, tmp_path: Path, output: Path
) -> None:
    result = label(serve(share=1, faults=["refusal"]), dialogues_file(tmp_path / "in.jsonl", 3))
    assert result.returncode == 1
    assert "nothing was labelled" in result.stderr
    assert not output.exists()
    reject = lines(tmp_path / "labels.jsonl.rejects.jsonl")[0]
    assert (reject["reason"], reject["detail"]) == ("refused", "I can't judge that.")


def test_repeated_draws_are_lines_that_training_and_agreement_read(
    label: Ask, empathy: Run, serve: Serve, tmp_path: Path, output: Path
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 20)
    assert "labelled 40 of 40" in label(serve(), source, draws=2, temperature=1).stderr
    labelled = read_labelled([str(output)])
    assert [len(entry) for entry in labelled.judgements] == [2] * 20
    repeated = self_agreement(labelled, 5)
    assert repeated is not None
    result = empathy("agree", output, "--bootstrap", "0")
    assert result.returncode == 0
    assert repeated[0] in result.stdout


def test_a_dry_run_prices_asks_nothing_and_leaves_nothing(
    label: Ask, empathy: Run, serve: Serve, tmp_path: Path
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 10)
    server = serve()
    given = options(server, tmp_path, dry_run=True)
    result = empathy("label", source, *given, *options(server, tmp_path, **PRICES), env=ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    assert "to ask: 10 questions (the store has 0 more" in result.stdout
    assert "price: $1 in, $2 out per million tokens (as given)" in result.stdout
    assert "give --price-in and --price-out" in empathy("label", source, *given).stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]
    assert server.stats()["requests"] == 0
    label(server, source)
    assert "to ask: 0 questions (the store has 10 more" in empathy("label", source, *given).stdout


def test_the_store_alone_gives_the_labels(label: Ask, empathy: Run, serve: Serve, tmp_path: Path) -> None:
    label(serve(), dialogues_file(tmp_path / "in.jsonl", 10))
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
        ({"temperature": 3}, "temperature is 3.0, expected 0 to 2"),
        ({"rubric": "/no/rubric"}, "cannot be read"),
        ({"key_env": "MY_KEY"}, "MY_KEY is not set"),
        ({"timeout": "nan"}, "timeout is nan"),
        ({"model": ""}, "--model is empty"),
    ],
)
def test_what_cannot_be_is_one_line(label: Ask, tmp_path: Path, more: dict[str, Any], text: str) -> None:
    result = label(Running("http://127.0.0.1:9/v1"), dialogues_file(tmp_path / "in.jsonl", 2), **more)
    assert (result.returncode, text in result.stderr) == (2, True), result.stderr
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


def test_a_second_process_exits_2_with_one_line(label: Ask, serve: Serve, tmp_path: Path, output: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 4)
    server = serve(latency=1.5)
    with started("label", source, "-o", output, *options(server, tmp_path, timeout=9)) as first:
        server.wait_for(requests=1)
        second = label(server, source)
        assert first.wait(30) == 0
    assert second.returncode == 2
    assert "another process labels with this store" in second.stderr
    assert len(second.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize(
    ("behaviour", "more", "reached"),
    [
        ({"latency": 0.3}, {"concurrency": 4}, {"requests": 9}),
        ({"batch": {"polls": 3}}, {"batch": True, "poll": 0.1}, {"batches": 1}),
    ],
    ids=["single", "batch"],
)
def test_a_signal_leaves_what_is_paid_in_the_store_and_the_rerun_continues(
    label: Ask,
    serve: Serve,
    tmp_path: Path,
    output: Path,
    behaviour: dict[str, Any],
    more: dict[str, Any],
    reached: dict[str, int],
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 60)
    server = serve(**behaviour)
    with started("label", source, "-o", output, *options(server, tmp_path, **more)) as process:
        server.wait_for(**reached)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    kept = f"what was answered is in {tmp_path / 'store.sqlite'}: run the same command again to continue"
    assert said.decode().splitlines()[-1] == f"empathy: {word}; {kept}"
    assert not output.exists()
    assert label(server, source, **more).returncode == 0
    assert len(check_labels(output)) == 60
    assert set(server.stats()["asked"].values()) == {1}


def test_a_second_signal_does_not_wait_and_books_what_it_gave_up(serve: Serve, tmp_path: Path, output: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 60)
    server = serve(latency=30)
    with started("label", source, "-o", output, *options(server, tmp_path, concurrency=4, timeout=60)) as process:
        server.wait_for(requests=4)
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.3)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 143
    assert b"Traceback" not in said
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
        assert database.execute("SELECT status, detail FROM replies").fetchall() == [("lost", "given up")] * 4


def test_a_sample_is_labelled_and_a_larger_one_pays_for_the_rest(
    label: Ask, serve: Serve, tmp_path: Path, output: Path
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 30)
    server = serve()
    assert "labelled 8 of 8, 0 of them from the store" in label(server, source, sample=8, seed=3).stderr
    first = output.read_text().splitlines()
    assert "labelled 12 of 12, 8 of them from the store" in label(server, source, sample=12, seed=3).stderr
    assert output.read_text().splitlines()[:8] == first
    assert "labelled 5 of 5" in label(server, source, sample=5, strategy="stratified").stderr
    assert "a sample of 31, expected 0 to 30" in label(server, source, sample=31).stderr
