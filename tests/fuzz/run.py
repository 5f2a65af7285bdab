"""Read mutants in a process of its own, which may die or hang, and say what came of each."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np

from scorer.errors import EmpathyError
from tests.fuzz.kinds import Kind

MODULES = ("tests.fuzz.scoring", "tests.fuzz.learning")
"""Where the kinds of files are; the second needs torch."""

SECONDS = 30
"""A mutant that takes longer hangs."""

Outcome = tuple[str, str]
"""``refused``, ``accepted`` or ``fault``, and what was said."""


@dataclass(slots=True)
class Report:
    """What came of the mutants: counts by kind and outcome, and of each kind of fault the first mutant and how many."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def add(self, kind: str, number: int, outcome: Outcome) -> None:
        """Count an outcome."""
        self.counts[kind, outcome[0]] += 1
        if outcome[0] == "fault":
            self.faults.setdefault((kind, outcome[1]), []).append(number)

    def total(self, outcome: str) -> int:
        """Return how many mutants ended so."""
        return sum(count for (_, how), count in self.counts.items() if how == outcome)

    def lines(self) -> list[str]:
        """Return a table as text: a line per kind, the totals, and the faults."""
        kinds = sorted({kind for kind, _ in self.counts})
        outcomes = ("refused", "accepted", "fault")
        rows = [f"{'file':40}" + "".join(f"{name:>10}" for name in outcomes)]
        rows += [f"{kind:40}" + "".join(f"{self.counts[kind, name]:10}" for name in outcomes) for kind in kinds]
        rows.append(f"{'all':40}" + "".join(f"{self.total(name):10}" for name in outcomes))
        return rows + [
            f"{kind}: {what} ({len(numbers)} times, first {numbers[0]})"
            for (kind, what), numbers in sorted(self.faults.items())
        ]


def spread(kinds: Sequence[Kind]) -> list[Kind]:
    """Return the kinds, each as often as its weight: mutant n is of the kind at n modulo their number."""
    return [kind for kind in kinds for _ in range(kind.weight)]


def fuzz(module: str, numbers: Sequence[int], seed: int = 0) -> Report:
    """Read the mutants of these numbers of the kinds in ``module``; the same numbers and seed are the same mutants."""
    report = Report()
    context = multiprocessing.get_context("spawn")
    todo = list(numbers)
    with tempfile.TemporaryDirectory() as folder:
        while todo:
            here, there = context.Pipe()
            child = context.Process(target=_serve, args=(module, Path(folder), todo, seed, there), daemon=True)
            child.start()
            there.close()
            _listen(here, child, todo, report)
    return report


def _listen(here: Connection, child: SpawnProcess, todo: list[int], report: Report) -> None:
    """Take what a child says until it ends; the mutant at which it died or hung is a fault, and is left out next."""
    seconds, kind = 120.0, "start"  # the first takes longer: the good files are made
    while todo:
        number = todo[0]
        try:
            if not here.poll(seconds):
                child.kill()
                outcome = ("fault", f"hangs for {seconds:g} s")
            else:
                message = here.recv()
                if len(message) == 1:
                    kind, seconds = message[0], SECONDS
                    continue
                outcome = message
        except EOFError:
            child.join()
            outcome = ("fault", f"the process died ({child.exitcode})")
        if kind == "start":
            raise RuntimeError(f"the good files could not be made: {outcome}")
        todo.pop(0)
        report.add(kind, number, outcome)
        if "hangs" in outcome[1] or "died" in outcome[1]:
            return
    child.join()


def _serve(module: str, folder: Path, numbers: Sequence[int], seed: int, there: Connection) -> None:
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    warnings.simplefilter("ignore")
    known = import_module(module)
    good = folder / module
    if not good.exists():
        good.mkdir()
        known.make(good)
        for kind in known.KINDS:
            outcome = read_mutant(replace(kind, mutate=lambda data, _: data), good, folder / "mutant", 0, seed)
            assert outcome == ("accepted", ""), (kind.name, outcome)
    kinds = spread(known.KINDS)
    for number in numbers:
        kind = kinds[number % len(kinds)]
        there.send((kind.name,))
        there.send(read_mutant(kind, good, folder / "mutant", number, seed))
    there.close()


def read_mutant(kind: Kind, good: Path, place: Path, number: int, seed: int) -> Outcome:
    """Damage one file in a copy of the good files, read it, and return what came of it."""
    shutil.rmtree(place, ignore_errors=True)
    top = Path(kind.name).parts[0]
    for entry in good.iterdir():
        if entry.name == top or entry.name.startswith((top.split(".")[0], *kind.needs)):
            (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, _made(place) / entry.name)
    rng = np.random.default_rng([seed, number])
    data = (good / kind.name).read_bytes()
    (place / kind.name).write_bytes(kind.mutate(data, rng))
    try:
        found = list(kind.read(place))
    except EmpathyError as error:
        return _said(str(error), kind, place)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
        return "fault", f"{type(error).__name__} at {_where(error)}: {' '.join(str(error).split())[:80]}"
    return ("fault", f"accepts {found[0]}") if found else ("accepted", "")


def _made(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    return place


def _said(text: str, kind: Kind, place: Path) -> Outcome:
    """Return whether a refusal is one line of printable characters that names the file, or the folder it lies in."""
    top = str(place / Path(kind.name).parts[0]).removesuffix(".meta.json").removesuffix(".partial")
    if len(text.splitlines()) != 1 or not text.isprintable():
        return "fault", f"refused in more than a line, or with characters that do not print: {text[-150:]!a}"
    if top not in text:
        return "fault", f"refused without the file's name: {text[:80]!a}"
    return "refused", text


def _where(error: BaseException) -> str:
    """Return the last place in this project that an exception came through."""
    root = str(Path(__file__).parents[2])
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(root)]
    last = [frame for frame in frames if "/tests/" not in frame.filename] or frames
    return f"{Path(last[-1].filename).relative_to(root)}:{last[-1].lineno}"
