"""What a test of rubrics found, as one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
from markupsafe import Markup
from msgspec import to_builtins

from distill.rubrics.changed import LABELS
from scorer.dialogue import HEADS
from scorer.outputs import replacing, writing
from selection.metrics import LEVEL_COUNT, wilson
from selection.report.charts.palette import INK, MUTED, SOURCES
from selection.report.charts.style import (
    chart_of,
    colour_by,
    estimate,
    estimates,
    fitted,
    names_axis,
    percent_axis,
    to_svg,
)
from selection.report.page import render_template
from selection.rubrics.run import FIGURES, RubricRun
from selection.rules import to_levels

_ROW = 26
"""Pixels of a variant."""

_LINES = 5
"""Variants whose scores are drawn beside the labels': so many lines can be told apart."""


def write_run_page(run: RubricRun, output: Path) -> None:
    """Write the page; OutputError where the disk does not take it."""
    page = render_run(run)
    with writing(output), replacing(output) as file:
        file.write(page)


def render_run(run: RubricRun) -> str:
    """Return the page."""
    failures = {one.name: [one.failures, wilson(one.failed, one.judged + one.failed)] for one in run.variants}
    charts = {name: Markup(svg) for name, svg in _charts(run).items()}  # noqa: S704 - ours
    models = list(dict.fromkeys(one.model for one in run.variants))
    return render_template(
        "rubrics.html.jinja",
        title=f"Rubrics tested: {', '.join(run.rubrics)}",
        created=run.created,
        version=run.version,
        run=to_builtins(run),
        charts=charts,
        figures=FIGURES,
        heads=HEADS,
        failures=failures,
        models=models,
        labels_name=LABELS,
    )


def _charts(run: RubricRun) -> dict[str, str]:
    found = {}
    drawn = [one for one in run.variants if one.agreement]
    if drawn:
        for name, keys, title in (
            ("agreement", [key for key in FIGURES if not key.endswith(".mae")], "agreement with the labels"),
            ("errors", [key for key in FIGURES if key.endswith(".mae")], "mean absolute error"),
        ):
            found[name] = to_svg(name, _forest(run, keys, title), f"{title} by variant, with 95 % intervals")
    for head in HEADS:
        found[head] = to_svg(head, _distribution(run, head), f"Shares of each score of {head}")
    return found


def _forest(run: RubricRun, keys: Sequence[str], title: str) -> Any:
    """Return the figures of every variant with their intervals, one panel of rows per figure."""
    records = []
    for key in keys:
        for one in run.variants:
            found = one.agreement.get(key)
            if found is None or found.value is None:
                continue
            ends = (found.value if found.low is None else found.low, found.value if found.high is None else found.high)
            name = _row_name(one.name, FIGURES[key])
            records.append(estimate(found.value, ends, f"{one.name}, {FIGURES[key]}: {found.value:.4f}", name=name))
    names = [_row_name(one.name, FIGURES[key]) for key in keys for one in run.variants]
    y = alt.Y("name:N", sort=names, title=None, axis=names_axis(grid=True, labelLimit=210))
    x = {"title": title, "scale": alt.Scale(zero=False, nice=True, padding=6), "axis": alt.Axis(grid=True, tickCount=5)}
    base = chart_of(records).encode(y=y)
    return fitted(*estimates(base, "x", INK, 46, **x), height=_ROW * len(names) + 48)


def _row_name(variant: str, figure: str) -> str:
    """Return what a row of the forest is called; of a long variant's name the end is left out."""
    short = figure.replace("sensibility", "S").replace("rationality", "R").replace(" of the paper's rule", "")
    return f"{short.replace(' of ', ' ')}, {variant if len(variant) <= 26 else variant[:25] + '…'}"


def _distribution(run: RubricRun, head: str) -> Any:
    """Return the share of each whole score, a line per variant and a dashed one for the labels."""
    column = HEADS.index(head)
    names = [LABELS, *(one.name for one in run.variants[:_LINES])]
    scores: list[list[tuple[float, float]]] = [[row.label for row in run.dialogues]]
    for number in range(len(names) - 1):
        scores.append([pair for row in run.dialogues if (pair := row.scores[number]) is not None])
    records = []
    for name, pairs in zip(names, scores, strict=True):
        levels = to_levels(np.array(pairs, dtype=float))[:, column].tolist() if pairs else []
        for level in range(LEVEL_COUNT if levels else 0):
            share = levels.count(level) / len(levels)
            label = f"{name}, {head} {level}: {100 * share:.1f} % ({levels.count(level)})"
            records.append({"name": name, "level": level, "share": share, "label": label})
    x = alt.X("level:Q", title=f"score of {head}", axis=alt.Axis(grid=False, tickCount=11, format="d"))
    y = alt.Y("share:Q", title="share of the dialogues", axis=percent_axis())
    colours = colour_by(
        "name:N", names, [MUTED, *SOURCES[: len(names) - 1]], legend=alt.Legend(columns=2, labelLimit=190)
    )
    base = chart_of(records).encode(x=x, y=y, color=colours)
    dash = alt.condition(f"datum.name == '{LABELS}'", alt.value([4, 3]), alt.value([1, 0]))
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dash, description="name:N")
    return fitted(lines, base.mark_circle(size=30, opacity=1).encode(description="label:N"), height=250)
