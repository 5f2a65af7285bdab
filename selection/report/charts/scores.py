"""Charts of the scores: the joint histogram with the rule's regions, each head's histogram, shares by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts import style
from selection.report.charts.style import (
    FIT,
    INK,
    PAPER,
    STEPS,
    WIDTH,
    data,
    percent_axis,
    rule_at,
    set_colour,
    set_scale,
)

Section = dict[str, Any]


def joint(section: Section, sets: Sequence[str], *, whole_scale: bool = False) -> Any:
    """Return how many dialogues have which pair of scores, with the regions that a rule takes.

    The scale is shown as far as it holds anything, or all of it, so that several charts can be compared.
    """
    edges = section["edges"]
    width = edges[1] - edges[0]
    bounds = style.steps(max(count for _, _, count in section["joint"]))
    names = style.step_names(bounds)
    cells = [
        {
            "x": edges[s],
            "x2": edges[s + 1],
            "y": edges[r],
            "y2": edges[r + 1],
            "step": names[style.step_of(count, bounds)],
            "label": f"{_bin('S', edges[s], width)}, {_bin('R', edges[r], width)}: {count:,}",
        }
        for s, r, count in section["joint"]
    ]
    ends = [value for cell in cells for value in (cell["x"], cell["x2"], cell["y"], cell["y2"])]
    low, high = (edges[0], edges[-1]) if whole_scale else _shown(ends, width)
    x = alt.X("x:Q", title="sensibility (S)", scale=_scale(low, high), axis=_points(low, high))
    y = alt.Y("y:Q", title="rationality (R)", scale=_scale(low, high), axis=_points(low, high))
    colour = alt.Color(
        "step:O",
        title="dialogues a cell",
        sort=names,
        scale=alt.Scale(domain=names, range=_spread(len(names))),
        legend=alt.Legend(columns=5 if len(names) <= 5 else 4),
    )
    heat = alt.Chart(data(cells)).mark_rect(stroke=PAPER, strokeWidth=0.5)
    layers = [heat.encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour, description="label:N")]
    for region in section["regions"]:
        layers += _region(region, low, high)
    rest = set(sets) - {region["set"] for region in section["regions"]}
    if section["regions"] and len(rest) == 1:
        layers.append(_name({"x": high, "y": high, "name": f"{rest.pop()}: all else"}, "right", "top"))
    return alt.layer(*layers).properties(width=WIDTH, height=WIDTH, autosize=FIT)


def _region(region: Section, low: float, high: float) -> list[Any]:
    """Return the outline of a region, as far as it is shown, and its name where few dialogues lie."""
    name = region["set"]
    left, right = (_or(end, edge) for end, edge in zip(region["sensibility"], (low, high), strict=True))
    bottom, top = (_or(end, edge) for end, edge in zip(region["rationality"], (low, high), strict=True))
    left, bottom, right, top = max(low, left), max(low, bottom), min(high, right), min(high, top)
    if left >= right or bottom >= top:
        return []
    box = {"x": left, "x2": right, "y": bottom, "y2": top, "label": f"region of the {name} set"}
    outline = alt.Chart(data([box])).mark_rect(fillOpacity=0, stroke=set_colour(name), strokeWidth=2)
    first = region["sensibility"][0] is not None
    place = {"x": left, "y": bottom if first else top, "name": name}
    return [
        outline.encode(x="x:Q", x2="x2:Q", y="y:Q", y2="y2:Q", description="label:N"),
        _name(place, "left", "bottom" if first else "top"),
    ]


def _name(place: Section, align: str, baseline: str) -> Any:
    text = alt.Chart(data([place])).mark_text(
        align=align,
        baseline=baseline,
        dx=6 if align == "left" else -6,
        dy=-6 if baseline == "bottom" else 6,
        color=set_colour(place["name"].split(":")[0]),
        fontWeight="bold",
        fontSize=12,
    )
    return text.encode(x="x:Q", y="y:Q", text="name:N", description="name:N")


def heads(section: Section, sets: Sequence[str]) -> Any:
    """Return each head's histogram, coloured by the sets, with the cuts."""
    edges = section["edges"]
    width = edges[1] - edges[0]
    panels = []
    for letter, head in zip("SR", HEADS, strict=True):
        bars = []
        for k in range(len(edges) - 1):
            top = 0
            for name in sets:
                count = section["heads"][head]["counts"][name][k]
                if count:
                    label = f"{_bin(letter, edges[k], width)}, {name}: {count:,}"
                    bars.append(
                        {"x": edges[k], "x2": edges[k + 1], "y": top, "y2": top + count, "set": name, "label": label}
                    )
                top += count
        low, high = _shown([value for bar in bars for value in (bar["x"], bar["x2"])], width)
        x = alt.X("x:Q", title=f"{head} ({letter})", scale=_scale(low, high), axis=_points(low, high))
        chart = alt.Chart(data(bars)).mark_rect(stroke=PAPER, strokeWidth=0.5)
        chart = chart.encode(
            x=x,
            x2="x2:Q",
            y=alt.Y("y:Q", title="dialogues", axis=alt.Axis(format=",d", tickCount=4)),
            y2="y2:Q",
            color=alt.Color("set:N", title=None, sort=list(sets), scale=set_scale(sets)),
            description="label:N",
        )
        marks = [
            {"x": cut, "label": f"{letter} {sign} T: {cut:.4f}"}
            for cut, sign in zip(section["cuts"][head], "<>", strict=True)
        ]
        lines = alt.Chart(data(marks)).mark_rule(color=INK, strokeDash=[3, 3])
        lines = lines.encode(x=alt.X("x:Q", scale=_scale(low, high)), description="label:N")
        panels.append((chart + lines).properties(width=WIDTH - 66, height=152))
    return alt.vconcat(*panels, spacing=16)


def thresholds(section: Section) -> Any:
    """Return the share of each set over one threshold on both heads, the chosen one marked."""
    sets = section["sets"]
    points = [
        {
            "t": row["threshold"],
            "share": row[name],
            "set": name,
            "label": f"T {row['threshold']:g}, {name}: {row[name]:.4f}",
        }
        for row in section["shares"]
        for name in sets
    ]
    base = alt.Chart(data(points)).encode(
        x=threshold_axis(),
        y=alt.Y("share:Q", title="share of the dialogues", axis=percent_axis(), scale=alt.Scale(domain=[0, 1])),
        color=alt.Color("set:N", title=None, sort=sets, scale=set_scale(sets)),
    )
    dots = base.mark_circle(size=30, opacity=1).encode(description="label:N").transform_filter(WHOLE)
    layers = [chosen(section["chosen"]), base.mark_line(strokeWidth=2).encode(description="set:N"), dots]
    return alt.layer(*layers).properties(width=WIDTH, height=330, autosize=FIT)


WHOLE = "datum.t == floor(datum.t)"


def threshold_axis() -> alt.X:
    """Return the axis of thresholds, 1 to 9."""
    return alt.X(
        "t:Q",
        title="threshold T on both heads, judge's scale",
        scale=alt.Scale(domain=[1, 9], nice=False, zero=False),
        axis=alt.Axis(values=list(range(1, 10)), grid=False, format="d"),
    )


def chosen(thresholds: dict[str, float]) -> Any:
    """Return the mark of the thresholds that were chosen, one or one a head."""
    values = list(thresholds.values())
    if len(set(values)) == 1:
        return rule_at([{"t": values[0], "label": f"chosen: T = {values[0]:g}"}], threshold_axis())
    marks = [{"t": at, "label": f"chosen for {head}: T = {at:g}"} for head, at in thresholds.items()]
    return rule_at(marks, threshold_axis())


def _bin(letter: str, low: float, width: float) -> str:
    """Return how a bin is told: a judge's whole number, or where it begins and ends."""
    return f"{letter} {low + 0.5:g}" if width == 1 else f"{letter} {low:g}–{low + width:g}"


def _shown(ends: Sequence[float], width: float) -> tuple[float, float]:
    """Return the part of the scale that holds anything, in whole points; whole numbers have bins from half to half."""
    low, high = min(ends), max(ends)
    return (low, high) if width == 1 else (float(low // 1), float(-(-high // 1)))


def _scale(low: float, high: float) -> alt.Scale:
    return alt.Scale(domain=[low, high], nice=False, zero=False)


def _points(low: float, high: float) -> alt.Axis:
    return alt.Axis(grid=False, values=list(range(-int(-low // 1), int(high // 1) + 1)), format="d")


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _spread(count: int) -> list[str]:
    """Return so many of the steps' colours, from the least to the most."""
    if count == 1:
        return [STEPS[3]]
    return [STEPS[round(k * (len(STEPS) - 1) / (count - 1))] for k in range(count)]
