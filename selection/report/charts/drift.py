"""Charts of several sources side by side: shares of sets, distributions, and the first set by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts.scores import WHOLE, threshold_axis
from selection.report.charts.style import (
    FIT,
    MUTED,
    PAPER,
    SOURCES,
    WIDTH,
    data,
    interval,
    percent_axis,
    set_colour,
    set_scale,
)

Section = dict[str, Any]


def shares(sources: Sequence[Section], sets: Sequence[str]) -> Any:
    """Return a bar a source, parted by its sets."""
    bars = []
    for source in sources:
        left = 0.0
        for name, entry in source["overview"]["sets"].items():
            label = f"{source['label']}, {name}: {entry['share']:.4f} ({entry['count']:,})"
            right = left + entry["share"]
            bars.append({"source": source["label"], "x": left, "x2": right, "set": name, "label": label})
            left = right
    x = alt.X("x:Q", title="share of the dialogues", axis=percent_axis(), scale=alt.Scale(domain=[0, 1]))
    chart = (
        alt.Chart(data(bars))
        .mark_bar(stroke=PAPER, strokeWidth=1, height={"band": 0.7})
        .encode(
            y=_sources(sources),
            x=x,
            x2="x2:Q",
            description="label:N",
            color=alt.Color("set:N", title=None, sort=list(sets), scale=set_scale(sets)),
        )
    )
    return chart.properties(width=WIDTH, height=34 * len(sources) + 80, autosize=FIT)


def quantiles(sources: Sequence[Section]) -> Any:
    """Return each head's scores in each source: the middle 90 %, the middle half, the median."""
    panels = []
    for head in HEADS:
        rows = [
            {
                "source": source["label"],
                **{f"q{name}": value for name, value in entry["quantiles"].items()},
                "label": f"{source['label']}, {head}: median {entry['quantiles']['50']:.4f}",
                "half": f"middle half: {interval((entry['quantiles']['25'], entry['quantiles']['75']))}",
                "most": f"middle 90 %: {interval((entry['quantiles']['5'], entry['quantiles']['95']))}",
            }
            for source in sources
            for entry in [source["distributions"]["heads"][head]]
        ]
        x = {"title": f"{head}", "scale": alt.Scale(zero=False, nice=True), "axis": alt.Axis(tickCount=6)}
        base = alt.Chart(data(rows)).encode(y=_sources(sources))
        colour = set_colour(head)
        outer = base.mark_rule(color=colour, strokeWidth=1.5).encode(
            x=alt.X("q5:Q", **x), x2="q95:Q", description="most:N"
        )
        inner = base.mark_rule(color=colour, strokeWidth=7).encode(
            x=alt.X("q25:Q", **x), x2="q75:Q", description="half:N"
        )
        dot = base.mark_circle(color=PAPER, size=40, opacity=1, stroke=colour, strokeWidth=2)
        dot = dot.encode(x=alt.X("q50:Q", **x), description="label:N")
        panels.append(alt.layer(outer, inner, dot).properties(width=WIDTH - 130, height=30 * len(sources) + 10))
    return alt.vconcat(*panels, spacing=14)


def thresholds(sources: Sequence[Section], first: str) -> Any:
    """Return the share of the first set over the threshold, a line a source."""
    names = [source["label"] for source in sources]
    points = [
        {
            "t": row["threshold"],
            "share": row[source["thresholds"]["sets"][0]],
            "source": source["label"],
            "label": f"{source['label']}, T {row['threshold']:g}: {row[source['thresholds']['sets'][0]]:.4f}",
        }
        for source in sources
        for row in source["thresholds"]["shares"]
    ]
    colours = [*SOURCES[: len(names)], *[MUTED] * (len(names) - len(SOURCES))]
    base = alt.Chart(data(points)).encode(
        x=threshold_axis(),
        y=alt.Y("share:Q", title=f"share of the {first} set", axis=percent_axis(), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color(
            "source:N",
            title=None,
            sort=names,
            scale=alt.Scale(domain=names, range=colours),
            legend=alt.Legend(columns=2, labelLimit=180),
        ),
    )
    dots = base.mark_circle(size=26, opacity=1).encode(description="label:N").transform_filter(WHOLE)
    return alt.layer(base.mark_line(strokeWidth=2).encode(description="source:N"), dots).properties(
        width=WIDTH, height=330, autosize=FIT
    )


def _sources(sources: Sequence[Section]) -> alt.Y:
    names = [source["label"] for source in sources]
    axis = alt.Axis(labelLimit=110, ticks=False, domain=False, labelFontSize=12)
    return alt.Y("source:N", sort=names, title=None, axis=axis)
