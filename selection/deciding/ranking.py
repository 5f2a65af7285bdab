"""Which dialogues are taken when there is not room for all: rank, floors, caps and budgets.

Everything works on units: a dialogue, or with whole conversations, a conversation, which counts as many dialogues and
tokens as it has. Ties are decided by a hash of the id, so that a rerun, and shards in another order, choose the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats, Hashes, Ints, Mask
from scorer.dialogue import HEADS
from selection.settings import Limits, Threshold, per_head


class Why(IntEnum):
    """Why a unit was taken (the first two) or not."""

    RULE = 0
    FLOOR = 1
    CAP = 2
    BUDGET = 3
    NOT_ELIGIBLE = 4


TAKEN = Why.FLOOR
"""The last of the reasons for which a unit is taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """U units: their rank ``key`` (U,), higher is better, and what they count in each limit, each (U,).

    ``eligible`` are those that the rule would take. ``categories`` are codes from 0.
    """

    key: Floats
    hashes: Hashes
    eligible: Mask
    sizes: Ints
    tokens: Ints
    categories: Ints


def rank_key(judged: Floats, by: str, threshold: Threshold = 5) -> Floats:
    """Return what a rank goes by, (N,), higher is better, for scores on the judge's scale (N, 2).

    ``margin`` is the smaller of S - T and T - R: above 0 inside the sensibility set, and the deeper the higher.
    ``both`` is the smaller of S and R.
    """
    sensibility, rationality = judged.T
    if by == "margin":
        at_s, at_r = per_head(threshold)
        return np.asarray(np.minimum(sensibility - at_s, at_r - rationality))
    if by == "both":
        return np.asarray(np.minimum(sensibility, rationality))
    keys: dict[str, Floats] = {"sensibility": sensibility, "rationality": rationality}
    return keys[by] if by in keys else sensibility - rationality


def key_deviation(deviation: Floats, by: str) -> Floats:
    """Return the deviation (N,) of a score, or of the difference of the two, by those of the scores (N, 2)."""
    return np.asarray(deviation[:, HEADS.index(by)] if by in HEADS else np.hypot(*deviation.T))


def admit(units: Units, limits: Limits) -> npt.NDArray[np.int8]:
    """Return for each unit why it is taken or not, (U,), as ``Why``.

    Floors come first: the best of each category are taken, eligible ones before others. Then caps: the worst of each
    category are left. Then budgets: floors, then the best, as long as all before them fit - so that a larger budget
    takes all that a smaller one does.
    """
    order = np.lexsort((units.hashes, -units.key, ~units.eligible))
    why = np.where(units.eligible, Why.RULE, Why.NOT_ELIGIBLE).astype(np.int8)[order]
    sizes, categories = units.sizes[order], units.categories[order]
    if limits.floor is not None:
        before = _running_in_groups(sizes, categories) - sizes
        why[before < limits.floor] = Why.FLOOR
    if limits.cap is not None:
        candidates = np.flatnonzero(why <= TAKEN)
        over = _running_in_groups(sizes[candidates], categories[candidates]) > limits.cap
        why[candidates[over]] = Why.CAP
    for amount, most in (
        (sizes, limits.count),
        (sizes, None if limits.share is None else round(limits.share * int(sizes.sum()))),
        (units.tokens[order], limits.tokens),
    ):
        if most is not None:
            candidates = np.flatnonzero(why <= TAKEN)
            candidates = candidates[np.argsort(why[candidates] != Why.FLOOR, kind="stable")]
            why[candidates[amount[candidates].cumsum() > most]] = Why.BUDGET
    if limits.count is None and limits.share is None and limits.tokens is None:
        why[(why == Why.FLOOR) & units.eligible[order]] = Why.RULE  # which takes it without a floor as well
    found = np.empty_like(why)
    found[order] = why
    return found


def _running_in_groups(values: Ints, groups: Ints) -> Ints:
    """Return the running sum of values inside each group, in the order in which they stand, (N,)."""
    order = np.argsort(groups, kind="stable")
    running = values[order].cumsum()
    first = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0]) if len(groups) else np.zeros(0, np.int64)
    before = (running - values[order])[first]
    found = np.empty_like(running)
    found[order] = running - np.repeat(before, np.diff(np.r_[first, len(groups)]))
    return found
