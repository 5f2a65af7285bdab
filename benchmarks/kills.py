"""Kill a scoring run again and again, resume it, and compare the result with an undisturbed run.

    python -m benchmarks.kills RELEASE [--dialogues 200000] [--kills 50] [--scorer BUNDLE] [--seed 0]

The dialogues are the published release's, varied until there are enough, with some records that are rejected. Each run
is `empathy score ... --resume` in its own process and counts in a file what it scored, so that after a `kill -9` it is
known how much the manifest lost. Exit code 1 if the killed run's ids, scores (bit for bit), metadata or rejects differ,
if a kill cost more than one window, or if the run ended before the last kill.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.throughput.dialogues import real_dialogues, varied, write
from scorer.run.manifest import NAME as MANIFEST
from scorer.run.parts import REJECTS

_REJECTED_EVERY = 997

# The command itself, except that each scored batch is first counted in a file.
_COUNTED = """
import os, sys
from scorer.cli.main import run
from scorer.run.estimate import Estimate

counter = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
scored = Estimate.scored

def counted(self, rows, tokens):
    os.write(counter, b"%d\\n" % rows)
    scored(self, rows, tokens)

Estimate.scored = counted
run()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One run of scoring: its input, its output folder and its options."""

    source: Path
    output: Path
    options: Sequence[str]

    @property
    def counter(self) -> Path:
        """The file of the rows that its processes scored."""
        return self.output.with_name(f"{self.output.name}.counted")

    def start(self) -> subprocess.Popen[bytes]:
        """Start a process that begins or resumes the run."""
        command = [sys.executable, "-c", _COUNTED, str(self.counter), "score", str(self.source), "-o", str(self.output)]
        return subprocess.Popen([*command, "--resume", "--quiet", *self.options])

    def scored(self) -> int:
        """Return how many rows all its processes scored."""
        return sum(map(int, self.counter.read_text().split())) if self.counter.exists() else 0

    def kept(self) -> int:
        """Return how many rows the manifest holds; an incomplete last line does not count."""
        manifest = self.output / MANIFEST
        whole = manifest.read_bytes().split(b"\n")[:-1] if manifest.exists() else []
        return sum(entry["tally"]["scored"] for entry in map(json.loads, whole) if "tally" in entry)

    def table(self) -> pa.Table:
        """Return its scores, row by row, with their metadata."""
        return pa.concat_tables(pq.read_table(path) for path in sorted(self.output.glob("*.parquet")))


@click.command()
@click.argument("release", type=click.Path(path_type=Path, exists=True))
@click.option("--dialogues", "count", type=click.IntRange(min=1), default=200_000, show_default=True)
@click.option("--kills", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--scorer", "bundle", type=click.Path(path_type=Path), help="[default: the starter]")
@click.option("--engine", default="auto", show_default=True)
@click.option("--window", type=click.IntRange(min=1), default=1024, show_default=True, help="Records per shard.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the times of the kills.")
def main(release: Path, count: int, kills: int, bundle: Path | None, engine: str, window: int, seed: int) -> None:
    """Kill, resume and compare; print what each kill cost."""
    options = ["--engine", engine, "--window", str(window), *(["--scorer", str(bundle)] if bundle else [])]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        source = write_input(release, work, count)
        whole = Score(source=source, output=work / "whole", options=options)
        began = time.monotonic()
        finish(whole)
        seconds = time.monotonic() - began
        print(f"{count:,} dialogues in windows of {window:,}: {seconds:.1f} s without a kill", flush=True)
        killed = Score(source=source, output=work / "killed", options=options)
        repeated = kill_often(killed, kills, seconds, random.Random(seed))
        finish(killed)
        faults = differences(whole, killed)
        if max(repeated) > window:
            faults.append(f"a kill cost {max(repeated)} rows, expected at most a window of {window}")
        again = killed.scored() - whole.scored()
        if again != sum(repeated):
            faults.append(f"{again} rows were scored again in total, expected {sum(repeated)}, the cost of the kills")
    print(f"{kills} kills cost {again:,} rows, {again / kills:.0f} each, {max(repeated)} at most")
    for fault in faults:
        print(f"FAULT: {fault}")
    if faults:
        sys.exit(1)
    print("ids, scores, metadata and rejects are identical to those of the undisturbed run, bit for bit")


def write_input(release: Path, work: Path, count: int) -> Path:
    """Write the dialogues; a record that is rejected follows the first and then every 997th."""
    good = write(varied(real_dialogues(release), count), work / "good.jsonl")
    source = work / "in.jsonl"
    with open(good, encoding="utf-8") as lines, open(source, "w", encoding="utf-8") as file:
        for number, line in enumerate(lines, start=1):
            file.write(line)
            if number % _REJECTED_EVERY == 1:
                file.write(json.dumps({"id": f"bad-{number}", "messages": []}) + "\n")
    good.unlink()
    return source


def finish(score: Score) -> None:
    """Score to the end; ClickException if that fails."""
    if status := score.start().wait():
        raise click.ClickException(f"{score.output.name}: exit status {status}")


def kill_often(score: Score, kills: int, whole_seconds: float, rng: random.Random) -> list[int]:
    """Kill a run ``kills`` times at random moments, start-up included; return the rows that each kill cost.

    Each moment is uniform between 0 and the start-up plus nearly twice the run's remaining seconds divided by the
    remaining kills, so that the kills are spread over the run. ClickException if it ends before the last.
    """
    startup = startup_seconds(score)
    with open(score.source, "rb") as file:
        records = sum(1 for _ in file)
    costs = []
    for left in range(kills, 0, -1):
        scored, kept = score.scored(), score.kept()
        wait = rng.uniform(0, startup + 1.8 * (whole_seconds - startup) * (1 - kept / records) / (left + 1))
        process = score.start()
        try:
            process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        else:
            raise click.ClickException(f"it ended {left} kills early; give another --seed or more --dialogues")
        costs.append(score.scored() - scored - (score.kept() - kept))
        print(f"kill {len(costs)} after {wait:.2f} s: {score.kept():,} rows kept, {costs[-1]} lost", flush=True)
    return costs


def startup_seconds(score: Score) -> float:
    """Return the seconds of a run of one dialogue."""
    one = Score(source=score.source.with_name("one.jsonl"), output=score.source.with_name("one"), options=score.options)
    with open(score.source, "rb") as file:
        one.source.write_bytes(file.readline())
    began = time.monotonic()
    finish(one)
    return time.monotonic() - began


def differences(whole: Score, killed: Score) -> list[str]:
    """Return how two runs' outputs differ: an empty list if the kills lost and changed nothing."""
    faults = []
    first, second = whole.table(), killed.table()
    if first["id"].to_pylist() != second["id"].to_pylist():
        faults.append("the ids differ")
    for name in first.column_names[1:]:
        if first[name].to_numpy().tobytes() != second[name].to_numpy().tobytes():
            faults.append(f"the scores of {name} differ")
    if first.schema.metadata != second.schema.metadata:
        faults.append("the metadata differ")
    if (whole.output / REJECTS).read_bytes() != (killed.output / REJECTS).read_bytes():
        faults.append("the rejects differ")
    if {path.name for path in whole.output.iterdir()} != {path.name for path in killed.output.iterdir()}:
        faults.append("the files of the folder differ")
    return faults


if __name__ == "__main__":
    main()
