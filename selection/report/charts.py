"""Every chart of a report as SVG, by name: those of its sections that have data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selection.report import charts_drift, charts_groups, charts_judge, charts_scores
from selection.report.drawing import to_svg

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
    scores = source["distributions"]
    found: dict[str, tuple[Any, str]] = {
        "joint": (charts_scores.joint(scores, sets), "Joint histogram of sensibility and rationality"),
        "heads": (charts_scores.heads(scores, sets), "Histograms of sensibility and of rationality by set"),
        "thresholds": (charts_scores.thresholds(source["thresholds"]), "Share of each set by threshold"),
        "correlations": (charts_groups.correlations(source["correlations"]), "Matrix of correlations"),
    }
    if "rows" in source["categories"]:
        section = source["categories"]
        found["categories"] = (charts_groups.categories(section, first), f"Share of the {first} set by category")
        found["category_heat"] = (charts_groups.category_heat(section, sets), "Means and shares by category")
    if "words" in source["lengths"]:
        section = source["lengths"]
        whole = section["overall"]
        for name, title in (("words", "words of the response"), ("turns", "turns, with the response")):
            chart = charts_groups.lengths(section[name], whole, title, first)
            found[name] = (chart, f"Share of the {first} set and mean scores by {title}")
    return found | _doubt(source, first) | _judge(source, first)


def _doubt(source: Figures, first: str) -> dict[str, tuple[Any, str]]:
    if "chance" not in source["stability"]:
        return {}
    return {"chances": (charts_judge.chances(source["stability"], first), "How sure each dialogue's place is")}


def _judge(source: Figures, first: str) -> dict[str, tuple[Any, str]]:
    section = source["agreement"]
    if "sets" not in section:
        return {}
    at = source["thresholds"]["chosen"]
    found = {
        "confusion": (charts_judge.confusion(section["sets"]), "The judge's sets against the selection's"),
        "f1": (charts_judge.f1_by_threshold(section["by_threshold"], at, first), "F1 by threshold"),
    }
    if section["calibration"]:
        chart = charts_judge.calibration(section["calibration"], first)
        found["calibration"] = (chart, "Predicted chance against what the judge decided")
    return found


def _several(figures: Figures) -> dict[str, tuple[Any, str]]:
    sources = figures["sources"]
    sets = list(dict.fromkeys(name for source in sources for name in source["overview"]["sets"]))
    found = {
        "shares": (charts_drift.shares(sources, sets), "Shares of the sets in each source"),
        "quantiles": (charts_drift.quantiles(sources), "Distribution of the scores in each source"),
        "thresholds": (charts_drift.thresholds(sources, sets[0]), "Share of the first set by threshold and source"),
    }
    for number, source in enumerate(sources[:MOST_JOINTS], start=1):
        own = list(source["overview"]["sets"])
        found[f"joint{number}"] = (
            charts_scores.joint(source["distributions"], own, whole_scale=True),
            f"Joint histogram of both scores, {source['label']}",
        )  # fmt: skip
    return found
