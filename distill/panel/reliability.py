"""Labels of several judges -> one score per dialogue, each judge counted by how reliable it is.

The model, per head, is that of congeneric measurements (Jöreskog 1971, Psychometrika 36): judge j gives dialogue i

    y_ij = b_j + a_j (t_i - t) + e_ij,    var(e_ij) = s_j^2,    the errors of two judges independent,

so that cov(y_j, y_k) = a_j a_k var(t). Of three judges and more, a_j sqrt(var t) are fitted to the covariances by least
squares; two judges are taken to use the scale alike, a = 1, which is the estimator of Grubbs (1948, J. Amer. Stat.
Assoc. 43). What a judge's variance holds beyond a_j^2 var(t) is its error, at least a twentieth of it. The score is the
generalised least squares estimate (Bartlett 1937) from the judges that a dialogue has, on the panel's mean scale:

    t_i = t + sum_j a_j (y_ij - b_j) / s_j^2  /  sum_j a_j^2 / s_j^2.

What all judges err in alike stays: no figure of theirs can show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorer.arrays import Floats
from scorer.dialogue import HEADS, SCORE_RANGE, Labels

MIN_COMPLETE = 50
"""So many dialogues must have been judged by every judge before errors are estimated from them."""

_MIN_ERROR = 0.05
_ROUNDS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """How reliable judges are: all arrays (J, 2), judges in the order of ``names``, heads in that of ``HEADS``.

    ``level`` is each judge's mean on the ``complete`` dialogues that all have judged, ``scale`` its a, ``error`` its s,
    ``share`` its part in a dialogue that all judged, which sums to 1.
    """

    names: tuple[str, ...]
    complete: int
    level: Floats
    scale: Floats
    error: Floats
    share: Floats

    def combine(self, values: Floats) -> Floats:
        """Return scores (N, 2), 0 to 10, from each judge's (N, J, 2), NaN where it did not judge."""
        has = ~np.isnan(values)
        weights = np.where(has, self.scale**2 / self.error**2, 0.0)  # (N, J, 2)
        apart = np.where(has, (values - self.level) / self.scale, 0.0)
        centre = (self.share * self.level).sum(axis=0)
        scores: Floats = centre + (weights * apart).sum(axis=1) / weights.sum(axis=1)
        return scores.clip(*SCORE_RANGE)


def judge_names(judgements: Sequence[Sequence[Labels]]) -> dict[tuple[str, ...], str]:
    """Return what to call each judge, by its key: its model, with host and rubric where these tell it apart."""
    keys = list(dict.fromkeys(judge_key(labels) for row in judgements for labels in row))
    models = Counter(key[0] for key in keys)
    hosts = Counter(key[:2] for key in keys)
    return {
        key: key[0]
        + (f" at {key[1]}" if models[key[0]] > 1 and key[1] else "")
        + (f", rubric {key[2][:6]}" if hosts[key[:2]] > 1 and key[2] else "")
        for key in keys
    }


def judge_key(labels: Labels) -> tuple[str, ...]:
    """Return who judged: model, host and rubric, as far as the label says."""
    judge = labels.judge or {}
    return tuple(str(judge.get(name, other)) for name, other in (("model", "judge"), ("base_url", ""), ("rubric", "")))


def by_judge(judgements: Sequence[Sequence[Labels]]) -> tuple[tuple[str, ...], Floats]:
    """Return the judges' names, and each judge's mean over its draws, (N, J, 2), NaN where it did not judge."""
    names = judge_names(judgements)
    column = {key: number for number, key in enumerate(names)}
    sums, counts = np.zeros((len(judgements), len(names), len(HEADS))), np.zeros((len(judgements), len(names), 1))
    for row, given in enumerate(judgements):
        for labels in given:
            sums[row, column[judge_key(labels)]] += [getattr(labels, head) for head in HEADS]
            counts[row, column[judge_key(labels)]] += 1
    return tuple(names.values()), np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def estimate_reliability(names: Sequence[str], values: Floats) -> Reliability | None:
    """Return how reliable judges are, from their scores (N, J, 2); None where that cannot be told.

    That is so with one judge, with fewer than ``MIN_COMPLETE`` dialogues that all have judged, and where judges do not
    vary together, so that nothing says whom to believe.
    """
    whole = values[~np.isnan(values).any(axis=(1, 2))]
    if len(names) < 2 or len(whole) < MIN_COMPLETE:
        return None
    fits = [_fit(np.cov(whole[:, :, head], rowvar=False)) for head in range(len(HEADS))]
    if any(fit is None for fit in fits):
        return None
    scale, error = (np.stack([fit[part] for fit in fits if fit is not None], axis=1) for part in range(2))
    weights = scale**2 / error**2
    return Reliability(
        tuple(names), len(whole), whole.mean(axis=0), scale, error, weights / weights.sum(axis=0, keepdims=True)
    )


def _fit(cov: Floats) -> tuple[Floats, Floats] | None:
    """Return (a, s) of judges with this covariance, a of mean 1; None where they do not vary together."""
    count = len(cov)
    own = np.diag(cov)
    between = cov - np.diag(own)
    if between.sum() <= 0 or (own <= 0).any():
        return None
    loads = np.full(count, np.sqrt(between.sum() / (count * (count - 1))))
    if count > 2:
        for _ in range(_ROUNDS):  # each judge's load by least squares, given the others'
            for j in range(count):
                others = np.delete(loads, j)
                loads[j] = np.clip((np.delete(cov[j], j) @ others) / (others @ others), 0.0, np.sqrt(own[j]))
        if loads.max() <= 0:
            return None
        loads = np.maximum(loads, 0.01 * loads.max())  # of no use, but no division by zero
    error = np.sqrt(np.maximum(own - loads**2, _MIN_ERROR * own))
    return loads / loads.mean(), error
