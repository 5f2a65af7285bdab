"""Which set a dialogue belongs to, from its two scores: the published rules, as pure functions of arrays.

The judge gives integers and the scorer real numbers, and a rule asks both > T and < T. Both are therefore read off a
table of cuts, at 0.5, 1.5 ... 9.5 on the judge's scale: S > T reads the cut at T + 0.5 and S < T the cut at T - 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorer.bundle import LEVELS
from scorer.dialogue import HEADS

JUDGE_CUTS: Mapping[str, Sequence[float]] = dict.fromkeys(HEADS, LEVELS)
"""The cuts of the judge's own scale."""

Cuts = Mapping[str, Sequence[float]]
Levels = npt.NDArray[np.int64]
Sets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to deal dialogues into three sets, named in ``sets``; ``apply`` gives indices into them.

    The first set is the same in every rule: S > T and R < T. ``opposite`` is the index of the set with S < T and
    R > T; what is left belongs to the third.
    """

    name: str
    sets: tuple[str, str, str]
    opposite: int
    source: str

    def apply(self, scores: npt.NDArray[np.number], cuts: Cuts = JUDGE_CUTS, threshold: int = 5) -> Sets:
        """Return the index of each dialogue's set, (N,), for scores (N, 2), their cuts and a threshold T of 1 to 9."""
        if not 1 <= threshold <= 9:
            raise ValueError(f"threshold {threshold}, expected a whole number from 1 to 9")
        # By way of the integers, so that a score which equals a cut is dealt as its integer is.
        sensibility, rationality = to_levels(scores, cuts).T
        s_above, s_below = sensibility > threshold, sensibility < threshold
        r_above, r_below = rationality > threshold, rationality < threshold
        rest = 3 - self.opposite
        return np.where(s_above & r_below, 0, np.where(s_below & r_above, self.opposite, rest))


PAPER = Rule("paper", ("sensibility", "rationality", "discard"), 2, "arXiv 2407.01937, section on data selection")
"""Discard where S < T and R > T; the rest is the rationality set."""

RELEASE = Rule("release", ("sensibility", "rational", "neutral"), 1, "the script published with arXiv 2407.01937")
"""Rational where R > T and S < T; the rest is neutral."""

RULES: dict[str, Rule] = {rule.name: rule for rule in (PAPER, RELEASE)}


def to_levels(scores: npt.NDArray[np.number], cuts: Cuts = JUDGE_CUTS) -> Levels:
    """Return scores (N, 2) as the judge's integers 0 to 10, (N, 2): the number of cuts that each exceeds."""
    return np.stack(
        [np.searchsorted(np.asarray(cuts[head]), scores[:, i], side="left") for i, head in enumerate(HEADS)], axis=1
    ).astype(np.int64)
