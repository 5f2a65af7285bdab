"""Locks of outputs: the second process says so in one line, and a dead one holds none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from scorer.cli.main import main
from scorer.errors import OutputError
from scorer.locks import locked
from scorer.outputs import new_folder

BUSY = "another process is writing it"
_HOLDER = """
import sys, time
from pathlib import Path
from scorer.locks import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def other(output: Path, how: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the lock of an output."""
    command = [sys.executable, "-c", _HOLDER, str(output), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@contextmanager
def another_thread(output: Path, *, shared: bool = False) -> Iterator[None]:
    """Let another thread hold it, which is as good as a process and takes no time to start."""
    begun, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(output, shared=shared):
            begun.set()
            enough.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(60)
    try:
        yield
    finally:
        enough.set()
        thread.join()


def test_the_second_process_is_refused_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with other(output) as process:
        with pytest.raises(OutputError, match=f"out: {BUSY}"), locked(output):
            pass
        with pytest.raises(OutputError, match=BUSY), locked(output, shared=True):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]  # what a kill leaves is taken over
    with locked(output), locked(output):  # a thread may take again what it has
        assert (tmp_path / ".out.lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_child_that_is_being_started_may_hold_the_lock_for_a_moment(tmp_path: Path) -> None:
    with other(tmp_path / "out") as process:
        threading.Timer(0.2, process.kill).start()
        with locked(tmp_path / "out"):
            assert process.wait() < 0


def test_who_writes_a_part_excludes_only_who_wants_it_all(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with other(output, "shared"):
        with locked(output, shared=True):
            pass
        assert (tmp_path / ".out.lock").exists()  # the other one still has it
        with pytest.raises(OutputError, match=BUSY), locked(output):
            pass


def test_links_and_spellings_are_one_output_and_devices_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    with other(tmp_path / "real"):
        for name in (tmp_path / "link", Path(), tmp_path / "real" / ".." / "real"):
            with pytest.raises(OutputError, match=BUSY), locked(name):
                pass
    for name in (Path("/dev/null"), tmp_path / "no" / "out"):
        with locked(name):
            pass
    assert not Path("/dev/.null.lock").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_no_file_is_said_by_who_writes(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with locked(tmp_path / "out"):
        pass


def test_python_s_way_is_locked_too(tmp_path: Path) -> None:
    with another_thread(tmp_path / "out"), pytest.raises(OutputError, match=BUSY), new_folder(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "score in -o OUT",
        "select in -o OUT",
        "report in -o OUT",
        "demo -o OUT",
        "train in -o OUT",
        "train in -o OUT --fit 0",
        "teach in -o OUT",
        "adapt in -o OUT",
        "export in -o OUT",
        "label in --model m -o OUT",
        "rubric test --on in --model m -o OUT",
        "distill in --model m -o OUT",
        "audit in --model m -o OUT",
        "run in --base in -o OUT",
        "moe expert in --base in -o OUT",
        "moe compose in in -o OUT",
        "moe train in --sets in -o OUT",
        "moe generate in in -o OUT",
        "moe evaluate in --data in -o OUT",
        "agree in --json OUT",
    ],
)
@pytest.mark.parametrize("flag", ["", "--overwrite", "--resume"])
def test_no_command_writes_what_another_process_writes(
    line: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").write_text("{}\n")
    with another_thread(tmp_path / "OUT"):
        result = CliRunner().invoke(main, [*line.split(), *filter(None, [flag])])
    if "No such option" not in result.stderr:
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert BUSY in result.stderr
    else:
        assert flag
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
