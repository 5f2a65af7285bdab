"""Outputs on an object store: what a local run writes, whenever a run or the copying is killed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import fsspec
import pytest
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem

from scorer.bundle.bundle import Bundle
from scorer.cli.main import main
from scorer.cluster.worker import Part, Worker
from scorer.errors import EmpathyError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.windows import WHOLE, Share
from scorer.run import mirror
from scorer.run.backend import Local
from scorer.run.mirror import opened, score_into
from scorer.run.score import Summary
from scorer.run.settings import ScoreSettings
from tests.conftest import record, write_lines
from tests.scorer.cluster.test_driver import job
from tests.scorer.reading.test_lines import messy_lines
from tests.scorer.run.test_joined import Killed, Mortal, same, score


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder of some windows, whose ids repeat across them and whose records are partly rejected."""
    (tmp_path / "in").mkdir()
    messy_lines(tmp_path / "in", 4)
    return tmp_path / "in"


@pytest.fixture
def at_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is brought up to date after each window."""
    monkeypatch.setattr(mirror, "_SECONDS", 0)


def score_at(scorer: Scorer, inputs: Path | str, url: str, share: Share = WHOLE, **more: Any) -> Summary:
    settings = ScoreSettings(**{"window": 20, "readers": 0, "keep": ("score",), "share": share, **more})
    with opened(url, share, settings.existing) as output:
        return score_into(Local(scorer, settings), Corpus([str(inputs)], keep_records=True), output, settings)


def fetched(url: str, folder: Path) -> Path:
    """Return what is at a URL, in a folder here."""
    files, path = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    for name in files.find(path):
        place = folder / name.removeprefix(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(name, str(place))
    return folder


def watch_store(patch: pytest.MonkeyPatch, last: int) -> None:
    """Count the changes of the store in memory, and die before the one after ``last``."""
    Mortal(last).watch(patch, MemoryFileSystem, "put_file", "rm_file")


@pytest.mark.usefixtures("memory", "at_each_window")
@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv"])
def test_one_file_is_that_of_a_run_here_and_nothing_else_is_left(
    scorer: Scorer, inputs: Path, tmp_path: Path, name: str, memory: Any
) -> None:
    here = score(scorer, inputs, tmp_path / name)
    there = score_at(scorer, inputs, f"memory://bucket/{name}")
    assert there.tally == here.tally
    assert there.rejects == f"memory://bucket/{name}.rejects.jsonl"
    beside = [known.name for known in tmp_path.glob(f"{name}*")]
    assert sorted(memory.find("/bucket")) == sorted(f"/bucket/{known}" for known in beside)
    for known in beside:
        assert memory.cat(f"/bucket/{known}") == (tmp_path / known).read_bytes()


@pytest.mark.usefixtures("memory", "at_each_window")
def test_shares_on_machines_that_share_no_file_are_one_run(
    bundle: Bundle, scorer: Scorer, inputs: Path, tmp_path: Path, memory: Any
) -> None:
    memory.put(str(inputs), "/bucket/in", recursive=True)
    score(scorer, "memory://bucket/in", tmp_path / "whole")
    settings = ScoreSettings(window=20, readers=0, keep=("score",))
    for index in (1, 0, 2):
        names: dict[str, Any] = {"inputs": ("memory://bucket/in",), "output": "memory://bucket/out"}
        part = Part(**names, fields={}, share=Share(index, 3), folder=tmp_path / "not there")
        summary = Worker(job(bundle, settings=settings)).share(part)
    assert str(summary.rejects).startswith("memory://bucket/out/shard-3-of-3")
    same(fetched("memory://bucket/out", tmp_path / "out"), tmp_path / "whole")
    again = score_at(scorer, "memory://bucket/in", "memory://bucket/out", Share(0, 3), existing="resume")
    assert again.complete_before


@pytest.mark.slow
@pytest.mark.usefixtures("at_each_window")
@pytest.mark.parametrize(("name", "shares"), [("out", 1), ("out", 2), ("out.parquet", 1)])
def test_a_kill_at_any_step_of_the_copying_loses_nothing(
    scorer: Scorer, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Any, name: str, shares: int
) -> None:
    (tmp_path / "whole").mkdir()
    score(scorer, inputs, tmp_path / "whole" / name)
    steps, died = 0, True
    while died:
        url, died = f"memory://bucket/{steps}/{name}", False
        for index in range(shares):
            with monkeypatch.context() as patch:
                watch_store(patch, steps)
                try:
                    score_at(scorer, inputs, url, Share(index, shares))
                except Killed:
                    died = True
        for index in range(shares):
            score_at(scorer, inputs, url, Share(index, shares), existing="resume")
        if "." in name:
            assert memory.cat(f"/bucket/{steps}/{name}") == (tmp_path / "whole" / name).read_bytes()
            assert len(memory.find(f"/bucket/{steps}")) == 2
        else:
            compare(fetched(url, tmp_path / str(steps)), tmp_path / "whole" / name, shares)
        steps += 1
    assert steps > 10


def compare(folder: Path, whole: Path, shares: int) -> None:
    """Check that a folder holds what a run here wrote."""
    if shares > 1:
        same(folder, whole)
    else:
        first, second = ({path.name: path.read_bytes() for path in place.glob("[!.]*")} for place in (folder, whole))
        assert first == second


@pytest.mark.slow
@pytest.mark.usefixtures("at_each_window")
def test_a_kill_while_another_run_is_overwritten_leaves_no_shard_of_it(
    scorer: Scorer, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: Any
) -> None:
    few = write_lines(tmp_path / "few.jsonl", [record("i am sad", f"so {number}") for number in range(50)])
    score(scorer, few, tmp_path / "whole")
    steps, died = 0, True
    while died:
        url, died = f"memory://bucket/{steps}/out", False
        score_at(scorer, inputs, url)
        with monkeypatch.context() as patch:
            watch_store(patch, steps)
            try:
                score_at(scorer, few, url, existing="overwrite")
            except Killed:
                died = True
        try:
            score_at(scorer, few, url, existing="resume")
        except EmpathyError as error:
            assert "--overwrite" in str(error)  # noqa: PT017 - some kills come before the new run has begun
            score_at(scorer, few, url, existing="overwrite")
        compare(fetched(url, tmp_path / str(steps)), tmp_path / "whole", 1)
        assert not memory.find(f"/bucket/{steps}/out/.earlier")
        steps += 1
    assert steps > 20


@pytest.mark.usefixtures("memory")
def test_a_run_that_fails_leaves_what_it_had_finished(scorer: Scorer, tmp_path: Path) -> None:
    rows = [*(record("i am sad", f"so {number}") for number in range(45)), {"none": 1}]
    bad = write_lines(tmp_path / "bad.jsonl", rows)
    with pytest.raises(EmpathyError, match="--strict"):
        score_at(scorer, bad, "memory://bucket/out.csv", strict=True, keep=())
    with pytest.raises(
        EmpathyError, match=r"^memory://bucket/out.csv.partial: an earlier run's; continue with --resume"
    ):
        score_at(scorer, bad, "memory://bucket/out.csv", keep=())
    assert score_at(scorer, bad, "memory://bucket/out.csv", existing="resume", keep=()).resumed == 40


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://bucket/in/out.csv", "is, holds or lies in the input memory://bucket/in; name another output"),
        ("memory://bucket", "memory://bucket: holds other files and no manifest of a run; name a new or empty folder"),
        ("nosuch://bucket/out.csv", "cannot be reached: Protocol not known: nosuch"),
        (
            "memory://foreign/out",
            "memory://foreign/out: holds other files and no manifest of a run; name a new or empty",
        ),
        (
            "memory://foreign/out.csv",
            "memory://foreign/out.csv: exists already; name another output or say --overwrite",
        ),
        ("memory://read-only/out.csv", "memory://read-only/out.csv: cannot be written: takes no files; fix that"),
    ],
)
def test_what_cannot_be_written_is_one_line(
    scorer: Scorer, url: str, said: str, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(MemoryFileSystem, "put_file", refused)
    monkeypatch.setattr(MemoryFileSystem, "get_file", refused)
    for name in ("out/large.bin", "out/../../part-000000.parquet", "out.csv"):
        memory.pipe(f"/foreign/{name}", b"x")
    memory.pipe("/bucket/in/a.jsonl", b'{"messages": [{"role": "user", "content": "a"}]}\n')
    with pytest.raises(EmpathyError) as caught:
        score_at(scorer, "memory://bucket/in", url)
    assert said in str(caught.value)


@pytest.mark.usefixtures("memory", "at_each_window")
@pytest.mark.parametrize(
    "place", ["scorer.run.output.write_window", "fsspec.implementations.memory.MemoryFileSystem.get_file"]
)
def test_a_full_disk_here_is_not_laid_to_the_store(
    scorer: Scorer, inputs: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    begun = score_at(scorer, inputs, "memory://bucket/out").tally
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        with pytest.raises(EmpathyError, match=r"No space left on device, and the scores lie there .*; set TMPDIR"):
            score_at(scorer, inputs, "memory://bucket/out", existing="overwrite")
    assert score_at(scorer, inputs, "memory://bucket/out", existing="resume").tally == begun


@pytest.mark.usefixtures("s3")
def test_the_command_writes_to_s3_and_goes_on_there(bundle: Bundle, inputs: Path, tmp_path: Path) -> None:
    def run(*more: str) -> Any:
        return CliRunner().invoke(main, ["score", str(inputs), "--scorer", str(bundle.path), *more])

    assert run("-o", str(tmp_path / "scores.parquet")).exit_code == 0
    done = run("-o", "s3://made/scores.parquet")
    assert done.exit_code == 0, done.output
    assert "wrote s3://made/scores.parquet" in done.stderr
    assert "see s3://made/scores.parquet.rejects.jsonl" in done.stderr
    made = fetched("s3://made", tmp_path / "made")
    assert (made / "scores.parquet").read_bytes() == (tmp_path / "scores.parquet").read_bytes()
    again = run("-o", "s3://made/scores.parquet")
    assert again.exit_code == 2
    assert again.stderr.startswith("empathy: error: s3://made/scores.parquet: exists already")
    assert "is complete already" in run("-o", "s3://made/scores.parquet", "--resume").stderr
    nowhere = run("-o", "s3://no-such-bucket/scores.parquet")
    assert nowhere.exit_code == 2
    assert "s3://no-such-bucket/scores.parquet: cannot be read: " in nowhere.stderr
