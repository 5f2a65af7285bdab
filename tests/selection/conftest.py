"""Where the tests of selections work."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle
from tests.conftest import write_tiny_bundle
from tests.selection.selection_data import prepare


@pytest.fixture(scope="session")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny scorer that keeps some of everything."""
    return write_tiny_bundle(tmp_path_factory.mktemp("lenient") / "tiny", seed=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with in.jsonl, s.jsonl and labels.jsonl, in which commands run."""
    monkeypatch.chdir(tmp_path)
    return prepare(tmp_path)
