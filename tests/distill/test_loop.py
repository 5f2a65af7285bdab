"""`empathy distill`: rounds that build on each other, stop for a reason, and go on after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.errors import LabelError, TrainError
from distill.judge.labelling import LabelSettings
from distill.judge.rubric import Rubric
from distill.judge.store import Store
from distill.loop import Loop, LoopSettings, Round
from distill.training.settings import TrainSettings
from scorer.bundle.bundle import load_bundle
from scorer.errors import OutputError
from tests.conftest import Run
from tests.distill.judge.judge_server import Running, judge_server
from tests.distill.judge.labelling import KEY, dialogues, dialogues_file, options, settings
from tests.distill.tiny import write_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return write_backbone(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture
def make(tmp_path: Path, backbone: Path) -> Callable[..., Loop]:
    """Return a loop against a server; what is given replaces its settings."""

    def made(
        server: Running, *, count: int = 250, label: dict[str, Any] | None = None, max_length: int = 64, **more: Any
    ) -> Loop:
        given: dict[str, Any] = {"check": 20, "step": 60, "rounds": 2, "strategy": "random", "min_gain": -2} | more
        judge: LabelSettings = settings(server, price_in=1, price_out=2, **(label or {}))
        return Loop(
            dialogues(count),
            Rubric(),
            judge,
            TrainSettings(backbone=str(backbone), epochs=1, max_length=max_length),
            LoopSettings(**given),
            Store(tmp_path / "store.sqlite"),
            tmp_path / "out",
            say=said.append,
        )

    said.clear()
    return made


said: list[str] = []


def chosen(folder: Path, number: int) -> list[str]:
    """Return the ids of the dialogues that were labelled up to a round."""
    ids: list[str] = json.loads((folder / f"round-{number}" / "sample.json").read_text())
    return ids


def test_rounds_build_on_each_other_and_leave_a_scorer(make: Callable[..., Loop], tmp_path: Path) -> None:
    with judge_server() as server:
        rounds, why = make(server).run()
        assert why == "2 rounds are done"
        assert [entry.labels for entry in rounds] == [60, 120]
        assert sum(server.stats()["asked"].values()) == 140
        first, second = chosen(tmp_path / "out", 1), chosen(tmp_path / "out", 2)
        assert second[:60] == first
        check = [json.loads(line)["id"] for line in (tmp_path / "out" / "check.jsonl").read_text().splitlines()]
        assert len(check) == 20
        assert not set(check) & set(second)  # what measures is never trained on
        assert load_bundle(tmp_path / "out" / "scorer").name in {"out, round 1", "out, round 2"}
        assert rounds[1].usd > rounds[0].usd > 0
        # The same again does nothing; with more rounds it goes on.
        assert make(server).run() == (rounds, why)
        assert sum(server.stats()["asked"].values()) == 140
        more, _ = make(server, rounds=3).run()
        assert [entry.labels for entry in more] == [60, 120, 180]
        assert more[:2] == rounds


def test_a_loop_that_dies_goes_on_where_it_was(
    make: Callable[..., Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyError("died")

    with judge_server() as server:
        for step in ("train", "export", "judge_against_scorer"):
            with monkeypatch.context() as patched:
                patched.setattr(f"distill.loop.{step}", die)
                with pytest.raises(KeyError):
                    make(server, rounds=1).run()
        rounds, _ = make(server, rounds=1).run()
        assert sum(server.stats()["asked"].values()) == 80
    assert [entry.labels for entry in rounds] == [60]
    assert not (tmp_path / "out" / "round-1" / "checkpoint.partial").exists()


def test_the_budget_is_the_whole_loops(make: Callable[..., Loop]) -> None:
    with judge_server() as server:
        rounds, why = make(server, rounds=5, max_cost=0.09).run()
        assert why.startswith("--max-cost 0.0")
        asked = sum(server.stats()["asked"].values())
        again, why = make(server, rounds=5, max_cost=0.09).run()
        assert (again, why.startswith("--max-cost 0")) == (rounds, True)
        assert sum(server.stats()["asked"].values()) == asked
        assert make(server)._store.spent() <= 0.09


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
def test_why_a_loop_ends(
    make: Callable[..., Loop], agreements: list[float | None], more: dict[str, Any], why: str | None
) -> None:
    with judge_server() as server:
        loop = make(server, **more)
    rounds = [
        Round(number=i + 1, labels=60 * (i + 1), agreement=value, pearson={}, kappa=None, usd=0)
        for i, value in enumerate(agreements)
    ]
    assert loop._enough(rounds) == why


def test_another_loops_folder_and_too_few_dialogues_are_refused(make: Callable[..., Loop], tmp_path: Path) -> None:
    with judge_server() as server:
        make(server)
        with pytest.raises(OutputError, match=r"was begun with sampling .*use the same, or name another folder"):
            make(server, step=70)
        with pytest.raises(OutputError, match="was begun with asking"):
            make(server, label={"temperature": 1.0})
        (tmp_path / "out" / "distill.json").rename(tmp_path / "out" / "other")
        with pytest.raises(OutputError, match=r"holds other files and no distill\.json"):
            make(server)
        (tmp_path / "out" / "other").unlink()
        with pytest.raises(LabelError, match="79 dialogues, of which 59 are left to learn from"):
            make(server, count=79)
    wrong: tuple[tuple[str, Any], ...] = (("check", 1), ("rounds", 0), ("target", 2), ("max_cost", float("nan")))
    for name, value in wrong:
        with pytest.raises(LabelError, match=f"--{name.replace('_', '-')} is {value}"):
            LoopSettings(**{name: value})


def test_a_backbone_that_cannot_be_trained_is_said_before_money_is_spent(make: Callable[..., Loop]) -> None:
    with judge_server() as server:
        with pytest.raises(TrainError, match="takes 128 tokens at most"):
            make(server, max_length=256).run()
        assert server.stats()["requests"] == 0


@pytest.mark.slow
def test_the_command_makes_a_scorer_that_scores(empathy: Run, tmp_path: Path, backbone: Path) -> None:
    source = dialogues_file(tmp_path / "in.jsonl", 120)
    with judge_server() as server:
        result = empathy(
            "distill",
            source,
            "-o",
            tmp_path / "out",
            *options(server, tmp_path, price_in=1, price_out=2, max_cost=1),
            "--check",
            "20",
            "--step",
            "60",
            "--rounds",
            "1",
            "--backbone",
            backbone,
            "--epochs",
            "1",
            "--max-length",
            "64",
            env={**os.environ, "OPENAI_API_KEY": KEY},
        )
    assert result.returncode == 0, result.stderr
    assert "round 1: 60 labels, agreement" in result.stderr
    assert "stopped: 1 rounds are done" in result.stderr
    scored = empathy("score", source, "--scorer", tmp_path / "out" / "scorer", "-o", tmp_path / "scores.jsonl")
    assert scored.returncode == 0, scored.stderr
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 120
