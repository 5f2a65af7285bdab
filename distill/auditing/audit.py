"""What labels of a random sample say of a scored corpus: the judge there, the scorer's agreement, a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from distill.auditing.ppi import Interval, mean_interval
from distill.auditing.sequential import Answer, Near, decide_difference, decide_share
from distill.auditing.settings import AuditSettings
from distill.training.calibrate import cross_levels, few_label_cuts
from scorer.arrays import Floats, Ints
from scorer.bundle.cuts import Cuts
from scorer.dialogue import HEADS
from selection.folds import folds_of
from selection.metrics import Pair, all_figures, bootstrap
from selection.rules import PAPER, to_levels

Verdict = Literal["trust", "recalibrate", "label and retrain", "not sure"]

LEAST_TO_TRUST = 100
"""Fewer labels give no verdict but "not sure"."""

LEAST_TO_RECALIBRATE = 200
"""Where there is no trust, so many labels are bought, if that is allowed: fewer give no cuts to speak of."""

LEAST = 20
"""Fewer labels give no interval to speak of."""

_FOLDS = 5
_REPLICATES = 500
_SHOWN = ("sensibility.pearson", "rationality.pearson", "paper.kappa", "paper.f1.sensibility")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """The settled part of a random permutation of a corpus of ``scores`` (N, 2).

    ``rows``, (n,), are in the order of the permutation; ``labels`` (n, 2) are means of the judge's draws, NaN where it
    gave none. ``draws`` holds each row's own judgements, (k, 2), heads in the order of ``HEADS``.
    """

    scores: Floats
    cuts: Cuts
    rows: Ints
    labels: Floats
    draws: Sequence[Floats]
    conversations: Sequence[str]

    @property
    def labelled(self) -> Ints:
        """The places in ``rows`` that have a label."""
        return np.flatnonzero(~np.isnan(self.labels).any(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How far the judge agrees with itself: ``variance`` of a label per head, share of draws in the same set."""

    dialogues: int
    variance: tuple[float, ...]
    same_set: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """What was found. ``judge`` is of the whole corpus, ``agreement`` of scorer and judge there, by figure.

    ``scorer`` are the same figures as ``judge`` by the scorer's sets. ``accuracy`` is the share of dialogues in the
    judge's set, ``recalibrated`` the same with cuts from the other folds of the sample, None where that was not tried.
    ``answer`` is that of the sequential test on ``limit``, ``near`` that on the shares kept by scorer and judge.
    """

    labels: int
    rejected: int
    dialogues: int
    limit: float
    judge: dict[str, Interval]
    scorer: dict[str, float]
    agreement: dict[str, Interval]
    accuracy: Interval
    recalibrated: float | None
    noise: Noise | None
    answer: Answer
    near: Near
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Return everything, as `empathy audit --json` writes it."""
        return asdict(self)


def is_sure(sample: Sample, limit: float, settings: AuditSettings) -> tuple[Answer, Near]:
    """Return the answers of two sequential tests: agreement against ``limit``, and how near the kept shares are."""
    ours = PAPER.apply(sample.scores[sample.rows], sample.cuts, settings.threshold)
    theirs = PAPER.apply(np.nan_to_num(sample.labels), threshold=settings.threshold)
    unknown = np.where(np.isnan(sample.labels).any(axis=1), np.nan, 0.0)
    total = len(sample.scores)
    answer = decide_share((ours == theirs) + unknown, total, limit, settings.alpha)
    kept = (theirs == 0).astype(float) - (ours == 0) + unknown
    return answer, decide_difference(kept, total, settings.shift, settings.alpha)


def is_enough(answer: Answer, near: Near, labels: int) -> bool:
    """Whether no more labels are needed for the answers of ``is_sure``."""
    if answer == "below" or near == "beyond":
        return labels >= LEAST_TO_RECALIBRATE
    return answer == "above" and near == "within" and labels >= LEAST_TO_TRUST


def audit_sample(sample: Sample, limit: float, settings: AuditSettings) -> Audit:
    """Return what a sample says; ValueError for fewer than ``LEAST`` labels."""
    known = sample.labelled
    if len(known) < LEAST:
        raise ValueError(f"{len(known)} labels, expected at least {LEAST}")
    rows, labels = sample.rows[known], sample.labels[known]
    conversations = [sample.conversations[place] for place in known]
    noise = _noise([sample.draws[place] for place in known], settings.threshold)
    answer, near = is_sure(sample, limit, settings)
    pair = Pair.of(labels, sample.scores[rows], to_levels(sample.scores[rows], sample.cuts))
    agreement, accuracy = _agreement(pair, conversations, labels, noise, settings)
    recalibrated = None
    if len(rows) >= LEAST_TO_TRUST:
        folds = folds_of(conversations, _FOLDS, settings.seed)
        levels = cross_levels(sample.scores[rows], labels, folds, few_label_cuts)
        again = all_figures(Pair.of(labels, sample.scores[rows], levels), threshold=settings.threshold)
        recalibrated = again["paper.accuracy"]
    sets = PAPER.apply(sample.scores, sample.cuts, settings.threshold)
    chance = not agreement["paper.kappa"].low > 0  # no better than chance, or not defined
    return Audit(
        labels=len(rows),
        rejected=len(sample.rows) - len(rows),
        dialogues=len(sample.scores),
        limit=limit,
        judge=judge_intervals(sample.scores, sample.cuts, rows, labels, settings.threshold, noise=noise),
        scorer={
            **{f"mean.{head}": float(sample.scores[:, i].mean()) for i, head in enumerate(HEADS)},
            **{f"share.{name}": float((sets == k).mean()) for k, name in enumerate(PAPER.sets)},
        },
        agreement=agreement,
        accuracy=accuracy,
        recalibrated=recalibrated,
        noise=noise,
        answer=answer,
        near=near,
        verdict=_verdict(answer, near, recalibrated, limit, chance=chance),
    )


def _verdict(answer: Answer, near: Near, recalibrated: float | None, limit: float, *, chance: bool) -> Verdict:
    no, yes = answer == "below" or near == "beyond", answer == "above" and near == "within"
    if recalibrated is None or not (no or yes):
        return "not sure"
    if chance:
        return "label and retrain"
    if yes:
        return "trust"
    return "recalibrate" if recalibrated > limit else "label and retrain"


def judge_intervals(
    scores: Floats,
    cuts: Cuts,
    rows: Ints,
    labels: Floats,
    threshold: int,
    *,
    noise: Noise | None = None,
    powered: bool = True,
) -> dict[str, Interval]:
    """Return the judge's mean scores and the shares of its sets on a corpus of scores (N, 2), by labels of some rows.

    Every mean is predicted by both scores, and by whether the scorer puts the dialogue into either outer set.
    """
    sets, judged = PAPER.apply(scores, cuts, threshold), PAPER.apply(labels, threshold=threshold)
    corpus = np.column_stack([scores, sets == 0, sets == PAPER.opposite])  # (N, 4)
    found = {}
    for i, head in enumerate(HEADS):
        by_chance = noise.variance[i] if noise else 0.0
        found[f"mean.{head}"] = mean_interval(labels[:, i], corpus[rows], corpus, noise=by_chance, powered=powered)
    for k, name in enumerate(PAPER.sets):
        interval = mean_interval((judged == k).astype(float), corpus[rows], corpus, powered=powered)
        ends = [min(max(end, 0.0), 1.0) for end in (interval.estimate, interval.low, interval.high)]
        found[f"share.{name}"] = Interval(estimate=ends[0], low=ends[1], high=ends[2])
    return found


def _agreement(
    pair: Pair, conversations: list[str], labels: Floats, noise: Noise | None, settings: AuditSettings
) -> tuple[dict[str, Interval], Interval]:
    """Return figures of agreement and the share of dialogues in the judge's set, with 95 % percentile intervals.

    Conversations are drawn (Efron 1979). Where the judge's noise is known, ``.corrected`` is the correlation with a
    judge without it (Spearman 1904).
    """
    whole = all_figures(pair, threshold=settings.threshold)
    ends = bootstrap(pair, conversations, _REPLICATES, settings.seed, settings.threshold)
    found = {
        name: Interval(estimate=whole[name], low=ends[name][0], high=ends[name][1])
        for name in (*_SHOWN, "paper.accuracy")
    }
    for i, head in enumerate(HEADS) if noise else ():
        assert noise is not None
        plain, spread = found[f"{head}.pearson"], float(labels[:, i].var(ddof=1))
        if spread > noise.variance[i]:
            factor = (1 - noise.variance[i] / spread) ** -0.5
            low, middle, high = (min(1.0, factor * end) for end in (plain.low, plain.estimate, plain.high))
            found[f"{head}.pearson.corrected"] = Interval(estimate=middle, low=low, high=high)
    return found, found.pop("paper.accuracy")


def _noise(draws: Sequence[Floats], threshold: int) -> Noise | None:
    """Return how far draws differ, None where no dialogue was judged twice."""
    several = [found for found in draws if len(found) > 1]
    if not several:
        return None
    variance = np.mean([found.var(axis=0, ddof=1) / len(found) for found in several], axis=0)
    first, second = (PAPER.apply(np.array([found[k] for found in several]), threshold=threshold) for k in (0, 1))
    return Noise(
        dialogues=len(several),
        variance=tuple(float(value) for value in variance),
        same_set=float((first == second).mean()),
    )
