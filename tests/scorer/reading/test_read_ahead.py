"""Reading ahead in a thread and in processes: the same windows, bounded, and a death that is told in one line."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scorer.cluster.worker import EngineFacts
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading import read_ahead
from scorer.reading.cut import Prepared
from scorer.reading.join import Begun, hash_before
from scorer.reading.prepare import prepare_windows
from scorer.reading.read_ahead import ReadJob, readers_for, reading
from scorer.reading.splits import splits_of
from scorer.reading.windows import WHOLE, Share
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
    return [(w.number, w.records, w.size, w.ids, arrays_of(w), w.kept, w.rejects, w.tally) for w in windows]


def in_order(job: ReadJob) -> list[tuple[object, ...]]:
    """Return the windows as one process makes them of records, one after another."""
    return summary(prepare_windows(job.corpus, job.encoder, job.domain, job.size, job.done, job.share, job.keep))


@pytest.mark.parametrize("processes", [0, 1, 3])
def test_the_windows_are_the_same_whoever_reads_them(job: ReadJob, processes: int) -> None:
    expected = in_order(job)
    assert [window[0] for window in expected] == list(range(14))
    with reading(job, processes) as windows:
        assert summary(windows) == expected


def messy(folder: Path, seed: int) -> Corpus:
    """Files of several formats, whose records repeat ids and texts, and among which are some that are none."""
    rng = random.Random(seed)
    said = [f"so sorry {number}" for number in range(40)] + [
        "Ja, wirklich schön 🙂",
        "So  SORRY 3",
        "a\u2028b",
        "x" * 700,
    ]

    def line() -> str:
        kind = rng.random()
        if kind < 0.05:
            return rng.choice(["", "  ", "{", "[1]", '{"messages": []}', "null", "\r"])
        more = {"id": str(rng.randrange(60))} if kind < 0.3 else {"score": rng.random()} if kind < 0.5 else {}
        return json.dumps(record(rng.choice(["i am sad", "Help"]), rng.choice(said), **more), ensure_ascii=kind < 0.8)

    lines = ["\ufeff" + json.dumps(record("i am sad", "first")), *(line() for _ in range(rng.randrange(400)))]
    (folder / "a.jsonl").write_text("\n".join(lines) + rng.choice(["", "\n"]), encoding="utf-8", newline="")
    (folder / "b.json").write_text(json.dumps([record("hi", said[0]), record("hi", said[1], id="3"), 7]))
    (folder / "c.jsonl.gz").write_bytes(gzip.compress("\n".join(line() for _ in range(30)).encode()))
    (folder / "d.jsonl").write_bytes("\r\n".join(line() for _ in range(60)).encode() + b"\n\xff\n")
    (folder / "e.jsonl").write_text("\n" * 2000)
    return Corpus([str(folder)], keep_records=True)


@pytest.mark.parametrize("seed", range(12))
def test_splits_make_the_same_windows_of_any_input(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Wherever files are cut: ids are made unique along the input, and lines have the numbers of their files."""
    corpus = messy(tmp_path, seed)
    size = random.Random(seed).choice([1, 7, 50, 300])
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, size, (), WHOLE, ("score",))
    expected = in_order(job)
    assert any(reject.reason == "duplicate_id" for *_, rejects, _ in expected for reject in rejects)  # type: ignore[attr-defined]
    for bytes_, processes in ((40, 0), (1000, 0), (333, 2 * (seed < 2))):
        monkeypatch.setattr(read_ahead, "splits_of", partial(splits_of, size=bytes_))
        with reading(job, processes) as windows:
            assert summary(windows) == expected


def test_what_is_finished_is_not_read_again(scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind any window the rest comes out as it was, whatever repeats before and after; another input is refused."""
    corpus = messy(tmp_path, 3)
    monkeypatch.setattr(read_ahead, "splits_of", partial(splits_of, size=500))
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, 20, (), WHOLE)
    with reading(job, 0) as found:
        windows = list(found)
    marked = [window for window in windows if window.mark]
    assert 3 < len(marked) < len(windows)  # none behind a file that is read as a whole
    for last in marked:
        assert last.mark is not None
        ids = [id_ for window in windows[: last.number + 1] for id_ in window.ids]
        rest = replace(job, done=range(last.number + 1), begun=Begun(last.number + 1, ids, last.mark))
        with reading(rest, 0) as found:
            assert summary(found) == summary(iter(windows[last.number + 1 :]))
        assert hash_before(corpus, splits_of(corpus, 500)[: last.mark.split]) == last.mark.before
    mark = marked[-1].mark
    assert mark is not None
    text = (tmp_path / "a.jsonl").read_bytes()
    (tmp_path / "a.jsonl").write_bytes(text.replace(b"first", b"First"))
    assert hash_before(corpus, splits_of(corpus, 500)[: mark.split]) != mark.before
    begun = Begun(2, [], replace(mark, within="0"))
    with pytest.raises(InputError, match="changed or reordered"), reading(replace(job, begun=begun), 0) as found:
        list(found)


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
    expected = r"the process that reads the input died \(SIGKILL\) [\d,]+ bytes into the input.*--resume"
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
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since the folder was listed
            found.update((task / "children").read_text().split())
    return found


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
