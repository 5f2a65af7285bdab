"""May a precision be trusted? Its scores against the checkpoint's own, on dialogues that nobody trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scorer.bundle.cuts import Cuts
from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from selection.metrics import correlation
from selection.rules import PAPER

MAX_FLIPS = 0.01
"""The largest share of selection decisions that a precision may change."""

MIN_CHECKED = 100
"""Fewer dialogues cannot tell one changed decision in a hundred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a precision's scores came to against the checkpoint's.

    ``drift_max`` and ``drift_99`` are the largest and the 99th percentile of the absolute differences of scores,
    ``correlation`` the lower of the two heads' (None where a head is constant), ``flips`` the share of dialogues that
    change their set (paper rule, threshold 5, the scorer's cuts). Where ``allowed`` is false, ``reason`` says why.
    """

    allowed: bool
    reason: str
    checked: int = 0
    drift_max: float | None = None
    drift_99: float | None = None
    correlation: float | None = None
    flips: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what scorer.json keeps."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in kept.items() if value is not None}


def judge_precision(reference: Scores, scores: Scores, cuts: Cuts, limit: float = MAX_FLIPS) -> Verdict:
    """Return whether ``scores`` of a lower precision may stand for the checkpoint's ``reference``, both (N, 2)."""
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
