"""Windows of lines, found by counting: where they lie, what they hold, and that nobody parses what another one does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scorer.errors import InputError
from scorer.inputs import json_lines
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import parse_json
from scorer.model import Scorer
from scorer.reading import counted, lines
from scorer.reading.counted import Found, found_windows, is_counted
from scorer.reading.cut import Prepared
from scorer.reading.prepare import windows
from scorer.reading.read_ahead import ReadJob, reading
from scorer.reading.windows import WHOLE, Share
from tests.conftest import record, write_lines

SAID = [*(f"so sorry {number}" for number in range(40)), "Ja, wirklich schön 🙂", "So  SORRY 3", "a\u2028b", "x" * 700]
ODD = ["", "\r", "  ", "{", "[1]", '{"messages": []}', "null", "\u00a0", "\x85"]
"""Lines that are empty, seem so or are no record."""


def messy_lines(folder: Path, seed: int) -> Corpus:
    """Files of JSON lines that repeat ids and texts; some lines are empty, hold several records or none."""
    rng = random.Random(seed)

    def line() -> str:
        kind = rng.random()
        if kind < 0.12:
            return rng.choice(ODD)
        more = {"id": str(rng.randrange(60))} if kind < 0.4 else {"score": rng.random()} if kind < 0.5 else {}
        found = record(rng.choice(["i am sad", "Help"]), rng.choice(SAID), **more)
        some = {"data": [found, record("hi", "you"), record("a", "b", id="7")]} if kind > 0.95 else found
        text = json.dumps(some, ensure_ascii=kind < 0.8)
        return f"{text} {text}" if 0.93 < kind < 0.95 else text

    for name, count in (("a", rng.randrange(400)), ("b", 1), ("c", 60), ("d", rng.randrange(90))):
        first = rng.choice(["", "\ufeff"]) + json.dumps(record("i am sad", rng.choice(SAID)))
        text = rng.choice(["\n", "\r\n"]).join([first, *(line() for _ in range(count)), ""])
        text = rng.choice([text, text.rstrip("\r\n"), f"{text}\n"])
        (folder / f"{name}.jsonl").write_bytes(text.encode() + (b"\xff\n" if name == "c" else b""))
    corpus = Corpus([str(folder)], keep_records=True)
    assert is_counted(corpus)
    return corpus


def every(corpus: Corpus, size: int) -> Iterator[Found]:
    return found_windows(corpus, size, lambda _: True)


def summary(prepared: Iterator[Prepared]) -> list[tuple[Any, ...]]:
    def arrays(window: Prepared) -> list[list[int]]:
        tokens = window.tokens
        return [array.tolist() for array in (tokens.ids, tokens.starts, tokens.first_segment, tokens.texts)]

    return [
        (w.number, w.records, w.size, w.ids, arrays(w), w.kept, w.rejects, w.tally, w.place, w.bytes, w.position)
        for w in prepared
    ]


@pytest.mark.parametrize("seed", range(12))
def test_windows_are_the_same_whoever_reads_them_and_wherever_it_begins(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    corpus = messy_lines(tmp_path, seed)
    size = random.Random(seed).choice([1, 7, 50, 300])
    if seed % 2:
        for module in (lines, counted):
            monkeypatch.setattr(module, "WINDOW_BYTES", 2000)
    settings = {"keep": ("score",), "counted": True}
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, size, (), WHOLE, **settings)  # type: ignore[arg-type]
    with reading(job, 0) as found:
        whole = list(found)
    alone = summary(iter(whole))
    assert any(reject.reason == "duplicate_id" for window in whole for reject in window.rejects)
    assert [window.size for window in whole] == [len(list(records)) for records in windows(corpus, size, ("score",))]
    for block in (7, 1000):
        monkeypatch.setattr(lines, "_BLOCK_BYTES", block)
        assert [(found.place, found.sha256()) for found in every(corpus, size)] == [(w.place, w.bytes) for w in whole]
    last = whole[len(whole) // 2]
    assert last.place is not None
    known = [id_ for window in whole[: last.number + 1] for id_ in window.ids]
    rest = replace(job, after=(last.number, last.place), known=known)
    assert summary(iter(list(reread(rest, 0)))) == alone[last.number + 1 :]


@pytest.mark.parametrize("processes", [1, 4])
def test_windows_are_the_same_in_other_processes(scorer: Scorer, tmp_path: Path, processes: int) -> None:
    corpus = messy_lines(tmp_path, 3)
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, 30, (), WHOLE, ("score",), counted=True)
    whole = reread(job, 0)
    assert summary(iter(reread(job, processes))) == summary(iter(whole))
    for last in whole[:5]:
        assert last.place is not None
        known = [id_ for window in whole[: last.number + 1] for id_ in window.ids]
        rest = replace(job, after=(last.number, last.place), known=known)
        assert summary(iter(reread(rest, processes))) == summary(iter(whole[last.number + 1 :]))


def reread(job: ReadJob, processes: int) -> list[Prepared]:
    with reading(job, processes) as found:
        return list(found)


def test_lines_have_the_numbers_of_their_file_and_records_their_order(tmp_path: Path) -> None:
    corpus = messy_lines(tmp_path, 5)
    plain = Corpus([str(tmp_path)], unique_ids=False)
    read = [one for found in every(corpus, 9) for one in found.records()]
    assert [(one.source, one.line, one.id) for one in read] == [(one.source, one.line, one.id) for one in plain]


def test_a_share_parses_its_own_windows_and_nothing_else(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", f"so {number}") for number in range(300)])
    parsed: list[str] = []
    real = parse_json

    def noted(text: str) -> Any:
        parsed.append(text)
        return real(text)

    monkeypatch.setattr(json_lines, "parse_json", noted)
    job = ReadJob(Corpus([str(path)]), scorer.encoder, scorer.bundle.info.domain, 10, (), Share(1, 3), counted=True)
    assert [window.number for window in reread(job, 0)] == list(range(1, 30, 3))
    assert parsed == [line for n, line in enumerate(path.read_text().splitlines(keepends=True)) if n // 10 % 3 == 1]
    for processes in (2, 3):
        assert [window.number for window in reread(job, processes)] == list(range(1, 30, 3))


def test_a_line_of_any_length_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_RECORD_BYTES", 3000)
    for module in (lines, counted):
        monkeypatch.setattr(module, "WINDOW_BYTES", 1000)
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 3000)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 64)
    good = json.dumps(record("i am sad", "so sorry"))
    (tmp_path / "in.jsonl").write_text("\n".join([good, "x" * 9000, good, "y" * 2900, good]))
    corpus = Corpus([str(tmp_path / "in.jsonl")])
    found = [[one.line for one in window.records()] for window in every(corpus, 100)]
    assert found == [[1, 2], [3, 4], [5]]
    assert [getattr(one, "reason", "") for one in corpus] == ["", "record_too_long", "", "broken_json", ""]


def test_an_input_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", f"so {number}") for number in range(30)])
    corpus = Corpus([str(path)])
    before = [found.sha256() for found in every(corpus, 10)]
    text = path.read_bytes()
    path.write_bytes(text.replace(b"so 15", b"so 51"))
    after = [found.sha256() for found in every(corpus, 10)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]
    path.write_bytes(text[:-1])
    with pytest.raises(InputError, match=r"in.jsonl: ended 1 bytes early, so it was changed"):
        list(every(corpus, 10))
    path.write_bytes(text + text)  # what comes while it is read is not of it
    assert [len(list(found.records())) for found in every(corpus, 10)] == [10, 10, 10]
