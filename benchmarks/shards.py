"""What each of several processes that share a run reads and parses, and what joining them costs.

    python -m benchmarks.shards IN... [--shards 1,2,4] [--json OUT]

Real runs of `empathy score --shard I/N`, one after another, with an engine that answers at once: what is measured is
reading, tokenising, writing and joining. IN is JSON lines, compressed or not, Parquet or Arrow. Read is what the
process asked the system for, records are those that it parsed. The shards of every run are compared with those of one
process, byte for byte. Needs Linux.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click

from benchmarks.scoring_process import AtOnce
from scorer.bundle.bundle import load_bundle
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.counted import found_windows, is_counted, read_window
from scorer.reading.windows import Share
from scorer.run import score
from scorer.run.joined import join_shares
from scorer.run.settings import ScoreSettings


@dataclass(slots=True)
class Row:
    """What one process of several came to; ``join`` are the seconds of joining, for the one that ended last."""

    shard: str
    megabytes_read: float
    records_parsed: int
    cpu_seconds: float
    join_seconds: float


@contextmanager
def counted(row: Row) -> Iterator[None]:
    """Count in a row what is read and parsed."""
    began, cpu = _read_here(), _cpu()
    join = join_shares

    def parse(*given: Any) -> Any:
        made = read_window(*given)
        row.records_parsed += sum(chunk.size for chunk in made.chunks)
        return made

    def joining(*given: Any) -> None:
        start = time.perf_counter()
        join(*given)
        row.join_seconds = round(time.perf_counter() - start, 2)

    with patch("scorer.reading.read_ahead.read_window", parse), patch("scorer.run.score.join_shares", joining):
        yield
    row.megabytes_read = round((_read_here() - began) / 1e6, 1)
    row.cpu_seconds = round(_cpu() - cpu, 2)


def _read_here() -> int:
    """Return the bytes that this process asked the system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def run(scorer: Scorer, inputs: tuple[str, ...], output: Path, count: int) -> list[Row]:
    """Score with so many processes, one after another."""
    rows = []
    for index in range(count):
        share = Share(index, count)
        row = Row(f"{index + 1}/{count}", 0.0, 0, 0.0, 0.0)
        with counted(row):
            score.score_files(scorer, Corpus(inputs), output, ScoreSettings(share=share, readers=0))
        rows.append(row)
    return rows


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--shards", default="1,2,4", show_default=True, help="Processes that share a run, between commas.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(inputs: tuple[str, ...], shards: str, json_path: Path | None) -> None:
    """Say what each process reads of IN."""
    scorer = Scorer(load_bundle(), AtOnce())
    corpus = Corpus(inputs)
    if not is_counted(corpus):
        raise click.UsageError("expected files of JSON lines, compressed or not, Parquet or Arrow")
    total, began = corpus.total_bytes or 0, time.process_time()
    windows = sum(1 for _ in found_windows(corpus, ScoreSettings().window, lambda _: False))
    seconds = time.process_time() - began
    print(f"{total / 1e6:,.1f} MB, {windows} windows, found in {seconds:.2f} CPU s ({total / seconds / 1e6:,.0f} MB/s)")
    print(f"{'shard':7} {'MB read':>9} {'records':>10} {'CPU s':>8} {'join s':>7}")
    found, whole = [], None
    for count in map(int, shards.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            for row in run(scorer, inputs, Path(folder) / "out", count):
                found.append(row)
                cells = f"{row.megabytes_read:9,.1f} {row.records_parsed:10,}"
                print(f"{row.shard:7} {cells} {row.cpu_seconds:8.2f} {row.join_seconds:7.2f}")
            made = {path.name: path.read_bytes() for path in (Path(folder) / "out").glob("part-*")}
        whole = whole or made
        print("the same bytes" if made == whole else "OTHER BYTES")
    if json_path:
        json_path.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
