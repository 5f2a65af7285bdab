"""What a report knows of the dialogues of one source: scores, sets, reasons, doubts, lengths, categories."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from scorer.arrays import Codes, Floats, Hashes, Mask, Numbers
from scorer.bundle.cuts import JUDGE_CUTS, Cuts, read_cuts
from scorer.dialogue import HEADS
from scorer.run.score_table import ScoreTable
from selection.deciding.decide import Evidence, decide
from selection.files.manifest import AppliedRule, SelectionInfo, Thresholds
from selection.rules import RULES, Rule, to_judge_scale
from selection.select import stability_of
from selection.settings import SelectSettings

UNKNOWN = -1
"""Stands for a category, a number of turns or a number of words that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What the texts of N dialogues say: ``categories`` (N,) index ``names``; ``turns`` and ``words`` (N,).

    Turns are counted up to and with the response, words in the response. ``UNKNOWN`` where there is no text.
    """

    categories: Codes
    names: tuple[str, ...]
    turns: Codes
    words: Codes


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The N dialogues of a source, assigned to sets. ``info`` says of the source what selection.json says.

    ``scores`` (N, 2) on the scale of its cuts; where ``judged`` (N,) they are a judge's own instead. ``sets`` (N,)
    indexes ``names`` and ``reasons`` (N,) ``texts``. ``chance`` (N,) is the judge's of taking a dialogue into the
    first set, None where the scores' error is not known.
    """

    name: str
    info: SelectionInfo
    hashes: Hashes
    scores: npt.NDArray[np.float32]
    judged: Mask
    names: tuple[str, ...]
    sets: Codes
    texts: tuple[str, ...]
    reasons: Codes
    borderline: Mask
    chance: npt.NDArray[np.float32] | None
    facts: Facts | None = None

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return len(self.scores)

    @property
    def rule(self) -> Rule | None:
        """The published rule that assigned the dialogues, None where a rank did."""
        rule = RULES.get(self.info.rule.name)
        return rule.discarding() if rule is not None and self.info.settings.both_low == "discard" else rule

    @property
    def limited(self) -> bool:
        """Whether more than the published rule decided: a limit, a rank, or whole conversations."""
        settings = self.info.settings
        return self.rule is None or settings.whole_conversations or bool(settings.limits)

    @property
    def mixed(self) -> bool:
        """Whether a judge decided on some dialogues and a scorer on others."""
        return bool(self.judged.any() and not self.judged.all())

    @cached_property
    def judge_scale(self) -> Floats:
        """The scores on the judge's scale, (N, 2)."""
        if self.judged.all():
            return self.scores.astype(np.float64)
        return np.where(self.judged[:, None], self.scores, to_judge_scale(self.scores, self.info.cuts))

    @property
    def scale(self) -> tuple[Numbers, Cuts]:
        """Scores (N, 2) that share one scale, and its cuts: their own, or the judge's where both occur."""
        if self.mixed:
            return self.judge_scale, JUDGE_CUTS
        return self.scores, JUDGE_CUTS if self.judged.all() else self.info.cuts


def assign_sets(table: ScoreTable, settings: SelectSettings, *, raw: bool) -> Rows:
    """Return the rows of a score file, assigned by a published rule; ``raw`` scores count as a judge's own.

    SelectionError where the first set is empty.
    """
    evidence = Evidence(
        scores=table.scores,
        cuts=table.cuts,
        judged=np.full(len(table), raw),
        error=table.error,
        hashes=table.hashes,
        conversations=table.hashes,
        categories=np.zeros(len(table), dtype=np.int64),
    )
    decision = decide(evidence, settings)
    threshold = dict(zip(HEADS, settings.threshold, strict=True))
    source = RULES[settings.rule].source
    unknown = {"half_widths": None} if raw else {}
    info = SelectionInfo(
        rule=AppliedRule(name=settings.rule, source=source, threshold=threshold, how=Thresholds(by="given")),
        cuts=read_cuts(table.cuts),
        sets={},
        scorer={**table.scorer, "scores": table.name, **unknown} if table.scorer else None,
        stability=stability_of(settings, evidence, decision),
        settings=settings,
    )
    decided = {entry.name: getattr(decision, entry.name) for entry in fields(decision)}
    return Rows(name=table.name, info=info, hashes=table.hashes, scores=table.scores, judged=evidence.judged, **decided)
