"""What is measured: each row is a way to score the same file, and how to run it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from benchmarks.throughput.measure import FailedError, Run, run
from benchmarks.throughput.peers import EXPORTS, PEERS, exported
from scorer.bundle.bundle import Bundle
from scorer.dialogue import HEADS
from scorer.run.score_file import read_metadata
from selection.metrics import correlation
from selection.rules import PAPER

EMPATHY = str(Path(sys.executable).with_name("empathy"))
REFERENCE = "ours-onnxruntime-fp32"
"""The row that the scores of all others are compared with."""

ST_DEFAULT = "st-torch-fp32"

Scores = Mapping[str, npt.NDArray[np.float32]]

_OURS = {
    "ours-onnxruntime-fp32": ("empathy score, ONNX Runtime", "onnxruntime", "fp32"),
    "ours-openvino-fp32": ("empathy score, OpenVINO", "openvino", "fp32"),
    "ours-openvino-bf16": ("empathy score, OpenVINO", "openvino", "bf16"),
    "ours-openvino-int8-dynamic": ("empathy score, OpenVINO", "openvino", "int8-dynamic"),
    "ours-auto": ("empathy score, auto", "auto", "auto"),
}
_PEERS = {
    "st-torch-fp32": "sentence-transformers CrossEncoder, torch",
    "st-torch-bf16": "sentence-transformers CrossEncoder, torch",
    "st-onnx-fp32": "sentence-transformers CrossEncoder, ONNX",
    "st-onnx-O3-fp32": "sentence-transformers CrossEncoder, ONNX O3",
    "st-openvino-fp32": "sentence-transformers CrossEncoder, OpenVINO",
    "st-openvino-bf16": "sentence-transformers CrossEncoder, OpenVINO",
    "pipeline-fp32": "transformers pipeline, unsorted",
    "optimum-fp32": "optimum ORTModel, unsorted",
}
_ENGINES = {
    "engine-onnxruntime-fp32": ("engine only, ONNX Runtime", "onnxruntime", "fp32"),
    "engine-openvino-fp32": ("engine only, OpenVINO", "openvino", "fp32"),
    "engine-openvino-bf16": ("engine only, OpenVINO", "openvino", "bf16"),
    "engine-openvino-int8-dynamic": ("engine only, OpenVINO", "openvino", "int8-dynamic"),
}
REPEATS = "ours-auto-repeats"
NAMES = (*_OURS, *_PEERS, *_ENGINES, REPEATS)
"""Every row by its name, in the order of the table."""


@cache
def takes_precision() -> bool:
    """Whether the installed `empathy score` has --precision."""
    found = subprocess.run([EMPATHY, "score", "--help"], check=True, capture_output=True, text=True)
    return "--precision" in found.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to score. ``command`` takes the input and the output; ``precision`` is what it computes in.

    ``kind`` is ``ours``, ``peer``, ``engine`` (whose seconds its own process counts) or ``repeats``.
    """

    name: str
    title: str
    kind: str
    precision: str
    command: Callable[[Path, Path], list[str]]

    def measure(self, source: Path, output: Path, threads: int) -> tuple[Run, float]:
        """Run once; return the run and the seconds that count. FailedError if it fails or computes something else."""
        output.unlink(missing_ok=True)
        done = run(self.command(source, output), threads)
        seconds = json.loads(done.printed.splitlines()[-1])["seconds"] if self.kind == "engine" else done.seconds
        if self.kind == "ours" and self.precision != "auto":
            said = read_metadata(output)["precision"]
            if said != self.precision:
                raise FailedError(f"scored in {said}" + ("" if takes_precision() else ": it has no --precision"))
        return done, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What all rows share. ``exports`` holds the checkpoint in the forms that peers load."""

    bundle: Bundle
    checkpoint: Path | None
    exports: Path
    threads: int


def make_rows(setup: Setup) -> list[Row]:
    """Return every row."""
    rows = [_our_row(setup, name) for name in _OURS]
    rows += [_peer_row(setup, name) for name in _PEERS]
    rows += [_engine_row(setup, name) for name in _ENGINES]
    return [*rows, _our_row(setup, REPEATS)]


def _our_row(setup: Setup, name: str) -> Row:
    title, engine, precision = _OURS["ours-auto" if name == REPEATS else name]
    options = ["--scorer", str(setup.bundle.path), "--engine", engine, "--threads", str(setup.threads), "--quiet"]
    if precision != "auto" and takes_precision():
        options += ["--precision", precision]

    def command(source: Path, output: Path) -> list[str]:
        return [EMPATHY, "score", str(source), "-o", str(output), *options]

    kind = "repeats" if name == REPEATS else "ours"
    return Row(name=name, title=title, kind=kind, precision=precision, command=command)


def _peer_row(setup: Setup, name: str) -> Row:
    kind = exported(name)
    model = setup.exports / kind if kind else setup.checkpoint

    def command(source: Path, output: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "benchmarks.throughput.peers",
            name,
            "--model",
            str(model),
            "--source",
            str(source),
            "--output",
            str(output),
            "--max-length",
            str(setup.bundle.info.max_length),
            "--threads",
            str(setup.threads),
        ]

    assert name in PEERS
    return Row(name=name, title=_PEERS[name], kind="peer", precision=name.rpartition("-")[2], command=command)


def _engine_row(setup: Setup, name: str) -> Row:
    title, engine, precision = _ENGINES[name]

    def command(source: Path, output: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "benchmarks.throughput.engine_only",
            "--engine",
            engine,
            "--precision",
            precision,
            "--scorer",
            str(setup.bundle.path),
            "--source",
            str(source),
            "--output",
            str(output),
            "--threads",
            str(setup.threads),
        ]

    return Row(name=name, title=title, kind="engine", precision=precision, command=command)


def export_for(rows: list[Row], setup: Setup) -> dict[str, str]:
    """Export the checkpoint once for the peers that need it; return why rows cannot run, by name."""
    why: dict[str, str] = {}
    for kind in EXPORTS:
        needing = [row.name for row in rows if row.kind == "peer" and exported(row.name) == kind]
        if not needing:
            continue
        command = [
            sys.executable,
            "-m",
            "benchmarks.throughput.peers",
            f"export-{kind}",
            "--model",
            str(setup.checkpoint),
            "--output",
            str(setup.exports / kind),
        ]
        try:
            run(command, setup.threads)
        except FailedError as error:
            why |= dict.fromkeys(needing, f"export: {error}")
    return why


def read_scores(output: Path) -> Scores:
    """Return the scores (2,) of each id, on the scale from 0 to 10."""
    table = pq.read_table(output)
    columns = np.stack([table[head].to_numpy() for head in HEADS], axis=1).clip(0, 10)
    return dict(zip(table["id"].to_pylist(), columns, strict=True))


def agreement(reference: Scores, found: Scores, ids: list[str], bundle: Bundle) -> dict[str, Any]:
    """Return how scores differ from the reference's on these ids: correlation by head, flips and largest difference.

    Flips are the share of dialogues that change their set by the paper's rule with the bundle's cuts.
    """
    if reference.keys() != found.keys():
        raise FailedError("gave other ids than the reference")
    first, second = (np.stack([scores[key] for key in ids]).astype(np.float64) for scores in (reference, found))
    ones = np.ones(len(ids))
    return {
        "correlation": {head: correlation(first[:, i], second[:, i], ones) for i, head in enumerate(HEADS)},
        "flips": float((PAPER.apply(first, bundle.info.cuts) != PAPER.apply(second, bundle.info.cuts)).mean()),
        "largest_difference": float(np.abs(first - second).max()),
    }
