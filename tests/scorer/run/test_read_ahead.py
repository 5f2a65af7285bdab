"""Reading ahead in a thread and in processes: the same windows, bounded, and a death that is told in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scorer.cluster.worker import EngineFacts
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run import read_ahead
from scorer.run.prepare import Prepared
from scorer.run.read_ahead import ReadJob, readers_for, reading
from scorer.run.windows import WHOLE, Share
from tests.conftest import record, write_lines


@pytest.fixture
def job(tmp_path: Path, scorer: Scorer) -> ReadJob:
    """2,000 dialogues, a broken line among them, in windows of 150."""
    records: list[object] = [record("i am sad", f"so sorry {number}", id=str(number)) for number in range(2000)]
    records[777] = {"messages": []}
    corpus = Corpus([str(write_lines(tmp_path / "in.jsonl", records))])
    return ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, 150, frozenset({3}), WHOLE)


def arrays_of(window: Prepared) -> list[list[int]]:
    tokens = window.tokens
    return [array.tolist() for array in (tokens.ids, tokens.starts, tokens.first_segment, tokens.texts)]


def summary(windows: Iterator[Prepared]) -> list[tuple[object, ...]]:
    return [(w.number, w.records, w.size, w.position, w.ids, arrays_of(w), w.rejects, w.tally) for w in windows]


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_the_windows_are_the_same_whoever_reads_them(job: ReadJob, processes: int) -> None:
    expected = summary(job.windows())
    assert [window[0] for window in expected] == list(range(14))
    with reading(job, processes) as windows:
        assert summary(windows) == expected


def test_several_readers_share_a_share(job: ReadJob) -> None:
    part = ReadJob(job.corpus, job.encoder, job.domain, 150, (), Share(1, 3))
    with reading(part, 2) as windows:
        assert [window.number for window in windows] == [1, 4, 7, 10, 13]


def test_an_error_in_the_reader_is_the_error_of_the_run(job: ReadJob, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(InputError, match=r"in.jsonl: cannot be read: No such file"), reading(job, 1) as windows:
        next(windows)


def test_a_reader_that_dies_is_one_line_that_says_where(job: ReadJob, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    real = subprocess.Popen

    def popen(*arguments: Any, **more: Any) -> Any:
        process = real(*arguments, **more)
        started.append(process.pid)
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    expected = r"the process that reads the input died \(SIGKILL\) after window \d+, [\d,]+ bytes into.*--resume"
    many = ReadJob(job.corpus, job.encoder, job.domain, 1, (), WHOLE)  # more windows than the pipe holds
    with reading(many, 1) as windows:
        next(windows)
        os.kill(started[0], signal.SIGKILL)
        with pytest.raises(InputError, match=expected):
            list(windows)


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_leaving_early_leaves_no_process_and_no_thread_behind(job: ReadJob, processes: int) -> None:
    """A thread that is inside the tokenizer when Python ends would abort the process, whatever its exit code."""
    before = children()
    with reading(job, processes) as windows:
        next(windows)
    assert "read ahead" not in [thread.name for thread in threading.enumerate()]
    assert children() == before  # not even a dead one is left


def children() -> set[str]:
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


def test_small_inputs_are_read_by_a_thread_and_pipes_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry")])
    engine = EngineFacts("onnxruntime", "fp32", threads=32)
    assert readers_for(Corpus([str(path)]), engine) == 0
    assert readers_for(Corpus(["-"]), engine) == 1
    monkeypatch.setattr(read_ahead, "_LARGE_BYTES", 10)
    assert readers_for(Corpus([str(path)]), engine) == 4
    for name, threads, readers in [("openvino", 2, 1), ("onnxruntime-cuda", 6, 3), ("onnxruntime-tensorrt", 64, 8)]:
        assert readers_for(Corpus([str(path)]), EngineFacts(name, "fp32", threads)) == readers


def test_an_encoder_in_another_process_treats_special_tokens_as_text(scorer: Scorer, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so [SEP] sorry [PAD] sorry", id="a")])
    job = ReadJob(Corpus([str(path)]), scorer.encoder, scorer.bundle.info.domain, 10, (), WHOLE)
    with reading(job, 0) as here, reading(job, 1) as there:
        first, second = next(here), next(there)
    assert arrays_of(first) == arrays_of(second)
    separator = scorer.bundle.tokenizer.token_to_id("[SEP]")
    assert first.tokens.text(0).tolist().count(separator) == 2


def test_where_no_process_can_be_started_is_one_line(job: ReadJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(InputError, match=r"Resource temporarily unavailable.*--readers 0"), reading(job, 1):
        pass
