"""Every chart of a report as SVG, by name: those of its sections that have data."""

from __future__ import annotations

from typing import Any

from selection.report.charts import drift, groups, judge, scores
from selection.report.charts.style import to_svg
from selection.report.numbers import Section

MOST_JOINTS = 6
"""Sources whose joint histogram is drawn, the first ones."""

Charts = dict[str, tuple[Any, str]]
"""Altair charts by name, and what each is called."""


def draw_report(figures: Section) -> dict[str, str]:
    """Return the charts of a report as SVG."""
    return {name: to_svg(name, chart, label) for name, (chart, label) in charts_of(figures).items()}


def charts_of(figures: Section) -> Charts:
    """Return the charts of a report on one source, or on several side by side."""
    sources = figures["sources"]
    return _one(sources[0]) if len(sources) == 1 else _several(sources)


def _one(source: Section) -> Charts:
    sets = list(source["overview"]["sets"])
    first = sets[0]
    spread, by_threshold, by_category = source["distributions"], source["thresholds"], source["categories"]
    found: Charts = {
        "joint": (scores.joint(spread, sets), "Joint histogram of sensibility and rationality"),
        "heads": (scores.heads(spread, sets), "Histograms of sensibility and of rationality by set"),
        "thresholds": (scores.shares_by_threshold(by_threshold), "Share of each set by threshold"),
        "correlations": (groups.correlation_matrix(source["correlations"]), "Matrix of correlations"),
    }
    if "rows" in by_category:
        found["categories"] = (groups.categories(by_category, first), f"Share of the {first} set by category")
        found["category_heat"] = (groups.category_heat(by_category, sets), "Means and shares by category")
    if "words" in source["lengths"]:
        rows, whole = source["lengths"], source["lengths"]["overall"]
        for name, title in (("words", "words of the response"), ("turns", "turns, with the response")):
            chart = groups.lengths(rows[name], whole, title, first)
            found[name] = (chart, f"Share of the {first} set and mean scores by {title}")
    if "chance" in source["stability"]:
        found["chances"] = (judge.chances(source["stability"], first), "How sure each dialogue's place is")
    agreement = source["agreement"]
    if "sets" in agreement:
        f1 = judge.f1_by_threshold(agreement["by_threshold"], by_threshold["chosen"], first)
        found["confusion"] = (judge.confusion(agreement["sets"]), "The judge's sets against the selection's")
        found["f1"] = (f1, "F1 by threshold")
        if agreement["calibration"]:
            chart = judge.calibration(agreement["calibration"], first)
            found["calibration"] = (chart, "Predicted chance against what the judge decided")
    return found


def _several(sources: list[Section]) -> Charts:
    sets = list(dict.fromkeys(name for source in sources for name in source["overview"]["sets"]))
    by_threshold = drift.first_set_by_threshold(sources, sets[0])
    found: Charts = {
        "shares": (drift.set_bars(sources, sets), "Shares of the sets in each source"),
        "quantiles": (drift.quantiles(sources), "Distribution of the scores in each source"),
        "thresholds": (by_threshold, "Share of the first set by threshold and source"),
    }
    for number, source in enumerate(sources[:MOST_JOINTS], start=1):
        chart = scores.joint(source["distributions"], list(source["overview"]["sets"]), whole_scale=True)
        found[f"joint{number}"] = (chart, f"Joint histogram of both scores, {source['label']}")
    return found
