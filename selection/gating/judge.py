"""May a precision be trusted? Its scores are compared with a reference's, on dialogues that were not trained on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scorer.arrays import Ints, Mask
from scorer.bundle.cuts import Cuts
from scorer.engines.base import Scores
from scorer.engines.verdicts import Verdict
from selection.metrics import correlation
from selection.rules import PAPER

MIN_CHECKED = 100
"""Fewer dialogues cannot tell one changed decision in a hundred."""

Decide = Callable[[Scores], "Ints | Mask"]
"""Returns the decision on each row, (N,), for scores (N, C)."""


def judge_precision(reference: Scores, scores: Scores, cuts: Cuts, limit: float) -> Verdict:
    """Return whether ``scores`` of a lower precision may stand for the ``reference``, both (N, 2).

    ``limit`` is the largest share of selection decisions (paper rule, threshold 5) that may change.
    """
    return judge_decisions(reference, scores, lambda found: PAPER.apply(found, cuts), limit)


def judge_decisions(reference: Scores, scores: Scores, decide: Decide, limit: float) -> Verdict:
    """Return whether ``scores`` may stand for the ``reference``, both (N, C), by the decisions that they lead to."""
    if not np.isfinite(scores).all():
        return Verdict(allowed=False, reason="gave scores that are no numbers", checked=len(scores))
    drift = np.abs(scores - reference)
    flips = float((decide(scores) != decide(reference)).mean())
    ones = np.ones(len(scores))
    columns = zip(reference.T.astype(float), scores.T.astype(float), strict=True)
    similar = [correlation(one, other, ones) for one, other in columns]
    allowed = flips <= limit
    return Verdict(
        allowed=allowed,
        reason=f"changes {flips:.2%} of {len(scores)} decisions, {'within' if allowed else 'over'} {limit:.2%}",
        checked=len(scores),
        drift_max=round(float(drift.max()), 5),
        drift_99=round(float(np.percentile(drift, 99)), 5),
        correlation=None if np.isnan(similar).any() else round(min(similar), 6),
        flips=round(flips, 5),
    )
