"""Measure dialogues per second end to end, this package beside its peers, on one machine in one run.

    python -m benchmarks.throughput RELEASE [--dialogues 2000] [--repeat 3] [--scorer BUNDLE --checkpoint FOLDER]
        [--only ROW,...] [--without ROW,...] [--growth 10000,100000] [--json F] [--chart F.svg]

RELEASE is a folder of the published release; its dialogues are varied until there are enough distinct ones. Every row
runs in its own process, which reads JSON lines, scores them and writes Parquet. Its seconds are those of the whole
process, including loading and compiling the model; its start-up is a run of one dialogue. Rows are interleaved: all of
them once, then all again. What cannot run is in the table with its reason.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.throughput.ceiling import flops_per_dialogue
from benchmarks.throughput.chart import draw
from benchmarks.throughput.dialogues import check_distinct, real_dialogues, varied, with_repeats, write
from benchmarks.throughput.machine import hardware, versions
from benchmarks.throughput.measure import FailedError, run, seconds_to_first_line
from benchmarks.throughput.models import RANDOM, checkpoint_of
from benchmarks.throughput.rows import (
    EMPATHY,
    NAMES,
    REFERENCE,
    REPEATS,
    Row,
    Setup,
    agreement,
    export_for,
    make_rows,
    read_scores,
)
from benchmarks.throughput.table import Result, finish, lines
from scorer.bundle.bundle import Bundle, load_bundle
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue
from scorer.engines.base import available_cores
from scorer.inputs.parse import to_messages
from scorer.outputs import replacing
from scorer.run.score_file import read_metadata


def _names(_context: click.Context, option: click.Parameter, value: str | None) -> set[str]:
    names = set(value.split(",")) if value else set()
    if unknown := names - set(NAMES):
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: expected of {', '.join(NAMES)}", param=option)
    return names


@click.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True))
@click.option("--dialogues", "count", type=click.IntRange(min=10), default=2000, show_default=True)
@click.option("--repeat", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds; medians are shown.")
@click.option("--scorer", "bundle_path", type=click.Path(path_type=Path), help="[default: the starter]")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="[default: made from the bundle's own weights]")
@click.option("--threads", type=click.IntRange(min=1), help="For every row.  [default: all cores]")
@click.option("--only", callback=_names, help=f"Rows, of {', '.join(NAMES)}.")
@click.option("--without", callback=_names, help="Rows to leave out.")
@click.option("--repeats-share", type=click.FloatRange(0, 1, max_open=True), default=0.5, show_default=True)
@click.option("--growth", help="Also measure this package on these numbers of dialogues, such as 10000,100000,1000000.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.option("--chart", type=click.Path(path_type=Path), help="A .svg or .png file.")
def main(
    release: Path,
    count: int,
    repeat: int,
    bundle_path: Path | None,
    checkpoint: Path | None,
    threads: int | None,
    only: set[str],
    without: set[str],
    repeats_share: float,
    growth: str | None,
    json_path: Path | None,
    chart: Path | None,
) -> None:
    """Print the tables; write every figure with --json and the chart with --chart."""
    bundle, threads = load_bundle(bundle_path and bundle_path.resolve()), threads or available_cores()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        real = real_dialogues(release)
        dialogues = list(varied(real, count))
        check_distinct(write(dialogues, work / "distinct.jsonl"), count)
        report = _about(bundle, checkpoint, dialogues, threads) | {"repeat": repeat, "repeats_share": repeats_share}
        write(with_repeats(dialogues, repeats_share), work / "repeats.jsonl")
        write(dialogues[:1], work / "one.jsonl")
        setup = Setup(
            bundle=bundle, checkpoint=_checkpoint(bundle, checkpoint, work), exports=work / "exports", threads=threads
        )
        rows = [row for row in make_rows(setup) if (row.name in only or not only) and row.name not in without]
        bench = _Bench(rows, setup, work, report)
        bench.measure(repeat)
        report["first_line"] = first_lines(bundle, dialogues[0], threads)
        if growth:
            report["growth"] = list(grow(real, [int(size) for size in growth.split(",")], setup, work))
    for line in lines(report):
        print(line)
    if json_path:
        with replacing(json_path) as file:
            file.write(json.dumps(report, indent=1) + "\n")
    if chart:
        draw(report, chart)


def _about(bundle: Bundle, checkpoint: Path | None, dialogues: Sequence[Dialogue], threads: int) -> dict[str, Any]:
    encoded = Encoder(bundle.tokenizer, bundle.info.max_length).encode(dialogues)
    lengths = np.array([len(one) for one in encoded], dtype=np.int64)
    path = (checkpoint or bundle.path) / "config.json"
    if not path.exists():
        raise click.ClickException(f"{path}: does not exist; it is needed to count the operations per dialogue")
    config = json.loads(path.read_bytes())
    return {
        "hardware": hardware(threads),
        "versions": versions(),
        "scorer": bundle.info.name,
        "backbone": bundle.info.backbone,
        "meaningless": bundle.info.backbone.startswith(RANDOM),
        "dialogues": len(dialogues),
        "mean_tokens": float(lengths.mean()),
        "cut": sum(one.cut for one in encoded),
        "fitting": [one.id for one, ids in zip(dialogues, encoded, strict=True) if not ids.cut],
        "flops_per_dialogue": flops_per_dialogue(config, lengths),
        "widths": [config["hidden_size"], config["intermediate_size"]],
    }


def _checkpoint(bundle: Bundle, given: Path | None, work: Path) -> Path | None:
    """Return the checkpoint that the peers load, made of the bundle's weights unless one is given."""
    if given:
        return given.resolve()
    try:
        return checkpoint_of(bundle, work / "checkpoint")
    except ModuleNotFoundError:  # then no peer that needs one is installed, and each row says so
        return None


class _Bench:
    """Runs the rows in rounds and collects their results in the report."""

    def __init__(self, rows: list[Row], setup: Setup, work: Path, report: dict[str, Any]) -> None:
        self.rows, self.setup, self.work, self.report = rows, setup, work, report
        self.results: dict[str, Result] = {
            row.name: {
                "name": row.name,
                "title": row.title,
                "kind": row.kind,
                "precision": row.precision,
                "seconds": [],
                "peak_mib": None,
            }
            for row in rows
        }
        for name, reason in export_for(rows, setup).items():
            self.results[name]["reason"] = reason

    def measure(self, repeat: int) -> None:
        """Measure all rows ``repeat`` times, and the ceiling before each round."""
        rounds = [self._round(number) for number in range(repeat)]
        for row in self.rows:
            self._try(row, self._start_up)
        fitting = self.report.pop("fitting")
        reference = read_scores(self._reference())
        for row in self.rows:
            if row.kind != "repeats":
                self._try(row, lambda row: self._agree(row, reference, fitting))
        if ceilings := [found for found in rounds if found]:
            self.report["ceiling_rounds"] = ceilings
            self.report["ceiling"] = highest = {
                precision: {shape: max(found[precision].get(shape, 0) for found in ceilings) for shape in shapes}
                for precision, shapes in ceilings[0].items()
            }
        else:
            highest = {}
        best = {precision: max(found.values()) for precision, found in highest.items()}
        self.report["rows"] = list(self.results.values())
        finish(self.report["rows"], self.report["dialogues"], self.report["flops_per_dialogue"], best)

    def _round(self, number: int) -> dict[str, dict[str, float]]:
        ceiling = self._ceiling()
        for row in self.rows:
            click.echo(f"round {number + 1}: {row.name}", err=True)
            self._try(row, self._run)
        return ceiling

    def _try(self, row: Row, act: Any) -> None:
        """Run an action on a row unless it failed before; record why it fails."""
        if "reason" not in self.results[row.name]:
            try:
                act(row)
            except FailedError as error:
                self.results[row.name]["reason"] = str(error)

    def _run(self, row: Row) -> None:
        result, output = self.results[row.name], self._output(row)
        source = self.work / ("repeats.jsonl" if row.name == REPEATS else "distinct.jsonl")
        done, seconds = row.measure(source, output, self.setup.threads)
        result["seconds"].append(seconds)
        result["peak_mib"] = max(result["peak_mib"] or 0, done.peak_mib or 0) or None
        if row.kind in ("ours", "repeats"):
            said = read_metadata(output)
            result |= {"engine": said["engine"], "precision": said["precision"]}
        if row.name == REPEATS:
            result["title"] = f"{row.title}, {self.report['repeats_share']:.0%} repeats"

    def _start_up(self, row: Row) -> None:
        if row.kind in ("ours", "peer"):
            tries = [
                row.measure(self.work / "one.jsonl", self.work / "one.parquet", self.setup.threads)[1] for _ in range(2)
            ]
            self.results[row.name]["startup_seconds"] = min(tries)

    def _agree(self, row: Row, reference: Any, ids: list[str]) -> None:
        found = read_scores(self._output(row))
        self.results[row.name]["agreement"] = agreement(reference, found, ids, self.setup.bundle)

    def _output(self, row: Row) -> Path:
        return self.work / f"{row.name}.parquet"

    def _reference(self) -> Path:
        """Return our fp32 scores, scored now if their row was not asked for."""
        row = next(row for row in make_rows(self.setup) if row.name == REFERENCE)
        if not self._output(row).exists():
            row.measure(self.work / "distinct.jsonl", self._output(row), self.setup.threads)
        return self._output(row)

    def _ceiling(self) -> dict[str, dict[str, float]]:
        hidden, inner = self.report["widths"]
        command = [
            sys.executable,
            "-m",
            "benchmarks.throughput.ceiling",
            "--threads",
            str(self.setup.threads),
            "--hidden",
            str(hidden),
            "--intermediate",
            str(inner),
        ]
        try:
            found: dict[str, dict[str, float]] = json.loads(run(command, self.setup.threads).printed)
        except FailedError as error:
            click.echo(f"no ceiling: {error}", err=True)
            return {}
        return found


def first_lines(bundle: Bundle, dialogue: Dialogue, threads: int) -> dict[str, float | str]:
    """Return for each engine the seconds from starting `empathy score -` to the first scored line, or why not."""
    messages = to_messages(dialogue.turns)
    line = json.dumps({"id": dialogue.id, "messages": messages}) + "\n"
    found: dict[str, float | str] = {}
    for engine in ("onnxruntime", "openvino", "auto"):
        command = [EMPATHY, "score", "-", "--scorer", str(bundle.path), "--engine", engine, "--threads", str(threads)]
        try:
            found[engine] = min(seconds_to_first_line(command, line, threads) for _ in range(3))
        except FailedError as error:
            found[engine] = f"not run: {error}"
    return found


def grow(real: Sequence[Dialogue], sizes: Sequence[int], setup: Setup, work: Path) -> Any:
    """Yield what `empathy score` with engine auto takes for each number of distinct dialogues."""
    row = next(row for row in make_rows(setup) if row.name == "ours-auto")
    for size in sizes:
        click.echo(f"growth: {size}", err=True)
        source, output = work / "growth.jsonl", work / "growth.parquet"
        write(varied(real, size), source)
        check_distinct(source, size)
        done, seconds = row.measure(source, output, setup.threads)
        yield {"dialogues": size, "seconds": seconds, "rate": size / seconds, "peak_mib": done.peak_mib}
        source.unlink()


if __name__ == "__main__":
    main()
