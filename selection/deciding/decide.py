"""Scores -> a set, a reason and a doubt for every dialogue: the decision, as pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats, Hashes, Ints, Mask
from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS
from selection.deciding.ranking import TAKEN, Units, Why, admit, key_deviation, rank_key
from selection.deciding.stability import borderline, deviations, first_chance, one_point_away, score_chance
from selection.errors import SelectionError
from selection.rules import BOTH_LOW, PAPER, RULES, both_low, rule_of, states, to_judge_scale
from selection.settings import SelectSettings

SELECTED, REST, SURPLUS = "selected", "rest", "surplus"
"""The sets of the ranked rules, and what a limit leaves out of a published rule's first set."""

_PART = 1 << 20

_Small = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What is known of N dialogues when they are assigned to sets.

    ``scores`` (N, 2) on the scale of ``cuts``; where ``judged`` (N,), they are the judge's own instead. ``error`` says
    how far the judge's may lie off the others, None where that is not known. ``hashes`` stand for the ids and
    ``conversations`` for their conversations; ``categories`` are codes, -1 for none; ``tokens`` only where counted.
    """

    scores: npt.NDArray[np.float32]
    cuts: Cuts
    judged: Mask
    error: Uncertainty | None
    hashes: Hashes
    conversations: Hashes
    categories: Ints
    tokens: Ints | None = None

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.scores)

    @property
    def mixed(self) -> bool:
        """Whether the judge decides on some of them and the scorer on others."""
        return bool(self.judged.any() and not self.judged.all())

    @property
    def judge_scale(self) -> Floats:
        """The scores on the judge's scale, (N, 2)."""
        return np.where(self.judged[:, None], self.scores, to_judge_scale(self.scores, self.cuts))

    def part(self, rows: slice) -> Evidence:
        """Return what is known of some of them."""
        names = ("scores", "judged", "hashes", "conversations", "categories", "tokens")
        columns = {name: column for name in names if (column := getattr(self, name)) is not None}
        return replace(self, **{name: column[rows] for name, column in columns.items()})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """What became of N dialogues: ``sets`` (N,) indexes ``names``, ``reasons`` (N,) indexes ``texts``.

    ``chance`` (N,) is the judge's of taking a dialogue into the first set, None where the error is not known.
    """

    names: tuple[str, ...]
    sets: _Small
    texts: tuple[str, ...]
    reasons: _Small
    borderline: Mask
    chance: npt.NDArray[np.float32] | None

    def counts(self) -> dict[str, int]:
        """Return the number of dialogues in each set."""
        found = np.bincount(self.sets, minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, found, strict=True)}

    def reason_counts(self, name: str | None = None) -> dict[str, int]:
        """Return how often each reason was given, in the set of that name or in all, most often first."""
        reasons = self.reasons if name is None else self.reasons[self.sets == self.names.index(name)]
        found = np.bincount(reasons, minlength=len(self.texts))
        return {self.texts[k]: int(found[k]) for k in np.argsort(-found, kind="stable") if found[k]}


def decide(evidence: Evidence, settings: SelectSettings) -> Decision:
    """Assign every dialogue; SelectionError where the first set would be empty or a limit needs what is not there."""
    if settings.limits or settings.whole_conversations:
        found = _decide(evidence, settings, mixed=evidence.mixed)
    else:  # each dialogue by itself: in parts, so that what is computed on the way stays small
        starts = range(0, max(1, len(evidence)), _PART)
        parts = (evidence.part(slice(start, start + _PART)) for start in starts)
        found = _joined([_decide(part, settings, mixed=evidence.mixed) for part in parts])
    if not (found.sets == 0).any():
        raise SelectionError(_why_empty(evidence, settings, found))
    return found


def count_both_low(evidence: Evidence, settings: SelectSettings) -> int:
    """Return how many dialogues have S < T and R < T, each by its own scores."""
    found = 0
    for start in range(0, len(evidence), _PART):
        part = evidence.part(slice(start, start + _PART))
        where = (states(part.scores, cuts, settings.threshold) for cuts in (JUDGE_CUTS, part.cuts))
        by_judge, by_scorer = map(both_low, where)
        found += int(np.where(part.judged, by_judge, by_scorer).sum())
    return found


def _decide(evidence: Evidence, settings: SelectSettings, *, mixed: bool) -> Decision:
    unit_of, units = _units(evidence, settings)
    by_judge, by_scorer = (states(units.scores, cuts, settings.threshold) for cuts in (JUDGE_CUTS, evidence.cuts))
    where = np.where(units.judged[:, None], by_judge, by_scorer)
    rule = rule_of(settings)
    base = None if rule is None else rule.assign(where)
    eligible = np.ones(len(where), dtype=bool) if base is None else base == 0
    why = np.where(eligible, Why.RULE, Why.NOT_ELIGIBLE).astype(np.int8)
    judge_scale = units.on_judge_scale(evidence.cuts)
    if settings.limits:
        key = rank_key(judge_scale, settings.by, settings.threshold)
        counted = {name: getattr(units, name) for name in ("hashes", "sizes", "tokens", "categories")}
        why = admit(Units(key=key, eligible=eligible, **counted), settings.limits)
    names, sets = _sets(settings, base, why)
    texts, reasons = _reasons(settings, where, why, units.judged & mixed)
    chance = _chance(settings, units, why)
    if chance is None:
        doubtful = one_point_away(judge_scale, rule or PAPER, settings.threshold)
    else:
        doubtful = borderline(chance, sets == 0, settings.doubt)
    return Decision(
        names=names,
        sets=sets.astype(np.int8)[unit_of],
        texts=texts,
        reasons=reasons[unit_of],
        borderline=doubtful[unit_of],
        chance=None if chance is None else chance.astype(np.float32)[unit_of],
    )


def _joined(parts: Sequence[Decision]) -> Decision:
    names = [name for name in ("sets", "reasons", "borderline", "chance") if getattr(parts[0], name) is not None]
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], **columns)


@dataclass(frozen=True, slots=True, eq=False)
class _Grouped:
    """The units' means and sums, each (U,); ``scores`` and ``deviation`` (U, 2)."""

    scores: Floats
    judged: Mask
    deviation: Floats | None
    hashes: Hashes
    sizes: Ints
    tokens: Ints
    categories: Ints

    def on_judge_scale(self, cuts: Cuts) -> Floats:
        """Return the scores on the judge's scale, (U, 2)."""
        return np.where(self.judged[:, None], self.scores, to_judge_scale(self.scores, cuts))


def _units(evidence: Evidence, settings: SelectSettings) -> tuple[Ints, _Grouped]:
    """Return each dialogue's unit (N,), and the units: dialogues, or conversations with their mean scores."""
    scores = evidence.scores.astype(np.float64)
    deviation = None
    if evidence.error is not None:
        deviation = np.where(evidence.judged[:, None], 0.0, deviations(evidence.error, scores))
    tokens = np.zeros(len(evidence), dtype=np.int64) if evidence.tokens is None else evidence.tokens
    limits, categories = settings.limits, evidence.categories + 1
    if (limits.floor is not None or limits.cap is not None) and not categories.any():
        raise SelectionError("--floor and --cap are numbers per category, and no dialogue has one; leave them out")
    if not settings.whole_conversations:
        ones = np.ones(len(evidence), dtype=np.int64)
        alone = _Grouped(scores, evidence.judged, deviation, evidence.hashes, ones, tokens, categories)
        return np.arange(len(evidence)), alone
    if evidence.mixed:
        raise SelectionError("a conversation's mean would mix the judge's scores with the scorer's; leave --labels out")
    # A conversation's category is that of its dialogue with the smallest hash: the same whatever the order.
    order = np.argsort(evidence.hashes, kind="stable")
    hashes, first, of_sorted = np.unique(evidence.conversations[order], return_index=True, return_inverse=True)
    unit_of = np.empty(len(evidence), dtype=np.int64)
    unit_of[order] = of_sorted
    sizes = np.bincount(unit_of)

    def mean(values: Floats) -> Floats:
        return np.stack([np.bincount(unit_of, column) / sizes for column in values.T], axis=1)

    spread = None if deviation is None else np.sqrt(mean(deviation**2) / sizes[:, None])
    sums = np.bincount(unit_of, tokens).astype(np.int64)
    judged = np.full(len(sizes), bool(evidence.judged.all()))
    return unit_of, _Grouped(mean(scores), judged, spread, hashes, sizes, sums, categories[order][first])


def _sets(settings: SelectSettings, base: Ints | None, why: _Small) -> tuple[tuple[str, ...], Ints]:
    """Return the names of the sets and each unit's index into them."""
    taken = why <= TAKEN
    if base is None:
        return (SELECTED, REST), np.where(taken, 0, 1)
    names = RULES[settings.rule].sets
    if not settings.limits:
        return names, base
    return (*names, SURPLUS), np.where(taken, 0, np.where(base == 0, len(names), base))


def _reasons(settings: SelectSettings, where: _Small, why: _Small, marked: Mask) -> tuple[tuple[str, ...], _Small]:
    """Return the texts of all reasons and each unit's index into them; ``marked`` are told to be the judge's decision.

    A limit's reason stands for itself; else it is the nine ways in which two scores lie to their thresholds.
    """
    mean = "conversation's mean " if settings.whole_conversations else ""
    places = [
        f"{mean}{_place('S', s, settings.threshold[0])}, {_place('R', r, settings.threshold[1])}"
        for s in (-1, 0, 1)
        for r in (-1, 0, 1)
    ]
    if settings.both_low == "discard":
        places[0] = BOTH_LOW
    limits = settings.limits
    most = (("best {:g} of all", limits.share), ("best {} dialogues", limits.count), ("best {} tokens", limits.tokens))
    room = " and ".join(text.format(value) for text, value in most if value is not None)
    special = {
        Why.FLOOR: f"floor of {limits.floor} a category",
        Why.CAP: f"cap of {limits.cap} a category",
        Why.BUDGET: f"beyond the {room} by {settings.by}",
    }
    texts = (*places, *(f"judged: {place}" for place in places), *special.values(), f"among the best by {settings.by}")
    found = (where[:, 0] + 1) * 3 + where[:, 1] + 1 + np.where(marked, len(places), 0)
    for number, reason in enumerate(special, start=2 * len(places)):
        found = np.where(why == reason, number, found)
    if settings.rule not in RULES:
        found = np.where(why == Why.RULE, len(texts) - 1, found)
    return texts, found.astype(np.int8)


def _place(letter: str, state: int, threshold: float) -> str:
    near = "=" if threshold == int(threshold) else "~"
    return f"{letter} {('<', near, '>')[state + 1]} {threshold:g}"


def _chance(settings: SelectSettings, units: _Grouped, why: _Small) -> Floats | None:
    """Return the judge's chance of taking each unit, (U,), None where the scores' error is not known.

    By the cuts of a published rule; where a rank decides, by the level that as many units reach as were taken.
    """
    if units.deviation is None:
        return None
    published = settings.rule in RULES
    if published and not (settings.by == "margin" and (why == Why.BUDGET).any()):
        return first_chance(units.scores, units.deviation, settings.threshold)
    key = rank_key(units.scores, settings.by, settings.threshold)
    left = int((why > TAKEN).sum())
    level = -np.inf if not left else np.inf if left == len(key) else float(np.partition(key, left)[left])
    if settings.by == "margin":
        beyond = level - 0.5  # what the judge's integers add by themselves
        margin = max(0.0, beyond) if published else beyond
        return first_chance(units.scores, units.deviation, settings.threshold, margin)
    if settings.by == "both":  # the lower of two lies above a level where both do
        first, second = (score_chance(units.scores[:, i], units.deviation[:, i], level) for i in range(len(HEADS)))
        return first * second
    return score_chance(key, key_deviation(units.deviation, settings.by), level)


def _why_empty(evidence: Evidence, settings: SelectSettings, found: Decision) -> str:
    name, left_out = found.names[0], found.sets == len(found.names) - 1
    if settings.limits and left_out.any():
        texts = (found.texts[k].removeprefix("beyond the ") for k in np.unique(found.reasons[left_out]))
        return f"the {name} set is empty: not even the best fits into the {' and the '.join(texts)}; give it more room"
    _, units = _units(evidence, settings)
    judged = units.on_judge_scale(evidence.cuts)
    (low_s, low_r), (high_s, high_r) = judged.min(axis=0), judged.max(axis=0)
    at_s, at_r = settings.threshold
    unit = "conversation's mean" if settings.whole_conversations else "dialogue"
    return (
        f"the {name} set is empty: no {unit} has S > {at_s:g} and R < {at_r:g} (on the judge's scale S is "
        f"{low_s:.1f} to {high_s:.1f} and R {low_r:.1f} to {high_r:.1f}); choose other thresholds"
    )
