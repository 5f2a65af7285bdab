"""May a precision be trusted? Its scores are compared with the checkpoint's, on dialogues that were not trained on."""

from __future__ import annotations

import numpy as np

from scorer.bundle.cuts import Cuts
from scorer.bundle.info import Verdict
from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from selection.metrics import correlation
from selection.rules import PAPER

MIN_CHECKED = 100
"""Fewer dialogues cannot tell one changed decision in a hundred."""


def judge_precision(reference: Scores, scores: Scores, cuts: Cuts, limit: float) -> Verdict:
    """Return whether ``scores`` of a lower precision may stand for the checkpoint's ``reference``, both (N, 2).

    ``limit`` is the largest share of selection decisions that may change.
    """
    if not np.isfinite(scores).all():
        return Verdict(allowed=False, reason="gave scores that are no numbers", checked=len(scores))
    drift = np.abs(scores - reference)
    flips = float((PAPER.apply(scores, cuts) != PAPER.apply(reference, cuts)).mean())
    ones = np.ones(len(scores))
    similar = [correlation(reference[:, i].astype(float), scores[:, i].astype(float), ones) for i in range(len(HEADS))]
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
