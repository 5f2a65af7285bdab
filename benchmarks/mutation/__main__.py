"""Change the modules that everything rests on, one small fault at a time, and count the faults that no test sees.

    python -m benchmarks.mutation [--sample 40] [--only PART]... [--seed 0] [--json FILE] [--least 90]

Works in a copy of the tree in a temporary folder. For each module it runs its own test files, the fastest first, until
the first failure; a mutant on which they take too long counts as killed. Survivors are shown with what was changed.
Those in ``equivalent.json``, which no test could tell from the module, count neither way. Exit code 1 if fewer than
``--least`` percent of the others were killed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.mutation.mutants import Mutant, mutants_of
from benchmarks.mutation.targets import TARGETS, Target

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.json")
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.pyc", "node_modules")


@dataclass(slots=True)
class Result:
    """What became of a module's mutants: ``made`` of ``possible``, and the number of each outcome."""

    module: str
    possible: int
    made: int = 0
    killed: int = 0
    timeouts: int = 0
    equivalent: int = 0
    survivors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """The share killed of those that a test could kill."""
        return self.killed / max(1, self.made - self.equivalent)


@click.command()
@click.option("--sample", type=click.IntRange(min=1), help="So many mutants of each module, at random.  [default: all]")
@click.option("--only", multiple=True, help="Only modules whose path holds this.")
@click.option("--seed", default=0, show_default=True, help="The seed of the sample.")
@click.option("--patience", default=4.0, show_default=True, help="Time limit, in durations of the unchanged tests.")
@click.option("--least", default=90.0, show_default=True, help="Percent that must be killed.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures here too.")
def main(
    sample: int | None, only: Sequence[str], seed: int, patience: float, least: float, output: Path | None
) -> None:
    """Make mutants, run the tests of their modules, and print who survived."""
    known = json.loads(EQUIVALENT.read_text())
    results = []
    for target in TARGETS:
        if only and not any(part in target.module for part in only):
            continue
        result = run_target(ROOT, target, known.get(target.module, {}), sample=sample, seed=seed, patience=patience)
        results.append(result)
        print(f"{row(result)}", flush=True)
        for survivor in result.survivors:
            print(f"    {survivor}", flush=True)
        if output:
            output.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    total = summed(results)
    print(f"{row(total)}\nin {total.seconds / 60:.0f} minutes")
    sys.exit(100 * total.share < least)


def row(result: Result) -> str:
    """Return a result as a line."""
    return (
        f"{result.module}: {result.made} of {result.possible} mutants, {result.killed} killed "
        f"({result.timeouts} by the time limit), {len(result.survivors)} survived, {result.equivalent} equivalent: "
        f"{result.share:.1%}"
    )


def summed(results: Sequence[Result]) -> Result:
    """Return the sum of results."""
    total = Result("all", 0)
    for one in results:
        for name in ("possible", "made", "killed", "timeouts", "equivalent", "survivors", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def run_target(
    root: Path,
    target: Target,
    equivalent: Mapping[str, str],
    *,
    sample: int | None = None,
    seed: int = 0,
    patience: float = 4.0,
    least: float = 10.0,
) -> Result:
    """Return what became of a module's mutants; ClickException where its tests fail on the module as it is.

    ``equivalent`` gives a reason for each change that no test could see. A mutant has ``least`` seconds, and
    ``patience`` times those of the unchanged tests.
    """
    if not target.tests(root):
        raise click.ClickException(f"{target.module}: has no test file of its own")
    every = mutants_of((root / target.module).read_text())
    result = Result(target.module, len(every))
    chosen = drawn(every, sample, random.Random(f"{seed} {target.module}"))
    judged = [mutant for mutant in chosen if mutant.change not in equivalent]
    result.made, result.equivalent = len(chosen), len(chosen) - len(judged)
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        copy = shutil.copytree(root, Path(name) / "tree", ignore=_LEFT_OUT)
        for mutant, said in zip(judged, outcomes(copy, target, judged, patience, least), strict=True):
            result.seconds += said["seconds"]
            if said["outcome"] == "survived":
                result.survivors.append(f"{mutant.line}: {mutant.change}")
            else:
                result.killed += 1
                result.timeouts += said["outcome"] == "timeout"
    return result


def drawn(mutants: Sequence[Mutant], sample: int | None, chance: random.Random) -> list[Mutant]:
    """Return a sample, in the order of the lines."""
    if sample is None or sample >= len(mutants):
        return list(mutants)
    return [mutants[place] for place in sorted(chance.sample(range(len(mutants)), sample))]


def outcomes(
    copy: Path, target: Target, mutants: Sequence[Mutant], patience: float, least: float
) -> Iterator[dict[str, Any]]:
    """Yield what the worker says of each mutant."""
    task = {
        "root": str(copy),
        "module": target.module,
        "tests": target.tests(copy),
        "mutants": [mutant.source for mutant in mutants],
        "patience": patience,
        "least": least,
    }
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(Path(__file__).with_name("worker.py"))]
    with tempfile.TemporaryFile("w+") as given:
        json.dump(task, given)
        given.seek(0)
        with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, text=True, env=environment) as worker:
            assert worker.stdout
            first = json.loads(worker.stdout.readline() or "{}")
            if "seconds" not in first:
                raise click.ClickException(
                    f"{target.module}: {first.get('broken')} fails as it is\n{first.get('said')}"
                )
            for line in worker.stdout:
                yield json.loads(line)


if __name__ == "__main__":
    main()
