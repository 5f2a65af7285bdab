"""The progress of a training, on a terminal and in a log."""

from __future__ import annotations

import io
import time

import pytest

from distill.cli.train_bar import TrainBar


def test_a_log_gets_a_line_a_fit_and_one_a_minute_with_the_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with TrainBar(stream, show=False, log=True) as bar:
        bar.begin(400)
        bar.skip(100)
        clock[0] = 500.0
        bar.teach(10, 10)  # what the teacher takes is no part of the time to go
        bar.fit("fold 2 of 3")
        for done in range(1, 101):
            clock[0] += 1
            bar.step(done, float("nan") if done < 50 else 0.5)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["the teacher scores dialogues, 10 of 10", "fold 2 of 3: begins"]
    assert lines[2] == "fold 2 of 3: step 161 of 400, loss 0.500, 4 min to go"


def test_a_quiet_run_says_nothing() -> None:
    stream = io.StringIO()
    with TrainBar(stream, show=False, log=False) as bar:
        bar.begin(2)
        bar.fit("final")
        bar.step(1, 0.5)
        bar.teach(1, 1)
    assert stream.getvalue() == ""


def test_a_terminal_sees_one_bar() -> None:
    stream = io.StringIO()
    with TrainBar(stream, show=True, log=True) as bar:
        bar.begin(10)
        bar.fit("final")
        bar.step(5, 0.25)
    assert "training, final" in stream.getvalue()
    assert "begins" not in stream.getvalue()
