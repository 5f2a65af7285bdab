"""The chart of the README: dialogues per second, one bar per row, readable on white and on black."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

from scorer.outputs import replacing, replacing_binary

_TEXT = "#768390"  # contrast of 3.9 on white and 4.9 on GitHub's dark page
_OURS, _PEER = "#2f81f7", "#8b949e"
_FONT = "Helvetica, Arial, sans-serif"
_BAR = 22


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Write the rows that score end to end as .svg or .png, this package in blue, the fastest on top."""
    bars = [
        {
            "row": f"{row['title']}, {row['precision']}",
            "rate": row["rate"],
            "label": f"{row['rate']:,.0f}",
            "colour": _OURS if row["kind"] == "ours" else _PEER,
        }
        for row in report["rows"]
        if "reason" not in row and row["kind"] in ("ours", "peer")
    ]
    base = alt.Chart(alt.Data(values=bars)).encode(
        y=alt.Y("row:N", sort="-x", title=None, axis=alt.Axis(labelLimit=0, ticks=False, domain=False, labelPadding=8)),
        x=alt.X("rate:Q", title="dialogues per second, file to file", axis=alt.Axis(grid=False, tickCount=5)),
    )
    bar = base.mark_bar(height=_BAR - 6, cornerRadiusEnd=2).encode(color=alt.Color("colour:N", scale=None))
    figure = base.mark_text(align="left", dx=5, color=_TEXT, fontSize=12).encode(text="label:N")
    chart = (
        (bar + figure)
        .properties(width=420, height=_BAR * len(bars))
        .configure(font=_FONT, background="transparent", padding=8)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_TEXT,
            titleColor=_TEXT,
            domainColor=_TEXT,
            tickColor=_TEXT,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
    )
    if path.suffix == ".png":
        with replacing_binary(path) as binary:
            chart.save(binary, format="png", scale_factor=2)
    else:
        with replacing(path) as file:
            chart.save(file, format="svg")
