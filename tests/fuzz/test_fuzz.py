"""Damaged files are refused in one line or read as what is valid: never a traceback, a hang or nonsense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorer.errors import OutputError
from tests.fuzz.kinds import Kind, need, numbers
from tests.fuzz.mutants import json_of
from tests.fuzz.run import MODULES, fuzz, read_mutant


@pytest.mark.parametrize(
    ("module", "count"), [("tests.fuzz.scoring", 150), pytest.param("tests.fuzz.learning", 100, marks=pytest.mark.slow)]
)
def test_some_hundred_mutants(module: str, count: int) -> None:
    report = fuzz(module, range(count))
    assert report.faults == {}, "\n".join(report.lines())
    assert report.total("refused") > count / 3
    assert report.total("accepted") > 0


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_ten_thousand_mutants(module: str) -> None:
    report = fuzz(module, range(5000))
    assert report.faults == {}, "\n".join(report.lines())


def test_the_same_number_is_the_same_mutant() -> None:
    data = b'{"a": [1, 2, {"b": "c"}]}'
    first, again, other = (json_of(data, np.random.default_rng([0, number])) for number in (5, 5, 6))
    assert first == again != other


def test_what_a_fault_is(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.json").write_text("{}")

    def outcome(error: Exception | None = None, nonsense: str = "") -> str:
        def read() -> list[str]:
            if error is not None:
                raise error
            return [*need(not nonsense, nonsense), *numbers({"count": 1, "share": 0.5})]

        kind = Kind("a.json", lambda data, _: data, lambda _: iter(read()))
        return read_mutant(kind, tmp_path / "good", tmp_path / "bad", 0, 0)[0]

    named = tmp_path / "bad" / "a.json"
    assert outcome() == "accepted"
    assert outcome(OutputError(f"{named}: is damaged; make it again")) == "refused"
    for wrong in (
        OutputError("is damaged"),
        OutputError(f"{named}: a\nb"),
        OutputError(f"{named}: \x1b"),
        KeyError("a"),
    ):
        assert outcome(wrong) == "fault"
    assert outcome(nonsense="a score of 11") == "fault"
    assert [*numbers({"count": -1})] == ["count is -1"]
    assert [*numbers({"a": [{"share": 2.0}, float("nan")]})] == ["a.share is 2.0", "a is nan"]
