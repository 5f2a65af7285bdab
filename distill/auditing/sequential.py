"""Whether a share is above a limit, decided while labels come in, with an error rate that stands under peeking.

Betting (Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS B 86,
arXiv 2010.09686; without replacement as in their section 5): if the mean of the N values were m, the next one, given
t - 1 that came, would have the mean (N m - sum of those) / (N - t + 1). So the capital

    K_t = product over i <= t of (1 + b_i (x_i - mean of the next, given m)),   b_i fixed before x_i came,

is a nonnegative martingale, and exceeds 1 / alpha with a probability of at most alpha, ever (Ville 1939). The looks may
be as many, and at such moments, as one likes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from scorer.arrays import Floats

Answer = Literal["above", "below", "open"]
Near = Literal["within", "beyond", "open"]

_BETS = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7])
"""Shares of the largest bet that never loses everything; the capitals' mean is a martingale too."""


def decide_share(values: Floats, total: int, limit: float, alpha: float = 0.05) -> Answer:
    """Say whether the mean of ``total`` values from 0 to 1 lies above or below ``limit``; "open" while it is unsure.

    ``values``, (n,), are those seen, in the order of a random permutation of all; NaN is one that stays unknown, and
    counts against either answer. The probability of ever saying "above" where the mean is at most the limit is at most
    ``alpha`` / 2, the same holds for "below".
    """
    above = crossing(np.nan_to_num(values, nan=0.0), total, limit, alpha / 2)
    below = crossing(1 - np.nan_to_num(values, nan=1.0), total, 1 - limit, alpha / 2)
    if above is None and below is None:
        return "open"
    return "above" if below is None or (above is not None and above <= below) else "below"


def decide_difference(differences: Floats, total: int, limit: float, alpha: float = 0.05) -> Near:
    """Say whether the mean of ``total`` values from -1 to 1 lies within ``limit`` of 0 or beyond; "open" while unsure.

    ``differences``, (n,), and NaN are as in ``decide_share``. The probability of ever saying "within" where it is not,
    is at most ``alpha`` / 2, that of saying "beyond" where it is not, at most ``alpha``.
    """

    def exceeds(sign: int, bound: float) -> bool:
        """Whether it is sure that the mean of sign * differences exceeds a bound."""
        values = (1 + np.nan_to_num(sign * differences, nan=-1.0)) / 2
        return crossing(values, total, (1 + bound) / 2, alpha / 2) is not None

    if exceeds(1, limit) or exceeds(-1, limit):
        return "beyond"
    return "within" if exceeds(1, -limit) and exceeds(-1, -limit) else "open"


def crossing(values: Floats, total: int, limit: float, alpha: float) -> int | None:
    """Return after how many values it was sure that their mean exceeds ``limit``, None if it never was."""
    capital = np.ones(len(_BETS))
    total_so_far = 0.0
    for seen, value in enumerate(values):
        mean = (total * limit - total_so_far) / (total - seen)
        if mean < 0:  # those seen alone exceed what the limit allows: certain
            return seen
        if mean >= 1:  # even ones alone cannot exceed the limit any more: no bet can win
            return None
        capital = capital * (1 + _BETS / max(mean, 1e-9) * (value - mean))
        total_so_far += float(value)
        if capital.mean() >= 1 / alpha:
            return seen + 1
    return len(values) if len(values) == total and total_so_far / total > limit else None
