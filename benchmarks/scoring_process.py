"""What the scoring process itself costs per dialogue, beside readers and network.

    python -m benchmarks.scoring_process IN... [--json OUT]

What readers make was recorded before, and an engine answers at once. All else of `empathy score` is there: chunks are
read as they come through a reader's pipe, ids are made unique, windows and batches are cut, scores are written as
Parquet. Then the readers alone, so many processes at a time, in wall time: what they make is joined and thrown away.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np

from scorer.bundle.bundle import load_bundle
from scorer.engines.base import Inputs, Scores
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.reading.counted import counted_windows, found_windows, is_counted, read_window
from scorer.reading.cut import Prepared
from scorer.reading.read_ahead import ReadJob, reading
from scorer.reading.windows import WHOLE
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings


class AtOnce:
    """An engine that gives 5 and 5 for whatever it is asked."""

    name, precision, threads, notice = "none", "fp32", 1, ""
    pad_multiple, batch_tokens = 8, 4096

    def run(self, inputs: Inputs) -> Scores:
        """Return the same for each row."""
        return np.full((len(inputs["input_ids"]), 2), 5, dtype=np.float32)

    def stream(self, batches: Iterable[Inputs]) -> Generator[Scores]:
        """Yield the same for each row of each batch."""
        for batch in batches:
            yield self.run(batch)


def scored(scorer: Scorer, corpus: Corpus, job: ReadJob, runs: int) -> dict[str, float]:
    """Return what the scoring process costs, the fastest of some runs."""
    found = found_windows(corpus, job.size, lambda _: True)
    made = (read_window(window, job.encoder, job.domain, ()) for window in found)
    recorded = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in made]

    @contextmanager
    def replayed(*_: Any) -> Iterator[Iterator[Prepared]]:
        yield counted_windows(map(pickle.loads, recorded), unique=True)

    seconds, rows = [], 0
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder, patch("scorer.run.score.reading", replayed):
            began = time.process_time()
            rows = score_files(scorer, corpus, Path(folder) / "scores.parquet").tally.scored
            seconds.append(time.process_time() - began)
    best = min(seconds)
    return {
        "dialogues": rows,
        "megabytes of chunks": round(sum(map(len, recorded)) / 1e6, 1),
        "microseconds per dialogue": round(best / rows * 1e6, 2),
        "dialogues per second": round(rows / best),
    }


def read(job: ReadJob, processes: int) -> float:
    """Return dialogues per second of so many reading processes, from the first window that is there to the last."""
    with reading(job, processes) as windows:
        next(windows)
        began, count = time.perf_counter(), 0
        for window in windows:
            count += len(window.ids)
    return count / (time.perf_counter() - began)


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--runs", default=3, show_default=True, help="Runs; the fastest counts.")
@click.option("--readers", default="1,2", show_default=True, help="Processes that read, between commas.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(inputs: tuple[str, ...], runs: int, readers: str, json_path: Path | None) -> None:
    """Time the scoring process and the readers on IN."""
    bundle = load_bundle()
    scorer = Scorer(bundle, AtOnce())
    corpus = Corpus(inputs)
    if not is_counted(corpus):
        raise click.UsageError("expected files of JSON lines, Parquet or Arrow")
    job = ReadJob(corpus, scorer.encoder, bundle.info.domain, ScoreSettings().window, (), WHOLE, counted=True)
    found = scored(scorer, corpus, job, runs)
    for count in map(int, readers.split(",")):
        found[f"read per second by {count}"] = round(max(read(job, count) for _ in range(runs)))
    for name, value in found.items():
        print(f"{name:27} {value:,}")
    if json_path:
        json_path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
