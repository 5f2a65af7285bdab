"""The Batch API route: it survives a restart at any moment, merges what came, and sends again what did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.errors import LabelError
from distill.judge.labelling import Labelling
from distill.judge.store import Store
from scorer.progress import Silent
from tests.conftest import Run
from tests.distill.conftest import Label, Serve
from tests.distill.judge.judge_server import Running
from tests.distill.judge.labelling import KEY, check_labels, dialogues_file, environment, options

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def batched(label: Label) -> Label:
    """Return a labelling over the Batch API."""

    def made(server: Running, count: int, **more: Any) -> Labelling:
        return label(server, count, batch=True, poll_seconds=0.02, **more)

    return made


@pytest.mark.slow
def test_a_batch_costs_half_and_gives_the_same_labels(empathy: Run, serve: Serve, tmp_path: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 20)
    server = serve(key=KEY)
    labels = []
    for name, more in (("single", {}), ("batch", {"batch": True, "poll": 0.1})):
        (tmp_path / name).mkdir()
        given = options(server, tmp_path / name, price_in=100, price_out=200, **more)
        result = empathy("label", source, "-o", tmp_path / name / "labels.jsonl", *given, env=environment())
        assert result.returncode == 0, result.stderr
        labels.append(check_labels(tmp_path / name / "labels.jsonl"))
    assert server.stats()["batches"] == 1
    for one, other in zip(*labels, strict=True):
        assert other["judge"].pop("cost_usd") == pytest.approx(one["judge"].pop("cost_usd") / 2)
        assert other == one


def test_rows_that_failed_or_are_missing_are_sent_again(serve: Serve, batched: Label) -> None:
    faults = ["500", "range", "hang", "truncated"]
    wanted = {"polls": 2, "half": True, "fail_polls": 2}
    server = serve(share=0.3, faults=faults, always=["number 7."], batch=wanted)
    outcome, spending = batched(server, 60).run()
    counts = server.stats()
    assert outcome.scored + len(outcome.failed) == 60
    assert ("batch_error" in {reason for reason, _ in outcome.failed.values()}) == (len(outcome.failed) > 0)
    assert max(counts["scored"].values()) == 1
    assert counts["batches"] == 5
    assert spending.requests > 100


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_an_unfinished_batch_brought_is_kept(serve: Serve, batched: Label, status: str) -> None:
    server = serve(batch={"status": status, "half": True})
    assert batched(server, 10).run()[0].scored == 10
    assert set(server.stats()["asked"].values()) == {1}


def test_a_batch_whose_submission_got_no_answer_is_found_by_its_name(serve: Serve, batched: Label) -> None:
    server = serve(batch={"lose_create": 1})
    assert batched(server, 10).run()[0].scored == 10
    assert server.stats()["batches"] == 1


@pytest.mark.parametrize("moment", ["set_batch", "add_all"])
def test_a_process_that_dies_at_any_moment_is_followed_by_one_that_collects(
    serve: Serve, batched: Label, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    server = serve()
    with monkeypatch.context() as patched:
        patched.setattr(Store, moment, _die)
        with pytest.raises(KeyError):
            batched(server, 10).run()
    assert batched(server, 12).run()[0].scored == 12
    assert set(server.stats()["asked"].values()) == {1}
    assert server.stats()["batches"] == 2  # the second one holds the two new dialogues


@pytest.mark.parametrize("others", [99, 100, 250])
def test_a_batch_is_found_however_many_others_there_are(
    serve: Serve, batched: Label, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    server = serve(batch={"others": others})
    with monkeypatch.context() as patched:
        patched.setattr(Store, "set_batch", _die)
        with pytest.raises(KeyError):
            batched(server, 10).run()
    assert batched(server, 10).run()[0].scored == 10
    assert server.stats()["batches"] == 1


def _die(*_: object, **__: object) -> None:
    raise KeyError("died")


@pytest.mark.parametrize("wanted", [{"half": True}, {"half": True, "status": "expired"}, {"lost": 5}])
def test_rows_that_never_come_back_count_at_their_worst(serve: Serve, batched: Label, wanted: dict[str, Any]) -> None:
    work = batched(serve(batch=wanted), 10, price_in=50, price_out=100)
    worst = work.worst_usd
    _, spending = work.run()
    assert spending.lost == 5
    assert spending.lost_usd == pytest.approx(5 * worst, rel=0.02)  # of a text that is one digit longer
    assert work.store.spent() == pytest.approx(spending.usd)
    assert spending.usd > spending.lost_usd


def test_files_that_the_server_has_no_more_are_rows_that_never_come_back(serve: Serve, batched: Label) -> None:
    work = batched(serve(batch={"gone": True}), 4, price_in=50, price_out=100, max_cost=1.0)
    outcome, spending = work.run()
    assert outcome.scored == 0
    assert spending.lost >= 4
    assert spending.usd == spending.lost_usd <= 1.0
    assert work.store.spent() == pytest.approx(spending.usd)


def test_a_batch_that_the_server_forgot_is_one_line(serve: Serve, batched: Label) -> None:
    with pytest.raises(LabelError, match="knows no batch batch-0, which is paid for and not collected; use the key"):
        batched(serve(batch={"forgotten": True}), 3).run()


def test_what_is_under_way_is_not_asked_for_in_another_way(serve: Serve, batched: Label, label: Label) -> None:
    class Gone(Silent):
        def say(self, text: str) -> None:
            if "submitted" in text:
                raise KeyError("died")

    server = serve()
    with pytest.raises(KeyError):
        batched(server, 10).run(Gone())
    with pytest.raises(LabelError, match="1 batches with some of these questions are on their way and paid for"):
        label(server, 3).run()


def test_the_limit_of_money_holds_for_batches_too(serve: Serve, batched: Label) -> None:
    server = serve()
    outcome, spending = batched(server, 200, price_in=50, price_out=100, max_cost=1.0).run()
    counts = server.stats()
    assert outcome.stopped is not None
    assert outcome.stopped.startswith("--max-cost 1:")
    assert 0.85 < spending.usd <= 1.0
    assert counts["batches"] > 1  # what a batch left of its worst case went into the next
    assert outcome.scored == len(counts["scored"])


def test_a_batch_that_the_server_fails_is_one_line(serve: Serve, batched: Label) -> None:
    with pytest.raises(LabelError, match=r"batch batch-0 failed: the model takes no batches"):
        batched(serve(batch={"status": "failed"}), 3).run()


def test_many_rows_are_several_batches(serve: Serve, batched: Label, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.judge.ask_batch.MAX_ROWS", 4)
    server = serve()
    outcome, _ = batched(server, 10, max_requests=9).run()
    assert server.stats()["batches"] == 3
    assert (outcome.scored, outcome.stopped) == (9, "--max-requests 9")
