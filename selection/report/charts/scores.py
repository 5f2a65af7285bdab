"""Charts of the scores: the joint histogram with the rule's regions, each head's histogram, shares by threshold."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from itertools import pairwise, product
from typing import Any

import altair as alt

from scorer.dialogue import HEADS
from selection.report.charts.palette import STEPS, set_colour
from selection.report.charts.style import (
    UNIT,
    WIDTH,
    boxes,
    chart_of,
    chosen_marks,
    colour_by,
    count_axis,
    dashed,
    fitted,
    over_thresholds,
    percent_axis,
    points,
    stacked,
)
from selection.report.numbers import Section

_BOUNDS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
"""Counts at which a colour of the joint histogram may begin."""


def joint(section: Section, sets: Sequence[str], *, whole_scale: bool = False) -> Any:
    """Return how many dialogues have which pair of scores, with the regions that a rule takes.

    The scale is shown as far as it holds anything, or all of it, so that several charts can be compared.
    """
    edges = section["edges"]
    largest = max(count for *_, count in section["joint"])
    bounds = [1, *[bound for bound in _BOUNDS[1:] if bound <= largest][1 - len(STEPS) :]]
    names = [f"{low:,}" if low == high - 1 else f"{low:,}–{high - 1:,}" for low, high in pairwise(bounds)]
    names.append(f"{bounds[-1]:,}+")
    cells = []
    for s, r, count in section["joint"]:
        box = {"x": edges[s], "x2": edges[s + 1], "y": edges[r], "y2": edges[r + 1]}
        label = f"{_bin('S', edges, s)}, {_bin('R', edges, r)}: {count:,}"
        cells.append(box | {"step": names[bisect_right(bounds, count) - 1], "label": label})
    low, high = (edges[0], edges[-1]) if whole_scale else _shown(cells, edges, "x", "x2", "y", "y2")
    x = alt.X("x:Q", title="sensibility (S)", **points(low, high))
    y = alt.Y("y:Q", title="rationality (R)", **points(low, high))
    last = len(names) - 1
    shades = [STEPS[round(k * (len(STEPS) - 1) / last) if last else 3] for k in range(len(names))]
    legend = alt.Legend(columns=5 if len(names) <= 5 else 4)
    layers = [boxes(cells, x, y, colour_by("step:O", names, shades, title="dialogues per cell", legend=legend))]
    for region in section["regions"]:
        layers += _region(region, low, high)
    rest = set(sets) - {region["set"] for region in section["regions"]}
    if section["regions"] and len(rest) == 1:
        layers.append(_name({"x": high, "y": high, "name": f"{rest.pop()}: all else"}, "right", "top"))
    return fitted(*layers, height=WIDTH)


def _region(region: Section, low: float, high: float) -> list[Any]:
    """Return the outline of a region, as far as it is shown, and its name where few dialogues lie."""
    name = region["set"]
    (left, right), (bottom, top) = (
        (low if start is None else max(low, start), high if end is None else min(high, end))
        for start, end in (region[head] for head in HEADS)
    )
    if left >= right or bottom >= top:
        return []
    box = {"x": left, "x2": right, "y": bottom, "y2": top, "label": f"region of the {name} set"}
    outline = chart_of([box]).mark_rect(fillOpacity=0, stroke=set_colour(name), strokeWidth=2)
    first = region["sensibility"][0] is not None
    return [
        outline.encode(x="x:Q", x2="x2:Q", y="y:Q", y2="y2:Q", description="label:N"),
        _name({"x": left, "y": bottom if first else top, "name": name}, "left", "bottom" if first else "top"),
    ]


def _name(place: Section, align: str, baseline: str) -> Any:
    text = chart_of([place]).mark_text(
        align=align,
        baseline=baseline,
        dx=6 if align == "left" else -6,
        dy=-6 if baseline == "bottom" else 6,
        color=set_colour(place["name"].split(":")[0]),
        fontWeight="bold",
    )
    return text.encode(x="x:Q", y="y:Q", text="name:N", description="name:N")


def heads(section: Section, sets: Sequence[str]) -> Any:
    """Return each head's histogram, coloured by the sets, with the cuts."""
    edges = section["edges"]
    panels = []
    for letter, head in zip("SR", HEADS, strict=True):
        counts = {name: section["heads"][head]["counts"][name] for name in sets}
        bars = stacked(edges, counts, partial(_bin, letter, edges))
        scale = points(*_shown(bars, edges, "x", "x2"))
        x = alt.X("x:Q", title=f"{head} ({letter})", **scale)
        cuts = zip(section["cuts"][head], "<>", strict=True)
        marks = [{"x": cut, "label": f"{letter} {sign} T: {cut:.4f}"} for cut, sign in cuts]
        chart = boxes(bars, x, alt.Y("y:Q", **count_axis(4)), colour_by("set:N", sets))
        lines = dashed(marks, x=alt.X("x:Q", scale=scale["scale"]))
        panels.append((chart + lines).properties(width=WIDTH - 66, height=152))
    return alt.vconcat(*panels, spacing=16)


def shares_by_threshold(section: Section) -> Any:
    """Return the share of each set over one threshold on both heads, the chosen one marked."""
    records = []
    for row, name in product(section["shares"], section["sets"]):
        label = f"T {row['threshold']:g}, {name}: {row[name]:.4f}"
        records.append({"t": row["threshold"], "share": row[name], "name": name, "label": label})
    y = alt.Y("share:Q", title="share of the dialogues", axis=percent_axis(), scale=UNIT)
    lines = over_thresholds(records, y, colour_by("name:N", section["sets"]))
    return fitted(chosen_marks(section["chosen"]), *lines, height=330)


def _bin(letter: str, edges: Sequence[float], k: int) -> str:
    """Return how a bin is called: a judge's whole number, or where it begins and ends."""
    low, high = edges[k], edges[k + 1]
    return f"{letter} {low + 0.5:g}" if high - low == 1 else f"{letter} {low:g}–{high:g}"


def _shown(records: Sequence[Section], edges: Sequence[float], *fields: str) -> tuple[float, float]:
    """Return the part of the scale that holds anything, in whole points; whole numbers have bins from half to half."""
    ends = [record[field] for record in records for field in fields]
    low, high = min(ends), max(ends)
    return (low, high) if edges[1] - edges[0] == 1 else (float(low // 1), float(-(-high // 1)))
