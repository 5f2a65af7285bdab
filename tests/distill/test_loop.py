"""`empathy distill`: rounds that build on each other, stop for a reason, and continue after a kill."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distill.errors import LabelError, TrainError
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.loop import Loop, Round
from distill.settings import LoopSettings
from distill.training.settings import TrainSettings
from scorer.bundle.bundle import load_bundle
from scorer.errors import OutputError
from tests.conftest import Run
from tests.distill.conftest import Serve
from tests.distill.judge.judge_server import Running
from tests.distill.judge.labelling import dialogues, dialogues_file, environment, options, settings, started

Make = Callable[..., Loop]
NOBODY = Running("http://127.0.0.1:9/v1")


@pytest.fixture
def make(tmp_path: Path, backbone: Path) -> Make:
    """Return a loop against a server; what is given replaces its settings."""

    def made(
        server: Running, *, count: int = 250, label: dict[str, Any] | None = None, max_length: int = 64, **more: Any
    ) -> Loop:
        given: dict[str, Any] = {"check": 20, "step": 60, "rounds": 2, "strategy": "random", "min_gain": -2} | more
        return Loop(
            dialogues(count),
            Rubric(),
            settings(server, price_in=1, price_out=2, **(label or {})),
            TrainSettings(backbone=str(backbone), epochs=1, max_length=max_length),
            LoopSettings(**given),
            Store(tmp_path / "store.sqlite"),
            tmp_path / "out",
        )

    return made


def arguments(server: Running, folder: Path, source: Path, backbone: Path) -> list[object]:
    """Return the command line of a loop of one small round."""
    given: dict[str, Any] = {"price_in": 1, "price_out": 2, "max_cost": 1, "check": 20, "step": 60, "rounds": 1}
    given |= {"backbone": backbone, "epochs": 1, "max_length": 64}
    return ["distill", source, "-o", folder / "out", *options(server, folder, **given)]


def chosen(folder: Path, number: int) -> list[str]:
    """Return the ids of the dialogues that were labelled up to a round."""
    ids: list[str] = json.loads((folder / f"round-{number}" / "sample.json").read_text())
    return ids


def test_rounds_build_on_each_other_and_leave_a_scorer(make: Make, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    rounds, why = make(server).run()
    assert why == "2 rounds are done"
    assert [entry.labels for entry in rounds] == [60, 120]
    assert sum(server.stats()["asked"].values()) == 140
    first, second = chosen(tmp_path / "out", 1), chosen(tmp_path / "out", 2)
    assert second[:60] == first
    check = [json.loads(line)["id"] for line in (tmp_path / "out" / "check.jsonl").read_text().splitlines()]
    assert len(check) == 20
    assert not set(check) & set(second)  # what measures is never trained on
    assert load_bundle(tmp_path / "out" / "scorer").info.name in {"out, round 1", "out, round 2"}
    assert rounds[1].usd > rounds[0].usd > 0
    # The same again does nothing; with more rounds it continues.
    assert make(server).run() == (rounds, why)
    assert sum(server.stats()["asked"].values()) == 140
    more, _ = make(server, rounds=3).run()
    assert [entry.labels for entry in more] == [60, 120, 180]
    assert more[:2] == rounds


def dies_in(step: str, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a loop that dies in one of its steps."""

    def die(*_: object, **__: object) -> None:
        raise KeyError("died")

    with monkeypatch.context() as patched:
        patched.setattr(f"distill.loop.{step}", die)
        with pytest.raises(KeyError):
            loop.run()


@pytest.mark.slow
def test_a_loop_that_dies_continues_where_it_was(
    make: Make, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    for step in ("train_scorer", "export_bundle", "judge_against_scorer"):
        dies_in(step, make(server, rounds=1), monkeypatch)
    rounds, _ = make(server, rounds=1).run()
    assert sum(server.stats()["asked"].values()) == 80
    assert [entry.labels for entry in rounds] == [60]
    assert not (tmp_path / "out" / "round-1" / "checkpoint.partial").exists()


def test_a_rounds_checkpoint_that_was_edited_is_not_exported(
    make: Make, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    dies_in("export_bundle", make(server, rounds=1), monkeypatch)
    settings = tmp_path / "out" / "round-1" / "checkpoint" / "config.json"
    settings.write_text(settings.read_text() + " ")
    with pytest.raises(OutputError, match=r"config\.json: is missing or was changed since it was made"):
        make(server, rounds=1).run()


@pytest.mark.slow
def test_the_budget_is_the_whole_loops(make: Make, serve: Serve) -> None:
    server = serve()
    rounds, why = make(server, rounds=5, max_cost=0.09).run()
    assert why.startswith("--max-cost 0.0")
    asked = sum(server.stats()["asked"].values())
    again, why = make(server, rounds=5, max_cost=0.09).run()
    assert (again, why.startswith("--max-cost 0")) == (rounds, True)
    assert sum(server.stats()["asked"].values()) == asked
    assert make(server).store.spent() <= 0.09


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [False, True])
def test_a_kill_with_calls_in_flight_hides_no_money(serve: Serve, tmp_path: Path, backbone: Path, fresh: bool) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 250)
    server = serve(latency=0.05)
    given = [*arguments(server, tmp_path, source, backbone), "--max-cost", 0.125, "--concurrency", 4]

    def billed() -> float:
        counts = server.stats()
        return float(counts["prompt_tokens"] * 1 + counts["completion_tokens"] * 2) / 1e6

    for round_ in range(1, 3):
        with started(*given) as process:
            server.wait_for(requests=15 * round_ + 1)
            process.kill()
        time.sleep(0.2)  # what was in flight is answered, billed, and read by nobody
        account = json.loads((tmp_path / "out" / "distill.json").read_text())["account"]
        assert sum(account.values()) >= billed()
        if fresh:
            for path in tmp_path.glob("store.sqlite*"):
                path.unlink()
    with started(*given) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode in {0, 1}, said  # that is, it may not have come to a round
    assert billed() <= 0.125


@pytest.mark.slow
def test_a_fresh_store_spends_nothing_again(make: Make, serve: Serve, tmp_path: Path) -> None:
    server = serve()
    loop = make(server, rounds=5, max_cost=0.09)
    rounds, _ = loop.run()
    asked = sum(server.stats()["asked"].values())
    spent = loop.store.spent()
    loop.store.close()
    for path in tmp_path.glob("store.sqlite*"):
        path.unlink()
    again, why = make(server, rounds=5, max_cost=0.09).run()
    assert (again, why[:12]) == (rounds, "--max-cost 0")
    assert sum(server.stats()["asked"].values()) == asked
    account = json.loads((tmp_path / "out" / "distill.json").read_text())["account"]
    assert account == {"paid": pytest.approx(spent), "open": 0}


def test_a_batch_under_way_is_counted_once(make: Make, serve: Serve, tmp_path: Path) -> None:
    server = serve(batch={"polls": 10**9})
    loop = make(server, rounds=1, label={"batch": True, "poll_seconds": 0.02})
    worst = []

    def stop(text: str) -> None:
        if "submitted" in text or "in_progress" in text:
            worst.append(sum(batch.worst_usd for batch in loop.store.open_batches(server.url)))
            raise KeyError("died")

    loop.progress.say = stop  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(KeyError):
            loop.run()
    account = json.loads((tmp_path / "out" / "distill.json").read_text())["account"]
    assert worst[0] == worst[1] > 0
    assert account == {"paid": 0, "open": pytest.approx(worst[0])}


@pytest.mark.parametrize(
    ("agreements", "more", "why"),
    [
        ([0.5], {"target": 0.5}, "the target of 0.5 is reached"),
        ([0.4, 0.402], {"min_gain": 0.01}, "the last round gained +0.002, less than 0.01"),
        ([0.4, 0.3], {"min_gain": 0.0}, "the last round gained -0.100, less than 0"),
        ([0.4, 0.5], {"min_gain": 0.01, "rounds": 3}, None),
        ([None, None], {"min_gain": 0.01, "rounds": 3}, None),
        ([0.1] * 4, {"rounds": 9}, "every dialogue of the pool is labelled"),
    ],
)
def test_why_a_loop_ends(make: Make, agreements: list[float | None], more: dict[str, Any], why: str | None) -> None:
    rounds = [
        Round(number=i + 1, labels=60 * (i + 1), agreement=value, pearson={}, kappa=None, usd=0)
        for i, value in enumerate(agreements)
    ]
    assert make(NOBODY, **more)._enough(rounds) == why


def test_another_loops_folder_and_too_few_dialogues_are_refused(make: Make, tmp_path: Path) -> None:
    make(NOBODY)
    state = tmp_path / "out" / "distill.json"
    before = state.read_text()
    with pytest.raises(OutputError, match="was begun with step 60 and this run has 70; use the same, or name another"):
        make(NOBODY, step=70)
    with pytest.raises(OutputError, match=r"was begun with temperature 0\.0 and this run has 1\.0"):
        make(NOBODY, label={"temperature": 1.0})
    assert state.read_text() == before
    state.write_text(before.replace('"step": 60', '"step": "sixty"'))
    with pytest.raises(OutputError, match=r"distill\.json: is damaged .*step"):
        make(NOBODY)
    state.rename(tmp_path / "out" / "other")
    with pytest.raises(OutputError, match=r"holds no distill\.json"):
        make(NOBODY)
    (tmp_path / "out" / "other").unlink()
    with pytest.raises(LabelError, match="79 dialogues, of which 59 are left to learn from"):
        make(NOBODY, count=79)
    with pytest.raises(LabelError, match="max cost is nan, expected 0 to"):
        LoopSettings(max_cost=float("nan"))


def test_a_backbone_that_cannot_be_trained_is_said_before_money_is_spent(make: Make, serve: Serve) -> None:
    server = serve()
    with pytest.raises(TrainError, match="takes 128 tokens at most"):
        make(server, max_length=256).run()
    assert server.stats()["requests"] == 0


@pytest.mark.slow
def test_the_command_makes_a_scorer_that_scores(empathy: Run, serve: Serve, tmp_path: Path, backbone: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 120)
    command = arguments(serve(), tmp_path, source, backbone)
    result = empathy(*map(str, command), env=environment())
    assert result.returncode == 0, result.stderr
    assert "round 1: 60 labels, agreement" in result.stderr
    assert "stopped: 1 rounds are done" in result.stderr
    scored = empathy("score", source, "--scorer", tmp_path / "out" / "scorer", "-o", tmp_path / "scores.jsonl")
    assert scored.returncode == 0, scored.stderr
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 120


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_is_paid_in_the_store(
    serve: Serve, tmp_path: Path, backbone: Path, number: signal.Signals, code: int
) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 120)
    server = serve(latency=0.5)
    with started(*arguments(server, tmp_path, source, backbone), "--concurrency", 4) as process:
        server.wait_for(requests=6)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert b"run the same command again to continue" in said.splitlines()[-1]
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
        saved = database.execute("SELECT COUNT(*) FROM replies WHERE status = 'scored'").fetchone()[0]
    assert saved == sum(server.stats()["scored"].values()) >= 6
