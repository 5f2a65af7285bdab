"""The bar's time to go is weighted by tokens, and estimated from bytes where tokens are not known yet."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from scorer.cli.progress import ProgressBar
from scorer.inputs.corpus import Corpus
from tests.conftest import record


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Write four equal files, so that a quarter of the bytes is a quarter of the tokens."""
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(record("i am sad", "so sorry", id=str(number))) + "\n")
    return Corpus([str(tmp_path)])


def test_the_total_is_read_tokens_plus_the_unread_bytes_at_the_same_density(corpus: Corpus) -> None:
    records = iter(corpus)
    with ProgressBar(corpus.total_bytes, io.StringIO(), show=True) as bar:
        next(records)
        bar.read(100, corpus.bytes_read)
        assert bar.total_tokens == 400
        next(records)
        next(records)
        next(records)
        bar.read(900, corpus.bytes_read)
        assert bar.total_tokens == 1000


def test_bytes_that_were_finished_before_do_not_thin_the_estimate(corpus: Corpus) -> None:
    records = iter(corpus)
    with ProgressBar(corpus.total_bytes, io.StringIO(), show=True) as bar:
        next(records)
        bar.skipped(1, corpus.bytes_read)
        next(records)
        bar.read(100, corpus.bytes_read)
        assert bar.total_tokens == 300


def test_the_line_shows_rate_and_time_to_go(corpus: Corpus) -> None:
    stream = io.StringIO()
    with ProgressBar(corpus.total_bytes, stream, show=True) as bar:
        next(iter(corpus))
        bar.read(100, corpus.bytes_read)
        bar.scored(1, 50)
        bar.refresh()
    assert "12%" in stream.getvalue()
    assert "to go, 1 dialogues" in stream.getvalue()


def test_standard_input_has_a_rate_and_no_time_to_go() -> None:
    stream = io.StringIO()
    with ProgressBar(Corpus(["-"]).total_bytes, stream, show=True) as bar:
        bar.read(100, 0)
        bar.scored(3, 50)
        bar.refresh()
    assert "3 dialogues" in stream.getvalue()
    assert "to go" not in stream.getvalue()


def test_nothing_is_drawn_where_nobody_looks(corpus: Corpus) -> None:
    stream = io.StringIO()
    with ProgressBar(corpus.total_bytes, stream, show=False) as bar:
        bar.read(100, corpus.bytes_read)
        bar.scored(1, 50)
    assert stream.getvalue() == ""
