"""Measure scoring end to end: seconds, peak memory, and what changes with batches and order.

    python -m benchmarks.foundation val_results.json [--json out.json]

Each row runs the installed command in its own process, from the file of dialogues to Parquet.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from scorer.bundle.bundle import load_bundle
from scorer.dialogue import HEADS, Dialogue
from scorer.engines.base import available_cores
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_messages

EMPATHY = str(Path(sys.executable).with_name("empathy"))


@dataclass(frozen=True, slots=True)
class Row:
    """One run: wall seconds, dialogues per second, peak resident MiB, and the largest difference from the first run."""

    name: str
    seconds: float
    rate: float
    peak_mib: float
    largest_difference: float
    changed_decisions: float


def measure(name: str, source: Path, output: Path, options: list[str]) -> tuple[float, float]:
    """Return wall seconds and peak MiB of one run of the command."""
    start = time.monotonic()
    process = subprocess.Popen([EMPATHY, "score", str(source), "-o", str(output), "--quiet", *options])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise click.ClickException(f"{name}: exit status {status}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - start, usage.ru_maxrss * unit / 2**20


def scores_by_id(output: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Return the scores (2,) of each id."""
    table = pq.read_table(output)
    rows = np.stack([table[head].to_numpy() for head in HEADS], axis=1)
    return dict(zip(table["id"].to_pylist(), rows, strict=True))


def shuffled(source: Path, folder: Path) -> Path:
    """Write the dialogues of ``source`` in another order, as JSON lines."""
    dialogues = [item for item in Corpus([str(source)]) if isinstance(item, Dialogue)]
    random.Random(0).shuffle(dialogues)
    path = folder / "shuffled.jsonl"
    with path.open("w") as file:
        for item in dialogues:
            messages = to_messages(item.turns)
            file.write(json.dumps({"id": item.id, "messages": messages}) + "\n")
    return path


def decisions(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return whether each score lies beyond each of the starter's cuts, (N, 2, 10)."""
    cuts = np.array([load_bundle().info.cuts[head] for head in HEADS])
    return scores[:, :, None] > cuts


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(source: Path, json_path: Path | None) -> None:
    """Measure on a file of dialogues."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {
            "default": (source, []),
            "batches of 1": (source, ["--batch-size", "1"]),
            "batches of 256": (source, ["--batch-size", "256", "--batch-tokens", "1000000"]),
            "another order": (shuffled(source, folder), []),
            "one thread": (source, ["--threads", "1"]),
        }
        rows: list[Row] = []
        first: dict[str, npt.NDArray[np.float32]] = {}
        for title, (path, options) in runs.items():
            output = folder / f"{len(rows)}.parquet"
            seconds, peak = measure(title, path, output, options)
            found = scores_by_id(output)
            first = first or found
            if found.keys() != first.keys():
                raise click.ClickException(f"{title}: other ids than the first run")
            a, b = (np.stack([scores[key] for key in first]) for scores in (first, found))
            flips = float((decisions(a) != decisions(b)).mean())
            rows.append(Row(title, seconds, len(found) / seconds, peak, float(np.abs(a - b).max()), flips))
    print(f"{len(first)} dialogues, {platform.processor() or platform.machine()}, {available_cores()} cores")
    print(f"{'run':16}{'seconds':>9}{'per second':>11}{'peak MiB':>10}{'largest diff.':>15}{'flips':>9}")
    for row in rows:
        print(
            f"{row.name:16}{row.seconds:9.1f}{row.rate:11.0f}{row.peak_mib:10.0f}"
            f"{row.largest_difference:15.1e}{row.changed_decisions:9.2%}"
        )
    if json_path is not None:
        hardware = {"machine": platform.machine(), "cores": available_cores(), "python": platform.python_version()}
        versions = {package: version(package) for package in ("onnxruntime", "tokenizers", "numpy", "pyarrow")}
        result = {"hardware": hardware, "versions": versions, "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
