"""A user's script is checked against the types of the package, strictly; and what the package says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import scorer
from scorer.model import Scorer

ROOT = Path(__file__).parents[3]
SCRIPT = """\
import scorer
from scorer import Corpus, Dialogue, EmpathyError, Scorer

print(scorer.__version__)
try:
    model = Scorer.load(engine="onnxruntime", threads=1)
except EmpathyError as error:
    raise SystemExit(str(error)) from error
dialogues: list[Dialogue] = [item for item in Corpus(["in.jsonl"]) if isinstance(item, Dialogue)]
scores = model.score(dialogues, on_bad="nan", progress=False)
widths = model.uncertainty(scores)
sensibility: float = model.score(("I lost my dog.", "I'm so sorry."))[0].item()
print(sensibility, scores.mean(axis=0), widths.max(), model.bundle.info.name)
"""
WRONG = """\
from scorer import Nothing, Scorer

Scorer.load(threads="two")
Scorer.load().score([], on_bad="skip")
Scorer.load().rank([])
"""


def check(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run mypy --strict as a user does: the packages are installed, none of our settings counts."""
    site = folder / "site"
    site.mkdir()
    (site / "scorer").symlink_to(ROOT / "scorer")  # what lies on the path only because of that is installed for mypy
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(folder / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(site), "MYPYPATH": ""}
    return subprocess.run(
        [*command, "script.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_users_script_passes_strictly_and_its_faults_are_found(tmp_path: Path) -> None:
    done = check(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stdout
    (tmp_path / "wrong").mkdir()
    said = check(tmp_path / "wrong", WRONG).stdout
    assert [line.split(":")[1] for line in said.splitlines() if ": error:" in line] == ["1", "3", "4", "5"], said


@pytest.mark.parametrize("package", ["scorer", "selection", "distill", "moe"])
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_version_is_that_of_the_installed_package() -> None:
    assert scorer.__version__ == version("empathy-scorer")


def test_a_scorer_says_what_it_is(scorer: Scorer) -> None:
    text = repr(scorer)
    assert text.startswith("<Scorer tiny: none, 2026-01-01, Apache-2.0; ")
    assert text.endswith("; onnxruntime fp32, 1 thread>")
    assert scorer.bundle.sha256[:12] in text
