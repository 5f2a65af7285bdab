"""Every figure of a watch as JSON, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from scorer.dialogue import HEADS
from selection.watching.alerts import Alerts, findings, plain_alert
from selection.watching.counting.cells import Cell
from selection.watching.counting.counts import Counts, cell_of, joined
from selection.watching.counting.drift import Figure, ks, mean_changes, psi, share_change
from selection.watching.counting.reference import Reference, compared
from selection.watching.hints import hints
from selection.watching.settings import WatchSettings

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CURVE = 5
"""Bins of a cell that are one bin of the picture of a distribution."""


def snapshot_of(
    counts: Counts, settings: WatchSettings, given: Reference | None, alerts: Alerts, sources: list[str]
) -> dict[str, Any]:
    """Return every figure, without NaN."""
    reference, rows = compared(counts, given)
    latest = max(counts.windows, default=None)
    by_category = counts.cells()
    error = 0.05 / (len(HEADS) * max(1, len(by_category)))  # so that all of their intervals hold together
    categories = {
        counts.title(category): {
            "all": figures(cell),
            "window": figures(counts.windows[latest].get(category, Cell())) if latest else figures(Cell()),
            "moved": _moved(counts.title(category), cell_of(rows[rows["category"] == category]), reference, error),
        }
        for category, cell in by_category.items()
        if len(cell)
    }
    found = list(findings(counts, given, settings))
    open_names = [alert.name for alert in alerts.open]
    wanted = counts.wanted if given is None else 0
    shown: dict[str, Any] = _rounded(
        {
            "total": counts.total,
            "first": min((key[0] for key in counts.windows if key[1]), default=None),
            "latest": float(counts.recent["time"][-1]) if len(counts.recent) else None,
            "span": counts.span,
            "all": figures(joined(by_category.values())),
            "recent": figures(cell_of(counts.recent)) | _recent(counts),
            "reference": None
            if reference is None
            else figures(reference.whole) | {"name": reference.name, "curves": _curves(reference.whole)},
            "gathering": [len(joined(counts.reference.values())), wanted] if wanted and reference is None else None,
            "drift": None
            if reference is None or not len(rows)
            else _drift(reference, cell_of(rows), counts.recent_outside),
            "windows": {f"{key[0]}+{key[1]}": _window(counts, key, reference) for key in sorted(counts.windows)},
            "categories": categories,
            "findings": [asdict(one) for one in found],
            "alerts": [plain_alert(alert) for alert in reversed(alerts.entries)],
            "hints": [asdict(hint) for hint in hints(counts, found, open_names, given, sources, _largest(categories))],
            "moved": counts.moved,
            "lows": counts.lows[::-1],
        }
    )
    return shown


def figures(cell: Cell) -> dict[str, Any]:
    """Return the figures of a cell."""
    outside, known = cell.outside
    return {
        "count": len(cell),
        "means": cell.means.tolist(),
        "deviations": (cell.variances**0.5).tolist(),
        "quantiles": [cell.quantiles(i, QUANTILES) for i in range(len(HEADS))],
        "sets": cell.sets,
        "low": cell.low,
        "outside": outside,
        "outside_known": known,
    }


def _recent(counts: Counts) -> dict[str, Any]:
    outside, known = counts.recent_outside
    return {"outside": outside, "outside_known": known, "curves": _curves(cell_of(counts.recent))}


def _curves(cell: Cell) -> list[list[float]]:
    """Return the share of dialogues in each quarter of a point, for both scores."""
    return [
        (cell.histogram(i).reshape(-1, _CURVE).sum(axis=1) / max(1, len(cell))).round(5).tolist()
        for i in range(len(HEADS))
    ]


def _window(counts: Counts, key: tuple[int, int], reference: Reference | None) -> dict[str, Any]:
    cell = joined(counts.windows[key].values())
    found = figures(cell) | {"start": key[0], "span": key[1]}
    if reference is not None and len(cell):
        found["ks"] = [asdict(ks(reference.whole.histogram(i), cell.histogram(i))) for i in range(len(HEADS))]
    return found


def _drift(reference: Reference, cell: Cell, outside: tuple[int, int]) -> dict[str, Any]:
    size = len(reference.whole)
    means = mean_changes(reference.whole, cell)
    known = reference.whole.outside, outside
    changes: dict[str, Figure] = {
        name: share_change((reference.whole.sets[name], size), (count, len(cell))) for name, count in cell.sets.items()
    }
    changes["low"] = share_change((reference.whole.low, size), (cell.low, len(cell)))
    if known[0][1] and known[1][1]:
        changes["outside"] = share_change(*known)
    return {
        "of": len(cell),
        "heads": {
            head: {
                "ks": asdict(ks(reference.whole.histogram(i), cell.histogram(i))),
                "psi": asdict(psi(reference.whole.histogram(i), cell.histogram(i))),
                "mean": asdict(means[i]),
            }
            for i, head in enumerate(HEADS)
        },
        "shares": {name: asdict(figure) for name, figure in changes.items()},
    }


def _moved(name: str, cell: Cell, reference: Reference | None, error: float) -> list[dict[str, float]] | None:
    """Return by how much a category's means are larger than in the reference, None where it is not there."""
    before = reference.categories.get(name) if reference is not None else None
    if before is None or min(len(before), len(cell)) < 2:
        return None
    return [asdict(one) for one in mean_changes(before, cell, error)]


def _largest(categories: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the category whose mean moved most beyond chance, of several."""
    found = [
        {"name": name, "head": head, **one["moved"][i]}
        for name, one in categories.items()
        for i, head in enumerate(HEADS)
        if one["moved"] is not None and one["moved"][i]["low"] * one["moved"][i]["high"] > 0
    ]
    return max(found, key=lambda one: abs(one["value"])) if found and len(categories) > 1 else None


def _rounded(value: Any) -> Any:
    """Return a value as JSON holds it: NaN is null, numbers of six digits are enough."""
    if isinstance(value, dict):
        return {name: _rounded(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) and abs(value) < 1e6 else value if isfinite(value) else None
    return value


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of ``now`` differs: of a mapping the keys that differ, None for one that is gone; else all of it."""
    found: dict[str, Any] = {}
    for name, value in now.items():
        old = before.get(name)
        if value == old:
            continue
        if isinstance(value, dict) and isinstance(old, dict) and name in ("windows", "categories"):
            found[name] = {key: entry for key, entry in value.items() if old.get(key) != entry}
            found[name] |= {key: None for key in old if key not in value}
        else:
            found[name] = value
    return found
