"""Kill every command that writes, again and again, repeat it, and compare with what it leaves undisturbed.

    python -m benchmarks.kill_commands [--kills 500] [--only distill,train] [--seed 0] [--json FILE]

Everything is tiny and made here: a scorer, an encoder, a causal model, dialogues, and a judge on loopback. Each command
runs in a process of its own, forked from one that has the packages loaded, so that kills (SIGKILL) hit its work and not
its imports. A round begins with no output; attempts are killed at moments drawn uniformly from a whole run's time until
one comes to its end. Then all files that it left are compared with those of a run that nobody killed: bytes, rows of
Parquet, JSON without times and money. Exit code 1 if anything differs, if an attempt fails by itself, if more questions
were asked again than were in flight at the kills, or if the account of `distill` holds less than the judge billed.

It forks, so it needs POSIX.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

import click
import pyarrow.parquet as pq

from scorer.cli.main import EXIT_ERROR
from scorer.outputs import MANIFESTS
from tests.distill.judge.judge_server import judge_server

_LOADED = (
    "distill.cli.distill",
    "distill.cli.label",
    "distill.cli.train",
    "distill.loop",
    "distill.training.trainer",
    "moe.cli.moe",
    "moe.cli.run",
    "moe.pipeline",
    "moe.training.router",
    "openai",
    "peft",
    "scorer.cli.score",
    "scorer.engines.onnxruntime",
    "selection.cli.select",
    "selection.select",
    "sklearn.linear_model",
    "torch",
    "transformers.trainer",
)
_VOLATILE = {
    "checkpoint_sha256",
    "empathy.json",
    "seconds",
    "begun",
    "created",
    "usd",
    "cost_usd",
    "account",
    "received",
    "rate",
    "when",
    "time",
    "memory",
}
"""Keys of JSON that differ between two undisturbed runs: times, the hashes of files with times, and money."""
_IN_FLIGHT = 4
_PRICES = (1, 2)  # USD per million tokens
_MOST_SECONDS = 120.0


WORKS: dict[str, tuple[int, str]] = {
    "score": (26, "score in.jsonl -o out --scorer tiny --window 256 --resume"),
    "select": (14, "select in.jsonl --scores scores.parquet -o out --overwrite"),
    "label": (16, "label some.jsonl -o out.jsonl --overwrite --store out.sqlite"),
    "train": (14, "train labels.jsonl -o out --backbone encoder --epochs 3 --folds 2 --max-length 64 --resume"),
    "moe expert": (10, "moe expert sensibility.jsonl -o out --base base --epochs 3 --batch-size 4 --resume"),
    "moe generate": (8, "moe generate base few.jsonl -o out.jsonl --max-new-tokens 8"),
    "distill": (
        12,
        "distill some.jsonl -o out --store out.sqlite --backbone encoder --epochs 1 --max-length 64 --check 20 "
        "--step 60 --rounds 2 --min-gain -2 --strategy random",
    ),
    "run": (
        4,
        "run sets.jsonl -o out --scorer tiny --base base --batch-size 4 --max-new-tokens 4 --evaluate-on 8 "
        "--max-length 96",
    ),
}
"""By name a command's share of the kills, and its arguments, by which it is begun and continued."""


@dataclass(slots=True)
class Tally:
    """What came of a command: kills, rounds that came to their end, what differed."""

    kills: int = 0
    rounds: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("--only", help="Names of commands, with a comma between them.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the moments.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Where the figures go.")
def main(kills: int, only: str | None, seed: int, output: Path | None) -> None:
    """Kill, repeat and compare; print the figures by command."""
    names = only.split(",") if only else list(WORKS)
    shares = {name: WORKS[name][0] for name in names}
    for module in _LOADED:
        importlib.import_module(module)
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory() as folder, judge_server(latency=0.02) as server:
        work = Path(folder)
        _in_a_fork(work, lambda: make_inputs(work), work / "made.log")
        for name in names:
            count = -(-kills * shares[name] // sum(shares.values()))
            count = min(count, kills - sum(tally.kills for tally in tallies.values()))
            tallies[name] = Killer(name, work, server.url, random.Random(f"{seed} {name}")).run(count)
            print(_line(name, tallies[name]), flush=True)
    total = sum(tally.kills for tally in tallies.values())
    faults = [f"{name}: {fault}" for name, tally in tallies.items() for fault in tally.faults]
    print(f"{total} kills, {len(faults)} faults")
    if output is not None:
        found = {
            name: {"kills": tally.kills, "rounds": tally.rounds, "faults": tally.faults}
            for name, tally in tallies.items()
        }
        output.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(1 if faults else 0)


def _line(name: str, tally: Tally) -> str:
    return (
        f"{name:14s} {tally.kills:4d} kills in {tally.rounds:3d} rounds, {tally.seconds:.1f} s undisturbed, "
        f"{len(tally.faults)} faults"
    )


class Killer:
    """One command, in folders of its own that hold the inputs under the same names."""

    def __init__(self, name: str, work: Path, judge: str, chance: random.Random) -> None:
        """Take where the inputs lie, and the judge's URL."""
        self._name, self._work, self._judge, self._chance = name, work, judge, chance
        self._log = work / f"{name.replace(' ', '-')}.log"
        more = ["--model", "judge-1", "--base-url", judge, "--concurrency", str(_IN_FLIGHT)]
        more += ["--price-in", str(_PRICES[0]), "--price-out", str(_PRICES[1])]
        self._arguments = [*WORKS[name][1].split(), "--quiet", *(more if name in {"label", "distill"} else [])]

    def run(self, kills: int) -> Tally:
        """Kill so often, in as many rounds as that takes."""
        tally = Tally()
        began = time.monotonic()
        if (status := self._attempt(self._place("whole"))) != 0:
            tally.faults.append(f"exit status {status} without a kill: {self._said()}")
            return tally
        tally.seconds = time.monotonic() - began
        whole, asked = self._found("whole"), self._stats()["requests"]
        while tally.kills < kills and len(tally.faults) < 20:
            place, kills_before, before = self._place("killed"), tally.kills, self._stats()
            status = None
            while status is None:
                wait = self._chance.uniform(0, tally.seconds) if tally.kills < kills else _MOST_SECONDS
                status = self._attempt(place, wait)
                tally.kills += status is None
            tally.rounds += 1
            came = tally.kills - kills_before
            faults = differences(whole, self._found("killed"))
            if status == EXIT_ERROR and "exists already" in self._said():  # it was killed after it had ended
                status = 0
            if status != 0:
                faults = [f"exit status {status}: {self._said()}"]
            now = {name: count - before[name] for name, count in self._stats().items()}
            if now["requests"] > asked + _IN_FLIGHT * came:
                faults.append(f"the judge was asked {now['requests'] - asked} questions again")
            if (state := place / "out" / "distill.json").exists():
                account, billed = json.loads(state.read_text())["account"], _billed(now)
                if sum(account.values()) < billed - 1e-9:
                    faults.append(f"the account holds {account} and the judge billed {billed:.6f}")
            tally.faults += [f"round {tally.rounds}, after {came} kills: {fault}" for fault in faults]
            for fault in faults:
                print(f"FAULT: {self._name}, round {tally.rounds}, after {came} kills: {fault}", flush=True)
        return tally

    def _stats(self) -> dict[str, int]:
        """What the judge was asked so far, and the tokens that it billed."""
        with urllib.request.urlopen(self._judge.removesuffix("/v1") + "/stats", timeout=60) as answer:
            stats = json.load(answer)
        return {name: int(stats[name]) for name in ("requests", "prompt_tokens", "completion_tokens")}

    def _place(self, name: str) -> Path:
        """Return a fresh folder of this name with all inputs in it."""
        place = self._work / "places" / self._name.replace(" ", "-") / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for made in (self._work / "inputs").iterdir():
            (place / made.name).symlink_to(made)
        return place

    def _found(self, name: str) -> dict[str, Any]:
        place = self._work / "places" / self._name.replace(" ", "-") / name
        left = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
        return {
            str(path.relative_to(place)): content(path)
            for path in left
            if not any(part.endswith((".sqlite", ".lock", ".sqlite-wal", ".sqlite-shm")) for part in path.parts)
        }

    def _attempt(self, place: Path, seconds: float = _MOST_SECONDS) -> int | None:
        """Run the command for so long at most; None if it was killed then."""

        def command() -> None:
            from scorer.cli.main import run

            sys.argv = ["empathy", *self._arguments]
            run()

        return _in_a_fork(place, command, self._log, seconds)

    def _said(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").strip().splitlines()[-3:])[-600:]


def _billed(counts: dict[str, int]) -> float:
    return (counts["prompt_tokens"] * _PRICES[0] + counts["completion_tokens"] * _PRICES[1]) / 1e6


def _in_a_fork(place: Path, call: Callable[[], None], log: Path, seconds: float = _MOST_SECONDS) -> int | None:
    """Call something in a process of its own that is killed after so many seconds; None then, else its exit status."""
    child = os.fork()
    if child == 0:
        _child(place, call, log)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if seconds >= _MOST_SECONDS:
        raise click.ClickException(f"{log}: took more than {_MOST_SECONDS:g} s")
    return None


def _child(place: Path, call: Callable[[], None], log: Path) -> NoReturn:
    code = 1
    try:
        os.chdir(place)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        call()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - its parent reads the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def content(path: Path) -> Any:
    """Return what a file holds, without times and money."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table.to_pydict(), {name: _plain(value) for name, value in (table.schema.metadata or {}).items()}
    if fnmatch(path.name, MANIFESTS):  # in the order in which windows were finished, the last line of each kill torn
        return sorted({line for line in path.read_bytes().splitlines() if isinstance(_plain(line), dict)})
    if path.suffix in {".json", ".jsonl"}:
        return [
            _plain(line)
            for line in (path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()])
        ]
    return path.read_bytes()


def _plain(text: bytes) -> Any:
    try:
        return _without(json.loads(text))
    except ValueError:
        return text


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner) for name, inner in value.items() if name not in _VOLATILE}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def differences(whole: dict[str, Any], killed: dict[str, Any]) -> list[str]:
    """Return how two runs' files differ, one line per file."""
    faults = [f"{name} is missing" for name in sorted(whole.keys() - killed.keys())]
    faults += [f"{name} is left over" for name in sorted(killed.keys() - whole.keys())]
    for name in sorted(whole.keys() & killed.keys()):
        if whole[name] != killed[name]:
            faults.append(f"{name} differs{_where(whole[name], killed[name])}")
    return faults


def _where(one: Any, other: Any) -> str:
    """Return the first place at which two JSON values differ, as a path."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in [*one, *other]:
            if one.get(name) != other.get(name):
                return f" .{name}{_where(one.get(name), other.get(name))}"
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        for number, (first, second) in enumerate(zip(one, other, strict=False)):
            if first != second:
                return f" [{number}]{_where(first, second)}"
        return f" in length ({len(one)}, {len(other)})"
    return "" if isinstance(one, bytes) else f": {one!r:.60} and {other!r:.60}"


def make_inputs(work: Path) -> None:
    """Write all inputs; in a process of its own, since what it loads should not be forked."""
    import numpy as np

    from scorer.inputs.corpus import Corpus
    from scorer.model import Scorer
    from scorer.run.score import score_files
    from tests.conftest import WORDS, record, write_lines, write_tiny_bundle
    from tests.distill.judge.labelling import dialogues_file
    from tests.distill.tiny import labelled_file, write_backbone
    from tests.moe.conftest import write_base, write_sets

    folder = work / "inputs"
    folder.mkdir()
    chance = np.random.default_rng(0)

    def talk(number: int, words: int) -> dict[str, Any]:
        question, answer = (" ".join(chance.choice(WORDS, words)) for _ in range(2))
        return record(f"{question} number {number}", answer, id=f"n{number}") if number % 97 else {"id": "bad"}

    write_tiny_bundle(folder / "tiny")
    write_backbone(folder / "encoder")
    write_base(folder / "base", max_position_embeddings=2048)
    write_sets(folder, 32)
    labelled_file(folder / "labels.jsonl", 120)
    dialogues_file(folder / "some.jsonl", 250)
    write_lines(folder / "in.jsonl", [talk(number, 12) for number in range(12_000)])
    write_lines(folder / "few.jsonl", [talk(number, 4) for number in range(1, 60)])
    write_lines(folder / "sets.jsonl", [talk(number, 3) for number in range(1, 400)])
    corpus = Corpus([str(folder / "in.jsonl")])
    score_files(Scorer.load(folder / "tiny"), corpus, folder / "scores.parquet")


if __name__ == "__main__":
    main()
