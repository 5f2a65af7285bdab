"""A Unix pipe: a line in, a line out, while the pipe stays open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle
from tests.conftest import Run, record, write_lines

EMPATHY = str(Path(sys.executable).with_name("empathy"))


def test_each_line_is_answered_before_the_next_is_sent(bundle: Bundle) -> None:
    command = [EMPATHY, "score", "-", "--scorer", str(bundle.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(json.dumps(record("i am sad", "so sorry", id=str(number))).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == str(number)
        process.stdin.close()
        assert process.wait(20) == 0


def test_rejects_go_to_standard_error_or_to_a_file(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    lines = json.dumps(record("i am sad", "so sorry", id="a")) + "\nnonsense\n"
    result = empathy("score", "-", "--scorer", bundle.path, stdin=lines)
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["a"]
    assert json.loads(result.stderr.splitlines()[0])["reason"] == "broken_json"
    result = empathy("score", "-", "--scorer", bundle.path, "--rejects", tmp_path / "r.jsonl", stdin=lines)
    assert json.loads((tmp_path / "r.jsonl").read_text())["line"] == 2
    assert "broken_json" not in result.stderr


def test_a_reader_that_has_enough_ends_the_run_quietly(bundle: Bundle, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry")] * 20_000)
    command = f"{EMPATHY} score {source} --scorer {bundle.path} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_one_line(bundle: Bundle) -> None:
    line = json.dumps(record("i am sad", "so sorry")).encode()
    with open("/dev/full", "wb") as full:
        command = [EMPATHY, "score", "-", "--scorer", str(bundle.path)]
        result = subprocess.run(command, input=line, stdout=full, stderr=subprocess.PIPE, check=False, timeout=60)
    assert result.returncode == 2
    assert result.stderr.decode().splitlines() == [
        "empathy: error: standard output: cannot be written: No space left on device"
    ]


def test_an_interrupt_says_how_to_go_on(bundle: Bundle) -> None:
    command = [EMPATHY, "score", "-", "--scorer", str(bundle.path)]

    # A script's background jobs ignore SIGINT and so do their children; this one is started as at a terminal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(record("i am sad", "so sorry")).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        for _ in range(10):  # Python drops an interrupt that comes while it tidies up, so a person presses again
            os.kill(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(6)
                break
        assert process.returncode == 130
        assert process.stderr is not None
        assert process.stderr.read().decode().strip().startswith("empathy: interrupted; with -o")
