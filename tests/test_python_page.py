"""The examples of docs/python.md run, as a user would run them, beside a file of dialogues."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
WANTED = ("pandas", "polars", "duckdb", "datasets", "joblib", "num_proc", "on_bad")


def name_of(example: str) -> str:
    """Return what an example is about."""
    return next((word for word in WANTED[::-1] if word in example), "first")


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_an_example_runs_and_shows_something(example: str, tmp_path: Path) -> None:
    for module in re.findall(r"^(?:import|from) (\w+)", example, re.MULTILINE):
        pytest.importorskip(module)
    shutil.copy(ROOT / "examples" / "dialogues.jsonl", tmp_path)
    (tmp_path / "example.py").write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_DATASETS_CACHE": str(tmp_path), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "example.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout or "print" not in example


def test_there_is_an_example_of_each() -> None:
    assert {name_of(example) for example in EXAMPLES} == {*WANTED, "first"}
