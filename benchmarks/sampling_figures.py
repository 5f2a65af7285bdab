"""The figures of ``benchmarks.sampling`` over all seeds, their tables and their chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt

from distill.settings import STRATEGIES

Matrix = npt.NDArray[np.float32]

SIZES = (250, 500, 1000, 2000, 4000)
FIGURES = {
    "r S": "sensibility.pearson",
    "r R": "rationality.pearson",
    "kappa": "paper.kappa",
    "F1": "paper.f1.sensibility",
}


def saved(rows: Sequence[dict[str, Any]], figure: str) -> dict[int, str]:
    """Return per number of labels of ``uncertain`` how many more ``random`` needs for the same figure.

    Interpolated from the means over the seeds, in the logarithm of the labels. Below random's first point or above its
    last, the answer is a bound.
    """
    sizes, random = curve(rows, "random", figure)
    answers = {}
    for size, value in zip(*curve(rows, "uncertain", figure), strict=True):
        rising = np.maximum.accumulate(random)
        if size == sizes[0]:
            continue
        if value > rising[-1]:
            answers[int(size)] = f"> {sizes[-1] - size:+.0f}"
        elif value < rising[0]:
            answers[int(size)] = f"< {sizes[0] - size:+.0f}"
        else:
            answers[int(size)] = f"{np.exp(np.interp(value, rising, np.log(sizes))) - size:+.0f}"
    return answers


def curve(rows: Sequence[dict[str, Any]], strategy: str, figure: str) -> tuple[Matrix, Matrix]:
    """Return the sizes and the means over the seeds of one strategy's figure, for the sizes that all seeds have."""
    seeds = {row["seed"] for row in rows if row["strategy"] == strategy}
    by_size: dict[int, list[float]] = {}
    for row in rows:
        if row["strategy"] == strategy:
            by_size.setdefault(row["labels"], []).append(row[figure])
    sizes = sorted(size for size, values in by_size.items() if len(values) == len(seeds))
    return np.array(sizes), np.array([np.mean(by_size[size]) for size in sizes])


def print_tables(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> None:
    """Print the figures per strategy and number of labels, and the labels that ``uncertain`` saves."""
    print(f"| strategy | labels | {' | '.join(FIGURES)} | seeds |\n|---|---|{'---|' * len(FIGURES)}---|")
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        for size in sizes:
            mine = {row["seed"]: row for row in rows if (row["strategy"], row["labels"]) == (strategy, size)}
            base = {row["seed"]: row for row in rows if (row["strategy"], row["labels"]) == ("random", size)}
            if mine:
                cells = (cell(mine, {} if strategy == "random" else base, figure) for figure in FIGURES)
                print(f"| {strategy} | {size:,} |", " | ".join(cells), f"| {len(mine)} |")
    print("\nLabels that `uncertain` saves against `random`:\n")
    print(f"| labels | {' | '.join(FIGURES)} |\n|---|{'---|' * len(FIGURES)}")
    savings = {figure: saved(rows, figure) for figure in FIGURES}
    for size in sizes[1:]:
        print(f"| {size:,} |", " | ".join(savings[figure].get(size, "-") for figure in FIGURES), "|")


def cell(mine: dict[int, dict[str, Any]], base: dict[int, dict[str, Any]], figure: str) -> str:
    """Return a mean over seeds and, for common seeds, the mean difference from random and its standard error."""
    value = f"{np.mean([row[figure] for row in mine.values()]):.3f}"
    differences = [mine[seed][figure] - base[seed][figure] for seed in mine if seed in base]
    if not any(differences):
        return value
    error = f" ± {np.std(differences, ddof=1) / np.sqrt(len(differences)):.3f}" if len(differences) > 1 else ""
    return f"{value} ({np.mean(differences):+.3f}{error})"


def draw(rows: Sequence[dict[str, Any]]) -> Any:
    """Return one panel per figure: the mean over the seeds against the number of labels, one line per strategy."""
    long = [{**row, "figure": name, "value": row[name]} for row in rows for name in FIGURES]
    return (
        alt.Chart(alt.Data(values=long))
        .mark_line(point=True)
        .encode(
            x=alt.X("labels:Q", scale=alt.Scale(type="log", nice=False), axis=alt.Axis(values=list(SIZES), format=",")),
            y=alt.Y("mean(value):Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("strategy:N", sort=list(STRATEGIES)),
        )
        .properties(width=280, height=240)
        .facet(alt.Facet("figure:N", sort=list(FIGURES), title=None), columns=2)
        .resolve_scale(y="independent")
    )
