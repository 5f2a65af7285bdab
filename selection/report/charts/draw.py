"""Every chart of a report as SVG, by name: those of its sections that have data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selection.report.charts import drift, groups, judge, scores
from selection.report.charts.style import to_svg

Figures = Mapping[str, Any]

MOST_JOINTS = 6
"""Sources whose joint histogram is drawn, the first ones."""


def draw(figures: Figures) -> dict[str, str]:
    """Return the charts of a report as SVG."""
    return {name: to_svg(name, chart, label) for name, (chart, label) in build(figures).items()}


def build(figures: Figures) -> dict[str, tuple[Any, str]]:
    """Return the charts of a report on one source, or on several side by side, and what each is called."""
    return _one(figures["sources"][0]) if len(figures["sources"]) == 1 else _several(figures)


def _one(source: Figures) -> dict[str, tuple[Any, str]]:
    sets = list(source["overview"]["sets"])
    first = sets[0]
    distributions = source["distributions"]
    found: dict[str, tuple[Any, str]] = {
        "joint": (scores.joint(distributions, sets), "Joint histogram of sensibility and rationality"),
        "heads": (scores.heads(distributions, sets), "Histograms of sensibility and of rationality by set"),
        "thresholds": (scores.thresholds(source["thresholds"]), "Share of each set by threshold"),
        "correlations": (groups.correlations(source["correlations"]), "Matrix of correlations"),
    }
    if "rows" in source["categories"]:
        section = source["categories"]
        found["categories"] = (groups.categories(section, first), f"Share of the {first} set by category")
        found["category_heat"] = (groups.category_heat(section, sets), "Means and shares by category")
    if "words" in source["lengths"]:
        section = source["lengths"]
        whole = section["overall"]
        for name, title in (("words", "words of the response"), ("turns", "turns, with the response")):
            chart = groups.lengths(section[name], whole, title, first)
            found[name] = (chart, f"Share of the {first} set and mean scores by {title}")
    return found | _doubt(source, first) | _judge(source, first)


def _doubt(source: Figures, first: str) -> dict[str, tuple[Any, str]]:
    if "chance" not in source["stability"]:
        return {}
    return {"chances": (judge.chances(source["stability"], first), "How sure each dialogue's place is")}


def _judge(source: Figures, first: str) -> dict[str, tuple[Any, str]]:
    section = source["agreement"]
    if "sets" not in section:
        return {}
    at = source["thresholds"]["chosen"]
    found = {
        "confusion": (judge.confusion(section["sets"]), "The judge's sets against the selection's"),
        "f1": (judge.f1_by_threshold(section["by_threshold"], at, first), "F1 by threshold"),
    }
    if section["calibration"]:
        chart = judge.calibration(section["calibration"], first)
        found["calibration"] = (chart, "Predicted chance against what the judge decided")
    return found


def _several(figures: Figures) -> dict[str, tuple[Any, str]]:
    sources = figures["sources"]
    sets = list(dict.fromkeys(name for source in sources for name in source["overview"]["sets"]))
    found = {
        "shares": (drift.shares(sources, sets), "Shares of the sets in each source"),
        "quantiles": (drift.quantiles(sources), "Distribution of the scores in each source"),
        "thresholds": (drift.thresholds(sources, sets[0]), "Share of the first set by threshold and source"),
    }
    for number, source in enumerate(sources[:MOST_JOINTS], start=1):
        own = list(source["overview"]["sets"])
        found[f"joint{number}"] = (
            scores.joint(source["distributions"], own, whole_scale=True),
            f"Joint histogram of both scores, {source['label']}",
        )
    return found
