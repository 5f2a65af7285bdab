"""What the tests of bundles share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle


@pytest.fixture
def folder(written: Bundle, tmp_path: Path) -> Path:
    """A bundle that the test may spoil."""
    return shutil.copytree(written.path, tmp_path / "tiny")
