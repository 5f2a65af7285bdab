"""What the driver of a Ray cluster does where workers read and write themselves, with several numbers of workers.

    python -m benchmarks.ray_shards IN... [--workers 1,2,4] [--shards 8] [--json OUT]

Real runs of `empathy score --ray --ray-shards N` with the starter on a cluster of this machine, one processor thread
for each worker. Timed from the first share handed out to the last manifest read; the driver's seconds are its processor
time meanwhile. Workers on fewer cores than they are take turns. Shards are compared byte for byte.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from scorer.cluster.driver import Cluster, ClusterSettings
from scorer.cluster.shares import score_shares
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.progress import Silent
from scorer.run.settings import ScoreSettings


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    workers: int
    windows: int
    dialogues: int
    seconds: float
    driver_seconds: float

    @property
    def driver_milliseconds(self) -> float:
        """The driver's processor time per window."""
        return 1e3 * self.driver_seconds / max(1, self.windows)


def run(inputs: tuple[str, ...], output: Path, workers: int, shards: int, window: int) -> Row:
    """Score with so many workers."""
    scorer = Scorer.load(None, engine="onnxruntime", threads=1)
    settings = ScoreSettings(window=window, readers=0)
    with Cluster(scorer, settings, ClusterSettings(threads=1, workers=workers), "onnxruntime", "fp32") as cluster:
        cluster.wait_for(workers)
        began, cpu = time.perf_counter(), time.process_time()
        summary = score_shares(cluster, Corpus(inputs), output, settings, Silent(), count=shards)
        seconds, driver = time.perf_counter() - began, time.process_time() - cpu
    windows = len(list(output.glob("part-*.parquet")))
    return Row(workers, windows, summary.tally.scored, round(seconds, 1), round(driver, 2))


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--workers", default="1,2,4", show_default=True, help="Workers, between commas.")
@click.option("--shards", default=8, show_default=True, help="Shares that are handed out.")
@click.option("--window", default=64, show_default=True, help="Records per window.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(inputs: tuple[str, ...], workers: str, shards: int, window: int, json_path: Path | None) -> None:
    """Time the driver on IN."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as Machines

    counts = [int(count) for count in workers.split(",")]
    common = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20, "include_dashboard": False}
    machines = Machines(initialize_head=True, head_node_args={**common, "num_cpus": max(counts)})
    os.environ["RAY_ADDRESS"] = machines.address
    print(f"{'workers':>7} {'windows':>8} {'dialogues':>10} {'seconds':>8} {'driver s':>9} {'ms per window':>14}")
    found, whole = [], None
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            row = run(inputs, Path(folder) / "out", count, shards, window)
            made = {path.name: path.read_bytes() for path in (Path(folder) / "out").glob("part-*")}
        whole = whole or made
        found.append(row)
        cells = f"{row.workers:7} {row.windows:8,} {row.dialogues:10,} {row.seconds:8.1f} {row.driver_seconds:9.2f}"
        same = "the same bytes" if made == whole else "OTHER BYTES"
        print(f"{cells} {row.driver_milliseconds:14.1f}  {same}", flush=True)
    machines.shutdown()
    if json_path:
        json_path.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
