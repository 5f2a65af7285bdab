"""What the scoring process itself costs per dialogue, beside readers and network.

    python -m benchmarks.scoring_process IN... [--json OUT]

Windows were recorded before, and an engine answers at once. All else of `empathy score` is there: windows are read as
they come through a reader's pipe, batches are cut and padded, scores are written as Parquet.
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
from scorer.reading.cut import Prepared
from scorer.reading.prepare import prepare_windows
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


@click.command()
@click.argument("inputs", nargs=-1, required=True)
@click.option("--runs", default=3, show_default=True, help="Runs; the fastest counts.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(inputs: tuple[str, ...], runs: int, json_path: Path | None) -> None:
    """Time the scoring process on IN."""
    bundle = load_bundle()
    scorer = Scorer(bundle, AtOnce())
    corpus = Corpus(inputs)
    windows = prepare_windows(corpus, scorer.encoder, bundle.info.domain, ScoreSettings().window)
    recorded = [pickle.dumps(window, protocol=pickle.HIGHEST_PROTOCOL) for window in windows]

    @contextmanager
    def replayed(*_: Any) -> Iterator[Iterator[Prepared]]:
        yield map(pickle.loads, recorded)

    seconds, rows = [], 0
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder, patch("scorer.run.score.reading", replayed):
            began = time.process_time()
            rows = score_files(scorer, corpus, Path(folder) / "scores.parquet").tally.scored
            seconds.append(time.process_time() - began)
    best = min(seconds)
    found = {
        "dialogues": rows,
        "megabytes of windows": round(sum(map(len, recorded)) / 1e6, 1),
        "microseconds per dialogue": round(best / rows * 1e6, 2),
        "dialogues per second": round(rows / best),
    }
    for name, value in found.items():
        print(f"{name:27} {value:,}")
    if json_path:
        json_path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
