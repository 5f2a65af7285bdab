"""Rows of CSV, counted: the same records as a reader of the whole file sees, wherever it is cut."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scorer.inputs import json_lines
from scorer.inputs.corpus import Corpus
from scorer.inputs.csv_rows import row_of
from scorer.reading import counted, csv_lines, lines
from scorer.reading.chunks import Record
from scorer.reading.counted import found_windows, is_counted

ATOMS = [
    *('"', '""', ",", "\n", "\r\n", "\r", "a", " ", "x y", "é", "\ufeff", "\x0b", "\u2028", "\n\n", '"\n', '",', ',"'),
    *('"a"', "b,c\n", '"q,\nr",s\n', '5" pipe,ok\n', '"open,ok\n'),
]


Shown = list[tuple[Any, ...]]


def shown(records: Iterable[Record]) -> Shown:
    return [(one.line, getattr(one, "reason", ""), getattr(one, "turns", ())) for one in records]


def read(corpus: Corpus, size: int) -> Shown:
    return [one for found in found_windows(corpus, size, lambda _: True) for one in shown(found.records())]


@pytest.mark.parametrize("seed", range(6))
def test_marks_mean_the_same_wherever_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, path = random.Random(seed), tmp_path / "in.csv"
    for _ in range(60):
        rows = "".join(rng.choices(ATOMS, k=rng.randrange(1, 60)))
        data = f"{rng.choice(['', chr(10)])}context,response\nhi,you\n{rows}".encode()
        path.write_bytes(data.replace(b"a", b"\xff", 1) if rng.random() < 0.1 else data)
        corpus = Corpus([str(path)], unique_ids=False)
        assert is_counted(corpus)
        monkeypatch.setattr(lines, "_BLOCK_BYTES", rng.choice([3, 7, 50, 1000]))
        for module in (lines, counted):
            monkeypatch.setattr(module, "WINDOW_BYTES", rng.choice([20, 1000]))
        size = rng.choice([1, 2, 100])
        assert read(corpus, size) == shown(corpus), path.read_bytes()
        places = [(window.number, window.place) for window in found_windows(corpus, size, lambda _: False)]
        begun = rng.choice(places)
        after = [(window.number, window.place) for window in found_windows(corpus, size, lambda _: False, begun)]
        assert after == places[begun[0] + 1 :]


def test_only_lines_that_may_leave_a_field_open_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = '"he said ""no"", and left","[{""role"": ""user""}]"\n'
    (tmp_path / "in.csv").write_text(f'context,response\n{row * 50}"two\nlines",b\n{row * 50}')
    parsed: list[str] = []

    def noted(line: str, *given: Any, **more: Any) -> Any:
        parsed.append(line)
        return row_of(line, *given, **more)

    monkeypatch.setattr(csv_lines, "row_of", noted)
    places = [found.place for found in found_windows(Corpus([str(tmp_path)]), 40, lambda _: False)]
    assert [(place.line, place.end_line) for place in places] == [(0, 41), (41, 82), (82, 103)]
    assert parsed == ['"two\n']


def test_a_line_of_any_length_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (json_lines, lines, csv_lines):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 3000)
    monkeypatch.setattr(lines, "_BLOCK_BYTES", 64)
    long = "x" * 9000
    for end in ("", "\n", "\nhi,you"):
        (tmp_path / "in.csv").write_text(f'context,response\nhi,you\n{long}\n"{long}\nhi,"you{end}')
        corpus = Corpus([str(tmp_path / "in.csv")], unique_ids=False)
        for size in (1, 100):
            found = read(corpus, size)
            assert found == shown(corpus)
        assert [reason for _, reason, _ in found][:3] == ["", "record_too_long", "record_too_long"]
