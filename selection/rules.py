"""Which set a dialogue belongs to, from its two scores: the published rules, as pure functions of arrays.

The judge gives integers and the scorer real numbers, and a rule asks both > T and < T. Both are therefore read off a
table of cuts, at 0.5, 1.5 ... 9.5 on the judge's scale: S > T reads the cut at T + 0.5 and S < T the cut at T - 0.5.
A threshold between two integers reads the cuts between, by linear interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats, Ints, Mask, Numbers
from scorer.bundle.cuts import JUDGE_CUTS, LEVELS, Cuts
from scorer.dialogue import HEADS, SCORE_RANGE
from selection.settings import SelectSettings, Threshold, per_head

States = npt.NDArray[np.int8]

DISCARD = "discard"
BOTH_LOW = "both_low"
"""The reason of a dialogue that is discarded because both scores are low."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to assign dialogues to three sets, named in ``sets``; ``apply`` gives indices into them.

    The first set is the same in every rule: S > T and R < T. ``opposite`` is the index of the set with S < T and
    R > T; what is left belongs to the third, but where ``low`` says otherwise of those with S < T and R < T.
    """

    name: str
    sets: tuple[str, str, str]
    opposite: int
    source: str
    low: int | None = None

    def apply(self, scores: Numbers, cuts: Cuts = JUDGE_CUTS, threshold: Threshold = 5) -> Ints:
        """Return the index of each dialogue's set, (N,), for scores (N, 2), their cuts and a threshold from 1 to 9."""
        return self.assign(states(scores, cuts, threshold))

    def assign(self, where: States) -> Ints:
        """Return the index of each dialogue's set, (N,), for what ``states`` says of it, (N, 2)."""
        sensibility, rationality = where.T
        rest = 3 - self.opposite
        first = (sensibility > 0) & (rationality < 0)
        opposite = (sensibility < 0) & (rationality > 0)
        assigned = np.where(first, 0, np.where(opposite, self.opposite, rest))
        return assigned if self.low is None else np.where(both_low(where), self.low, assigned)

    def discarding(self) -> Rule:
        """Return the rule that discards what scores low on both; ValueError if it has no discard set."""
        return replace(self, low=self.sets.index(DISCARD))


PAPER = Rule("paper", ("sensibility", "rationality", "discard"), 2, "arXiv 2407.01937, section on data selection")
"""Discard where S < T and R > T; the rest is the rationality set, also where both scores are low."""

RELEASE = Rule("release", ("sensibility", "rational", "neutral"), 1, "the script published with arXiv 2407.01937")
"""Rational where R > T and S < T; the rest is neutral."""

RULES: dict[str, Rule] = {rule.name: rule for rule in (PAPER, RELEASE)}


def rule_of(settings: SelectSettings) -> Rule | None:
    """Return the published rule of some settings, None for a rule that ranks."""
    rule = RULES.get(settings.rule)
    return rule.discarding() if rule is not None and settings.both_low == "discard" else rule


def both_low(where: States) -> Mask:
    """Return which dialogues have S < T and R < T, (N,), of what ``states`` says of them, (N, 2)."""
    return np.asarray((where < 0).all(axis=1))


def states(scores: Numbers, cuts: Cuts = JUDGE_CUTS, threshold: Threshold = 5) -> States:
    """Return whether each score (N, 2) lies below T (-1), at it (0) or above (1).

    ``threshold`` is one number for both heads, or one per head. A score that equals a cut does not lie beyond it.
    ValueError for a threshold that is not from 1 to 9.
    """
    columns = []
    for i, (head, at) in enumerate(zip(HEADS, per_head(threshold), strict=True)):
        low, high = np.interp(np.round([at - 0.5, at + 0.5], 9), LEVELS, cuts[head])
        score = scores[:, i].astype(np.float64)  # the cuts are: compared in float32 a score may pass for its cut
        columns.append((score > low).astype(np.int8) + (score > high) - 1)
    return np.stack(columns, axis=1).astype(np.int8)


def to_levels(scores: Numbers, cuts: Cuts = JUDGE_CUTS) -> Ints:
    """Return scores (N, 2) as the judge's integers 0 to 10, (N, 2): the number of cuts that each exceeds."""
    return np.stack(
        [np.searchsorted(np.asarray(cuts[head]), scores[:, i], side="left") for i, head in enumerate(HEADS)], axis=1
    ).astype(np.int64)


def to_judge_scale(scores: Numbers, cuts: Cuts = JUDGE_CUTS) -> Floats:
    """Return scores (N, 2) on the judge's scale, 0 to 10, by linear interpolation between the cuts.

    Rises wherever the score does, so it never changes an order; two heads can be compared on it.
    """
    low, high = SCORE_RANGE
    columns = []
    for i, head in enumerate(HEADS):
        known = np.array([min(low, cuts[head][0]), *cuts[head], max(high, cuts[head][-1])], dtype=np.float64)
        # Negated, as of equal points interp takes the last: a score at equal cuts lies beyond none of them.
        columns.append(np.interp(-scores[:, i].astype(np.float64), -known[::-1], [high, *LEVELS[::-1], low]))
    return np.stack(columns, axis=1)
