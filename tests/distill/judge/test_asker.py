"""What a person sees while labels are bought."""

from __future__ import annotations

import re
from typing import Any

from scorer.progress import Silent
from tests.distill.conftest import Label, Serve


class Seen(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float | None, float]] = []
        self.updates: list[tuple[float, str]] = []
        self.said: list[str] = []

    def stage(self, name: str, total: float | None = None, done: float = 0) -> None:
        self.stages.append((name, total, done))

    def update(self, done: float, *, note: str = "", **_: Any) -> None:
        self.updates.append((done, note))

    def say(self, text: str) -> None:
        self.said.append(text)


def test_rate_money_and_rejects_are_shown_beyond_what_the_store_answers(serve: Serve, label: Label) -> None:
    server, seen = serve(always=["number 5."], faults=["range"]), Seen()
    label(server, 2).run()
    label(server, 6, price_in=1, price_out=2).run(seen)
    assert seen.stages == [("labelling", 6, 2)]
    assert [done for done, _ in seen.updates] == [3, 4, 5, 6]
    assert re.fullmatch(r"\d+\.\d/s, \$0\.00\d\d spent, 1 rejected", seen.updates[-1][1])
    label(server, 7).run(seen)
    assert "spent" not in seen.updates[-1][1]  # no price is known


def test_why_nothing_happens_is_said_once(serve: Serve, label: Label) -> None:
    seen = Seen()
    label(serve(batch={"polls": 4}), 3, batch=True, poll_seconds=0.02).run(seen)
    assert seen.said == [f"labelling: batch {text}" for text in ("batch-0 submitted", "in_progress", "completed")]


def test_a_long_pause_is_said(serve: Serve, label: Label, monkeypatch: Any) -> None:
    monkeypatch.setattr("distill.judge.ask._LONG_PAUSE_SECONDS", 0.1)
    seen = Seen()
    label(serve(share=0.3, faults=["429_after"], retry_after=0.4), 20).run(seen)
    assert set(seen.said) == {"labelling: the server asks for a pause of 0 s"}
