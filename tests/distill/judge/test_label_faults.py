"""A server that fails in every way: nothing hangs, nothing is guessed, no paid answer is asked for again."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import time
import traceback
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distill.errors import LabelError
from distill.judge.prices import Price
from tests import forks
from tests.conftest import Run
from tests.distill.conftest import Label, Serve
from tests.distill.judge.judge_server import FAULTS
from tests.distill.judge.labelling import KEY, check_labels, dialogues_file, environment, options, started


def label_with_faults(
    empathy: Run, serve: Serve, folder: Path, count: int, *, concurrency: int, share: float
) -> dict[str, Any]:
    """Label against a server that fails, check what came of it, and return the server's counts."""
    source = dialogues_file(folder / "in.jsonl", count)
    output, rejects_path = folder / "labels.jsonl", folder / "labels.jsonl.rejects.jsonl"
    server = serve(share=share, latency=0.02, seed=3)
    given = options(server, folder, concurrency=concurrency, timeout=5, price_in=1, price_out=2)
    result = empathy("label", source, "-o", output, *given, env=environment())
    counts = server.stats()
    assert result.returncode == 0, result.stderr
    labelled = {entry["id"] for entry in check_labels(output)}
    rejects = [json.loads(line) for line in rejects_path.read_text().splitlines()] if rejects_path.exists() else []
    assert all(reject["reason"] and reject["detail"] for reject in rejects)
    assert labelled | {reject["id"] for reject in rejects} == {f"d{i}" for i in range(count)}
    assert len(labelled) + len(rejects) == count
    assert set(counts["scored"].values()) == {1}  # never asked again after a success
    assert len(counts["scored"]) == len(labelled)
    assert counts["peak"] <= concurrency + 16  # those that gave up on a hanging call may open another
    return counts


@pytest.mark.slow
def test_every_dialogue_is_labelled_or_rejected_whatever_the_server_does(
    empathy: Run, serve: Serve, tmp_path: Path
) -> None:
    counts = label_with_faults(empathy, serve, tmp_path, 150, concurrency=32, share=0.4)
    assert set(counts["outcomes"]) == {"fine", *FAULTS}  # all of them happened


@pytest.mark.slow
def test_two_thousand_dialogues_with_a_fifth_of_the_calls_failing(empathy: Run, serve: Serve, tmp_path: Path) -> None:
    counts = label_with_faults(empathy, serve, tmp_path, 2000, concurrency=64, share=0.2)
    assert min(counts["outcomes"].values()) >= 10


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["500", "reset", "half", "broken_body"])
def test_a_question_that_always_fails_is_rejected_after_five_attempts(serve: Serve, label: Label, fault: str) -> None:
    server = serve(always=["number 2."], faults=[fault])
    outcome, _ = label(server, 5).run()
    assert outcome.scored == 4
    ((reason, detail),) = outcome.failed.values()
    assert reason in {"server_error", "lost", "broken_body"}
    assert detail
    assert sorted(server.stats()["asked"].values()) == [1, 1, 1, 1, 5]


@pytest.mark.slow
def test_a_busy_server_is_waited_for_as_long_as_it_says(serve: Serve, label: Label) -> None:
    server = serve(share=0.3, faults=["429_after"], retry_after=0.2)
    start = time.monotonic()
    outcome, _ = label(server, 40, concurrency=10).run()
    seconds = time.monotonic() - start
    assert (outcome.scored, outcome.failed) == (40, {})  # a wait is no attempt, however often
    episodes = server.stats()["outcomes"]["429_after"] / 10  # at most all ten in flight meet the same one
    assert seconds > 0.2 * episodes


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_the_limit_of_money_is_never_passed(serve: Serve, label: Label, concurrency: int, share: float) -> None:
    price = Price(per_million_in=50, per_million_out=100)
    server = serve(latency=0.01, share=share, faults=[fault for fault in FAULTS if fault not in {"hang", "drip"}])
    work = label(server, 300, concurrency=concurrency, price_in=50, price_out=100, max_cost=2.0)
    outcome, spending = work.run()
    counts = server.stats()
    billed = price.of(counts["prompt_tokens"], counts["completion_tokens"])
    assert outcome.stopped is not None
    assert outcome.stopped.startswith("--max-cost 2:")
    assert billed <= spending.usd + 1e-9  # what is counted is at least what the server charges
    assert spending.usd <= 2.0
    worst = price.of(5000, 128)
    assert spending.usd > 2.0 - worst  # and it stops no earlier than one call's worst case before the limit
    assert work.store.spent() == pytest.approx(spending.usd)


def test_a_server_that_counts_nothing_meets_the_limit_of_money(serve: Serve, label: Label) -> None:
    server = serve(usage=10**9)
    outcome, spending = label(server, 100, price_in=50, price_out=100, max_cost=1.0).run()
    assert outcome.stopped is not None
    assert 0.8 < spending.usd <= 1.0
    assert len(server.stats()["asked"]) < 20


def test_a_server_that_has_counted_may_count_none(serve: Serve, label: Label) -> None:
    server = serve(usage=3)
    _, spending = label(server, 20, price_in=50, price_out=100, concurrency=1).run()
    counts = server.stats()
    counted = Price(per_million_in=50, per_million_out=100).of(counts["prompt_tokens"], counts["completion_tokens"])
    each = counted / 17
    assert counted + 3 * 2 * each < spending.usd  # the worst of three calls is more than twice what calls cost


@pytest.mark.parametrize("limit", [0, 1, 25])
def test_the_limit_of_requests_is_never_passed(serve: Serve, label: Label, limit: int) -> None:
    server = serve(latency=0.01)
    outcome, _ = label(server, 100, concurrency=64, max_requests=limit).run()
    assert server.stats()["requests"] == outcome.scored == limit
    assert outcome.stopped == f"--max-requests {limit}"


def kill_and_rerun(serve: Serve, folder: Path, count: int, kills: int, concurrency: int, latency: float) -> None:
    """Kill the command at random moments, run it to its end, and check that each kill lost only what was in flight."""
    source = dialogues_file(folder / "in.jsonl", count)
    chance = random.Random(5)
    lost = [0]
    server = serve(latency=latency, share=0.1, faults=["500", "range", "prose", "429"])

    def start() -> forks.Process:
        given = options(server, folder, concurrency=concurrency, overwrite=True, quiet=True)
        return started("label", source, "-o", folder / "labels.jsonl", *given)

    for _ in range(kills):
        before = server.stats()["requests"]
        with start() as process:
            server.wait_for(requests=before + 1)  # it is loading
            time.sleep(chance.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
        while server.stats()["unfinished"]:  # the server answers whom it may, and bills it
            time.sleep(0.02)
        lost.append(sum(server.stats()["scored"].values()) - saved_answers(folder / "store.sqlite"))
        assert lost[-1] - lost[-2] <= concurrency
    with start() as process:
        assert process.wait(120) == 0
    counts = server.stats()
    assert len(check_labels(folder / "labels.jsonl")) == len(counts["scored"]) == count
    assert sum(counts["scored"].values()) - count == lost[-1]  # so nothing else was paid for twice
    assert saved_answers(folder / "store.sqlite") == count


def saved_answers(path: Path) -> int:
    """Return the number of judgements in a store that nobody holds."""
    with closing(sqlite3.connect(path)) as database:
        return int(database.execute("SELECT COUNT(*) FROM replies WHERE status = 'scored'").fetchone()[0])


@pytest.mark.slow
def test_a_killed_run_continues_where_it_was(serve: Serve, tmp_path: Path) -> None:
    kill_and_rerun(serve, tmp_path, 200, kills=2, concurrency=16, latency=0.1)


@pytest.mark.slow
def test_ten_kills_at_random_moments(serve: Serve, tmp_path: Path) -> None:
    kill_and_rerun(serve, tmp_path, 2000, kills=10, concurrency=64, latency=0.2)


def test_the_key_is_in_no_file_log_or_traceback(
    empathy: Run, serve: Serve, label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 12)
    server = serve(share=0.3, faults=["429", "500", "range", "reset"], key=KEY)
    hostile = serve(key="another")  # says 401 and repeats what it was given
    said = []
    for where, output, code in ((server, "labels.jsonl", 0), (hostile, "no.jsonl", 2)):
        given = options(where, tmp_path)
        result = empathy("label", source, "-o", tmp_path / output, *given, env={**environment(), "OPENAI_LOG": "debug"})
        assert "DEBUG" in result.stderr
        assert result.returncode == code
        said.append(result.stdout + result.stderr)
    assert set(server.stats()["keys"]) <= {"", f"Bearer {KEY}"}
    monkeypatch.setenv("ANOTHER_KEY", KEY)
    with pytest.raises(LabelError) as caught:
        label(hostile, 3, key_name="ANOTHER_KEY").run()
    said.append("".join(traceback.format_exception(caught.value)))
    assert all(KEY not in text for text in said)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"store.sqlite", "labels.jsonl"} <= {path.name for path in files}
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
        assert KEY not in "\n".join(database.iterdump())
