"""The Batch API route: it survives a restart at any moment, merges what came, and sends again what did not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from distill.errors import LabelError
from distill.judge.ask import Watcher
from distill.judge.labelling import Labelling
from distill.judge.rate_limit import Limits
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from tests.conftest import Run
from tests.distill.judge.judge_server import Running, judge_server
from tests.distill.judge.labelling import KEY, check_labels, dialogues, dialogues_file, labelling, options, settings

ENVIRONMENT = {**os.environ, "OPENAI_API_KEY": KEY}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait next to nothing between attempts, in this process."""
    monkeypatch.setattr(Limits, "backoff", lambda *_: 0.02)


def batched(server: Running, folder: Path, count: int, **more: Any) -> tuple[Labelling, Store]:
    """Return a labelling over the Batch API."""
    return labelling(server, folder, count, batch=True, poll_seconds=0.02, **more)


def test_a_batch_costs_half_and_gives_the_same_labels(empathy: Run, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 20)
    prices = {"price_in": 100, "price_out": 200}
    with judge_server(key=KEY) as server:
        for name, more in (("single", {}), ("batch", {"batch": True, "poll": 0.1})):
            (tmp_path / name).mkdir()
            output = tmp_path / name / "labels.jsonl"
            given = options(server, tmp_path / name, **prices, **more)
            result = empathy("label", source, "-o", output, *given, env=ENVIRONMENT)
            assert result.returncode == 0, result.stderr
        assert server.stats()["batches"] == 1
    single, batch = (check_labels(tmp_path / name / "labels.jsonl") for name in ("single", "batch"))
    for one, other in zip(single, batch, strict=True):
        assert other["judge"].pop("cost_usd") == pytest.approx(one["judge"].pop("cost_usd") / 2)
        assert other == one


def test_rows_that_failed_or_are_missing_are_sent_again(tmp_path: Path) -> None:
    faults = ["500", "range", "hang", "truncated"]
    wanted = {"polls": 2, "half": True, "fail_polls": 2}
    with judge_server(share=0.3, faults=faults, always=["number 7."], batch=wanted) as server:
        work, store = batched(server, tmp_path, 60)
        outcome, spending = work.run(Watcher())
        counts = server.stats()
    assert outcome.scored + len(outcome.failed) == 60
    assert ("batch_error" in {reason for reason, _ in outcome.failed.values()}) == (len(outcome.failed) > 0)
    assert max(counts["scored"].values()) == 1
    assert counts["batches"] == 5
    assert spending.requests > 100
    store.close()


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_an_unfinished_batch_brought_is_kept(tmp_path: Path, status: str) -> None:
    with judge_server(batch={"status": status, "half": True}) as server:
        work, store = batched(server, tmp_path, 10)
        outcome, _ = work.run(Watcher())
        assert set(server.stats()["asked"].values()) == {1}
    assert outcome.scored == 10
    store.close()


def test_a_batch_whose_submission_got_no_answer_is_found_by_its_name(tmp_path: Path) -> None:
    with judge_server(batch={"lose_create": 1}) as server:
        work, store = batched(server, tmp_path, 10)
        outcome, _ = work.run(Watcher())
        assert server.stats()["batches"] == 1
    assert outcome.scored == 10
    store.close()


@pytest.mark.parametrize("moment", ["set_batch", "add_all"])
def test_a_process_that_dies_at_any_moment_is_followed_by_one_that_collects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyError("died")

    with judge_server() as server:
        work, store = batched(server, tmp_path, 10)
        with monkeypatch.context() as patched:
            patched.setattr(Store, moment, die)
            with pytest.raises(KeyError):
                work.run(Watcher())
        store.close()
        work, store = batched(server, tmp_path, 12)
        outcome, _ = work.run(Watcher())
        assert outcome.scored == 12
        assert set(server.stats()["asked"].values()) == {1}
        assert server.stats()["batches"] == 2  # the second one holds the two new dialogues
        store.close()


def test_what_is_under_way_is_not_asked_for_in_another_way(tmp_path: Path) -> None:
    class Gone(Watcher):
        def note(self, text: str) -> None:
            if "submitted" in text:
                raise KeyError("died")

    with judge_server() as server:
        work, store = batched(server, tmp_path, 10)
        with pytest.raises(KeyError):
            work.run(Gone())
        single = Labelling(dialogues(3), Rubric(), settings(server), store)
        with pytest.raises(LabelError, match="1 batches with some of these questions are on their way and paid for"):
            single.run(Watcher())
    store.close()


def test_the_limit_of_money_holds_for_batches_too(tmp_path: Path) -> None:
    with judge_server() as server:
        work, store = batched(server, tmp_path, 200, price_in=50, price_out=100, max_cost=1.0)
        outcome, spending = work.run(Watcher())
        counts = server.stats()
    assert outcome.stopped is not None
    assert outcome.stopped.startswith("--max-cost 1:")
    assert 0.85 < spending.usd <= 1.0
    assert counts["batches"] > 1  # what a batch left of its worst case went into the next
    assert outcome.scored == len(counts["scored"])
    store.close()


def test_a_batch_that_the_server_fails_is_one_line(tmp_path: Path) -> None:
    with judge_server(batch={"status": "failed"}) as server:
        work, store = batched(server, tmp_path, 3)
        with pytest.raises(LabelError, match=r"batch batch-0 failed: the model takes no batches"):
            work.run(Watcher())
    store.close()


def test_many_rows_are_several_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.judge.ask_batch.MAX_ROWS", 4)
    with judge_server() as server:
        work, store = batched(server, tmp_path, 10, max_requests=9)
        outcome, _ = work.run(Watcher())
        assert server.stats()["batches"] == 3
    assert (outcome.scored, outcome.stopped) == (9, "--max-requests 9")
    store.close()
