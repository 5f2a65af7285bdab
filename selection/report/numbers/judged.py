"""What a judge's labels say of a selection: agreement with intervals, calibration of the doubt, cost avoided."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from scorer.arrays import Floats, Ints, Numbers
from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.dialogue import HEADS
from selection.deciding.stability import change_between
from selection.errors import SelectionError
from selection.files.labels import LabelTable
from selection.metrics import DRAWS, Pair, all_figures, bootstrap, counts, interval, kappa, ratio, resamples, wilson
from selection.report.numbers import Section
from selection.report.numbers.figures import SWEPT
from selection.report.sources.rows import Rows
from selection.rules import PAPER, states, to_levels
from selection.select import SAMPLE

_HEAD_FIGURES = ("pearson", "spearman", "mae", "rmse", "quadratic_kappa")
_CHANCE_BINS = 10


def agreement(rows: Rows, labels: LabelTable | None, trained: Collection[str] | None = None) -> Section:
    """Return the agreement of scores and sets with a judge's labels, with 95 % intervals over conversations.

    ``trained`` are the training hashes of what the scorer was trained on, None where that is not known.

    Dialogues that a judge decided already say nothing of a scorer and are left out, unless all are such.
    SelectionError where no label is of a dialogue of ``rows``.
    """
    if labels is None:
        return {"needs": "a judge's labels of some of these dialogues: --labels LABELS."}
    mine, theirs, left_out = _joined(rows, labels)
    if not len(mine):
        return {"needs": f"labels of dialogues that the judge did not decide ({left_out:,} labels are of such)."}
    judge = labels.scores[theirs].astype(np.float64)
    conversations = [labels.conversations[k] for k in theirs]
    _, group = np.unique(conversations, return_inverse=True)
    scores, cuts = rows.scale
    pair = Pair.of(judge, scores[mine], to_levels(scores[mine], cuts))
    figures, intervals = all_figures(pair), bootstrap(pair, conversations, DRAWS)
    return {
        "dialogues": len(mine),
        "conversations": int(group.max()) + 1,
        "left_out": left_out,
        "trained_on": None if trained is None else sum(labels.training[k] in trained for k in theirs),
        "draws": DRAWS,
        "labels": len(labels),
        "rejected_labels": len(labels.rejects),
        "heads": {
            head: {name: _estimate(figures, intervals, f"{head}.{name}") for name in _HEAD_FIGURES} for head in HEADS
        },
        "sets": _sets(rows, mine, judge, group),
        "by_threshold": _by_threshold(scores[mine], cuts, judge),
        "calibration": _calibration(rows, mine, judge),
        "judges": {"models": sorted(labels.judges.models), "rubrics": sorted(labels.judges.rubrics)},
    }


def _estimate(values: Mapping[str, float], intervals: Mapping[str, tuple[float, float]], name: str) -> Section:
    return {"value": values[name], "interval": intervals[name]}


def redraws(rows: Rows, labels: LabelTable | None) -> Section:
    """Return how the judge's own sets change when it judges again: two judgements of the same dialogues."""
    if labels is None or not len(labels.first):
        return {"needs": "labels with two judgements of a dialogue, for how far the judge agrees with itself."}
    rule, threshold = rows.rule or PAPER, _judge_threshold(rows)
    first, second = (rule.apply(scores, JUDGE_CUTS, threshold) for scores in (labels.first, labels.second))
    change = change_between(first, second, rule.sets)
    return {"dialogues": len(first), "moved": change.moved, "jaccard": change.jaccard}


def cost(rows: Rows, labels: LabelTable | None, price: float | None) -> Section:
    """Return how many judge calls the scorer saved, and the money where a price is known.

    The price of a judgement is that of the labels, else of the judge of the selection, else ``price``.
    """
    by_judge = rows.judged if labels is None else rows.judged | (labels.rows_of(rows.hashes) >= 0)
    judged = int(by_judge.sum())
    avoided = len(rows) - judged
    section = {"judged": judged, "avoided": avoided}
    judge = rows.info.judge
    known = (
        (None if labels is None else labels.judges.price, "the mean of the labels' own cost_usd"),
        (None if judge is None else judge.usd_a_judgement, "the mean of the selection's judgements"),
        (price, "given with --judge-price"),
    )
    for usd, source in known:
        if usd is not None:
            spent = {"usd_spent": judged * usd, "usd_avoided": avoided * usd, "usd_all": len(rows) * usd}
            return section | {"price": usd, "price_is": source, **spent}
    needs = "a price for the money: labels with judge.cost_usd (--labels LABELS), or --judge-price USD."
    return section | {"needs": needs}


def _joined(rows: Rows, labels: LabelTable) -> tuple[Ints, Ints, int]:
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


def _sets(rows: Rows, mine: Ints, judge: Floats, group: Ints) -> Section:
    """Return the confusion of the judge's sets (rows) with the selection's (columns), and what follows from it."""
    rule, threshold = rows.rule or PAPER, _judge_threshold(rows)
    wanted, own = rule.apply(judge, JUDGE_CUTS, threshold), rows.sets[mine].astype(np.int64)
    size = max(len(rule.sets), len(rows.names))
    table = counts(wanted, own, size, np.ones(len(mine)))
    drawn_tables = (counts(wanted, own, size, weights) for weights in resamples(group, DRAWS, 0))
    drawn = [_set_figures(one, rule.sets, rows.names) for one in drawn_tables]
    values = _set_figures(table, rule.sets, rows.names)
    intervals = {name: interval([entry[name] for entry in drawn]) for name in values}
    return {
        "threshold": list(threshold),
        "judge_sets": list(rule.sets),
        "sets": list(rows.names),
        "confusion": table[: len(rule.sets), : len(rows.names)].astype(int).tolist(),
        "figures": {name: _estimate(values, intervals, name) for name in values},
    }


def _set_figures(table: Floats, wanted: Sequence[str], own: Sequence[str]) -> dict[str, float]:
    both, taken, asked = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    figures = {"precision": ratio(both[0], taken[0]), "recall": ratio(both[0], asked[0])}
    if own != wanted:
        return figures | {f"f1 {own[0]}": ratio(2 * both[0], taken[0] + asked[0])}
    figures |= {"accuracy": ratio(np.trace(table), table.sum()), "kappa": kappa(table)}
    for k, name in enumerate(own):
        figures[f"f1 {name}"] = ratio(2 * both[k], asked[k] + taken[k])
        figures[f"jaccard {name}"] = ratio(both[k], asked[k] + taken[k] - both[k])
    return figures


def _by_threshold(scores: Numbers, cuts: Cuts, judge: Floats) -> list[Section]:
    """Return the F1 of the first set against the judge's at the same threshold, at each of ``SWEPT``."""
    found = []
    for at in SWEPT.tolist():
        own = PAPER.assign(states(scores, cuts, at)) == 0
        wanted = PAPER.assign(states(judge, JUDGE_CUTS, at)) == 0
        both = int((own & wanted).sum())
        found.append({"threshold": at, "f1": ratio(2 * both, int(own.sum() + wanted.sum()))})
    return found


def _calibration(rows: Rows, mine: Ints, judge: Floats) -> Section | None:
    """Return by the predicted chance how often the judge did take a dialogue into the first set."""
    if rows.chance is None or rows.limited:
        return None
    chance = rows.chance[mine].astype(np.float64)
    taken = (rows.rule or PAPER).apply(judge, JUDGE_CUTS, rows.info.threshold) == 0
    place = np.minimum((chance * _CHANCE_BINS).astype(np.int64), _CHANCE_BINS - 1)
    sizes, hits, sums = (
        np.bincount(place, weights=weights, minlength=_CHANCE_BINS).tolist() for weights in (None, taken, chance)
    )
    table = [
        {
            "from": k / _CHANCE_BINS,
            "to": (k + 1) / _CHANCE_BINS,
            "count": sizes[k],
            "predicted": sums[k] / sizes[k],
            "observed": hits[k] / sizes[k],
            "interval": wilson(hits[k], sizes[k]),
        }
        for k in range(_CHANCE_BINS)
        if sizes[k]
    ]
    off = sum(row["count"] * abs(row["predicted"] - row["observed"]) for row in table) / len(mine)
    return {"rows": table, "expected_error": off, "brier": float(((chance - taken) ** 2).mean())}


def _judge_threshold(rows: Rows) -> tuple[float, float]:
    """Return the thresholds of the judge's own sets: those that a threshold was chosen to match, else the same."""
    said = rows.info.rule.how.judge_threshold
    return (said[HEADS[0]], said[HEADS[1]]) if said else rows.info.threshold
