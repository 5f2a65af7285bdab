"""Charts of patterns: categories, lengths, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts.palette import DIVERGING, set_colour
from selection.report.charts.style import (
    LOOSE,
    WIDTH,
    chart_of,
    colour_by,
    dashed,
    estimate,
    estimates,
    fitted,
    grid,
    names_axis,
    percent_axis,
)
from selection.report.numbers import Section
from selection.report.text import decimal, percent

_ROW = 18
"""Pixels of a category."""

_STEPS = ("far below", "below", "slightly below", "as all", "slightly above", "above", "far above")


def categories(section: Section, first: str) -> Any:
    """Return the share of the first set in each category with its interval, largest first."""
    names = [row["name"] for row in section["rows"]]
    y = alt.Y("name:N", sort=names, title=None, axis=names_axis(grid=True, labelLimit=120))
    x = {"title": f"share of the {first} set", "axis": percent_axis(grid=False), "scale": LOOSE}
    marks = estimates(_kept(section["rows"]).encode(y=y), "x", set_colour(first), 42, **x)
    whole = dashed([_all(section["overall"])], x=alt.X("value:Q", **x))
    return fitted(whole, *marks, height=_ROW * len(names) + 56)


def _kept(rows: Sequence[Section]) -> alt.Chart:
    records = []
    for row in rows:
        label = f"{row['name']}: {row['kept']:.4f} of {row['count']:,}"
        records.append(estimate(row["kept"], row["kept_interval"], label, name=row["name"]))
    return chart_of(records)


def _all(overall: Section) -> Section:
    return {"value": overall["kept"], "label": f"all: {overall['kept']:.4f}"}


def category_heat(section: Section, sets: Sequence[str]) -> Any:
    """Return mean scores and shares of sets by category, coloured by how far they are from those of all dialogues."""
    rows, overall = section["rows"], section["overall"]
    columns = {f"{head[0].upper()} mean": ([row[head] for row in rows], overall[head], "{:.2f}") for head in HEADS}
    for name in sets:
        columns[name] = [row["shares"][name] for row in rows], overall["shares"][name], ""
    cells = []
    for title, (values, whole, form) in columns.items():
        largest = max(abs(value - whole) for value in values) or 1.0
        for row, value in zip(rows, values, strict=True):
            step, text = _step((value - whole) / largest), form.format(value) if form else percent(value, 0)
            label = f"{row['name']}, {title}: {value:.4f}"
            cells.append({"x": title, "y": row["name"], "step": step, "text": text, "label": label})
    legend = alt.Legend(values=["far below", "as all", "far above"])
    colours = colour_by("step:O", _STEPS, DIVERGING, title="against all", legend=legend)
    size = 11 if len(columns) <= 5 else 9.5
    names = [row["name"] for row in rows]
    heat, texts = grid(cells, list(columns), names, colours, labelLimit=0, labelFontSize=size)
    return fitted(heat, texts.mark_text(fontSize=11).encode(text="text:N"), height=_ROW * len(rows) + 66)


def lengths(rows: Sequence[Section], overall: Section, title: str, first: str) -> Any:
    """Return by length the share of the first set with its interval, above the mean scores."""
    names = [row["name"] for row in rows]
    x = alt.X("name:O", sort=names, title=title, axis=alt.Axis(labelAngle=0, grid=False))
    y = {"title": f"{first} set", "axis": percent_axis(), "scale": alt.Scale(zero=False, padding=8)}
    above = (dashed([_all(overall)], y="value:Q"), *estimates(_kept(rows).encode(x=x), "y", set_colour(first), 46, **y))
    means = [
        {"name": row["name"], "mean": row[head], "head": head, "label": f"{row['name']}, mean {head}: {row[head]:.4f}"}
        for row in rows
        for head in HEADS
    ]
    y_mean = alt.Y("mean:Q", title="mean score", scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(tickCount=4))
    base = chart_of(means).encode(x=x, y=y_mean, color=colour_by("head:N", HEADS, legend=None))
    head_names = base.mark_text(align="left", dx=-6, dy=-11).encode(text="head:N", description="head:N")
    below = (
        base.mark_line(strokeWidth=1.5).encode(description="head:N"),
        base.mark_circle(size=40, opacity=1).encode(description="label:N"),
        head_names.transform_filter(alt.FieldOneOfPredicate(field="name", oneOf=names[:1])),
    )
    panels = [alt.layer(*layers).properties(width=WIDTH - 66, height=130) for layers in (above, below)]
    return alt.vconcat(*panels, spacing=14)


def correlation_matrix(section: Section) -> Any:
    """Return the matrix of correlations, Pearson's above the diagonal and Spearman's below."""
    cells = []
    for pair in section["pairs"]:
        for kind, x, y in (("pearson", pair["second"], pair["first"]), ("spearman", pair["first"], pair["second"])):
            value = pair[kind]
            if value == value:  # NaN is not drawn
                label = f"{kind.title()}, {pair['first']} and {pair['second']}: {value:.4f}"
                cells.append({"x": x, "y": y, "step": _step(value), "text": decimal(value, 2, "+"), "label": label})
    names = section["names"]
    heat, texts = grid(cells, names, names, colour_by("step:O", _STEPS, DIVERGING, legend=None))
    return fitted(heat, texts.mark_text(fontSize=13).encode(text="text:N"), height=48 * len(names) + 40)


def _step(value: float) -> str:
    """Return the step of a difference from -1 to 1."""
    return _STEPS[round(value * 3) + 3]
