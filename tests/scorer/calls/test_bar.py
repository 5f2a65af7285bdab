"""The bar of a long call: none for a short one, none where nobody watches, and right where it is."""

from __future__ import annotations

import io
import sys

import pytest

from scorer.calls import bar as bars
from scorer.model import Scorer
from tests.conftest import make_dialogue, varied


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch, wait: float, progress: bool | None, stream: io.StringIO
) -> str:
    """Return what a call of 200 dialogues writes to the standard error stream."""
    monkeypatch.setattr(bars, "_WAIT", wait)
    monkeypatch.setattr(sys, "stderr", stream)
    scorer.score([*varied(199), make_dialogue("i am", "so")], progress=progress)
    return stream.getvalue()


def test_a_long_call_draws_a_bar_to_its_end_where_a_person_watches(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(scorer, monkeypatch, 0, None, Terminal())
    assert "scoring: 100%" in text
    assert "200/200" in text


@pytest.mark.parametrize(
    ("wait", "progress", "stream", "drawn"),
    [
        (60.0, None, Terminal(), False),
        (60.0, True, Terminal(), False),
        (0.0, None, io.StringIO(), False),
        (0.0, False, Terminal(), False),
        (0.0, True, io.StringIO(), True),
    ],
)
def test_it_is_drawn_only_if_the_call_is_long_and_it_is_wanted(
    scorer: Scorer,
    monkeypatch: pytest.MonkeyPatch,
    wait: float,
    progress: bool | None,
    stream: io.StringIO,
    drawn: bool,
) -> None:
    assert ("200/200" in shown(scorer, monkeypatch, wait, progress, stream)) == drawn


def test_a_generator_has_a_bar_without_an_end(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "_WAIT", 0)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    scorer.score(dialogue for dialogue in varied(50))
    assert "50 dialogues" in stream.getvalue()
    assert "%" not in stream.getvalue()
