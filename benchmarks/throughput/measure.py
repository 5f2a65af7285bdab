"""One command in its own process: wall seconds, and the peak resident memory of it and its children."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_INTERVAL_SECONDS = 0.05


class FailedError(Exception):
    """A command ended with another status than 0; the text is the last line that it wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Run:
    """Wall seconds of the whole process, peak MiB (None where there is no /proc), and what it printed."""

    seconds: float
    peak_mib: float | None
    printed: str


def run(command: Sequence[str], threads: int) -> Run:
    """Run a command to its end; FailedError if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment(threads), stdout=out, stderr=errors)
        memory = Memory(process.pid)
        status = process.wait()
        seconds = time.perf_counter() - start
        peak = memory.stop()
        if status:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise FailedError(lines[-1][:200] if lines else f"exit status {status}")
        out.seek(0)
        return Run(seconds, peak, out.read().decode())


def seconds_to_first_line(command: Sequence[str], line: str, threads: int) -> float:
    """Return the seconds from starting a command to the first line it prints after it was given one."""
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        answer = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdin.close()
    if not answer:
        raise FailedError(f"printed nothing, exit status {process.returncode}")
    return seconds


def environment(threads: int) -> dict[str, str]:
    """Return the environment of every measured process: ``threads`` threads, and no hub."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


class Memory:
    """Watches a process and its children from a thread.

    ``ru_maxrss`` does not work: after a fork Linux counts what the parent had.
    """

    def __init__(self, pid: int) -> None:
        """Begin to watch."""
        self._pid = pid
        self._peak_kib = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """Stop watching and return the peak in MiB, None where nothing could be read."""
        self._ended.set()
        self._thread.join()
        return self._peak_kib / 1024 or None

    def _watch(self) -> None:
        while not self._ended.is_set():
            states = [_memory(pid) for pid in _tree(self._pid)]
            together = sum(now for now, _ in states)
            # A single process's own peak misses nothing between two samples.
            self._peak_kib = max(self._peak_kib, together, *(peak for _, peak in states), 0)
            self._ended.wait(_INTERVAL_SECONDS)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = children.read_text().split()
        except OSError:  # that thread has ended
            continue
        for child in found:
            yield from _tree(int(child))


def _memory(pid: int) -> tuple[int, int]:
    """Return a process' resident memory and its highest, in KiB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields: Mapping[str, str] = dict(line.split(":", 1) for line in lines)
    now, peak = (int(fields[name].split()[0]) if name in fields else 0 for name in ("VmRSS", "VmHWM"))
    return now, peak
