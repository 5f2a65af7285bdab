"""What a person sees while labels are bought."""

from __future__ import annotations

import io

import pytest

from distill.cli import label_bar
from distill.cli.label_bar import LabelBar
from distill.judge.records import SCORED


def watched(*, show: bool, log: bool) -> str:
    """Return what is written while two of four questions, one known before, are settled."""
    stream = io.StringIO()
    with LabelBar(stream, show=show, log=log, priced=True) as bar:
        bar.begin(4, 1)
        bar.spent(0.0123)
        bar.done(SCORED)
        bar.note("the server asks for a pause of 30 s")
        bar.done("out_of_range")
    return stream.getvalue()


def test_a_bar_shows_money_rate_rejects_and_the_time_to_go() -> None:
    shown = watched(show=True, log=True)
    for text in ("1 of 4", "$0.0123 spent", "/s", " to go", "a pause of 30 s"):
        assert text in shown, text


def test_without_a_terminal_there_is_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(show=False, log=True) == "labelling: the server asks for a pause of 30 s\n"
    monkeypatch.setattr(label_bar, "_LOG_SECONDS", 0.0)
    lines = watched(show=False, log=True).splitlines()
    assert lines[0].startswith("labelling: 2 of 4, ")
    assert lines[-1].startswith("labelling: 3 of 4, ")
    assert lines[-1].endswith("$0.0123 spent, 1 rejected, 0 min to go")


def test_quiet_is_quiet() -> None:
    assert watched(show=False, log=False) == ""
