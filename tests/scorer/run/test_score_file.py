"""Score files say which scorer made them, and hold the scores to the last bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scorer.errors import OutputError
from scorer.run.score_file import read_metadata, score_line


def test_a_line_gives_the_float32_back() -> None:
    for value in np.random.default_rng(0).uniform(0, 10, 500).astype(np.float32):
        found = json.loads(score_line('a "quoted" \\ id', value, np.float32(0)))
        assert np.float32(found["sensibility"]) == value
        assert found["id"] == 'a "quoted" \\ id'


def test_a_file_that_says_nothing_of_its_scorer_has_no_metadata(tmp_path: Path) -> None:
    assert read_metadata(tmp_path / "scores.csv") == {}


@pytest.mark.parametrize(("name", "content"), [("a.csv.meta.json", b"{"), ("a.parquet", b"PAR1 is not enough")])
def test_metadata_that_cannot_be_read_are_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OutputError, match=r"its metadata cannot be read"):
        read_metadata(tmp_path / name.removesuffix(".meta.json"))
