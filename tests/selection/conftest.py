"""Where the tests of selections work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.selection.selection_data import prepare


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with in.jsonl, s.jsonl and labels.jsonl, in which commands run."""
    monkeypatch.chdir(tmp_path)
    return prepare(tmp_path)
