"""Several responses to one context -> pairs of a chosen and a rejected one, as pure functions of arrays.

Responses compare by one number, the rank key of the settings on the judge's scale. Of equal ones the hash of the id
decides, so that a rerun, and shards in another order, give the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats, Hashes, Ints, Mask
from selection.deciding.decide import Decision, Evidence
from selection.deciding.ranking import key_deviation, rank_key
from selection.deciding.stability import deviations, score_chance
from selection.errors import SelectionError
from selection.settings import ALL, SelectSettings

CHOSEN, REJECTED, UNPAIRED, BOTH_SIDES = "chosen", "rejected", "unpaired", "chosen_and_rejected"
"""The sets of the rule ``pairs``; the last one only where all pairs are made."""

MOST = 20_000_000
"""Pairs that are made at most: a context that thousands share has millions."""

_DIGITS = 6  # float32 scores that lie a point apart do so to seven digits

_Small = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """What is known of N responses beside their scores, each (N,): hashes of their contexts and of their texts.

    ``barred`` is 0 or the number, from 1, of the reason in ``bars`` why a response may never be the chosen one.
    """

    contexts: Hashes
    texts: Hashes
    barred: _Small
    bars: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """P pairs, each (P,): the rows of the two responses, what each compares by, and the judge's chance to agree.

    Sorted by the rows. ``chance`` is None where the scores' error is not known, or not for what they compare by.
    ``contexts`` counts the contexts by what became of them.
    """

    chosen: Ints
    rejected: Ints
    key: Floats
    other_key: Floats
    chance: Floats | None
    contexts: dict[str, int]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.chosen)


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """The different texts of each context, best first: ``rows`` (K,), of which each context has one stretch.

    ``first`` is the first place in a stretch that may be chosen, ``last`` its last place; all but ``rows`` and ``of``
    (the context of each row) are (C,).
    """

    rows: Ints
    of: Ints
    starts: Ints
    sizes: Ints
    first: Ints
    last: Ints
    paired: Mask


def pair_up(evidence: Evidence, candidates: Candidates, settings: SelectSettings) -> tuple[Decision, Pairs]:
    """Pair the responses to each context, and say for every dialogue whether it is in a pair, or why not.

    SelectionError where there is no pair at all, or more than ``MOST``.
    """
    margin = settings.pairing.margin
    key = np.round(rank_key(evidence.judge_scale, settings.by, settings.threshold), _DIGITS)
    groups = _groups(_different(evidence, candidates), key, evidence, candidates, margin)
    tied = key[groups.rows[groups.starts]] == key[groups.rows[groups.last]]
    contexts = _outcomes(groups, tied)
    if not groups.paired.any():
        raise SelectionError(_why_none(contexts, candidates))
    if settings.pairing.pairs == ALL:
        chosen, rejected = _all_pairs(groups, key, candidates.barred == 0, margin)
    else:
        chosen, rejected = groups.rows[groups.first[groups.paired]], groups.rows[groups.last[groups.paired]]
    order = np.lexsort((rejected, chosen))
    chosen, rejected = chosen[order], rejected[order]
    chance = _chance(evidence, settings, chosen, rejected)
    found = Pairs(
        chosen=chosen, rejected=rejected, key=key[chosen], other_key=key[rejected], chance=chance, contexts=contexts
    )
    return _decision(evidence, candidates, settings, found, groups, tied), found


def _why_none(contexts: dict[str, int], candidates: Candidates) -> str:
    told = ", ".join(f"{count:,} {name}" for name, count in contexts.items() if count)
    barred = np.bincount(candidates.barred, minlength=len(candidates.bars) + 1)[1:].tolist()
    kinds = ", ".join(f"{count:,} {bar}" for bar, count in zip(candidates.bars, barred, strict=True) if count)
    kinds = f"; responses: {kinds}" if kinds else ""
    return (
        f"no pair among {sum(contexts.values()):,} contexts ({told}{kinds}); give several responses "
        "to a context (`empathy moe generate --n 4 --sample`) or a smaller --margin"
    )


def _different(evidence: Evidence, candidates: Candidates) -> Ints:
    """Return rows that have every text of a context once, a judged one if there is one."""
    order = np.lexsort((evidence.hashes, ~evidence.judged, candidates.texts, candidates.contexts))
    contexts, texts = candidates.contexts[order], candidates.texts[order]
    again = np.r_[False, (contexts[1:] == contexts[:-1]) & (texts[1:] == texts[:-1])]
    return np.asarray(order[~again])


def _groups(rows: Ints, key: Floats, evidence: Evidence, candidates: Candidates, margin: float) -> _Groups:
    rows = rows[np.lexsort((evidence.hashes[rows], -key[rows], candidates.contexts[rows]))]
    contexts = candidates.contexts[rows]
    new = np.r_[True, contexts[1:] != contexts[:-1]]
    starts = np.flatnonzero(new)
    last = np.r_[starts[1:], len(rows)] - 1
    places = np.where(candidates.barred[rows] == 0, np.arange(len(rows)), len(rows))
    first = np.minimum.reduceat(places, starts)
    lead = np.where(first < len(rows), _lead(key, rows[np.minimum(first, len(rows) - 1)], rows[last]), -1.0)
    paired = (lead > 0) & (lead >= margin)
    return _Groups(rows, np.cumsum(new) - 1, starts, last - starts + 1, first, last, paired)


def _lead(key: Floats, better: Ints, worse: Ints) -> Floats:
    return np.asarray(np.round(key[better] - key[worse], _DIGITS))


def _all_pairs(groups: _Groups, key: Floats, free: Mask, margin: float) -> tuple[Ints, Ints]:
    """Return the rows of every two responses to one context of which the first may be chosen and leads so far."""
    better: list[Ints] = []
    worse: list[Ints] = []
    count = 0
    for number in np.flatnonzero(groups.paired).tolist():
        mine = groups.rows[groups.starts[number] : groups.last[number] + 1]
        able = np.flatnonzero(free[mine])
        falling = -key[mine]  # rises
        level = np.round(falling[able] + margin, _DIGITS)
        begin = np.searchsorted(falling, level, side="left" if margin else "right")
        partners = len(mine) - begin
        if (count := count + int(partners.sum())) > MOST:
            raise SelectionError(f"more than {MOST:,} pairs; take --pairs best, or a larger --margin")
        better.append(mine[np.repeat(able, partners)])
        worse += [mine[start:] for start in begin.tolist()]
    return np.concatenate(better), np.concatenate(worse)


def _chance(evidence: Evidence, settings: SelectSettings, chosen: Ints, rejected: Ints) -> Floats | None:
    """Return the chance (P,) that the judge would rank each pair the same, its errors taken to be independent."""
    if evidence.error is None or settings.by in ("margin", "both"):
        return None
    scores = evidence.scores.astype(np.float64)
    spread = key_deviation(np.where(evidence.judged[:, None], 0.0, deviations(evidence.error, scores)), settings.by)
    key = rank_key(scores, settings.by)
    return score_chance(key[chosen] - key[rejected], np.hypot(spread[chosen], spread[rejected]), 0.0)


def _outcomes(groups: _Groups, tied: Mask) -> dict[str, int]:
    several = groups.sizes > 1
    none_free = several & (groups.first == len(groups.rows))
    left = several & ~none_free & ~groups.paired
    return {
        "with a pair": int(groups.paired.sum()),
        "with one response": int((~several).sum()),
        "without a response that may be chosen": int(none_free.sum()),
        "with equal scores only": int((left & tied).sum()),
        "within the margin": int((left & ~tied).sum()),
    }


def _decision(
    evidence: Evidence, candidates: Candidates, settings: SelectSettings, pairs: Pairs, groups: _Groups, tied: Mask
) -> Decision:
    every = settings.pairing.pairs == ALL
    margin = f"{settings.pairing.margin:g}"
    texts = (
        f"leads another response by {margin}" if every else "best of its context",
        f"{margin} behind another response" if every else "worst of its context",
        "leads one response and is behind another",
        "the only response to its context",
        "the same text as another response",
        "all responses score the same",
        f"no response to pair it with is {margin} away",
        "neither best nor worst of its context",
        *(f"{bar}, so never chosen" for bar in candidates.bars),
    )
    first, second, between, only, copy, same, near, middle = range(8)
    of, several = groups.of, groups.sizes > 1
    paired = middle if not every else near
    by_group = np.where(~several, only, np.where(groups.paired, paired, np.where(tied, same, near)))
    reasons = np.full(len(evidence), copy, dtype=np.int8)
    barred = candidates.barred[groups.rows]
    reasons[groups.rows] = np.where((barred > 0) & several[of], 7 + barred, by_group[of])
    led, behind = (np.zeros(len(evidence), dtype=bool) for _ in range(2))
    led[pairs.chosen], behind[pairs.rejected] = True, True
    names = (CHOSEN, REJECTED, UNPAIRED, *([BOTH_SIDES] if every else []))
    sets = np.where(led & behind, 3, np.where(led, 0, np.where(behind, 1, 2))).astype(np.int8)
    reasons[led], reasons[behind], reasons[led & behind] = first, second, between
    doubtful = np.zeros(len(evidence), dtype=bool)
    if pairs.chance is not None:
        unsure = 1 - pairs.chance >= settings.doubt
        doubtful[pairs.chosen[unsure]] = doubtful[pairs.rejected[unsure]] = True
    return Decision(names=names, sets=sets, texts=texts, reasons=reasons, borderline=doubtful, chance=None)
