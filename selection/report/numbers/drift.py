"""What differs between two batches of scores: distributions, shares of sets, and dialogues that moved."""

from __future__ import annotations

import numpy as np

from scorer.arrays import Floats, Ints
from scorer.dialogue import HEADS
from selection.deciding.stability import change_between
from selection.files.labels import Index
from selection.report.numbers import Section
from selection.report.sources.rows import Rows
from selection.rules import to_levels

_KS_95 = 1.358
"""Times sqrt((n + m) / nm), the Kolmogorov-Smirnov distance that 5 % of equal samples exceed (Smirnov 1948)."""


def drift(reference: Rows, other: Rows) -> Section:
    """Return what differs between a batch and the reference.

    Scores are compared on their own scale where both have the same cuts, else on the judge's. Where ids are in both,
    ``common`` says what share of those dialogues is in another set.
    """
    scale, first, second = _same_scale(reference, other)
    return {
        "name": other.name,
        "scale": scale,
        "heads": {
            head: {
                "ks": ks(first[:, i], second[:, i]),
                "ks_95": ks_limit(len(first), len(second)),
                "psi": psi(first[:, i], second[:, i]),
                "mean_difference": float(second[:, i].mean() - first[:, i].mean()),
            }
            for i, head in enumerate(HEADS)
        },
        "common": _moved(reference, other),
    }


def ks(first: Floats, second: Floats) -> float:
    """Return the largest distance between two samples' distribution functions, 0 to 1 (Kolmogorov-Smirnov)."""
    at = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), at, side="right") / len(sample) for sample in (first, second)]
    return float(np.abs(below[0] - below[1]).max())


def ks_limit(first: int, second: int) -> float:
    """Return the distance that 5 % of the pairs of samples of one distribution exceed, of so many dialogues each."""
    return float(_KS_95 * np.sqrt((first + second) / (first * second)))


def psi(reference: Floats, other: Floats, bins: int = 10) -> float:
    """Return the population stability index: the sum of (q - p) ln(q / p) over bins of equal share of the reference.

    Half a dialogue is added to each bin, so that an empty one counts and does not make it infinite. By custom below
    0.1 is stable and above 0.25 a shift to look into.
    """
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, bins + 1)[1:-1]))
    places = (np.searchsorted(edges, sample, side="left") for sample in (reference, other))
    counts = [np.bincount(place, minlength=len(edges) + 1) + 0.5 for place in places]
    p, q = (count / count.sum() for count in counts)
    return float(((q - p) * np.log(q / p)).sum())


def _same_scale(reference: Rows, other: Rows) -> tuple[str, Floats, Floats]:
    (first, cuts), (second, others) = reference.scale, other.scale
    if all(np.allclose(cuts[head], others[head]) for head in HEADS):
        return "own", first.astype(np.float64), second.astype(np.float64)
    first, second = reference.judge_scale, other.judge_scale
    if any((scores == np.round(scores)).all() for scores in (first, second)):  # a judge's, and a scorer's are between
        return "judge", to_levels(first).astype(np.float64), to_levels(second).astype(np.float64)
    return "judge", first, second


def common_rows(reference: Rows, other: Rows) -> tuple[Ints, Ints]:
    """Return where the dialogues that both have stand in the reference and in the other batch."""
    theirs = Index(other.hashes).rows_of(reference.hashes)
    mine = np.flatnonzero(theirs >= 0)
    return mine, theirs[mine]


def _moved(reference: Rows, other: Rows) -> Section | None:
    """Return what became of the dialogues that are in both, None where there are none or the sets differ in name."""
    mine, theirs = common_rows(reference, other)
    if reference.names != other.names or not len(mine):
        return None
    before, after = reference.sets[mine].astype(np.int64), other.sets[theirs].astype(np.int64)
    change = change_between(before, after, reference.names)
    size = len(reference.names)
    flows = np.bincount(before * size + after, minlength=size * size).reshape(size, size)
    return {"dialogues": len(mine), "moved": change.moved, "jaccard": change.jaccard, "flows": flows.tolist()}
