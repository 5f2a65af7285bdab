"""Charts of doubt and of the judge: chances, calibration, confusion of sets, F1 by threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from selection.report.charts.palette import INK, MUTED, ON_STEP, STEPS, set_colour
from selection.report.charts.style import (
    UNIT,
    boxes,
    chart_of,
    chosen_marks,
    colour_by,
    count_axis,
    estimate,
    estimates,
    fitted,
    grid,
    over_thresholds,
    percent_axis,
    stacked,
)
from selection.report.numbers import Section
from selection.report.text import percent
from selection.settings import DOUBT


def chances(section: Section, first: str) -> Any:
    """Return how sure each dialogue's place is: the judge's chance of taking it, with the borderline part shaded."""
    chance = section["chance"]
    edges = chance["edges"]
    counts = {f"in the {first} set": chance["inside"], "in another set": chance["outside"]}
    bars = stacked(edges, counts, lambda k: f"chance {edges[k]:.2f}–{edges[k + 1]:.2f}")
    title = f"chance that the judge takes it into the {first} set"
    x = alt.X("x:Q", title=title, scale=UNIT, axis=percent_axis(6, grid=False))
    doubtful = {"x": DOUBT, "x2": 1 - DOUBT, "label": f"borderline: {DOUBT:g} to {1 - DOUBT:g}"}
    shade = chart_of([doubtful]).mark_rect(color=MUTED, opacity=0.18).encode(x=x, x2="x2:Q", description="label:N")
    colours = colour_by("set:N", list(counts), [set_colour(first), set_colour("rest")])
    return fitted(shade, boxes(bars, x, alt.Y("y:Q", **count_axis(5)), colours), height=300)


def calibration(section: Section, first: str) -> Any:
    """Return by the predicted chance how often the judge took a dialogue; on the diagonal the chance is right."""
    records = []
    for row in section["rows"]:
        label = f"predicted {row['predicted']:.4f}: {row['observed']:.4f} of {row['count']:,}"
        records.append(estimate(row["observed"], row["interval"], label, x=row["predicted"]))
    x = alt.X("x:Q", title="predicted chance", scale=UNIT, axis=percent_axis(6))
    y = {"title": f"share that the judge took ({first})", "scale": UNIT, "axis": percent_axis()}
    ends = chart_of([{"x": end, "y": end, "label": "the chance is right"} for end in (0, 1)])
    line = ends.mark_line(color=INK, strokeDash=[3, 3], strokeWidth=1)
    return fitted(
        line.encode(x=x, y=alt.Y("y:Q", **y), description="label:N"),
        *estimates(chart_of(records).encode(x=x), "y", set_colour(first), 46, **y),
        height=300,
    )


def confusion(section: Section) -> Any:
    """Return the judge's sets against the selection's: counts, coloured by the share of the judge's set."""
    steps = list(range(len(STEPS)))
    cells = []
    for judge, row in zip(section["judge_sets"], section["confusion"], strict=True):
        for own, count in zip(section["sets"], row, strict=True):
            share = count / max(1, sum(row))
            label, step = f"judge {judge}, selection {own}: {count:,}", min(steps[-1], int(share * len(steps)))
            said = {"text": f"{count:,}", "share": percent(share), "label": label}
            cells.append({"x": own, "y": judge, "step": step, **said})
    titles = ("the selection's set", "the judge's set")
    colour = alt.Color("step:O", scale=alt.Scale(domain=steps, range=list(STEPS)), legend=None)
    heat, texts = grid(cells, section["sets"], section["judge_sets"], colour, titles=titles)
    texts = texts.encode(color=alt.condition("datum.step > 3", alt.value(ON_STEP), alt.value(INK)))
    counts = texts.mark_text(fontSize=15, dy=-7).encode(text="text:N")
    return fitted(heat, counts, texts.mark_text(fontSize=11, dy=10).encode(text="share:N"), height=290)


def f1_by_threshold(rows: Sequence[Section], thresholds: Mapping[str, float], first: str) -> Any:
    """Return the F1 of the first set against the judge's, both by the same threshold."""
    records = []
    for at, f1 in ((row["threshold"], row["f1"]) for row in rows):
        if f1 == f1:  # NaN is not drawn
            records.append({"t": at, "f1": f1, "name": "F1 by threshold", "label": f"T {at:g}: F1 {f1:.4f}"})
    y = alt.Y("f1:Q", title=f"F1 of the {first} set", scale=UNIT, axis=alt.Axis(tickCount=5))
    lines = over_thresholds(records, y, alt.value(set_colour(first)))
    return fitted(chosen_marks(thresholds), *lines, height=290)
