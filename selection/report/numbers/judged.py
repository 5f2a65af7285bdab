"""What a judge's labels say of a selection: agreement with intervals, calibration of the doubt, cost avoided."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.cuts import JUDGE_CUTS
from scorer.dialogue import HEADS
from selection.deciding.stability import compare
from selection.errors import SelectionError
from selection.files.labels import LabelTable
from selection.metrics import Pair, bootstrap, counts, interval, kappa, ratio, resamples
from selection.metrics import all_figures as figures_of
from selection.report.numbers.figures import SAMPLE, SWEPT, wilson
from selection.report.sources.rows import Rows
from selection.rules import PAPER, states, to_levels

Section = dict[str, Any]
Array = npt.NDArray[np.float64]

DRAWS = 200
"""Bootstrap replicates of an interval."""

NEEDS_LABELS = "a judge's labels of some of these dialogues: --labels LABELS."
_HEAD_FIGURES = ("pearson", "spearman", "mae", "rmse", "quadratic_kappa")
_CHANCE_BINS = 10


def agreement(rows: Rows, labels: LabelTable | None) -> Section:
    """Return the agreement of scores and sets with a judge's labels, with 95 % intervals over conversations.

    Dialogues that a judge decided already say nothing of a scorer and are left out, unless all are such.
    SelectionError where no label is of a dialogue of ``rows``.
    """
    if labels is None:
        return {"needs": NEEDS_LABELS}
    mine, theirs, left_out = _joined(rows, labels)
    if not len(mine):
        return {"needs": f"labels of dialogues that the judge did not decide ({left_out:,} labels are of such)."}
    judge = labels.scores[theirs].astype(np.float64)
    _, group = np.unique(np.array([labels.conversations[k] for k in theirs]), return_inverse=True)
    scores, cuts = rows.scale
    pair = Pair.of(judge, rows.judge_scale[mine], to_levels(scores[mine], cuts))
    conversations = [str(number) for number in group]
    figures, intervals = figures_of(pair), bootstrap(pair, conversations, DRAWS)
    return {
        "dialogues": len(mine),
        "conversations": int(group.max()) + 1,
        "left_out": left_out,
        "draws": DRAWS,
        "labels": len(labels),
        "rejected_labels": len(labels.rejects),
        "heads": {
            head: {
                name: {"value": figures[f"{head}.{name}"], "interval": intervals[f"{head}.{name}"]}
                for name in _HEAD_FIGURES
            }
            for head in HEADS
        },
        "sets": _sets(rows, mine, judge, group),
        "by_threshold": _by_threshold(scores[mine], cuts, judge),
        "calibration": _calibration(rows, mine, judge),
        "judges": {"models": sorted(labels.judges.models), "rubrics": sorted(labels.judges.rubrics)},
    }


def redraws(rows: Rows, labels: LabelTable | None) -> Section:
    """Return how the judge's own sets change when it judges again: two judgements of the same dialogues."""
    if labels is None or not len(labels.first):
        return {"needs": "labels with two judgements of a dialogue, for how far the judge agrees with itself."}
    rule, threshold = rows.rule or PAPER, _judge_threshold(rows)
    first, second = (rule.apply(scores, JUDGE_CUTS, threshold) for scores in (labels.first, labels.second))
    change = compare(first, second, rule.sets)
    return {"dialogues": len(first), "moved": change.moved, "jaccard": change.jaccard}


def cost(rows: Rows, labels: LabelTable | None, price: float | None) -> Section:
    """Return how many judge calls the scorer saved, and the money where a price is known.

    The price of a judgement is that of the labels, else of the judge of the selection, else ``price``.
    """
    judged = rows.judged.copy()
    if labels is not None:
        judged |= labels.rows_of(rows.hashes) >= 0
    avoided = int((~judged).sum())
    known: list[tuple[float | None, str]] = [
        (None if labels is None else labels.judges.price, "the mean of the labels' own cost_usd"),
        ((rows.info.get("judge") or {}).get("usd_a_judgement"), "the mean of the selection's judgements"),
        (price, "given with --judge-price"),
    ]
    for value, source in known:
        if value is not None:
            return {
                "judged": int(judged.sum()),
                "avoided": avoided,
                "price": value,
                "price_is": source,
                "usd_spent": int(judged.sum()) * value,
                "usd_avoided": avoided * value,
                "usd_all": len(rows) * value,
            }
    return {
        "judged": int(judged.sum()),
        "avoided": avoided,
        "needs": "a price for the money: labels with judge.cost_usd (--labels LABELS), or --judge-price USD.",
    }


def _joined(rows: Rows, labels: LabelTable) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Return the labelled rows and their labels, at most ``SAMPLE`` of them, and how many a judge had decided."""
    theirs = labels.rows_of(rows.hashes)
    mine = np.flatnonzero(theirs >= 0)
    if not len(mine):
        raise SelectionError(
            f"none of the {len(labels):,} labels is of a dialogue of {rows.name}: their ids do not match; label and "
            "score the same corpus, or give its dialogues the same ids"
        )
    left_out = 0
    if rows.mixed:
        left_out = int(rows.judged[mine].sum())
        mine = mine[~rows.judged[mine]]
    mine = np.sort(mine[np.argsort(rows.hashes[mine], kind="stable")[:SAMPLE]])
    return mine, theirs[mine], left_out


def _sets(rows: Rows, mine: npt.NDArray[np.int64], judge: Array, group: npt.NDArray[np.int64]) -> Section:
    """Return the confusion of the judge's sets (rows) with the selection's (columns), and what follows from it."""
    rule = rows.rule or PAPER
    threshold = _judge_threshold(rows)
    wanted = rule.apply(judge, JUDGE_CUTS, threshold)
    own = rows.sets[mine].astype(np.int64)
    size = max(len(rule.sets), len(rows.names))
    drawn = [
        _set_figures(counts(wanted, own, size, weights), rule.sets, rows.names)
        for weights in resamples(group, DRAWS, 0)
    ]
    table = counts(wanted, own, size, np.ones(len(mine)))
    figures = {
        name: {"value": value, "interval": interval([entry[name] for entry in drawn])}
        for name, value in _set_figures(table, rule.sets, rows.names).items()
    }
    return {
        "threshold": list(threshold),
        "judge_sets": list(rule.sets),
        "sets": list(rows.names),
        "confusion": table[: len(rule.sets), : len(rows.names)].astype(int).tolist(),
        "figures": figures,
    }


def _set_figures(table: Array, wanted: tuple[str, ...], own: tuple[str, ...]) -> dict[str, float]:
    hits, taken, all_wanted = table[0, 0], table[:, 0].sum(), table[0].sum()
    figures = {"precision": ratio(hits, taken), "recall": ratio(hits, all_wanted)}
    if own == wanted:
        figures |= {"accuracy": ratio(np.trace(table), table.sum()), "kappa": kappa(table)}
        for k, name in enumerate(own):
            figures[f"f1 {name}"] = ratio(2 * table[k, k], table[k].sum() + table[:, k].sum())
            figures[f"jaccard {name}"] = ratio(table[k, k], table[k].sum() + table[:, k].sum() - table[k, k])
    else:
        figures[f"f1 {own[0]}"] = ratio(2 * hits, taken + all_wanted)
    return figures


def _by_threshold(scores: npt.NDArray[np.number], cuts: Any, judge: Array) -> list[Section]:
    """Return the F1 of the first set against the judge's at the same threshold, at each of ``SWEPT``."""
    found = []
    for at in SWEPT.tolist():
        own = PAPER.deal(states(scores, cuts, at)) == 0
        wanted = PAPER.deal(states(judge, JUDGE_CUTS, at)) == 0
        both = int((own & wanted).sum())
        found.append({"threshold": at, "f1": ratio(2 * both, int(own.sum() + wanted.sum()))})
    return found


def _calibration(rows: Rows, mine: npt.NDArray[np.int64], judge: Array) -> Section | None:
    """Return by the predicted chance how often the judge did take a dialogue into the first set."""
    if rows.chance is None or rows.limited:
        return None
    chance = rows.chance[mine].astype(np.float64)
    taken = (rows.rule or PAPER).apply(judge, JUDGE_CUTS, rows.threshold) == 0
    place = np.minimum((chance * _CHANCE_BINS).astype(np.int64), _CHANCE_BINS - 1)
    sizes = np.bincount(place, minlength=_CHANCE_BINS)
    hits = np.bincount(place, weights=taken, minlength=_CHANCE_BINS)
    sums = np.bincount(place, weights=chance, minlength=_CHANCE_BINS)
    table: list[Section] = [
        {
            "from": k / _CHANCE_BINS,
            "to": (k + 1) / _CHANCE_BINS,
            "count": int(sizes[k]),
            "predicted": float(sums[k] / sizes[k]),
            "observed": float(hits[k] / sizes[k]),
            "interval": wilson(float(hits[k]), float(sizes[k])),
        }
        for k in np.flatnonzero(sizes).tolist()
    ]
    off = sum(row["count"] * abs(row["predicted"] - row["observed"]) for row in table) / len(mine)
    return {"rows": table, "expected_error": float(off), "brier": float(((chance - taken) ** 2).mean())}


def _judge_threshold(rows: Rows) -> tuple[float, float]:
    """Return the thresholds of the judge's own sets: those that a threshold was chosen to match, else the same."""
    said = (rows.info["rule"].get("how") or {}).get("judge_threshold")
    if said is None:
        return rows.threshold
    return float(said[HEADS[0]]), float(said[HEADS[1]])
