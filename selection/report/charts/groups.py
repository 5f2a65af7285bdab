"""Charts of patterns: categories, lengths, correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts.style import (
    DIVERGING,
    FIT,
    INK,
    PAPER,
    WIDTH,
    data,
    interval,
    percent,
    percent_axis,
    rule_at,
    set_colour,
)

Section = dict[str, Any]

_ROW = 18
"""Pixels of a category."""


def categories(section: Section, first: str) -> Any:
    """Return the share of the first set in each category with its interval, largest first."""
    names = [row["name"] for row in section["rows"]]
    points = [
        {
            "name": row["name"],
            "x": row["kept"],
            "low": row["kept_interval"][0],
            "high": row["kept_interval"][1],
            "label": f"{row['name']}: {row['kept']:.4f} of {row['count']:,}",
            "interval": interval(row["kept_interval"]),
        }
        for row in section["rows"]
    ]
    y = alt.Y(
        "name:N",
        sort=names,
        title=None,
        axis=alt.Axis(grid=True, labelLimit=120, ticks=False, domain=False, labelFontSize=12),
    )
    base = alt.Chart(data(points)).encode(y=y)
    x = {
        "title": f"share of the {first} set",
        "axis": percent_axis(grid=False),
        "scale": alt.Scale(zero=False, nice=True),
    }
    spread = base.mark_rule(color=set_colour(first), strokeWidth=1.5).encode(
        x=alt.X("low:Q", **x), x2="high:Q", description="interval:N"
    )
    dots = base.mark_circle(size=42, color=set_colour(first), opacity=1)
    dots = dots.encode(x=alt.X("x:Q", **x), description="label:N")
    whole = {"x": section["overall"]["kept"], "label": f"all: {section['overall']['kept']:.4f}"}
    height = _ROW * len(names) + 56
    return alt.layer(rule_at([whole], alt.X("x:Q", **x)), spread, dots).properties(
        width=WIDTH, height=height, autosize=FIT
    )


def category_heat(section: Section, sets: Sequence[str]) -> Any:
    """Return mean scores and shares of sets by category, coloured by how far they are from those of all dialogues."""
    columns = [*((f"{head[0].upper()} mean", (head,)) for head in HEADS), *((name, ("shares", name)) for name in sets)]
    cells: list[Section] = []
    for title, path in columns:
        whole = _at(section["overall"], path)
        largest = max(abs(_at(row, path) - whole) for row in section["rows"]) or 1.0
        for row in section["rows"]:
            value = _at(row, path)
            text = percent(value) if path[0] == "shares" else f"{value:.2f}"
            step = _STEPS[round((value - whole) / largest * 3) + 3]
            label = f"{row['name']}, {title}: {value:.4f}"
            cells.append({"name": row["name"], "column": title, "step": step, "text": text, "label": label})
    names = [row["name"] for row in section["rows"]]
    base = alt.Chart(data(cells)).encode(
        x=alt.X(
            "column:N",
            sort=[title for title, _ in columns],
            title=None,
            axis=alt.Axis(
                orient="top",
                labelAngle=0,
                ticks=False,
                domain=False,
                labelLimit=0,
                labelFontSize=11 if len(columns) <= 5 else 9.5,
            ),
        ),
        y=alt.Y(
            "name:N", sort=names, title=None, axis=alt.Axis(labelLimit=120, ticks=False, domain=False, labelFontSize=12)
        ),
    )
    heat = base.mark_rect(stroke=PAPER, strokeWidth=1).encode(color=_diverging("against all"), description="label:N")
    texts = base.mark_text(fontSize=11, color=INK).encode(text="text:N", description="label:N")
    return (heat + texts).properties(width=WIDTH, height=_ROW * len(names) + 66, autosize=FIT)


def _at(row: Section, path: tuple[str, ...]) -> float:
    """Return a figure of a category: a mean, or the share of a set."""
    value: Any = row
    for name in path:
        value = value[name]
    return float(value)


_STEPS = ("far below", "below", "slightly below", "as all", "slightly above", "above", "far above")


def _diverging(title: str) -> alt.Color:
    scale = alt.Scale(domain=list(_STEPS), range=list(DIVERGING))
    legend = alt.Legend(values=["far below", "as all", "far above"])
    return alt.Color("step:O", title=title, sort=list(_STEPS), scale=scale, legend=legend)


def lengths(rows: Sequence[Section], overall: Section, title: str, first: str) -> Any:
    """Return by length the share of the first set with its interval, above the mean scores."""
    names = [row["name"] for row in rows]
    shares = [
        {
            "bin": row["name"],
            "y": row["kept"],
            "low": row["kept_interval"][0],
            "high": row["kept_interval"][1],
            "label": f"{row['name']}: {row['kept']:.4f} of {row['count']:,}",
            "interval": interval(row["kept_interval"]),
        }
        for row in rows
    ]
    x = alt.X("bin:O", sort=names, title=title, axis=alt.Axis(labelAngle=0, grid=False))
    y = alt.Y("low:Q", title=f"{first} set", axis=percent_axis(), scale=alt.Scale(zero=False, padding=8))
    base = alt.Chart(data(shares)).encode(x=x)
    spread = base.mark_rule(color=set_colour(first), strokeWidth=1.5).encode(y=y, y2="high:Q", description="interval:N")
    dots = base.mark_circle(size=46, color=set_colour(first), opacity=1).encode(y="y:Q", description="label:N")
    whole = [{"y": overall["kept"], "label": f"all: {overall['kept']:.4f}"}]
    line = alt.Chart(data(whole)).mark_rule(color=INK, strokeDash=[3, 3]).encode(y="y:Q", description="label:N")
    means = [
        {"bin": row["name"], "mean": row[head], "head": head, "label": f"{row['name']}, mean {head}: {row[head]:.4f}"}
        for row in rows
        for head in HEADS
    ]
    colour = alt.Color(
        "head:N", scale=alt.Scale(domain=list(HEADS), range=[set_colour(head) for head in HEADS]), legend=None
    )
    below = alt.Chart(data(means)).encode(
        x=x,
        y=alt.Y("mean:Q", title="mean score", scale=alt.Scale(zero=False, padding=14), axis=alt.Axis(tickCount=4)),
        color=colour,
    )
    name = below.mark_text(align="left", dx=-6, dy=-11, fontSize=12).encode(text="head:N", description="head:N")
    name = name.transform_filter(alt.FieldOneOfPredicate(field="bin", oneOf=names[:1]))
    points = below.mark_circle(size=40, opacity=1).encode(description="label:N")
    lines = below.mark_line(strokeWidth=1.5).encode(description="head:N") + points + name
    size = {"width": WIDTH - 66, "height": 130}
    return alt.vconcat(alt.layer(line, spread, dots).properties(**size), lines.properties(**size), spacing=14)


def correlations(section: Section) -> Any:
    """Return the matrix of correlations, Pearson's above the diagonal and Spearman's below."""
    cells = []
    for pair in section["pairs"]:
        for kind, x, y in (("pearson", pair["second"], pair["first"]), ("spearman", pair["first"], pair["second"])):
            value = pair[kind]
            if value == value:  # NaN is not drawn
                label = f"{kind.title()}, {pair['first']} and {pair['second']}: {value:.4f}"
                text = f"{value:+.2f}".replace("-", "−")
                cells.append({"x": x, "y": y, "step": _STEPS[round(value * 3) + 3], "text": text, "label": label})
    names = section["names"]
    base = alt.Chart(data(cells)).encode(
        x=alt.X(
            "x:N",
            sort=names,
            scale=alt.Scale(domain=names),
            title=None,
            axis=alt.Axis(orient="top", labelAngle=0, ticks=False, domain=False, labelFontSize=12),
        ),
        y=alt.Y(
            "y:N",
            sort=names,
            scale=alt.Scale(domain=names),
            title=None,
            axis=alt.Axis(ticks=False, domain=False, labelFontSize=12),
        ),
    )
    colour = alt.Color(
        "step:O", sort=list(_STEPS), scale=alt.Scale(domain=list(_STEPS), range=list(DIVERGING)), legend=None
    )
    heat = base.mark_rect(stroke=PAPER, strokeWidth=1).encode(color=colour, description="label:N")
    texts = base.mark_text(fontSize=13, color=INK).encode(text="text:N", description="label:N")
    return (heat + texts).properties(width=WIDTH, height=48 * len(names) + 40, autosize=FIT)
