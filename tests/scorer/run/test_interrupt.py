"""The command stopped from outside, in every way: what was finished is kept, and a rerun gives the very same rows."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle
from tests import forks
from tests.conftest import Run, read_scores, record, write_lines

COUNT = 6_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So many dialogues that the command is interrupted before its end, five of them broken."""
    rng = random.Random(0)
    texts = ["i am sad", "so sorry my dog died today", "we won the game", "that is great what happened"]
    records: list[object] = [
        record(*(rng.choice(texts) for _ in range(3)), f"{rng.choice(texts)} {number}", id=str(number))
        for number in range(COUNT)
    ]
    records[:: COUNT // 5] = [{"messages": []}] * 5
    return write_lines(tmp_path_factory.mktemp("many") / "in.jsonl", records)


def start(source: Path, output: Path, bundle: Bundle, *more: str, installed: bool = False) -> forks.Process:
    fixed = ("--scorer", bundle.path, "--engine", "onnxruntime", "--window", "200", "--readers", "1")
    return forks.empathy("score", source, "-o", output, *fixed, *more, stderr=True, installed=installed)


def wait_for_shards(folder: Path, process: forks.Process, count: int = 1) -> None:
    """Wait until so many windows are finished; fail if the command ends before."""
    manifest = folder / "_manifest.jsonl"
    for _ in range(2000):
        if manifest.exists() and len(manifest.read_bytes().splitlines()) > count:
            return
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)
    raise AssertionError("no window was finished")


def finish(empathy: Run, source: Path, output: Path, bundle: Bundle) -> str:
    fixed = ("--scorer", bundle.path, "--engine", "onnxruntime", "--window", "200", "--resume")
    result = empathy("score", source, "-o", output, *fixed)
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.fixture(scope="module")
def whole(many: Path, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run gives."""
    output = tmp_path_factory.mktemp("whole") / "out"
    process = start(many, output, bundle)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    return output


def same(first: Path, second: Path) -> None:
    assert read_scores(first).equals(read_scores(second))
    assert (first / "rejects.jsonl").read_text() == (second / "rejects.jsonl").read_text()


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 143, "terminated"), pytest.param(signal.SIGINT, 130, "interrupted", marks=pytest.mark.slow)],
)
def test_a_signal_ends_it_in_one_line_and_a_rerun_goes_on(
    empathy: Run, many: Path, whole: Path, bundle: Bundle, tmp_path: Path, number: int, status: int, word: str
) -> None:
    process = start(many, tmp_path / "out", bundle, installed=True)
    wait_for_shards(tmp_path / "out", process, 3)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == status
    assert said == f"empathy: {word}; with -o, what was finished is kept: continue with --resume\n"
    assert not list((tmp_path / "out").glob(".*"))
    assert "were finished before" in finish(empathy, many, tmp_path / "out", bundle)
    same(tmp_path / "out", whole)


def test_kill_9_at_any_time_loses_nothing_and_repeats_nothing(
    empathy: Run, many: Path, whole: Path, bundle: Bundle, tmp_path: Path
) -> None:
    rng = random.Random(1)
    for _ in range(2):
        process = start(many, tmp_path / "out", bundle, "--resume")
        time.sleep(rng.uniform(0.3, 1.5))
        process.kill()
        process.communicate()
    finish(empathy, many, tmp_path / "out", bundle)
    same(tmp_path / "out", whole)


@pytest.mark.slow
def test_three_processes_share_a_folder(empathy: Run, many: Path, whole: Path, bundle: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "out"
    running = [start(many, output, bundle, "--shard", f"{number}/3") for number in (1, 2, 3)]
    running[1].kill()
    running[1].communicate()
    assert [process.communicate()[1] != "" and process.returncode for process in (running[0], running[2])] == [0, 0]
    refused = empathy("select", many, "--scores", output, "-o", tmp_path / "sets", "--scorer", bundle.path)
    assert refused.returncode == 2
    assert "shards 2 of 3 are not finished" in refused.stderr
    last = start(many, output, bundle, "--shard", "2/3", "--resume")
    _, said = last.communicate(timeout=60)
    assert last.returncode == 0, said
    assert read_scores(output).equals(read_scores(whole))
    rejects = [line for path in output.glob("*.rejects.jsonl") for line in path.read_text().splitlines()]
    assert sorted(rejects) == sorted((whole / "rejects.jsonl").read_text().splitlines())


def test_a_folder_that_vanishes_ends_it_in_one_line(many: Path, bundle: Bundle, tmp_path: Path) -> None:
    process = start(many, tmp_path / "out", bundle)
    wait_for_shards(tmp_path / "out", process, 1)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said.startswith("empathy: error: ")
    assert said.count("\n") == 1
    assert "cannot be written" in said


def test_a_reader_that_is_killed_ends_it_in_one_line(
    empathy: Run, many: Path, whole: Path, bundle: Bundle, tmp_path: Path
) -> None:
    process = start(many, tmp_path / "out", bundle)
    wait_for_shards(tmp_path / "out", process, 1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("needs Linux")
    (child,) = map(int, children.read_text().split())
    os.kill(child, signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "the process that reads the input died (SIGKILL)" in said
    assert said.count("\n") == 1
    finish(empathy, many, tmp_path / "out", bundle)
    same(tmp_path / "out", whole)
