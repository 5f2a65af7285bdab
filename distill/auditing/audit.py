"""What labels of a random sample say of a scored corpus: the judge there, the scorer's agreement, a verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from distill.auditing.ppi import Interval, mean_interval
from distill.auditing.sequential import Answer, decide_share
from distill.auditing.settings import AuditSettings
from distill.training.calibrate import cross_levels
from scorer.arrays import Floats, Ints
from scorer.bundle.cuts import Cuts
from scorer.dialogue import HEADS
from selection.folds import folds_of
from selection.metrics import Pair, all_figures
from selection.rules import PAPER, to_levels

Verdict = Literal["trust", "recalibrate", "label and retrain", "not sure"]

LEAST_TO_RECALIBRATE = 100
"""Fewer labels give no cuts to speak of."""

_FOLDS = 5
_REPLICATES = 1000
_SHOWN = ("sensibility.pearson", "rationality.pearson", "paper.kappa", "paper.f1.sensibility")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """What was found. ``judge`` is of the whole corpus, ``agreement`` of scorer and judge there, by figure.

    ``accuracy`` is the share of sampled dialogues in the judge's set, ``recalibrated`` the same with cuts from the
    other folds of the sample, None where that was not tried. ``answer`` is that of the sequential test.
    """

    labels: int
    dialogues: int
    judge: dict[str, Interval]
    agreement: dict[str, Interval]
    accuracy: float
    recalibrated: float | None
    answer: Answer
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Return everything, as `empathy audit --json` writes it."""
        return asdict(self)


def agrees(scores: Floats, labels: Floats, cuts: Cuts, threshold: float) -> Floats:
    """Return 1 for each dialogue that scorer and judge put into the same set, else 0, (n,)."""
    return np.asarray(PAPER.apply(scores, cuts, threshold) == PAPER.apply(labels, threshold=threshold), dtype=float)


def audit_rows(
    scores: Floats, cuts: Cuts, rows: Ints, labels: Floats, conversations: list[str], settings: AuditSettings
) -> Audit:
    """Return the audit of a corpus' scores, (N, 2), by labels, (n, 2), of some of its rows, (n,), in random order.

    ``conversations``, (n,), are those of the labelled rows: they, not dialogues, are drawn in a bootstrap.
    """
    sample = scores[rows]
    same = agrees(sample, labels, cuts, settings.threshold)
    answer = decide_share(same, len(scores), settings.limit, settings.alpha)
    recalibrated = None
    if answer != "above" and len(rows) >= LEAST_TO_RECALIBRATE:
        levels = cross_levels(sample, labels, folds_of(conversations, _FOLDS, settings.seed))
        sets = PAPER.apply(levels.astype(float), threshold=settings.threshold)
        recalibrated = float((sets == PAPER.apply(labels, threshold=settings.threshold)).mean())
    return Audit(
        labels=len(rows),
        dialogues=len(scores),
        judge=judge_intervals(scores, cuts, rows, labels, settings.threshold),
        agreement=_agreement(sample, cuts, labels, conversations, settings),
        accuracy=float(same.mean()),
        recalibrated=recalibrated,
        answer=answer,
        verdict=_verdict(answer, recalibrated, settings.limit),
    )


def _verdict(answer: Answer, recalibrated: float | None, limit: float) -> Verdict:
    if answer == "above":
        return "trust"
    if answer == "open":
        return "not sure"
    return "recalibrate" if recalibrated is not None and recalibrated > limit else "label and retrain"


def judge_intervals(
    scores: Floats, cuts: Cuts, rows: Ints, labels: Floats, threshold: float, *, powered: bool = True
) -> dict[str, Interval]:
    """Return the judge's mean scores and the shares of its sets on the whole corpus."""
    found = {}
    for i, head in enumerate(HEADS):
        found[f"mean.{head}"] = mean_interval(labels[:, i], scores[rows, i], scores[:, i], powered=powered)
    sets, judged = PAPER.apply(scores, cuts, threshold), PAPER.apply(labels, threshold=threshold)
    for k, name in enumerate(PAPER.sets):
        of_all = (sets == k).astype(float)
        found[f"share.{name}"] = mean_interval((judged == k).astype(float), of_all[rows], of_all, powered=powered)
    return found


def _agreement(
    sample: Floats, cuts: Cuts, labels: Floats, conversations: list[str], settings: AuditSettings
) -> dict[str, Interval]:
    """Return the figures of agreement on the sample, with percentile intervals over conversations (Efron 1979)."""
    pair = Pair.of(labels, sample, to_levels(sample, cuts))
    threshold = int(settings.threshold)
    names, place = np.unique(conversations, return_inverse=True)
    rng = np.random.default_rng(settings.seed)
    whole = all_figures(pair, threshold=threshold)
    drawn = []
    for _ in range(_REPLICATES):
        often = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        drawn.append(all_figures(pair, often[place].astype(np.float64), threshold))
    found = {}
    for name in _SHOWN:
        low, high = np.nanquantile([figures[name] for figures in drawn], [0.025, 0.975])
        found[name] = Interval(estimate=whole[name], low=float(low), high=float(high))
    return found
