"""Charts of several sources side by side: shares of sets, distributions, and the first set by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts.palette import MUTED, PAPER, SOURCES, set_colour
from selection.report.charts.style import (
    LOOSE,
    UNIT,
    WIDTH,
    chart_of,
    colour_by,
    fitted,
    names_axis,
    over_thresholds,
    percent_axis,
)
from selection.report.numbers import Section
from selection.report.text import interval_text


def set_bars(sources: Sequence[Section], sets: Sequence[str]) -> Any:
    """Return a bar per source, divided into its sets."""
    bars = []
    for source in sources:
        left = 0.0
        for name, entry in source["overview"]["sets"].items():
            label = f"{source['label']}, {name}: {entry['share']:.4f} ({entry['count']:,})"
            right = left + entry["share"]
            bars.append({"source": source["label"], "x": left, "x2": right, "set": name, "label": label})
            left = right
    marks = chart_of(bars).mark_bar(stroke=PAPER, strokeWidth=1, height={"band": 0.7})
    chart = marks.encode(
        y=_sources(sources),
        x=alt.X("x:Q", title="share of the dialogues", axis=percent_axis(), scale=UNIT),
        x2="x2:Q",
        description="label:N",
        color=colour_by("set:N", sets),
    )
    return fitted(chart, height=34 * len(sources) + 80)


def quantiles(sources: Sequence[Section]) -> Any:
    """Return each head's scores in each source: the middle 90 %, the middle half, the median."""
    panels = []
    for head in HEADS:
        records = []
        for source in sources:
            found = source["distributions"]["heads"][head]["quantiles"]
            records.append(
                {
                    "source": source["label"],
                    **{f"q{name}": value for name, value in found.items()},
                    "label": f"{source['label']}, {head}: median {found['50']:.4f}",
                    "half": f"middle half: {interval_text((found['25'], found['75']), 4)}",
                    "most": f"middle 90 %: {interval_text((found['5'], found['95']), 4)}",
                }
            )
        base, colour = chart_of(records).encode(y=_sources(sources)), set_colour(head)
        x = {"title": head, "scale": LOOSE, "axis": alt.Axis(tickCount=6)}
        layers = [
            base.mark_rule(color=colour, strokeWidth=width).encode(
                x=alt.X(f"q{low}:Q", **x), x2=f"q{high}:Q", description=f"{label}:N"
            )
            for width, low, high, label in ((1.5, 5, 95, "most"), (7, 25, 75, "half"))
        ]
        dot = base.mark_circle(color=PAPER, size=40, opacity=1, stroke=colour, strokeWidth=2)
        layers.append(dot.encode(x=alt.X("q50:Q", **x), description="label:N"))
        panels.append(alt.layer(*layers).properties(width=WIDTH - 130, height=30 * len(sources) + 10))
    return alt.vconcat(*panels, spacing=14)


def first_set_by_threshold(sources: Sequence[Section], first: str) -> Any:
    """Return the share of the first set over the threshold, a line per source."""
    names = [source["label"] for source in sources]
    records = []
    for source in sources:
        own = source["thresholds"]["sets"][0]
        for row in source["thresholds"]["shares"]:
            label = f"{source['label']}, T {row['threshold']:g}: {row[own]:.4f}"
            records.append({"t": row["threshold"], "share": row[own], "name": source["label"], "label": label})
    colours = [*SOURCES[: len(names)], *[MUTED] * (len(names) - len(SOURCES))]
    legend = alt.Legend(columns=2, labelLimit=180)
    y = alt.Y("share:Q", title=f"share of the {first} set", axis=percent_axis(), scale=UNIT)
    lines = over_thresholds(records, y, colour_by("name:N", names, colours, legend=legend), 26)
    return fitted(*lines, height=330)


def _sources(sources: Sequence[Section]) -> alt.Y:
    return alt.Y("source:N", sort=[source["label"] for source in sources], title=None, axis=names_axis(labelLimit=110))
