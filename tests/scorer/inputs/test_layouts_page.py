"""Every example of docs/layouts.md is read as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus

PAGE = (Path(__file__).parents[3] / "docs" / "layouts.md").read_text(encoding="utf-8")
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and line.count("`") >= 4]


@pytest.mark.parametrize(("layout", "example", "judged"), ROWS, ids=[row[0].strip()[:40] for row in ROWS])
def test_example_is_read_as_the_page_says(tmp_path: Path, layout: str, example: str, judged: str) -> None:
    path = tmp_path / "in"
    path.write_text(example.strip(" `").replace(" ⏎ ", "\n") + "\n", encoding="utf-8")
    found = list(Corpus([str(path)]))
    assert all(isinstance(item, Dialogue) for item in found), (layout, found)
    assert [item.response for item in found if isinstance(item, Dialogue)] == re.findall(r"`([^`]*)`", judged)


def test_page_has_every_kind() -> None:
    assert len(ROWS) == 49
