"""What a report knows of the dialogues of one source: scores, sets, reasons, doubts, lengths, categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from scorer.bundle.cuts import JUDGE_CUTS, Cuts
from scorer.bundle.uncertainty import Uncertainty
from scorer.dialogue import HEADS
from scorer.run.score_table import ScoreTable
from selection.deciding.decide import Evidence, decide
from selection.deciding.settings import SelectSettings
from selection.rules import RULES, Rule, to_judge_scale

Codes = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

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
    """The N dialogues of a source, dealt into sets.

    ``scores`` (N, 2) on the scale of ``cuts``; where ``judged`` (N,) they are a judge's own instead. ``sets`` (N,)
    indexes ``names`` and ``reasons`` (N,) ``texts``. ``chance`` (N,) is the judge's of taking a dialogue into the
    first set, None where the scores' error is not known. ``info`` says the same of the source as selection.json.
    """

    name: str
    info: Mapping[str, Any]
    hashes: npt.NDArray[np.uint64]
    scores: npt.NDArray[np.float32]
    judged: Mask
    cuts: Cuts
    error: Uncertainty | None
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
        """The published rule that dealt the dialogues, None where a rank did."""
        return RULES.get(self.info["rule"]["name"])

    @property
    def limited(self) -> bool:
        """Whether more than the published rule decided: a limit, a rank, or whole conversations."""
        settings = self.info.get("settings") or {}
        limits = settings.get("limits") or {}
        return (
            self.rule is None
            or bool(settings.get("whole_conversations"))
            or any(value is not None for value in limits.values())
        )

    @property
    def threshold(self) -> tuple[float, float]:
        """The thresholds, one a head, on the judge's scale."""
        first, second = (float(self.info["rule"]["threshold"][head]) for head in HEADS)
        return first, second

    @property
    def mixed(self) -> bool:
        """Whether a judge decided on some dialogues and a scorer on others."""
        return bool(self.judged.any() and not self.judged.all())

    @cached_property
    def judge_scale(self) -> Floats:
        """The scores on the judge's scale, (N, 2)."""
        if self.judged.all():
            return self.scores.astype(np.float64)
        return np.where(self.judged[:, None], self.scores, to_judge_scale(self.scores, self.cuts))

    @property
    def scale(self) -> tuple[npt.NDArray[np.number], Cuts]:
        """Scores (N, 2) that share one scale, and its cuts: their own, or the judge's where both occur."""
        if self.mixed:
            return self.judge_scale, JUDGE_CUTS
        return self.scores, JUDGE_CUTS if self.judged.all() else self.cuts

    @cached_property
    def mask_of_first(self) -> Mask:
        """Which dialogues are in the first set, (N,)."""
        return np.asarray(self.sets == 0)

    def with_facts(self, facts: Facts) -> Rows:
        """Return the rows with what their texts say."""
        return replace(self, facts=facts)


def deal(table: ScoreTable, settings: SelectSettings, *, raw: bool) -> Rows:
    """Return the rows of a score file, dealt by a published rule; ``raw`` scores count as a judge's own.

    SelectionError where the first set is empty.
    """
    count = len(table)
    none = np.zeros(count, dtype=np.int64)
    judged = np.full(count, raw)
    decision = decide(
        Evidence(
            scores=table.scores,
            cuts=table.cuts,
            judged=judged,
            error=table.error,
            hashes=table.hashes,
            conversations=table.hashes,
            categories=none,
        ),
        settings,
    )
    info = {
        "rule": {
            "name": settings.rule,
            "source": RULES[settings.rule].source,
            "threshold": dict(zip(HEADS, settings.threshold, strict=True)),
            "how": {"by": "given"},
        },
        "scorer": {**table.scorer, "scores": table.name} if table.scorer else None,
    }
    return Rows(
        name=table.name,
        info=info,
        hashes=table.hashes,
        scores=table.scores,
        judged=judged,
        cuts=table.cuts,
        error=table.error,
        names=decision.names,
        sets=decision.sets,
        texts=decision.texts,
        reasons=decision.reasons,
        borderline=decision.borderline,
        chance=decision.chance,
    )
