"""Scoring on a Ray cluster: the rows of a run without one, exactly once, whatever dies on the way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorer.bundle.bundle import Bundle
from scorer.cluster.connection import check_address, find_address
from scorer.cluster.driver import Cluster, ClusterSettings
from scorer.cluster.worker import Job, Worker, start
from scorer.errors import BundleError, EngineError, RejectedError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import Summary, score_files, score_on
from scorer.run.settings import ScoreSettings
from tests.conftest import AtEachBatch, Killed, Run, kill_after, read_scores, record, varied, write_lines

if find_spec("ray") is None:  # not importorskip: Ray reads its environment when it is imported
    pytest.skip("needs the extra 'ray'", allow_module_level=True)

# Ray opens sockets, logs and processes whose ends it leaves to the interpreter.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

WINDOW = 40
SETTINGS = ScoreSettings(window=WINDOW, existing="resume")


class Nodes:
    """A Ray cluster of real node processes on loopback: two machines, the first of them the head."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        self._common = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20, "include_dashboard": False}
        self.cluster = RayCluster(initialize_head=True, head_node_args={**self._common, "num_cpus": 1})
        self.second = self.add(num_cpus=1)

    def add(self, **more: Any) -> Any:
        """Add a machine."""
        return self.cluster.add_node(**self._common, **more)

    def kill(self, machine: Any) -> None:
        """Kill everything on a machine."""
        self.cluster.remove_node(machine, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback only
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Nodes()
        patch.setenv("RAY_ADDRESS", nodes.cluster.address)
        yield nodes
        nodes.cluster.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write 400 dialogues of mixed length, four broken lines among them."""
    return write_source(tmp_path / "in.jsonl", 400)


def write_source(path: Path, count: int) -> Path:
    said = ([turn.content for turn in dialogue.turns] for dialogue in varied(count))
    records: list[object] = [record(*texts, id=f"d{number}", n=number) for number, texts in enumerate(said)]
    for place in (3, 17, count // 2, count):
        records.insert(place, {"messages": []})
    return write_lines(path, records)


def on_ray(
    scorer: Scorer, source: Path, output: Path, settings: ScoreSettings = SETTINGS, progress: Any = None
) -> tuple[Summary, str]:
    """Score on the cluster of RAY_ADDRESS; return what that came to, and the line that says who scored."""
    with Cluster(scorer, settings, ClusterSettings(threads=1), "auto") as cluster:
        summary = score_on(cluster, Corpus([str(source)], keep_records=settings.keep), output, settings, progress)
        return summary, cluster.closing()[0]


def same_output(first: Path, second: Path) -> None:
    """Check that two folders hold the same rows, shards and rejects."""
    assert sorted(path.name for path in first.iterdir()) == sorted(path.name for path in second.iterdir())
    assert read_scores(first).equals(read_scores(second))
    for name in ("rejects.jsonl", "_manifest.jsonl"):
        assert (first / name).read_text() == (second / name).read_text()


class Slow(AtEachBatch):
    """Gives every worker the time to start: takes 0.8 s per window until something becomes true."""

    def __init__(self, until: Callable[[], bool]) -> None:
        super().__init__(self.wait)
        self.until = until
        self.over = False

    def wait(self) -> None:
        self.over = self.over or self.until()
        time.sleep(0 if self.over else 0.8)


@pytest.mark.usefixtures("nodes")
def test_a_cluster_gives_the_rows_shards_rejects_and_manifest_of_one_process(
    scorer: Scorer, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = replace(SETTINGS, keep=("n",))
    score_files(scorer, Corpus([str(source)], keep_records=True), tmp_path / "here", settings)
    summary, closing = on_ray(scorer, source, tmp_path / "there", settings)
    same_output(tmp_path / "here", tmp_path / "there")
    assert read_scores(tmp_path / "there")["n"].to_pylist() == [str(number) for number in range(400)]
    assert (summary.tally.records, summary.tally.scored, summary.tally.rejections) == (404, 400, 4)
    assert re.match("workers: [12] of 1 threads, on one machine", closing)  # both are 127.0.0.1
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_what_was_begun_without_ray_is_resumed_with_it_and_the_reverse(
    scorer: Scorer, source: Path, tmp_path: Path
) -> None:
    score_files(scorer, Corpus([str(source)]), tmp_path / "whole", SETTINGS)
    with pytest.raises(Killed):
        score_files(scorer, Corpus([str(source)]), tmp_path / "out", SETTINGS, kill_after(2))
    with pytest.raises(Killed):
        on_ray(scorer, source, tmp_path / "out", progress=kill_after(2))
    summary = score_files(scorer, Corpus([str(source)]), tmp_path / "out", SETTINGS)
    assert 2 * WINDOW <= summary.resumed < 404
    same_output(tmp_path / "whole", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.usefixtures("nodes")
def test_strict_ends_with_the_same_line_after_the_windows_before_it(scorer: Scorer, tmp_path: Path) -> None:
    records: list[object] = [record("i am sad", f"so sorry {i}") for i in range(200)]
    source = write_lines(tmp_path / "in.jsonl", [*records, {"messages": []}, *records, 7])
    settings = ScoreSettings(window=WINDOW, existing="resume", strict=True)
    with pytest.raises(RejectedError, match=r"^\S*in.jsonl:201: no_response: .* \(--strict\)$"):
        on_ray(scorer, source, tmp_path / "out", settings)
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 5


def job(bundle: Bundle, **more: Any) -> Job:
    facts: dict[str, Any] = {"engine": "onnxruntime", "precision": "fp32", "threads": 1, "gpus": 0.0, "expected": None}
    return Job(**{"files": bundle.files, "settings": SETTINGS, **facts, **more})


def test_a_worker_verifies_the_bundle_and_is_never_another_engine(bundle: Bundle) -> None:
    facts = Worker(job(bundle)).facts
    assert (facts.name, facts.precision, facts.threads) == ("onnxruntime", "fp32", 1)
    with pytest.raises(BundleError, match="was changed"):
        Worker(job(bundle, files={**bundle.files, "tokenizer.json": b"{}"}))
    with pytest.raises(EngineError, match="given a GPU and onnxruntime runs on the processor"):
        Worker(job(bundle, gpus=1.0))
    with pytest.raises(EngineError, match="runs onnxruntime fp32 and this run is onnxruntime bf16: scores are never"):
        Worker(job(bundle, expected=("onnxruntime", "bf16")))
    with pytest.raises(EngineError, match="not in this process, which got a batch of 2 x 8 tokens"):
        facts.run({"input_ids": np.zeros((2, 8), dtype=np.int64)})


@pytest.mark.parametrize("text", ["in.jsonl", "ray://head:10001", "", "head", "head:port"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(EngineError, match=r"expected HOST:PORT|give HOST:PORT"):
        check_address(text)


def test_where_no_cluster_answers_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no Ray cluster answers"):
        find_address("127.0.0.1:9")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert find_address("auto") == "local"
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    with pytest.raises(EngineError, match="no Ray cluster answers"):
        find_address("auto")


def test_the_command_takes_no_input_for_an_address(empathy: Run, source: Path) -> None:
    for arguments, message in (
        (["--ray", source, "-o", "out"], "write --ray=auto, or --ray last"),
        ([source, "--ray"], "--shard and --ray are about an output"),
        ([source, "-o", "out", "--ray-gpus", "1"], "give --ray too"),
    ):
        result = empathy("score", *arguments)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert message in result.stderr


def test_where_no_cluster_answers_no_output_is_begun(empathy: Run, source: Path, tmp_path: Path) -> None:
    result = empathy("score", source, "-o", tmp_path / "out.parquet", "--ray=127.0.0.1:9")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out.parquet.partial").exists()


def test_a_bundle_that_a_machine_has_no_room_for_is_one_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert start(job(bundle)) == "the bundle cannot be written there: No space left on device"
    monkeypatch.undo()
    assert isinstance(start(job(bundle)), Worker)
    assert "was changed" in str(start(job(bundle, files={**bundle.files, "tokenizer.json": b"{}"})))


@pytest.mark.slow
def test_a_machine_that_dies_midway_changes_nothing(scorer: Scorer, tmp_path: Path, nodes: Nodes) -> None:
    source = write_source(tmp_path / "in.jsonl", 20_000)
    score_files(scorer, Corpus([str(source)]), tmp_path / "here", SETTINGS)
    with Cluster(scorer, SETTINGS, ClusterSettings(threads=1), "auto") as cluster:
        alive = [nodes.second]

        def kill() -> bool:
            """Kill the second machine once both have workers; the run stays slow until that was noticed."""
            if alive and not cluster.closing()[0].startswith("workers: 1 "):
                nodes.kill(alive.pop())
            return not alive and "died" in cluster.closing()[0]

        slow = Slow(kill)
        score_on(cluster, Corpus([str(source)]), tmp_path / "there", SETTINGS, slow)
        assert slow.over, cluster.closing()
    nodes.second = nodes.add(num_cpus=1)
    same_output(tmp_path / "here", tmp_path / "there")


@pytest.mark.slow
def test_a_machine_that_lacks_a_module_is_one_line(scorer: Scorer, tmp_path: Path, nodes: Nodes) -> None:
    source = write_source(tmp_path / "in.jsonl", 20_000)
    (tmp_path / "bare" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "bare" / "onnxruntime" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')"
    )
    machine = nodes.add(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path / "bare")})
    try:
        with pytest.raises(EngineError, match=r"^worker on 127.0.0.1: No module named 'onnxruntime'; install"):
            on_ray(scorer, source, tmp_path / "out", progress=Slow(lambda: False))
    finally:
        nodes.kill(machine)


@pytest.mark.slow
def test_a_driver_that_is_killed_is_resumed(bundle: Bundle, scorer: Scorer, empathy: Run, tmp_path: Path) -> None:
    source = write_source(tmp_path / "in.jsonl", 4000)
    score_files(scorer, Corpus([str(source)]), tmp_path / "here", SETTINGS)
    out = tmp_path / "there"
    arguments = ["score", str(source), "-o", str(out), "--scorer", str(bundle.path), "--window", str(WINDOW)]
    arguments += ["--engine", "onnxruntime", "--threads", "1", "--resume", "--ray=local"]
    command = [str(Path(sys.executable).with_name("empathy")), *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (out / "_manifest.jsonl").exists() or (out / "_manifest.jsonl").read_text().count("\n") < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert '"complete"' not in (out / "_manifest.jsonl").read_text()
    result = empathy(*arguments)
    assert result.returncode == 0, result.stderr
    assert "resumed: " in result.stderr
    assert result.stdout == ""
    same_output(tmp_path / "here", out)
