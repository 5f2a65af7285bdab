"""Charts of doubt and of the judge: chances, calibration, confusion of sets, F1 by threshold."""

from __future__ import annotations

from typing import Any

import altair as alt

from selection.deciding.stability import DOUBT
from selection.report.charts.scores import WHOLE, chosen, threshold_axis
from selection.report.charts.style import (
    FIT,
    INK,
    MUTED,
    PAPER,
    STEPS,
    WIDTH,
    data,
    interval,
    percent,
    percent_axis,
    set_colour,
)

Section = dict[str, Any]

_UNIT = alt.Scale(domain=[0, 1], nice=False)


def chances(section: Section, first: str) -> Any:
    """Return how sure each dialogue's place is: the judge's chance of taking it, with the borderline part shaded."""
    chance = section["chance"]
    edges = chance["edges"]
    bars = []
    for k in range(len(edges) - 1):
        top = 0
        for kind, where in (("inside", f"in the {first} set"), ("outside", "in another set")):
            count = chance[kind][k]
            if count:
                label = f"chance {edges[k]:.2f}–{edges[k + 1]:.2f}, {where}: {count:,}"
                bars.append(
                    {"x": edges[k], "x2": edges[k + 1], "y": top, "y2": top + count, "where": where, "label": label}
                )
            top += count
    names = [f"in the {first} set", "in another set"]
    x = {
        "title": f"chance that the judge takes it into the {first} set",
        "scale": _UNIT,
        "axis": percent_axis(6, grid=False),
    }
    shade = alt.Chart(data([{"x": DOUBT, "x2": 1 - DOUBT, "label": f"borderline: {DOUBT:g} to {1 - DOUBT:g}"}]))
    shade = shade.mark_rect(color=MUTED, opacity=0.18).encode(x=alt.X("x:Q", **x), x2="x2:Q", description="label:N")
    rects = (
        alt.Chart(data(bars))
        .mark_rect(stroke=PAPER, strokeWidth=0.5)
        .encode(
            x=alt.X("x:Q", **x),
            x2="x2:Q",
            y=alt.Y("y:Q", title="dialogues", axis=alt.Axis(format=",d", tickCount=5)),
            y2="y2:Q",
            description="label:N",
            color=alt.Color(
                "where:N",
                title=None,
                sort=names,
                scale=alt.Scale(domain=names, range=[set_colour(first), "var(--set-3)"]),
            ),
        )
    )
    return (shade + rects).properties(width=WIDTH, height=300, autosize=FIT)


def calibration(section: Section, first: str) -> Any:
    """Return by the predicted chance how often the judge took a dialogue; on the diagonal the chance is right."""
    points = [
        {
            "x": row["predicted"],
            "y": row["observed"],
            "low": row["interval"][0],
            "high": row["interval"][1],
            "label": f"predicted {row['predicted']:.4f}: {row['observed']:.4f} of {row['count']:,}",
            "interval": interval(row["interval"]),
        }
        for row in section["rows"]
    ]
    x = alt.X("x:Q", title="predicted chance", scale=_UNIT, axis=percent_axis(6))
    y = {"title": f"share that the judge took ({first})", "scale": _UNIT, "axis": percent_axis()}
    ends = alt.Chart(data([{"x": end, "y": end, "label": "the chance is right"} for end in (0, 1)]))
    line = ends.mark_line(color=INK, strokeDash=[3, 3], strokeWidth=1).encode(
        x=x, y=alt.Y("y:Q", **y), description="label:N"
    )
    base = alt.Chart(data(points)).encode(x=x)
    spread = base.mark_rule(color=set_colour(first), strokeWidth=1.5).encode(
        y=alt.Y("low:Q", **y), y2="high:Q", description="interval:N"
    )
    dots = base.mark_circle(size=46, color=set_colour(first), opacity=1)
    dots = dots.encode(y=alt.Y("y:Q", **y), description="label:N")
    return alt.layer(line, spread, dots).properties(width=WIDTH, height=300, autosize=FIT)


def confusion(section: Section) -> Any:
    """Return the judge's sets against the selection's: counts, coloured by the share of the judge's set."""
    cells = []
    for judge, row in zip(section["judge_sets"], section["confusion"], strict=True):
        for own, count in zip(section["sets"], row, strict=True):
            share = count / max(1, sum(row))
            label = f"judge {judge}, selection {own}: {count:,}"
            step = min(len(STEPS) - 1, int(share * len(STEPS)))
            cells.append(
                {"x": own, "y": judge, "step": step, "text": f"{count:,}", "share": percent(share, 1), "label": label}
            )
    base = alt.Chart(data(cells)).encode(
        x=alt.X(
            "x:N",
            sort=section["sets"],
            title="the selection's set",
            axis=alt.Axis(labelAngle=0, orient="top", ticks=False, domain=False, labelFontSize=12),
        ),
        y=alt.Y(
            "y:N",
            sort=section["judge_sets"],
            title="the judge's set",
            axis=alt.Axis(ticks=False, domain=False, labelFontSize=12),
        ),
    )
    colour = alt.Color("step:O", scale=alt.Scale(domain=list(range(7)), range=list(STEPS)), legend=None)
    heat = base.mark_rect(stroke=PAPER, strokeWidth=1).encode(color=colour, description="label:N")
    ink = alt.condition("datum.step > 3", alt.value("var(--on-step)"), alt.value(INK))
    count = base.mark_text(fontSize=15, dy=-7).encode(text="text:N", color=ink, description="label:N")
    share = base.mark_text(fontSize=11, dy=10).encode(text="share:N", color=ink, description="label:N")
    return (heat + count + share).properties(width=WIDTH, height=290, autosize=FIT)


def f1_by_threshold(rows: list[Section], thresholds: dict[str, float], first: str) -> Any:
    """Return the F1 of the first set against the judge's, both by the same threshold."""
    points = [
        {"t": row["threshold"], "f1": row["f1"], "label": f"T {row['threshold']:g}: F1 {row['f1']:.4f}"}
        for row in rows
        if row["f1"] == row["f1"]
    ]
    y = alt.Y("f1:Q", title=f"F1 of the {first} set", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5))
    base = alt.Chart(data(points)).encode(x=threshold_axis(), y=y)
    line = base.mark_line(color=set_colour(first), strokeWidth=2).encode(description=alt.value("F1 by threshold"))
    dots = base.mark_circle(color=set_colour(first), size=30, opacity=1)
    dots = dots.encode(description="label:N").transform_filter(WHOLE)
    return alt.layer(chosen(thresholds), line, dots).properties(width=WIDTH, height=290, autosize=FIT)
