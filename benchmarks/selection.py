"""How good a selection from distilled scores is: its sets against the judge's, its doubt, and the gain from asking.

    python -m benchmarks.selection LABELS --oof CHECKPOINT/oof.parquet [--against OTHER/oof.parquet] [--json FILE]

LABELS is any labelled input (the published release), oof.parquet the out-of-fold scores of `empathy train --folds`, so
that no score comes from a model that saw its label. Cuts and error of each fold come from the other folds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from benchmarks.about import machine, versions
from distill.training.calibrate import cross_levels, fit_uncertainty, other_folds
from scorer.dialogue import HEADS
from scorer.inputs.corpus import id_hash
from scorer.run.score_table import read_columns
from selection.deciding.stability import (
    borderline,
    change_between,
    deviations,
    first_chance,
    most_doubtful,
    under_error,
)
from selection.files.labels import LabelTable, read_labels
from selection.metrics import Pair, all_figures, counts
from selection.rules import RULES

ASKED = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
RANDOM_DRAWS = 20

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@click.command()
@click.argument("labels", nargs=-1, required=True)
@click.option("--oof", type=click.Path(path_type=Path), required=True, help="Out-of-fold scores of these labels.")
@click.option("--against", type=click.Path(path_type=Path), help="Another checkpoint's scores, to compare the sets.")
@click.option("--threshold", default=5.0, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(labels: tuple[str, ...], oof: Path, against: Path | None, threshold: float, json_path: Path | None) -> None:
    """Print the tables, and write every figure with ``--json``."""
    table = read_labels(labels)
    found = Found(table, oof, threshold)
    report: dict[str, Any] = {
        "machine": machine(),
        "versions": versions("numpy"),
        "dialogues": len(found.judge_sets),
        "threshold": threshold,
        "sets": set_table(found),
        "agreement": agreement(found),
        "doubt": doubt(found),
        "asking": asking(found),
    }
    if against:
        report["another_checkpoint"] = difference(found, Found(table, against, threshold))
    for line in lines(report):
        print(line)
    if json_path:
        json_path.write_text(json.dumps(report, indent=1) + "\n")


class Found:
    """Judge and scorer on the same dialogues: scores, cross-fitted levels, deviations and sets of the paper's rule."""

    def __init__(self, labels: LabelTable, oof: Path, threshold: float) -> None:
        """Match by id."""
        scores = read_columns(oof)
        self.hashes = np.fromiter(map(id_hash, scores["id"]), dtype=np.uint64)
        rows = labels.rows_of(self.hashes)
        mine = np.flatnonzero(rows >= 0)
        if len(mine) < len(labels):
            raise click.ClickException(f"{oof}: scores {len(mine)} of {len(labels)} labelled dialogues, expected all")
        self.hashes, rows = self.hashes[mine], rows[mine]
        self.labels = labels.scores[rows].astype(np.float64)
        self.scores = np.stack([scores[head] for head in HEADS], axis=1)[mine].astype(np.float64)
        folds = scores["fold"][mine]
        self.levels = cross_levels(self.scores, self.labels, folds)
        self.deviation = np.zeros_like(self.scores)
        for others, fold in other_folds(folds):
            error = fit_uncertainty(self.scores[others], self.labels[others])
            self.deviation[fold] = deviations(error, self.scores[fold])
        self.threshold = threshold
        self.rule = RULES["paper"]
        self.judge_sets = self.rule.apply(self.labels, threshold=threshold)
        self.sets = self.rule.apply(self.levels, threshold=threshold)
        self.chance = first_chance(self.scores, self.deviation, threshold)


def set_table(found: Found) -> dict[str, Any]:
    """Return each set's size by the judge's labels and by the scores, and how they overlap."""
    table = counts(found.judge_sets, found.sets, 3, np.ones(len(found.sets)))
    names = found.rule.sets
    return {
        name: {
            "judge": int(table[k].sum()),
            "scorer": int(table[:, k].sum()),
            "overlap": {other: int(table[k, j]) for j, other in enumerate(names)},
        }
        for k, name in enumerate(names)
    }


def agreement(found: Found) -> dict[str, float]:
    """Return the figures of the paper's sets, by name."""
    figures = all_figures(Pair.of(found.labels, found.scores, found.levels), threshold=int(found.threshold))
    return {name: value for name, value in figures.items() if name.startswith("paper.")}


def doubt(found: Found) -> dict[str, float]:
    """Return what the model of the scorer's error expects of the sets, and the truth."""
    wrong = (found.judge_sets == 0) != (found.sets == 0)
    said = np.where(found.sets == 0, 1 - found.chance, found.chance)
    marked = borderline(found.chance, found.sets == 0)
    change = under_error(found.scores, found.deviation, found.sets, found.rule, found.threshold)
    real = change_between(found.sets, found.judge_sets, found.rule.sets)
    return {
        "in_or_out_wrong": float(wrong.mean()),
        "in_or_out_wrong_expected": float(said.mean()),
        "moved": real.moved,
        "moved_expected": change.moved,
        "jaccard_sensibility": real.jaccard["sensibility"],
        "jaccard_expected": change.jaccard["sensibility"],
        "borderline": float(marked.mean()),
        "wrong_of_borderline": float(wrong[marked].mean()),
        "wrong_of_others": float(wrong[~marked].mean()),
    }


def asking(found: Found) -> dict[str, dict[str, float]]:
    """Return the F1 of the sensibility set by the share of dialogues that the judge decides, per way to choose."""
    count = len(found.sets)
    table: dict[str, dict[str, float]] = {}
    for share in ASKED:
        ask = round(share * count)
        rng = np.random.default_rng(0)
        by = {
            "most doubtful": [most_doubtful(found.chance, found.hashes, ask)],
            "random": [rng.permutation(count)[:ask] for _ in range(RANDOM_DRAWS)],
            "all errors known": [np.argsort(found.sets == found.judge_sets, kind="stable")[:ask]],
        }
        table[f"{share:g}"] = {name: float(np.mean([_f1(found, rows) for rows in tries])) for name, tries in by.items()}
    return table


def _f1(found: Found, asked: Ints) -> float:
    sets = found.sets.copy()
    sets[asked] = found.judge_sets[asked]
    both = int(((sets == 0) & (found.judge_sets == 0)).sum())
    return 2 * both / int((sets == 0).sum() + (found.judge_sets == 0).sum())


def difference(found: Found, other: Found) -> dict[str, Any]:
    """Return how the sets of two checkpoints differ on the dialogues that both scored."""
    place = {int(value): row for row, value in enumerate(other.hashes)}
    rows = np.array([place[int(value)] for value in found.hashes])
    change = change_between(found.sets, other.sets[rows], found.rule.sets)
    return {"moved": change.moved, "jaccard": change.jaccard}


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the tables as Markdown."""
    count = report["dialogues"]
    yield f"{count} dialogues, paper's rule, T = {report['threshold']:g}, everything cross-fitted"
    yield ""
    names = list(report["sets"])
    yield "| set | judge | scorer | " + " | ".join(f"of these, by the scorer {name}" for name in names) + " |"
    yield "|---|" + "---|" * (len(names) + 2)
    for name, row in report["sets"].items():
        judge, scorer = (f"{row[key]:,} ({row[key] / count:.1%})" for key in ("judge", "scorer"))
        yield f"| {name} | {judge} | {scorer} | " + " | ".join(f"{row['overlap'][other]:,}" for other in names) + " |"
    yield ""
    for part in ("agreement", "doubt"):
        for name, value in report[part].items():
            yield f"{name:32} {value:.4f}"
        yield ""
    ways = list(next(iter(report["asking"].values())))
    yield "| share asked | " + " | ".join(ways) + " |"
    yield "|---|" + "---|" * len(ways)
    for share, row in report["asking"].items():
        yield f"| {float(share):.0%} | " + " | ".join(f"{row[way]:.3f}" for way in ways) + " |"
    if "another_checkpoint" in report:
        change = report["another_checkpoint"]
        yield ""
        yield f"another checkpoint: {change['moved']:.1%} moved, Jaccard " + ", ".join(
            f"{name} {value:.3f}" for name, value in change["jaccard"].items()
        )


if __name__ == "__main__":
    main()
