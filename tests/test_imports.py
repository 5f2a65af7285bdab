"""The arrows between packages go one way, and the base package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scorer

ROOT = Path(__file__).parent.parent
ORDER = ("scorer", "selection", "distill", "moe")
BASE = {
    "backports",
    "click",
    "cloup",
    "fsspec",
    "msgspec",
    "numpy",
    "onnxruntime",
    "pyarrow",
    "rich",
    "tokenizers",
    "tqdm",
}
OPTIONAL = {"openvino", "ray"}  # extras of their own
HEAVY = ("torch", "transformers", "sklearn", "datasets", "optimum")


def imported(path: Path) -> set[str]:
    """Return the top-level names of all modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_those_before_it(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    later = set(ORDER[ORDER.index(package) + 1 :])
    assert {(str(path), name) for path in files for name in imported(path) & (later | {"tests", "benchmarks"})} == set()


def test_the_scorer_imports_only_what_the_base_install_brings() -> None:
    for path in (ROOT / "scorer").rglob("*.py"):
        assert imported(path) - set(sys.stdlib_module_names) - BASE - OPTIONAL - {"scorer"} == set(), path
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {line.split(">")[0].split(".")[0] for line in dependencies} == BASE


@pytest.mark.parametrize("module", ["scorer", "scorer.cli.main", "scorer.run.score"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {(*HEAVY, 'onnxruntime', 'pyarrow')!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_scoring_loads_no_training_library() -> None:
    code = f"import sys; from scorer import Scorer; Scorer.load(); print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_public_surface_is_what_all_says() -> None:
    assert all(getattr(scorer, name) is not None for name in scorer.__all__)
    assert set(scorer.__all__) == set(scorer._MODULE_OF)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scorer.nothing  # noqa: B018
