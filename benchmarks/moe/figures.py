"""The figures of ``benchmarks.moe`` over all seeds, and their table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning_curve import interval
from benchmarks.moe.plan import BASE, RANDOM
from selection.rules import PAPER

DRAWS = 2000
SHOWN = {
    "perplexity": ("perplexity", 2),
    "sensibility": ("S", 2),
    "rationality": ("R", 2),
    "kept": ("kept", 2),
    "hostile": ("hostile", 3),
    "filler": ("filler", 3),
    "dist_1": ("Dist-1", 3),
    "dist_2": ("Dist-2", 3),
    "bleu": ("BLEU", 2),
    "words": ("words", 1),
}
"""Figures of the table: heading and digits."""

Points = Sequence[Mapping[str, Any]]


def read_points(path: Path) -> list[dict[str, Any]]:
    """Return the points whose line is complete."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def summary(points: Points) -> dict[str, Any]:
    """Return each variant's figures over its seeds, and their differences from the random subset's.

    Intervals are 95 %, Student's t over seeds, of differences paired by seed. ``pooled`` is the difference of the mean
    losses per token over all seeds' dialogues, with an interval from a bootstrap over their conversations.
    """
    by_variant: dict[str, dict[int, Mapping[str, Any]]] = {}
    for point in sorted(points, key=lambda point: point["seed"]):
        by_variant.setdefault(point["variant"], {})[point["seed"]] = point
    random = by_variant.get(RANDOM, {})
    rows = {}
    for name, mine in by_variant.items():
        pool = Pool(list(mine.values()))
        common = sorted(mine.keys() & random.keys())
        rows[name] = {
            "seeds": list(mine),
            "trained_on": [point["trained_on"] for point in mine.values()],
            "steps": [point["steps"] for point in mine.values()],
            "figures": over_seeds([point["figures"] for point in mine.values()]),
            "less_random_subset": over_seeds([less(mine[seed], random[seed]) for seed in common]),
            "pooled": Pool([mine[seed] for seed in common]).difference(Pool([random[seed] for seed in common]))
            if common
            else None,
            "perplexity_by_set": {PAPER.sets[k]: pool.perplexity(only=k) for k in (0, 1)},
        }
    one_of = {point["seed"]: point for point in sorted(points, key=lambda point: point["seed"])}  # any has the same
    return {
        "held_out": {seed: len(point["losses"]) for seed, point in one_of.items()},
        "notes": [f"seed {seed}: {point['note']}" for seed, point in one_of.items()],
        "rows": rows,
        "reference": over_seeds([point["reference"] for point in by_variant.get(BASE, {}).values()]),
    }


def less(mine: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the differences of two points' figures, None where one has none."""
    found = {}
    for name, value in mine["figures"].items():
        against = other["figures"].get(name)
        found[name] = None if value is None or against is None else value - against
    return found


def over_seeds(figures: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Return the mean of each figure that all seeds have, half the width of its interval (None of one), each seed's."""
    found: dict[str, dict[str, Any]] = {}
    for name in figures[0] if figures else ():
        values = [one.get(name) for one in figures]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            found[name] = {
                "mean": float(np.mean(known)),
                "plus_minus": interval(known) if len(known) > 1 else None,
                "by_seed": known,
            }
    return found


class Pool:
    """The points of one variant over several seeds, as arrays with one value per held-out dialogue."""

    def __init__(self, points: Points) -> None:
        """Concatenate them; conversations of different folds are always different."""
        self.losses = np.concatenate([np.array(point["losses"]) for point in points])
        self.tokens = np.concatenate([np.array(point["tokens"], dtype=float) for point in points])
        self.sets = np.concatenate([np.array(point["sets"]) for point in points])
        names = [name for point in points for name in point["conversations"]]
        self.groups = np.unique(np.asarray(names), return_inverse=True)[1]

    def perplexity(self, only: int) -> float | None:
        """Return the perplexity of the dialogues of set ``only``, None if there is none."""
        rows = self.sets == only
        return float(np.exp(self.losses[rows].sum() / self.tokens[rows].sum())) if rows.any() else None

    def difference(self, other: Pool) -> dict[str, Any]:
        """Return the difference of the mean losses per token, and its interval."""
        away = self.losses - other.losses
        count = int(self.groups.max()) + 1
        sums = np.stack([np.bincount(self.groups, weights=values, minlength=count) for values in (away, self.tokens)])
        drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=DRAWS) @ sums.T
        low, high = np.percentile(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12), [2.5, 97.5]).tolist()
        return {"value": float(away.sum() / self.tokens.sum()), "interval_95": [low, high]}


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables as Markdown: the figures, and how far each lies from the random subset's."""
    held_out = report["held_out"]
    yield f"{len(held_out)} seeds, {sum(held_out.values())} held-out dialogues in total; mean ± 95 % (Student's t)"
    yield from report["notes"]
    yield ""
    yield from _table(report, "figures", ["dialogues", "steps"], _counts)
    if report["reference"]:
        yield "| in the data | - | - | " + " | ".join(_cells(report["reference"])) + " |"
    yield ""
    yield "less the random subset's, paired by seed; log perplexity over all dialogues, bootstrap over conversations:"
    yield ""
    yield from _table(report, "less_random_subset", ["log perplexity"], _pooled)


def _table(report: Mapping[str, Any], key: str, before: Sequence[str], first: Any) -> Iterator[str]:
    headings = ["variant", *before, *(heading for heading, _ in SHOWN.values())]
    yield f"| {' | '.join(headings)} |"
    yield "|" + "---|" * len(headings)
    for name, row in report["rows"].items():
        yield f"| {' | '.join([name, *first(row), *_cells(row[key])])} |"


def _counts(row: Mapping[str, Any]) -> list[str]:
    return [", ".join(str(value) for value in row[key] if value) or "-" for key in ("trained_on", "steps")]


def _pooled(row: Mapping[str, Any]) -> list[str]:
    if row["pooled"] is None:
        return ["-"]
    low, high = row["pooled"]["interval_95"]
    return [f"{row['pooled']['value']:.4f} [{low:.4f}, {high:.4f}]"]


def _cells(figures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    cells = []
    for name, (_, digits) in SHOWN.items():
        found = figures.get(name)
        cells.append("-" if found is None else f"{found['mean']:.{digits}f}")
        if found is not None and found["plus_minus"] is not None:
            cells[-1] += f" ± {found['plus_minus']:.{digits}f}"
    return cells
