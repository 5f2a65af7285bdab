"""How a report's charts look: their axes, colours and marks, and the way from an altair chart to SVG for a page.

Letters take the page's font. Vega writes each mark's description as its aria-label, which the page shows on hover: the
records of a chart say it in ``label``, and those of an interval in ``interval`` too.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts.palette import GRID, INK, LINE, MUTED, PAPER, set_colour
from selection.report.numbers import Section
from selection.report.text import interval_text

WIDTH = 420
"""Pixels of a chart with its axes: letters are still read where a phone shows it at five sixths of that."""

UNIT = alt.Scale(domain=[0, 1])
LOOSE = alt.Scale(zero=False, nice=True)
"""A scale that begins and ends near its values."""


# Axes and colours


def points(low: float, high: float) -> dict[str, Any]:
    """Return scale and axis for scores: a tick per whole point."""
    ticks = list(range(-int(-low // 1), int(high // 1) + 1))
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    return {"scale": scale, "axis": alt.Axis(grid=False, values=ticks, format="d")}


def threshold_axis() -> alt.X:
    """Return the axis of thresholds, 1 to 9."""
    return alt.X("t:Q", title="threshold T on both heads, judge's scale", **points(1, 9))


def percent_axis(count: int = 5, **more: Any) -> alt.Axis:
    """Return an axis of shares, its labels as the page writes them."""
    return alt.Axis(labelExpr="format(100 * datum.value, 'd') + '\u202f%'", tickCount=count, tickMinStep=0.01, **more)


def count_axis(ticks: int) -> dict[str, Any]:
    """Return title and axis for numbers of dialogues."""
    return {"title": "dialogues", "axis": alt.Axis(format=",d", tickCount=ticks, tickMinStep=1)}


def names_axis(**more: Any) -> alt.Axis:
    """Return an axis of names, without line and ticks."""
    return alt.Axis(ticks=False, domain=False, **{"labelFontSize": 12, **more})


def colour_by(field: str, names: Sequence[str], colours: Sequence[str] | None = None, **more: Any) -> alt.Color:
    """Return the colours of a field's values, ``names``: those of the sets, unless others are given."""
    shades = [set_colour(name) for name in names] if colours is None else list(colours)
    scale = alt.Scale(domain=list(names), range=shades)
    return alt.Color(field, sort=list(names), scale=scale, **{"title": None, **more})


# Records and marks


def chart_of(records: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """Return a chart of records, without marks yet."""
    return alt.Chart(alt.Data(values=[dict(record) for record in records]))


def boxes(records: Sequence[Section], x: alt.X, y: alt.Y, colour: alt.Color) -> alt.Chart:
    """Return rectangles from (x, y) to (x2, y2) of each record."""
    marks = chart_of(records).mark_rect(stroke=PAPER, strokeWidth=0.5)
    return marks.encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour, description="label:N")


def stacked(edges: Sequence[float], counts: Mapping[str, Sequence[int]], place: Callable[[int], str]) -> list[Section]:
    """Return a box per bin and kind, one kind on top of the other; ``place`` says where a bin lies.

    Empty boxes are left out.
    """
    bars = []
    for k, (left, right) in enumerate(pairwise(edges)):
        top = 0
        for name, column in counts.items():
            if count := column[k]:
                label = f"{place(k)}, {name}: {count:,}"
                bars.append({"x": left, "x2": right, "y": top, "y2": top + count, "set": name, "label": label})
            top += column[k]
    return bars


def grid(
    cells: Sequence[Section],
    columns: Sequence[str],
    rows: Sequence[str],
    colour: alt.Color,
    *,
    titles: tuple[str | None, str | None] = (None, None),
    **column_axis: Any,
) -> tuple[alt.Chart, alt.Chart]:
    """Return coloured cells, each with its column ``x`` and row ``y``, and a chart for texts on them."""
    across = names_axis(orient="top", labelAngle=0, **column_axis)
    base = chart_of(cells).encode(
        x=alt.X("x:N", sort=list(columns), title=titles[0], axis=across),
        y=alt.Y("y:N", sort=list(rows), title=titles[1], axis=names_axis(labelLimit=120)),
        description="label:N",
    )
    return base.mark_rect(stroke=PAPER, strokeWidth=1).encode(color=colour), base


def estimate(value: float, ends: Sequence[float], label: str, **more: Any) -> Section:
    """Return a record of a value with its interval."""
    return {"value": value, "low": ends[0], "high": ends[1], "label": label, "interval": interval_text(ends, 4), **more}


def estimates(base: alt.Chart, along: Literal["x", "y"], colour: str, size: int, **axis: Any) -> tuple[Any, Any]:
    """Return the intervals of records of ``estimate`` and the dots on them; ``axis`` is that of the values."""
    channel = alt.X if along == "x" else alt.Y
    ends, middle = {along: channel("low:Q", **axis), f"{along}2": "high:Q"}, {along: channel("value:Q", **axis)}
    lines = base.mark_rule(color=colour, strokeWidth=1.5).encode(**ends, description="interval:N")
    return lines, base.mark_circle(color=colour, size=size, opacity=1).encode(**middle, description="label:N")


def dashed(marks: Sequence[Section], **place: Any) -> alt.Chart:
    """Return dashed lines where something is chosen or average; each mark has its place's field and a label."""
    return chart_of(marks).mark_rule(color=INK, strokeDash=[3, 3]).encode(**place, description="label:N")


def chosen_marks(thresholds: Mapping[str, float]) -> alt.Chart:
    """Return the marks of the thresholds that were chosen, one for both heads or one per head."""
    by_head = [{"t": at, "label": f"chosen for {head}: T = {at:g}"} for head, at in thresholds.items()]
    same, at = len(set(thresholds.values())) == 1, thresholds[HEADS[0]]
    return dashed([{"t": at, "label": f"chosen: T = {at:g}"}] if same else by_head, x=threshold_axis())


def over_thresholds(records: Sequence[Section], y: alt.Y, colour: Any, size: int = 30) -> tuple[Any, Any]:
    """Return a line over the threshold ``t`` per name in ``name``, and dots at the whole thresholds."""
    base = chart_of(records).encode(x=threshold_axis(), y=y, color=colour)
    lines = base.mark_line(strokeWidth=2).encode(description="name:N")
    dots = base.mark_circle(size=size, opacity=1).encode(description="label:N")
    return lines, dots.transform_filter("datum.t == floor(datum.t)")


def fitted(*layers: Any, height: float) -> Any:
    """Return layers as one chart whose axes and legend are inside its width and height."""
    fit = alt.AutoSizeParams(type="fit", contains="padding")
    return alt.layer(*layers).properties(width=WIDTH, height=height, autosize=fit)


# SVG


def to_svg(name: str, chart: Any, label: str) -> str:
    """Return a chart as SVG for a page: named, sized by its box, with ids and letters that suit the page."""
    file = io.StringIO()
    _themed(chart).save(file, format="svg")
    svg = file.getvalue()
    svg = re.sub(r' font-family="[^"]*"', "", svg)
    svg = re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace(' aria-hidden="true"', "")
    svg = re.sub(r' (d|transform|x2|y2)="[^"]*"', _rounded, svg)
    opening = re.match(r'<svg [^>]*width="(\d+)" height="(\d+)"[^>]*>', svg)
    assert opening is not None
    width, height = opening.groups()
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{html.escape(label)}">' + svg[opening.end() :]


def _rounded(attribute: re.Match[str]) -> str:
    """Return an attribute that says a place, its numbers to a hundredth of a pixel."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0])


def _themed(chart: Any) -> Any:
    letters = {"labelColor": MUTED, "titleColor": MUTED, "labelFontSize": 12, "titleFontWeight": "normal"}
    lines = {"gridColor": GRID, "domainColor": LINE, "tickColor": LINE, "tickSize": 4}
    legend = {"titleFontSize": 12, "offset": 6, "padding": 0, "columnPadding": 10}
    return (
        chart.configure(font="Helvetica", background="transparent", padding=2)
        .configure_view(stroke=None)
        .configure_axis(**letters, **lines, titleFontSize=12.5, titlePadding=8, labelPadding=5, labelFlush=False)
        .configure_legend(**letters, **legend, orient="top", labelLimit=0, symbolSize=90, symbolStrokeWidth=0)
        .configure_text(color=INK, fontSize=12)
    )
