"""What a person sees of long work: a bar on a terminal, one line per minute elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from scorer.cli.progress import Bar


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_share_time_to_go_and_note() -> None:
    stream = Terminal()
    with Bar(stream) as bar:
        bar.stage("scoring", 1)
        bar.update(50, total=400, note="1 dialogues, 9/s")
        bar.say("a line above it")
        bar.stage("joining", None)
    shown = stream.getvalue()
    assert "12%" in shown
    assert "to go, 1 dialogues, 9/s" in shown
    assert "a line above it\n" in shown
    assert "joining" in shown


def test_elsewhere_a_line_per_minute_tells_share_and_time_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("scorer.cli.progress.time.monotonic", lambda: clock.now)
    stream = io.StringIO()
    bar = Bar(stream)
    bar.stage("training", 400, done=100)
    for clock.now, done, note in ((30.0, 150, "loss 0.5"), (61.0, 200, "loss 0.4"), (70.0, 210, "loss 0.3")):
        bar.update(done, note=note)
    bar.say("fold 2 begins")
    assert stream.getvalue() == "training: 50% done, 2 min to go, loss 0.4\nfold 2 begins\n"


def test_stages_of_less_than_a_minute_do_not_keep_it_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("scorer.cli.progress.time.monotonic", lambda: clock.now)
    stream = io.StringIO()
    bar = Bar(stream)
    for clock.now, name in ((0.0, "writing"), (40.0, "checking bf16"), (80.0, "checking int8"), (120.0, "probing")):
        bar.stage(name, 10)
    clock.now = 150.0
    bar.update(5)
    assert stream.getvalue() == "checking int8\nprobing: 50% done, 0 min to go\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_shows_nothing(stream: io.StringIO) -> None:
    with Bar(stream, quiet=True) as bar:
        bar.stage("scoring", 10)
        bar.update(5)
        bar.say("nothing")
    assert stream.getvalue() == ""
