"""Prediction-powered means: what the judge would say of a whole corpus, from few of its labels and all scores.

Angelopoulos, Bates, Fannjiang, Jordan, Zrnic 2023, "Prediction-powered inference" (Science 382), with the power tuning
of Angelopoulos, Duchi, Zrnic 2023, "PPI++" (arXiv 2311.01453), here with several predictions x at once, so that lambda
is a vector: the least-squares slopes of the labels y. For a mean that is, with n labelled rows drawn at random from N,

    estimate = mean of y + lambda * (mean of x over the corpus - mean of x over the labelled)
    variance = (1 - n / N) * s^2 * (1 / n + d' S^-1 d),   s^2 = squares of what lambda leaves / (n - 1 - k)

with d the difference of the two means of x and S its scatter, the usual terms of a regression. The sample is drawn
without replacement from the very corpus that is asked about, so the corpus' own mean of x has no error, and the finite
population correction applies (Cochran, Sampling Techniques, chapters 2 and 7).

However it is tuned, what is gained is bounded by the correlation r of the best prediction with the label: intervals
are narrower by 1 - sqrt(1 - r^2), so 30 % want r = 0.71.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from scorer.arrays import Floats

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the ends of its interval."""

    estimate: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low

    def holds(self, value: float) -> bool:
        """Whether a value lies within, ends included."""
        return self.low <= value <= self.high


def mean_interval(
    labels: Floats,
    predicted: Floats,
    corpus: Floats,
    *,
    noise: float = 0.0,
    confidence: float = CONFIDENCE,
    powered: bool = True,
) -> Interval:
    """Return the judge's mean over a corpus, with its interval.

    ``labels`` (n,) and ``predicted`` (n, k) are of the labelled rows, a random sample of the corpus; ``corpus`` (N, k)
    are the predictions of all rows. ``noise`` is the variance that a label has by chance, asked again: it does not
    shrink as the sample becomes the corpus. ``powered`` False is the mean of the labels alone. The width uses Student's
    t. ValueError for fewer than k + 3 labels or for more than rows.
    """
    count, total = len(labels), len(corpus)
    if not predicted.shape[1] + 3 <= count <= total:
        raise ValueError(f"{count} labels of {total} rows, expected from {predicted.shape[1] + 3} to all of them")
    estimate, extra, free = float(labels.mean()), 0.0, count - 1
    errors = labels - estimate
    if powered:
        middle = predicted.mean(axis=0)
        centred, off = predicted - middle, corpus.mean(axis=0) - middle
        slopes, _, rank, _ = np.linalg.lstsq(centred, errors, rcond=1e-9)
        free -= int(rank)
        errors = errors - centred @ slopes
        estimate += float(off @ slopes)
        extra = float(off @ np.linalg.pinv(centred.T @ centred, rcond=1e-9) @ off)
    part = count / total
    spread = float((errors**2).sum()) / free
    variance = (1 - part) * spread * (1 / count + extra) + part * noise / count
    half = student_quantile((1 + confidence) / 2, free) * variance**0.5
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def student_quantile(p: float, free: int) -> float:
    """Return a quantile of Student's t by Cornish-Fisher's expansion (Abramowitz and Stegun 26.7.5).

    Off by less than 0.003 at 95 % from 8 degrees of freedom on.
    """
    z = NormalDist().inv_cdf(p)
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return float(z + sum(term / float(free) ** (k + 1) for k, term in enumerate(terms)))
