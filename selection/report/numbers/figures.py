"""The numbers of a report on one source, as plain dicts for JSON and the page; pure functions of arrays.

A section that lacks its data is ``{"needs": what it would take}``. Where a figure is not defined it is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.cuts import LEVELS, Cuts
from scorer.dialogue import HEADS
from selection.deciding.stability import DOUBT, deviations, under_error
from selection.deciding.threshold import bins_of, sweep
from selection.metrics import correlation, ranks
from selection.report.sources.rows import UNKNOWN, Rows
from selection.rules import PAPER

Section = dict[str, Any]
Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BIN = 0.25
"""Width of a histogram's bin, in points; a judge's whole numbers have bins of 1."""

SWEPT = np.round(np.arange(1, 9.01, 0.25), 2)
"""Thresholds at which the sweep is shown."""

SAMPLE = 50_000
"""Dialogues, chosen by the hash of their ids, on which what is drawn many times is estimated where there are more."""

STABILITY_DRAWS = 50
CATEGORIES = 48
"""Categories shown one by one, the most frequent; the others are one row."""

_NAME = 32
_WORDS = (1, 6, 11, 16, 21, 31, 51, 101)
_TURNS = (1, 2, 3, 4, 5, 6, 7, 8)
_Z = 1.959964


def overview(rows: Rows) -> Section:
    """Return the headline: dialogues, the sets with their borderline ones, mean scores."""
    count = len(rows)
    sizes = np.bincount(rows.sets, minlength=len(rows.names))
    doubtful = np.bincount(rows.sets[rows.borderline], minlength=len(rows.names))
    return {
        "dialogues": count,
        "judged": int(rows.judged.sum()),
        "sets": {
            name: {"count": int(sizes[k]), "share": float(sizes[k] / count), "borderline": int(doubtful[k])}
            for k, name in enumerate(rows.names)
        },
        "borderline": {"count": int(doubtful.sum()), "share": float(doubtful.sum() / count)},
    }


def distributions(rows: Rows) -> Section:
    """Return the joint histogram, its margins by set, the rule's regions, and each head's mean and quantiles."""
    scores, cuts = rows.scale
    whole = bool((scores == np.round(scores)).all())
    edges = np.arange(-0.5, 11) if whole else np.arange(0, 10 + BIN / 2, BIN)
    last = len(edges) - 2
    places = np.clip(np.floor((scores - edges[0]) / (edges[1] - edges[0])).astype(np.int64), 0, last)
    size = last + 1
    joint = np.bincount(places[:, 0] * size + places[:, 1], minlength=size * size).reshape(size, size)
    heads = {}
    for i, head in enumerate(HEADS):
        table = np.bincount(places[:, i] * len(rows.names) + rows.sets, minlength=size * len(rows.names))
        values = scores[:, i].astype(np.float64)
        quantiles = np.percentile(values, [5, 25, 50, 75, 95])
        heads[head] = {
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "quantiles": dict(zip(("5", "25", "50", "75", "95"), map(float, quantiles), strict=True)),
            "counts": {
                name: counts.tolist()
                for name, counts in zip(rows.names, table.reshape(size, len(rows.names)).T, strict=True)
            },
        }
    return {
        "scale": "judge" if rows.judged.any() else "scorer",
        "whole_numbers": whole,
        "edges": [float(edge) for edge in edges],
        "joint": [[int(a), int(b), int(joint[a, b])] for a, b in np.argwhere(joint)],
        "heads": heads,
        "cuts": _cuts_at(cuts, rows.threshold),
        "regions": _regions(rows, cuts),
    }


def _cuts_at(cuts: Cuts, threshold: tuple[float, float]) -> dict[str, list[float]]:
    """Return for each head the score below which it is < T and the one above which it is > T."""
    return {
        head: [float(value) for value in np.interp([at - 0.5, at + 0.5], LEVELS, cuts[head])]
        for head, at in zip(HEADS, threshold, strict=True)
    }


def _regions(rows: Rows, cuts: Cuts) -> list[Section]:
    """Return the rectangles in which a published rule takes dialogues into its first and its opposite set."""
    if rows.rule is None:
        return []
    (low_s, high_s), (low_r, high_r) = _cuts_at(cuts, rows.threshold).values()
    first = {"set": rows.rule.sets[0], "sensibility": [high_s, None], "rationality": [None, low_r]}
    opposite = {"set": rows.rule.sets[rows.rule.opposite], "sensibility": [None, low_s], "rationality": [high_r, None]}
    return [first, opposite]


def by_threshold(rows: Rows) -> Section:
    """Return the shares of the sets with one threshold on both heads, at each of ``SWEPT``."""
    rule = rows.rule or PAPER
    shares = sweep(bins_of(*rows.scale)).shares()
    table = [
        {
            "threshold": float(at),
            rule.sets[0]: shares[at][0],
            rule.sets[rule.opposite]: shares[at][1],
            rule.sets[3 - rule.opposite]: 1 - sum(shares[at]),
        }
        for at in SWEPT.tolist()
    ]
    own = dict(zip(HEADS, rows.threshold, strict=True))
    return {"rule": rule.name, "sets": list(rule.sets), "shares": table, "chosen": own}


def by_category(rows: Rows) -> Section:
    """Return a row a category, largest share of the first set first; past ``CATEGORIES`` the rare ones are one."""
    facts = rows.facts
    if facts is None or not (facts.categories != UNKNOWN).any():
        return {"needs": "dialogues with a category: a selection of such dialogues, or --dialogues IN."}
    sizes = np.bincount(facts.categories[facts.categories >= 0], minlength=len(facts.names))
    kept = np.argsort(-sizes, kind="stable")[:CATEGORIES]
    kept = kept[sizes[kept] > 0]
    group_of = np.full(len(facts.names) + 1, len(kept))  # the last entry is UNKNOWN's
    group_of[kept] = np.arange(len(kept))
    group_of[UNKNOWN] = UNKNOWN
    others = int((sizes > 0).sum()) - len(kept)
    names = [_printable(facts.names[k], k) for k in kept.tolist()] + ([f"{others} others"] if others else [])
    table = list(_groups(rows, group_of[facts.categories], names))
    table.sort(key=lambda row: (-row["kept"], row["name"]))
    return {
        "categories": int((sizes > 0).sum()),
        "without": int((facts.categories == UNKNOWN).sum()),
        "rows": table,
        "overall": _whole(rows),
    }


def _printable(name: str, number: int) -> str:
    """Return a category's name fit for a chart; one that had to be changed is told apart by its number."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if text == name and 0 < len(name) <= _NAME else f"{text[:_NAME]}… ({number})"


def by_length(rows: Rows) -> Section:
    """Return a row a number of words of the response, and a row a number of turns."""
    facts = rows.facts
    if facts is None or not (facts.words != UNKNOWN).any():
        return {"needs": "the dialogues themselves: a selection folder, or --dialogues IN."}
    return {
        "words": list(_binned(rows, facts.words, _WORDS)),
        "turns": list(_binned(rows, facts.turns, _TURNS)),
        "overall": _whole(rows),
    }


def _binned(rows: Rows, values: npt.NDArray[np.integer], starts: Sequence[int]) -> Iterator[Section]:
    groups = np.where(values == UNKNOWN, UNKNOWN, np.searchsorted(starts, np.maximum(values, 1), side="right") - 1)
    ends = [start - 1 for start in starts[1:]]
    names = [f"{a}" if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=False)] + [f"{starts[-1]}+"]
    yield from _groups(rows, groups, names)


def _groups(rows: Rows, groups: npt.NDArray[np.integer], names: Sequence[str]) -> Iterator[Section]:
    """Yield for each group of dialogues that is not empty its size, share of each set and mean scores."""
    known = groups >= 0
    part = groups[known].astype(np.int64)
    sizes = np.bincount(part, minlength=len(names))
    sets = np.bincount(part * len(rows.names) + rows.sets[known], minlength=len(names) * len(rows.names))
    table = sets.reshape(len(names), len(rows.names))
    doubtful = np.bincount(part, weights=rows.borderline[known], minlength=len(names))
    scores = rows.scale[0]
    sums = [np.bincount(part, weights=scores[known, i], minlength=len(names)) for i in range(len(HEADS))]
    for k, name in enumerate(names):
        if sizes[k]:
            count = int(sizes[k])
            yield {
                "name": name,
                "count": count,
                "kept": float(table[k, 0] / count),
                "kept_interval": wilson(int(table[k, 0]), count),
                "borderline": float(doubtful[k] / count),
                "shares": {own: float(table[k, j] / count) for j, own in enumerate(rows.names)},
                **{head: float(sums[i][k] / count) for i, head in enumerate(HEADS)},
            }


def _whole(rows: Rows) -> Section:
    return next(_groups(rows, np.zeros(len(rows), dtype=np.int64), ["all"]))


def correlations(rows: Rows) -> Section:
    """Return Pearson's and Spearman's correlation of the heads, and of each with turns and words where known."""
    facts = rows.facts
    columns = {head: rows.scale[0][:, i].astype(np.float64) for i, head in enumerate(HEADS)}
    known = np.ones(len(rows), dtype=bool)
    if facts is not None and (facts.words != UNKNOWN).any():
        known = facts.words != UNKNOWN
        columns |= {"turns": facts.turns.astype(np.float64), "words": facts.words.astype(np.float64)}
    names = list(columns)
    ones = np.ones(int(known.sum()))
    values = {name: column[known] for name, column in columns.items()}
    ranked = {name: ranks(column, ones) for name, column in values.items()}
    pairs = [
        {
            "first": a,
            "second": b,
            "pearson": correlation(values[a], values[b], ones),
            "spearman": correlation(ranked[a], ranked[b], ones),
        }
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    return {"dialogues": int(known.sum()), "names": names, "pairs": pairs}


def stability(rows: Rows) -> Section:
    """Return how far the sets are from a judge's, by the scorer's own error, and how sure each dialogue's place is."""
    if rows.chance is None:
        return {
            "needs": "scores whose error is known: of a scorer with half-widths, read by its own cuts.",
            "borderline_means": "one score a point higher or lower would change the set",
        }
    share, inside = rows.chance.astype(np.float64), rows.mask_of_first
    edges = np.linspace(0, 1, 21)
    place = np.minimum((share * 20).astype(np.int64), 19)
    counts = np.bincount(place * 2 + inside, minlength=40).reshape(20, 2)
    expected = float(share[inside].sum())
    return {
        "borderline_means": f"the judge would decide otherwise on the first set with a chance of at least {DOUBT:g}",
        "chance": {"edges": edges.tolist(), "outside": counts[:, 0].tolist(), "inside": counts[:, 1].tolist()},
        "expected_precision": expected / int(inside.sum()),
        "expected_recall": expected / float(share.sum()) if share.sum() > 0 else float("nan"),
        "change": rows.info.get("stability") or _change(rows),
    }


def _change(rows: Rows) -> Section | None:
    """Return what ``empathy select`` says of stability, for scores that it has not dealt."""
    if rows.rule is None or rows.limited or rows.error is None:
        return None
    chosen = np.argsort(rows.hashes)[:SAMPLE]
    scores = rows.scores[chosen].astype(np.float64)
    spread = np.where(rows.judged[chosen, None], 0.0, deviations(rows.error, scores))
    sets = rows.sets[chosen].astype(np.int64)
    found = under_error(scores, spread, sets, rows.rule, rows.threshold, draws=STABILITY_DRAWS)
    return {
        "of": f"the judge's sets, drawn {STABILITY_DRAWS} times from the scorer's error",
        "dialogues": len(chosen),
        "moved": found.moved,
        "moved_interval_90": found.moved_interval,
        "jaccard": found.jaccard,
        "jaccard_interval_90": found.jaccard_interval,
    }


def reasons(rows: Rows) -> Section:
    """Return every reason with its set and how often it was given."""
    width = len(rows.texts)
    table = np.bincount(rows.sets.astype(np.int64) * width + rows.reasons, minlength=len(rows.names) * width)
    found = [
        {
            "set": rows.names[place // width],
            "reason": rows.texts[place % width],
            "count": int(table[place]),
            "share": float(table[place] / len(rows)),
        }
        for place in np.flatnonzero(table).tolist()
    ]
    order = {name: k for k, name in enumerate(rows.names)}
    return {"rows": sorted(found, key=lambda row: (order[row["set"]], -row["count"]))}


def wilson(part: float, whole: float) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); NaN of nothing."""
    if not whole:
        return float("nan"), float("nan")
    share, extra = part / whole, _Z**2 / whole
    middle = (share + extra / 2) / (1 + extra)
    half = _Z / (1 + extra) * float(np.sqrt(share * (1 - share) / whole + extra / (4 * whole)))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: NaN is null, a tuple a list."""
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
