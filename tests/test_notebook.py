"""The notebook of the documentation prints what it shows; `python -m tests.test_notebook` writes what it prints."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "tutorials" / "notebook.ipynb"


def run_cells(sources: list[str], folder: Path) -> list[str]:
    """Return what each cell prints, run one after the other in a Python of their own, without a network."""
    program = "\n".join(
        ["import socket", "socket.socket.connect = None", *(f"{source}\nprint(chr(0))" for source in sources)]
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return [text.lstrip("\n") for text in done.stdout.split("\0")[:-1]]


def code_cells() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return notebook, [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_prints_what_it_shows(tmp_path: Path) -> None:
    _, cells = code_cells()
    printed = run_cells(["".join(cell["source"]) for cell in cells], tmp_path)
    shown = ["".join(text for output in cell["outputs"] for text in output["text"]) for cell in cells]
    # A last digit may differ from machine to machine.
    assert [re.sub(r"\d+", "#", text) for text in printed] == [re.sub(r"\d+", "#", text) for text in shown]


def test_no_cell_ends_in_a_value_or_needs_a_notebook() -> None:
    _, cells = code_cells()
    for cell in cells:
        last = ast.parse("".join(cell["source"])).body[-1]  # magic is no Python
        assert not isinstance(last, ast.Expr) or isinstance(last.value, ast.Call)


if __name__ == "__main__":
    import tempfile

    book, found = code_cells()
    texts = run_cells(["".join(cell["source"]) for cell in found], Path(tempfile.mkdtemp()))
    for number, (cell, text) in enumerate(zip(found, texts, strict=True), 1):
        stream = {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
        cell |= {"execution_count": number, "outputs": [stream] if text else []}
    NOTEBOOK.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
