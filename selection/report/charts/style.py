"""How a report's charts look, and the way from an altair chart to SVG that belongs into a page.

Colours are CSS variables, so that one drawing serves light and dark; letters take the page's font. Vega writes each
mark's description as its aria-label, which the page shows on hover.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

Records = Sequence[Mapping[str, Any]]

WIDTH = 420
"""Pixels of a chart with its axes: letters are still read where a phone shows it at five sixths of that."""

FIT = alt.AutoSizeParams(type="fit", contains="padding")
"""A single chart whose axes and legend are inside its width and height."""

INK, MUTED, GRID, LINE, PAPER = (f"var(--{name})" for name in ("ink", "muted", "grid", "line", "paper"))
STEPS = tuple(f"var(--step-{k})" for k in range(1, 8))
"""Colours of a quantity, from little to much."""

DIVERGING = tuple(f"var(--div-{k})" for k in range(1, 8))
"""Colours of a difference, from below over none to above."""

SOURCES = tuple(f"var(--source-{k})" for k in range(1, 7))

_ROLES = {
    "sensibility": 1,
    "selected": 1,
    "rationality": 2,
    "rational": 2,
    "discard": 3,
    "neutral": 3,
    "rest": 3,
    "surplus": 4,
}


def percent(value: float, digits: int = 0) -> str:
    """Return a share as text on a chart, as the page writes it."""
    return f"{100 * value:.{digits}f}\u202f%"


def interval(ends: Sequence[float]) -> str:
    """Return what the mark of an interval says."""
    return f"{ends[0]:.4f} to {ends[1]:.4f}"


def percent_axis(count: int = 5, **more: Any) -> alt.Axis:
    """Return an axis of shares, its labels as the page writes them."""
    return alt.Axis(labelExpr="format(100 * datum.value, 'd') + '\u202f%'", tickCount=count, **more)


def set_colour(name: str) -> str:
    """Return a set's colour, the same everywhere on the page."""
    return f"var(--set-{_ROLES.get(name, 4)})"


def set_scale(names: Sequence[str]) -> alt.Scale:
    """Return the scale from names of sets to their colours."""
    return alt.Scale(domain=list(names), range=[set_colour(name) for name in names])


def steps(largest: float) -> list[int]:
    """Return rising bounds for counts from 1 to ``largest``, in a ratio of some 3, each a round number."""
    bounds = [1]
    for bound in (3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000):
        if bound <= largest:
            bounds.append(bound)
    return bounds[:1] + bounds[1:][-(len(STEPS) - 1) :]


def step_names(bounds: Sequence[int]) -> list[str]:
    """Return how a legend names the steps between such bounds."""
    ends = [*(bound - 1 for bound in bounds[1:]), None]
    return [
        f"{low:,}+" if end is None else f"{low:,}" if low == end else f"{low:,}–{end:,}"
        for low, end in zip(bounds, ends, strict=True)
    ]


def step_of(value: float, bounds: Sequence[float]) -> int:
    """Return the step that a value belongs to."""
    return max(0, int(np.searchsorted(bounds, value, side="right")) - 1)


def data(records: Records) -> alt.Data:
    """Return records as a chart's data."""
    return alt.Data(values=[dict(record) for record in records])


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
    width, height = opening[1], opening[2]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{html.escape(label)}">' + svg[opening.end() :]


def _rounded(attribute: re.Match[str]) -> str:
    """Return an attribute that says a place, its numbers to a hundredth of a pixel."""
    return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), attribute[0])


def _themed(chart: Any) -> Any:
    return (
        chart.configure(font="Helvetica", background="transparent", padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=MUTED,
            titleColor=MUTED,
            gridColor=GRID,
            domainColor=LINE,
            tickColor=LINE,
            labelFontSize=12,
            titleFontSize=12.5,
            titleFontWeight="normal",
            titlePadding=8,
            labelPadding=5,
            tickSize=4,
            labelFlush=False,
        )
        .configure_legend(
            labelColor=MUTED,
            titleColor=MUTED,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            symbolSize=90,
            orient="top",
            offset=6,
            padding=0,
            columnPadding=10,
            symbolStrokeWidth=0,
            labelLimit=0,
        )
        .configure_header(labelColor=INK, titleColor=MUTED, labelFontSize=12)
        .configure_title(color=INK, fontSize=12, fontWeight="normal", anchor="start", offset=8)
        .configure_text(color=INK, fontSize=12)
    )


def rule_at(marks: Records, x: alt.X) -> Any:
    """Return dashed vertical lines where something is chosen or average; each mark has its x field and a label."""
    return alt.Chart(data(marks)).mark_rule(color=INK, strokeDash=[3, 3]).encode(x=x, description="label:N")
