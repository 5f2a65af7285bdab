"""Runs the tests of one module against its mutants, in a process of its own: a fork for each, nothing imported twice.

    python worker.py < SPEC     a JSON object: root, module, tests, mutants (sources), and the time limit: least seconds
    and patience, in durations of the unchanged tests

It works in ``root``, a copy of the tree that it may change. What it prints are JSON lines: first the baseline (seconds
of each test file, unchanged), then the outcome of each mutant.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_OUTCOMES = {0: "survived", 1: "failed", 2: "not importable"}


def main() -> None:
    """Read the task, run it and print what came out."""
    task = json.load(sys.stdin)
    root = Path(task["root"])
    os.chdir(root)
    sys.path[0] = str(root)  # not the folder of this file
    module = root / task["module"]
    _load_libraries(root, task["tests"])
    # As a mutant is written: parsed and unparsed. So a fault of that is found here.
    module.write_text(ast.unparse(ast.parse(module.read_text())))
    seconds: dict[str, float] = {}
    durations: dict[str, float] = {}
    for test in task["tests"]:
        took = root.parent / "durations.json"
        outcome, seconds[test], said = _tried(root, [test], 600.0, _Durations(took))
        if outcome != "survived":
            _tell(broken=test, said=said)
            return
        durations |= json.loads(took.read_text())
    order = sorted(seconds, key=seconds.__getitem__)
    _tell(seconds=seconds)
    limit = task["least"] + task["patience"] * sum(seconds.values())
    sys.dont_write_bytecode = True  # a source of the same size within a second would pass for the one before
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    for cached in module.parent.glob(f"__pycache__/{module.stem}.*.pyc"):
        cached.unlink()
    for source in task["mutants"]:
        module.write_text(source)
        outcome, needed, _ = _tried(root, order, limit, _FastestFirst(durations))
        _tell(outcome=outcome, seconds=round(needed, 2))


class _Durations:
    """Notes how long each test takes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, float] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add a phase of a test."""
        self.found[report.nodeid] = self.found.get(report.nodeid, 0.0) + report.duration

    def pytest_sessionfinish(self) -> None:
        """Hand them over."""
        self.path.write_text(json.dumps(self.found))


class _FastestFirst:
    """Runs the fastest tests of each file first; files stay together, for what their tests share."""

    def __init__(self, durations: dict[str, float]) -> None:
        self.durations = durations

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Order the tests."""
        files = list(dict.fromkeys(item.path for item in items))
        items.sort(key=lambda item: (files.index(item.path), self.durations.get(item.nodeid, 0.0)))


def _load_libraries(root: Path, tests: list[str]) -> None:
    """Import all that the tests do, and forget what is of the tree: every fork imports that anew, changed as it is."""
    for test in tests:
        importlib.import_module(test.removesuffix(".py").replace("/", "."))
    import pytest  # noqa: F401

    for name in [*sys.modules]:
        if (root / name.partition(".")[0]).is_dir():
            del sys.modules[name]
    importlib.invalidate_caches()


def _tried(root: Path, tests: list[str], limit: float, plugin: Any) -> tuple[str, float, str]:
    """Run tests in a fork until the first fails: what came out, the seconds, the end of what was said."""
    start = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="mutant-", dir=root.parent))
    log = work / "log"
    child = os.fork()
    if not child:
        _run(tests, work, log, plugin)
    try:
        status = _ended(child, start + limit)
        outcome = "timeout" if status is None else _OUTCOMES.get(status, f"exit {status}")
        return outcome, time.monotonic() - start, log.read_text(errors="replace")[-3000:]
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _ended(child: int, deadline: float) -> int | None:
    """Return the exit code of a fork, None if it ran out of time; whatever it started ends with it."""
    status = None
    while status is None and time.monotonic() < deadline:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        else:
            time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status


def _run(tests: list[str], work: Path, log: Path, plugin: Any) -> None:
    code: Any = 70
    try:
        os.setsid()
        with open(log, "wb") as file:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
        import pytest

        options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-m", "not slow"]
        code = pytest.main([*options, f"--basetemp={work / 'tmp'}", *tests], plugins=[plugin])
    finally:
        os._exit(int(code))


def _tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
