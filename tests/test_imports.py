"""The arrows between packages go one way, and the base package loads nothing heavy."""

from __future__ import annotations

import ast
import os
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
    "huggingface_hub",
    "msgspec",
    "numpy",
    "onnxruntime",
    "openvino",
    "pyarrow",
    "rich",
    "tokenizers",
    "tqdm",
}
OPTIONAL = {"ray"}  # an extra of its own
LATER = {"compression"}  # of Python 3.14
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


def loads(text: str) -> list[tuple[int, bool]]:
    """Return where a source names a loader of transformers, and whether it calls it and refuses the model's code."""
    tree, refusing = ast.parse(text), set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for keyword in call.keywords:
            if keyword.arg == "trust_remote_code" and ast.unparse(keyword.value) == "False":
                refusing.add(call.func)
    named = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return [(node.lineno, node in refusing) for node in named if node.attr in ("from_pretrained", "from_config")]


def test_nothing_that_is_loaded_may_bring_code_of_its_own() -> None:
    found = 0
    for path in (path for folder in (*ORDER, "benchmarks") for path in (ROOT / folder).rglob("*.py")):
        for line, refuses in loads(path.read_text()):
            assert refuses, f"{path}:{line}: say trust_remote_code=False"
            found += 1
    assert found > 10
    for wrong in ("A.from_pretrained(x)", "A.from_pretrained(x, trust_remote_code=True)", "f(A.from_config)"):
        assert loads(wrong) == [(1, False)]


def test_the_scorer_imports_only_what_the_base_install_brings() -> None:
    for path in (ROOT / "scorer").rglob("*.py"):
        assert imported(path) - set(sys.stdlib_module_names) - BASE - OPTIONAL - LATER - {"scorer"} == set(), path
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {line.split(">")[0].split(".")[0].replace("-", "_") for line in dependencies} == BASE


@pytest.mark.parametrize("module", ["scorer", "scorer.cli.main", "scorer.run.score", "scorer.cli.push"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = (*HEAVY, "onnxruntime", "pyarrow", "huggingface_hub")
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_scoring_loads_no_training_library() -> None:
    code = f"import sys; from scorer import Scorer; Scorer.load(); print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("code", ["import scorer; scorer.Scorer.load()", "import distill.auditing.last_layer"])
def test_no_library_reports_anything(code: str, tmp_path: Path) -> None:
    """ONNX Runtime keeps what it will send, and the machine's number, in the user's cache folder."""
    kept = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    for wish, reported in ((code, False), ("import onnxruntime", True)):
        cache = tmp_path / str(reported)
        command = [sys.executable, "-c", wish]
        subprocess.run(command, env=kept | {"XDG_CACHE_HOME": str(cache)}, check=True, capture_output=True)
        if reported and not cache.exists():
            pytest.skip("this ONNX Runtime reports nothing")
        assert cache.exists() == reported, wish


def test_the_public_surface_is_what_all_says() -> None:
    assert all(getattr(scorer, name) is not None for name in scorer.__all__)
    assert set(scorer.__all__) == set(scorer._MODULE_OF)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = getattr(scorer, "nothing")  # noqa: B009 - a type checker refuses it, too
