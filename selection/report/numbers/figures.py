"""The numbers of a report on one source: pure functions of arrays. Where a figure is not defined it is NaN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from msgspec import to_builtins

from scorer.arrays import Codes, Ints
from scorer.bundle.cuts import LEVELS, Cuts
from scorer.bundle.probed import probe_table, probe_verdict
from scorer.dialogue import HEADS
from selection.deciding.threshold import bins_of, sweep
from selection.metrics import correlation, ranks, ratio, wilson
from selection.report.numbers import Section
from selection.report.sources.rows import UNKNOWN, Rows
from selection.rules import PAPER
from selection.settings import DOUBT

SWEPT = np.round(np.arange(1, 9.01, 0.25), 2)
"""Thresholds at which the sweep is shown."""

CATEGORIES = 48
"""Categories shown one by one, the most frequent; the others are one row."""

_BIN = 0.25  # points; a judge's whole numbers have bins of 1
_QUANTILES = (5, 25, 50, 75, 95)
_NAME = 32
_WORDS = (1, 6, 11, 16, 21, 31, 51, 101)
_TURNS = (1, 2, 3, 4, 5, 6, 7, 8)


def overview(rows: Rows) -> Section:
    """Return the headline: dialogues, the sets with their borderline ones, mean scores."""
    count = len(rows)
    sizes = np.bincount(rows.sets, minlength=len(rows.names)).tolist()
    doubtful = np.bincount(rows.sets[rows.borderline], minlength=len(rows.names)).tolist()
    return {
        "dialogues": count,
        "judged": int(rows.judged.sum()),
        "sets": {
            name: {"count": size, "share": size / count, "borderline": unsure}
            for name, size, unsure in zip(rows.names, sizes, doubtful, strict=True)
        },
        "borderline": {"count": sum(doubtful), "share": sum(doubtful) / count},
    }


def distributions(rows: Rows) -> Section:
    """Return the joint histogram, its margins by set, the rule's regions, and each head's mean and quantiles."""
    scores, cuts = rows.scale
    whole = bool((scores == np.round(scores)).all())
    edges = np.arange(-0.5, 11) if whole else np.arange(0, 10 + _BIN / 2, _BIN)
    size, kinds = len(edges) - 1, len(rows.names)
    places = np.clip(np.floor((scores - edges[0]) / (edges[1] - edges[0])).astype(np.int64), 0, size - 1)
    joint = np.bincount(places[:, 0] * size + places[:, 1], minlength=size * size).reshape(size, size)
    heads = {}
    for i, head in enumerate(HEADS):
        table = np.bincount(places[:, i] * kinds + rows.sets, minlength=size * kinds).reshape(size, kinds)
        values = scores[:, i].astype(np.float64)
        heads[head] = {
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "quantiles": dict(zip(map(str, _QUANTILES), np.percentile(values, _QUANTILES).tolist(), strict=True)),
            "counts": dict(zip(rows.names, table.T.tolist(), strict=True)),
        }
    at = _cuts_at(cuts, rows.info.threshold)
    return {
        "scale": "judge" if rows.judged.any() else "scorer",
        "whole_numbers": whole,
        "edges": edges.tolist(),
        "joint": [[s, r, int(joint[s, r])] for s, r in np.argwhere(joint).tolist()],
        "heads": heads,
        "cuts": at,
        "regions": _regions(rows, at),
    }


def _cuts_at(cuts: Cuts, threshold: tuple[float, float]) -> dict[str, list[float]]:
    """Return for each head the score below which it is < T and the one above which it is > T."""
    return {
        head: np.interp([at - 0.5, at + 0.5], LEVELS, cuts[head]).tolist()
        for head, at in zip(HEADS, threshold, strict=True)
    }


def _regions(rows: Rows, cuts_at: dict[str, list[float]]) -> list[Section]:
    """Return the rectangles in which a published rule takes dialogues into its first and its opposite set."""
    if rows.rule is None:
        return []
    (low_s, high_s), (low_r, high_r) = cuts_at.values()
    first = {"set": rows.rule.sets[0], "sensibility": [high_s, None], "rationality": [None, low_r]}
    opposite = {"set": rows.rule.sets[rows.rule.opposite], "sensibility": [None, low_s], "rationality": [high_r, None]}
    return [first, opposite]


def by_threshold(rows: Rows) -> Section:
    """Return the shares of the sets with one threshold on both heads, at each of ``SWEPT``."""
    rule = rows.rule or PAPER
    shares = sweep(bins_of(*rows.scale)).shares()
    table = [
        {
            "threshold": at,
            rule.sets[0]: shares[at][0],
            rule.sets[rule.opposite]: shares[at][1],
            rule.sets[3 - rule.opposite]: 1 - sum(shares[at]),
        }
        for at in SWEPT.tolist()
    ]
    chosen = dict(zip(HEADS, rows.info.threshold, strict=True))
    return {"rule": rule.name, "sets": list(rule.sets), "shares": table, "chosen": chosen}


def by_category(rows: Rows) -> Section:
    """Return a row per category, largest share of the first set first; past ``CATEGORIES`` the rare ones share one."""
    facts = rows.facts
    if facts is None or not (facts.categories != UNKNOWN).any():
        return {"needs": "dialogues with a category: a selection of such dialogues, or --dialogues IN."}
    sizes = np.bincount(facts.categories[facts.categories >= 0], minlength=len(facts.names))
    kept = np.argsort(-sizes, kind="stable")[:CATEGORIES]
    kept = kept[sizes[kept] > 0]
    group_of = np.full(len(facts.names) + 1, len(kept))  # the last entry is UNKNOWN's
    group_of[kept] = np.arange(len(kept))
    group_of[UNKNOWN] = UNKNOWN
    count = int((sizes > 0).sum())
    others = [f"{count - len(kept)} others"] if count > len(kept) else []
    names = [_printable(facts.names[k], k) for k in kept.tolist()] + others
    return {
        "categories": count,
        "without": int((facts.categories == UNKNOWN).sum()),
        "rows": sorted(_groups(rows, group_of[facts.categories], names), key=lambda row: (-row["kept"], row["name"])),
        "overall": _whole(rows),
    }


def _printable(name: str, number: int) -> str:
    """Return a category's name fit for a chart; one that had to be changed also shows its number."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if text == name and 0 < len(name) <= _NAME else f"{text[:_NAME]}… ({number})"


def by_length(rows: Rows) -> Section:
    """Return a row per number of words in the response, and a row per number of turns."""
    facts = rows.facts
    if facts is None or not (facts.words != UNKNOWN).any():
        return {"needs": "the dialogues themselves: a selection folder, or --dialogues IN."}
    return {
        "words": _binned(rows, facts.words, _WORDS),
        "turns": _binned(rows, facts.turns, _TURNS),
        "overall": _whole(rows),
    }


def _binned(rows: Rows, values: Codes, starts: Sequence[int]) -> list[Section]:
    groups = np.where(values == UNKNOWN, UNKNOWN, np.searchsorted(starts, np.maximum(values, 1), side="right") - 1)
    ends = [start - 1 for start in starts[1:]]
    names = [f"{a}" if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=False)] + [f"{starts[-1]}+"]
    return list(_groups(rows, groups, names))


def _groups(rows: Rows, groups: Ints, names: Sequence[str]) -> Iterator[Section]:
    """Yield for each group of dialogues that is not empty its size, share of each set and mean scores."""
    known = groups >= 0
    part, kinds, size = groups[known].astype(np.int64), len(rows.names), len(names)

    def sums(weights: Any = None) -> list[Any]:
        return list(np.bincount(part, weights=weights, minlength=size).tolist())

    sets = np.bincount(part * kinds + rows.sets[known], minlength=size * kinds).reshape(size, kinds).tolist()
    scores = [sums(column) for column in rows.scale[0][known].T]
    columns = zip(names, sums(), sets, sums(rows.borderline[known]), *scores, strict=True)
    for name, count, in_set, doubtful, *totals in columns:
        if count:
            yield {
                "name": name,
                "count": count,
                "kept": in_set[0] / count,
                "kept_interval": wilson(in_set[0], count),
                "borderline": doubtful / count,
                "shares": {own: part / count for own, part in zip(rows.names, in_set, strict=True)},
                **{head: total / count for head, total in zip(HEADS, totals, strict=True)},
            }


def _whole(rows: Rows) -> Section:
    return next(_groups(rows, np.zeros(len(rows), dtype=np.int64), ["all"]))


def correlations(rows: Rows) -> Section:
    """Return Pearson's and Spearman's correlation of the heads, and of each with turns and words where known."""
    facts = rows.facts
    columns = {head: rows.scale[0][:, i] for i, head in enumerate(HEADS)}
    known = np.ones(len(rows), dtype=bool)
    if facts is not None and (facts.words != UNKNOWN).any():
        known = facts.words != UNKNOWN
        columns |= {"turns": facts.turns, "words": facts.words}
    ones = np.ones(int(known.sum()))
    values = {name: column[known].astype(np.float64) for name, column in columns.items()}
    ranked = {name: ranks(column, ones) for name, column in values.items()}
    pairs = [
        {
            "first": a,
            "second": b,
            "pearson": correlation(values[a], values[b], ones),
            "spearman": correlation(ranked[a], ranked[b], ones),
        }
        for a, b in combinations(columns, 2)
    ]
    return {"dialogues": len(ones), "names": list(columns), "pairs": pairs}


def stability(rows: Rows) -> Section:
    """Return how far the sets are from a judge's, by the scorer's own error, and how sure each dialogue's place is."""
    if rows.chance is None:
        return {
            "needs": "scores whose error is known: of a scorer with half-widths, read by its own cuts.",
            "borderline_means": "one score a point higher or lower would change the set",
        }
    share, inside = rows.chance.astype(np.float64), rows.sets == 0
    place = np.minimum((share * 20).astype(np.int64), 19)
    outside_inside = np.bincount(place * 2 + inside, minlength=40).reshape(20, 2).T.tolist()
    expected = float(share[inside].sum())
    return {
        "borderline_means": f"the judge would decide otherwise on the first set with a chance of at least {DOUBT:g}",
        "chance": {"edges": np.linspace(0, 1, 21).tolist(), "outside": outside_inside[0], "inside": outside_inside[1]},
        "expected_precision": expected / int(inside.sum()),
        "expected_recall": ratio(expected, float(share.sum())),
        "change": to_builtins(rows.info.stability),
    }


def behaviour(rows: Rows) -> Section:
    """Return what a probe found of the scorer, as it stands in the scores; the last cell of a row is its verdict."""
    found = rows.info.probe
    if found is None:
        return {"needs": "scores of a scorer that was probed when it was exported; `empathy probe` tries any scorer."}
    heading, *table = probe_table(found)
    shown = {"passed": found.passed, "verdict": probe_verdict(found), "heading": heading, "table": table}
    return {**found.to_json(), **shown}


def reasons(rows: Rows) -> Section:
    """Return every reason with its set and how often it was given, set by set and most often first."""
    width = len(rows.texts)
    counts = np.bincount(rows.sets.astype(np.int64) * width + rows.reasons, minlength=len(rows.names) * width)
    table = counts.reshape(-1, width)
    found = [
        {"set": name, "reason": rows.texts[k], "count": count, "share": count / len(rows)}
        for name, row in zip(rows.names, table, strict=True)
        for k in np.argsort(-row, kind="stable").tolist()
        if (count := int(row[k]))
    ]
    return {"rows": found}


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: NaN is null, a tuple a list."""
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
