"""How far several judges agree: each pair, each judge with itself, and what their labels are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from distill.labelled import LabelledSet
from distill.panel.reliability import MIN_COMPLETE, Reliability, by_judge, judge_key, judge_names
from scorer.arrays import Floats
from scorer.cli.table import table_lines
from scorer.dialogue import HEADS, Labels
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

_SHOWN = (*(f"{head}.pearson" for head in HEADS), *(f"{head}.mae" for head in HEADS), "paper.kappa")
_TITLES = ("", "dialogues", "r S", "r R", "MAE S", "MAE R", "kappa")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two raters, or one with itself: how many dialogues both judged, and every figure of ``all_figures``."""

    first: str
    second: str
    dialogues: int
    figures: dict[str, float]

    @property
    def name(self) -> str:
        """What was compared."""
        return f"{self.first} with {self.second}"


@dataclass(frozen=True, slots=True, eq=False)
class PanelAgreement:
    """The judges of some labels: ``pairs``, each with itself where it judged twice, and how reliable they are.

    ``reliability`` is None where it cannot be told; then labels are averaged.
    """

    pairs: tuple[Comparison, ...]
    selves: tuple[Comparison, ...]
    labels: dict[str, int]
    reliability: Reliability | None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        comparisons = [
            {
                "judges": [entry.first, entry.second],
                "dialogues": entry.dialogues,
                "figures": {name: None if math.isnan(value) else value for name, value in entry.figures.items()},
            }
            for entry in (*self.pairs, *self.selves)
        ]
        found = self.reliability
        judges = {} if found is None else {name: _figures_of(found, row) for row, name in enumerate(found.names)}
        return {
            "comparisons": comparisons,
            "labels": self.labels,
            "combined": "by reliability" if found else "mean",
            "reliability": judges,
        }


def _figures_of(found: Reliability, row: int) -> dict[str, dict[str, float]]:
    parts = {"level": found.level, "scale": found.scale, "error": found.error, "share": found.share}
    return {
        name: {head: round(float(values[row, i]), 4) for i, head in enumerate(HEADS)} for name, values in parts.items()
    }


def compare_judges(labelled: LabelledSet, threshold: int = 5, *, least: int = 10) -> PanelAgreement | None:
    """Compare all judges of some labels, in pairs with ``least`` dialogues and more; None with one judge."""
    names, values = by_judge(labelled.judgements)
    if len(names) < 2:
        return None
    pairs = [
        _compared(names[j], names[k], values[:, j], values[:, k], threshold)
        for j, k in combinations(range(len(names)), 2)
    ]
    selves = [
        _compared(name, "itself" + temperatures, *values_, threshold)
        for name, temperatures, values_ in _twice(labelled.judgements)
    ]
    return PanelAgreement(
        tuple(entry for entry in pairs if entry.dialogues >= least),
        tuple(entry for entry in selves if entry.dialogues >= least),
        {name: int((~np.isnan(values[:, j, 0])).sum()) for j, name in enumerate(names)},
        labelled.reliability,
    )


def _compared(first: str, second: str, a: Floats, b: Floats, threshold: int) -> Comparison:
    both = ~np.isnan(a[:, 0]) & ~np.isnan(b[:, 0])
    pair = Pair.of(a[both], b[both], to_levels(b[both]))
    return Comparison(first, second, int(both.sum()), all_figures(pair, threshold=threshold) if both.any() else {})


def _twice(judgements: Sequence[Sequence[Labels]]) -> Iterator[tuple[str, str, tuple[Floats, Floats]]]:
    """Yield of each judge its name, the temperatures, and the first two judgements of each dialogue it judged twice."""
    for key, name in judge_names(judgements).items():
        own = [[labels for labels in row if judge_key(labels) == key][:2] for row in judgements]
        own = [pair for pair in own if len(pair) == 2]
        first, second = (
            np.array([[getattr(pair[draw], head) for head in HEADS] for pair in own], float).reshape(-1, len(HEADS))
            for draw in (0, 1)
        )
        said = sorted({str((labels.judge or {}).get("temperature")) for pair in own for labels in pair} - {"None"})
        yield name, f", temperature {', '.join(said)}" if said else "", (first, second)


def panel_lines(panel: PanelAgreement) -> Iterator[str]:
    """Yield the judges' agreement as lines for the terminal."""
    yield "judges (S sensibility, R rationality, kappa of the paper's three sets)"
    rows = [
        [entry.name, str(entry.dialogues), *(_number(entry.figures[name]) for name in _SHOWN)]
        for entry in (*panel.pairs, *panel.selves)
    ]
    yield from table_lines([list(_TITLES), *rows])
    yield ""
    found = panel.reliability
    if found is None:
        yield (
            f"labels of several judges are averaged: that takes {MIN_COMPLETE} dialogues that every judge has judged, "
            "and judges that vary together, to say how reliable each is"
        )
        return
    yield f"labels are combined by reliability, estimated from {found.complete} dialogues that all have judged"
    titles = ["", "labels", *(f"{name} {head[0].upper()}" for name in ("mean", "error", "share") for head in HEADS)]
    parts = (found.level, found.error, found.share)
    yield from table_lines(
        [titles]
        + [
            [
                name,
                str(panel.labels[name]),
                *(_number(float(part[row, i]), 2) for part in parts for i in range(len(HEADS))),
            ]
            for row, name in enumerate(found.names)
        ]
    )


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
