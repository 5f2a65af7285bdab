"""Workers that read and write themselves: the shards of one process, whatever dies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from scorer.cluster.driver import Cluster, ClusterSettings
from scorer.cluster.shares import score_shares
from scorer.cluster.worker import Part, Worker
from scorer.errors import EngineError, InputError, OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.progress import Silent
from scorer.reading.windows import Share
from scorer.run.manifest import missing_from
from scorer.run.score import Summary, score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import record, write_lines
from tests.scorer.cluster.test_driver import job, nodes, pytestmark  # noqa: F401 - a fixture; what Ray leaves open
from tests.scorer.reading.test_counted import make
from tests.scorer.run.test_joined import parts, rejects, windows

SETTINGS = ScoreSettings(window=20, keep=("score",), readers=0)


def on_ray(scorer: Scorer, corpus: Corpus, output: Path, count: int, settings: ScoreSettings = SETTINGS) -> Summary:
    with Cluster(scorer, settings, ClusterSettings(threads=1), "auto") as cluster:
        return score_shares(cluster, corpus, output, settings, Silent(), count=count)


@pytest.mark.usefixtures("nodes")
def test_workers_write_the_shards_of_one_process(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "in", "mixed")
    monkeypatch.chdir(tmp_path)  # names are as seen from here
    corpus = Corpus(["in"], keep_records=True)
    whole = score_files(scorer, corpus, Path("whole"), SETTINGS)
    score_files(scorer, corpus, Path("out"), ScoreSettings(window=20, keep=("score",), readers=0, share=Share(1, 3)))
    settings = ScoreSettings(window=20, keep=("score",), readers=0, existing="resume")
    summary = on_ray(scorer, corpus, Path("out"), 3, settings)
    assert missing_from(Path("out")) is None
    assert parts(Path("out")) == parts(Path("whole"))
    assert rejects(Path("out")) == rejects(Path("whole"))
    assert windows(Path("out")) == windows(Path("whole"))
    assert summary.tally == whole.tally
    assert 0 < summary.resumed < summary.tally.records
    assert summary.rejects == Path("out/shard-*.rejects.jsonl")


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_a_share_whose_worker_dies_is_finished_by_another(scorer: Scorer, tmp_path: Path) -> None:
    rows = [record("i am sad", f"so sorry {number}", id=number % 900) for number in range(1000)]
    corpus = Corpus([str(write_lines(tmp_path / "in.jsonl", rows))], keep_records=True)
    settings = ScoreSettings(window=2, keep=("score",), readers=0)
    score_files(scorer, corpus, tmp_path / "whole", settings)

    def kill() -> None:
        out, killed = tmp_path / "out", False
        while not killed:
            time.sleep(0.02)
            if len(list(out.glob("part-*.parquet"))) > 20:
                killed = any(_kill_at_work(pid, out) for pid in _actors())

    with Cluster(scorer, settings, ClusterSettings(threads=1), "auto") as cluster:
        Thread(target=kill, daemon=True).start()
        score_shares(cluster, corpus, tmp_path / "out", settings, Silent(), count=2)
        assert "1 of them died" in cluster.closing()[0]
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    assert rejects(tmp_path / "out") == rejects(tmp_path / "whole")


def _actors() -> list[int]:
    """Return the processes of actors, as Ray names them."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::Remote"):
                found.append(int(folder.name))
    return found


def _kill_at_work(process: int, out: Path) -> bool:
    """Kill a process that has a file of its share open; one that has finished would be missed by nobody."""
    os.kill(process, signal.SIGSTOP)
    at_work = any(out in file.readlink().parents for file in Path(f"/proc/{process}/fd").iterdir())
    os.kill(process, signal.SIGKILL if at_work else signal.SIGCONT)
    return at_work


def test_what_workers_cannot_share_is_one_line(scorer: Scorer, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [record("i am sad", "so sorry")])
    cluster: Any = None  # is not asked
    corpus = Corpus([str(source)])
    with pytest.raises(OutputError, match=r"out.csv: is one file; workers that write themselves share a folder"):
        score_shares(cluster, corpus, tmp_path / "out.csv", SETTINGS, Silent(), count=2)
    with pytest.raises(OutputError, match="remove the folder to start afresh"):
        score_shares(cluster, corpus, tmp_path / "out", ScoreSettings(existing="overwrite"), Silent(), count=2)
    (tmp_path / "in.json").write_text("[1]")
    with pytest.raises(InputError, match="parsing tells where a record ends; leave out --ray-shards"):
        score_shares(cluster, Corpus([str(tmp_path / "in.json")]), tmp_path / "out", SETTINGS, Silent(), count=2)
    score_files(scorer, corpus, tmp_path / "out", ScoreSettings(share=Share(0, 2)))
    with pytest.raises(OutputError, match="an earlier run's; continue with --resume or remove the folder"):
        score_shares(cluster, corpus, tmp_path / "out", SETTINGS, Silent(), count=2)


def test_a_machine_that_does_not_see_the_files_says_so(scorer: Scorer, tmp_path: Path) -> None:
    part = Part(inputs=("a",), fields={}, output=Path("o"), share=Share(0, 2), folder=tmp_path / "gone")
    with pytest.raises(EngineError, match=r"gone: cannot be read on a worker \(No such file or directory\)"):
        Worker(job(scorer.bundle)).share(part)
