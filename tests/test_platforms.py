"""What other systems lack: on macOS, Windows and aarch64 it is done without, or said in one line. Simulated here."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from moe.sets import rendering
from scorer import locks
from scorer.cli import streams
from scorer.engines.machine import cpu_features
from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.progress import Silent
from scorer.reading import read_ahead
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings
from tests.scorer.test_locks import BUSY, another_thread

ROOT = Path(__file__).parent.parent

_WITHOUT = """
import os, signal, sys
for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "sched_getaffinity", "getuid", "mkfifo", "killpg"):
    vars(os).pop(name, None)
for name in ("SIGALRM", "SIGKILL", "SIGHUP", "SIGPIPE", "SIGUSR1", "alarm", "setitimer", "ITIMER_REAL"):
    vars(signal).pop(name, None)
import scorer.bundle.trial, scorer.locks, scorer.reading.read_ahead
scorer.locks._POSIX = scorer.reading.read_ahead._POSIX = False
"""
_MSVCRT = """
import types
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=lambda *_: None)
"""


class Bytes(ModuleType):
    """Windows' locks, as msvcrt has them: ranges of bytes, each of one open file, gone when it is closed."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: list[tuple[int, int, int, int]] = []

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        assert mode == self.LK_NBLCK
        first = os.lseek(descriptor, 0, os.SEEK_CUR)
        inode = os.fstat(descriptor).st_ino
        assert first + count < 1 << 31  # more does not fit into its arguments
        if any(other == inode and low < first + count and first < high for _, other, low, high in self.open()):
            raise PermissionError(errno.EACCES, "Permission denied")
        self.held.append((descriptor, inode, first, first + count))

    def open(self) -> list[tuple[int, int, int, int]]:
        """Return what is held by files that are open."""
        held, self.held = self.held, []
        for one in held:
            with suppress(OSError):
                if os.fstat(one[0]).st_ino == one[1]:
                    self.held.append(one)
        return self.held


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take from this system what Windows has not, and give it Windows' locks; no open file can be removed."""
    found = Bytes()
    unlink = Path.unlink

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        if path.exists() and path.stat().st_ino in [one[1] for one in found.open()]:
            raise PermissionError(errno.EACCES, "is open")
        unlink(path, missing_ok)

    monkeypatch.setitem(sys.modules, "msvcrt", found)
    monkeypatch.setattr(Path, "unlink", unlinking)
    monkeypatch.setattr(locks, "_POSIX", False)
    monkeypatch.setattr(read_ahead, "_POSIX", False)


@pytest.mark.usefixtures("windows")
def test_on_windows_the_second_process_that_writes_an_output_is_told_so(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with another_thread(output):
        for shared in (False, True):
            with pytest.raises(OutputError, match=BUSY), locks.locked(output, shared=shared):
                pass
    with locks.locked(output):  # whoever held it has ended
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("windows")
def test_on_windows_those_that_share_an_output_exclude_only_one_that_wants_it_alone(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with another_thread(output, shared=True):
        with locks.locked(output, shared=True):
            pass
        assert list(tmp_path.iterdir())  # the other one still needs the file
        with pytest.raises(OutputError, match=BUSY), locks.locked(output):
            pass
    assert list(tmp_path.iterdir()) == []


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.usefixtures("windows")
def test_readers_that_windows_cannot_start_are_a_thread_and_one_line(tmp_path: Path, scorer: Scorer) -> None:
    said = Said()
    corpus = Corpus([str(ROOT / "examples" / "dialogues.jsonl")])
    done = score_files(scorer, corpus, tmp_path / "out.parquet", ScoreSettings(readers=2), said)
    assert done.tally.scored == 64
    assert said.lines == ["--readers 2: this system hands no pipes to other processes; a thread reads instead"]
    assert read_ahead.readers_for(corpus, scorer.engine) == 0


def test_on_windows_a_console_keeps_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_WINDOWS", True)
    monkeypatch.setattr(streams._Kept, "isatty", lambda _: True)
    before = sys.stdin, sys.stdout, sys.stderr
    streams.settle()
    assert (sys.stdin, sys.stdout, sys.stderr) == before


def test_no_limit_is_set_where_it_counts_what_is_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")

    def refused(*_: Any) -> None:
        raise ValueError("current limit exceeds maximum limit")  # as macOS says

    monkeypatch.setattr(resource, "setrlimit", refused)
    monkeypatch.setattr(sys, "platform", "darwin")
    rendering._bound_memory()


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "AMD64"])
def test_a_processor_that_does_not_say_what_it_can_scores_in_fp32(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(Path, "exists", lambda _: False)  # no /proc
    assert cpu_features.__wrapped__() == frozenset({"x86" if machine == "AMD64" else "arm"})


@pytest.mark.slow
def test_all_of_the_demo_runs_without_what_windows_lacks(tmp_path: Path) -> None:
    program = _WITHOUT + _MSVCRT + "from scorer.cli.main import run; run()"
    command = [sys.executable, "-c", program, "demo"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empathy-demo" / "report.html").exists()
