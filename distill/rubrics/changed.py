"""The dialogues on which variants differ most, and what the judges say why."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distill.judge.budget import Spending
from distill.judge.records import Known, Question
from distill.judge.verdict import ReplyError, spoken
from distill.panel.label import Panel, Part
from distill.rubrics.trial import Trial
from distill.settings import LabelSettings
from scorer.arrays import Floats
from scorer.progress import Progress
from scorer.text import digest
from selection.report.sources.examples import shown_turns
from selection.rubrics.run import ChangedDialogue, Opinion, ShownTurn
from selection.rules import PAPER, to_levels

LABELS = "labels"
"""What the labels are called beside the variants."""

REASON_TOKENS = 300
"""Tokens of an answer with a reason, at least."""

_REASON = re.compile(r'"reason"\s*:\s*("(?:[^"\\]|\\.)*+")', re.IGNORECASE)
_LONGEST = 600


@dataclass(frozen=True, slots=True)
class Extreme:
    """A dialogue's row, the columns of the two opinions that differ most on it, and by how much."""

    row: int
    first: int
    second: int
    distance: float


def most_changed(scores: Floats, count: int, ids: Sequence[str]) -> list[Extreme]:
    """Return the dialogues on which two of the columns of scores (N, C, 2) differ most: |dS| + |dR|, largest first.

    Equal distances are in the order of a hash of the ids; dialogues on which all agree are left out.
    """
    away = np.nan_to_num(np.abs(scores[:, :, None] - scores[:, None]).sum(axis=3), nan=0.0)  # (N, C, C)
    far = away.reshape(len(scores), -1)
    best = far.argmax(axis=1)
    order = sorted(np.flatnonzero(far.max(axis=1) > 0).tolist(), key=lambda row: (-far[row].max(), digest((ids[row],))))
    columns = scores.shape[1]
    return [
        Extreme(row, int(best[row]) // columns, int(best[row]) % columns, float(far[row].max()))
        for row in order[:count]
    ]


Reasons = dict[tuple[int, int], tuple[str, tuple[float, float]]]
"""By row and variant: a reason, and the scores that came with it."""


def ask_reasons(
    trial: Trial,
    extremes: Sequence[Extreme],
    parts: Sequence[Part],
    settings: LabelSettings,
    progress: Progress | None = None,
) -> tuple[Reasons, Spending, str | None]:
    """Ask the variants that differ for a reason, with what ``trial`` left of the limits; a store keeps these too.

    A reason is another question, asked once more; columns beyond the variants are the labels, which nobody asks.
    """
    rows: dict[int, list[int]] = {}
    for extreme in extremes:
        for column in (extreme.first, extreme.second):
            if column < len(parts):
                rows.setdefault(column, []).append(extreme.row)
    if not rows:
        return {}, Spending(), None
    columns = sorted(rows)
    spent = trial.spending
    left = replace(
        settings,
        draws=1,
        max_tokens=max(settings.max_tokens, REASON_TOKENS),
        max_cost=None if settings.max_cost is None else max(0.0, settings.max_cost - spent.usd),
        max_requests=None if settings.max_requests is None else max(0, settings.max_requests - spent.requests),
    )
    dialogues = trial.labelled.dialogues
    asked = [
        replace(
            parts[column],
            dialogues=[dialogues[row] for row in rows[column]],
            rubric=replace(parts[column].rubric, reason=True),
        )
        for column in columns
    ]
    store = trial.accounts[0].labelling.store
    panel = Panel(asked, left, store)
    outcome, spending = panel.run(progress)
    found: Reasons = {}
    for column, labelling in zip(columns, panel.judges, strict=True):
        known = store.known([question.key for question in labelling.questions])
        for row, question in zip(rows[column], labelling.questions, strict=True):
            if (reason := _reason(known, question)) is not None:
                found[row, column] = reason
    return found, spending, outcome.stopped


def _reason(known: dict[str, Known], question: Question) -> tuple[str, tuple[float, float]] | None:
    what = known.get(question.key, Known())
    text = reason_in(what.raw)
    return None if what.scores is None or text is None else (text, what.scores)


def reason_in(reply: str) -> str | None:
    """Return the reason in a reply, as one line; None if it gives none."""
    try:
        said = _REASON.findall(spoken(reply))
        text = " ".join(str(json.loads(said[-1], strict=False)).split()) if said else ""
    except (ReplyError, ValueError):
        return None
    return None if not text else text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def changed_dialogues(
    trial: Trial, extremes: Sequence[Extreme], reasons: Reasons, columns: Floats, threshold: int
) -> tuple[ChangedDialogue, ...]:
    """Return the dialogues that are shown; ``columns`` (N, V + 1, 2) are the variants' scores and the labels."""
    names = [*(account.name for account in trial.accounts), LABELS]
    sets = [PAPER.apply(to_levels(np.nan_to_num(columns[:, k])), threshold=threshold) for k in range(columns.shape[1])]

    def opinion(row: int, column: int) -> Opinion:
        reason, said = reasons.get((row, column), (None, None))
        sensibility, rationality = (round(float(value), 3) for value in columns[row, column])
        scores = (sensibility, rationality)
        return Opinion(
            name=names[column],
            scores=scores,
            set=PAPER.sets[sets[column][row]],
            reason=reason,
            said=None if said == scores else said,
        )

    found = []
    for extreme in extremes:
        row, two = extreme.row, (extreme.first, extreme.second)
        turns, left_out = shown_turns(trial.labelled.dialogues[row].turns)
        others = [k for k in range(len(names)) if k not in two and not np.isnan(columns[row, k, 0])]
        found.append(
            ChangedDialogue(
                id=trial.labelled.dialogues[row].id,
                distance=round(extreme.distance, 3),
                turns=tuple(ShownTurn(**turn) for turn in turns),
                turns_left_out=left_out,
                first=opinion(row, extreme.first),
                second=opinion(row, extreme.second),
                others=tuple(opinion(row, k) for k in others),
            )
        )
    return tuple(found)
