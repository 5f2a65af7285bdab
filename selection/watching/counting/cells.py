"""What is kept of many dialogues: counts, sums and fine histograms in one array, so that two parts add up to a whole.

A cell is a float64 array of ``SIZE``; counts in it are exact. Bins of scores are ``BIN`` wide, so a quantile read off
them is at most ``BIN`` / 2 off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scorer.arrays import Floats
from scorer.dialogue import HEADS, SCORE_RANGE
from selection.rules import PAPER

Row = np.dtype(
    [
        ("time", "f8"),
        ("key", "u8"),
        ("scores", "f4", (2,)),
        ("set", "u1"),
        ("low", "u1"),
        ("outside", "i1"),
        ("category", "u4"),
    ]
)
"""A dialogue as it is counted: ``key`` is the hash of its id, ``outside`` -1 where nobody knows."""

Rows = npt.NDArray[np.void]

BINS = 200
BIN = (SCORE_RANGE[1] - SCORE_RANGE[0]) / BINS
"""Points of a bin of a cell's histograms."""

_N, _LOW, _OUTSIDE, _KNOWN, _SETS, _SUMS, _SQUARES, _HISTOGRAMS = 0, 1, 2, 3, 4, 7, 9, 11
SIZE = _HISTOGRAMS + 2 * BINS


class Cell:
    """The counts of some dialogues."""

    __slots__ = ("data",)

    def __init__(self, data: Floats | None = None) -> None:
        """Begin with no dialogue, or with an array of ``SIZE``."""
        self.data: Floats = np.zeros(SIZE) if data is None else data

    def add_rows(self, rows: Rows) -> None:
        """Count dialogues, an array of ``Row``."""
        scores = rows["scores"].astype(np.float64)
        data = self.data
        known = rows["outside"] >= 0
        data[_N] += len(rows)
        data[_LOW] += rows["low"].sum()
        data[_OUTSIDE] += (rows["outside"] == 1).sum()
        data[_KNOWN] += known.sum()
        data[_SETS:_SUMS] += np.bincount(rows["set"], minlength=3)[:3]
        data[_SUMS:_SQUARES] += scores.sum(axis=0)
        data[_SQUARES:_HISTOGRAMS] += (scores**2).sum(axis=0)
        places = np.minimum((scores / BIN).astype(np.int64), BINS - 1)
        for head in range(2):
            start = _HISTOGRAMS + head * BINS
            data[start : start + BINS] += np.bincount(places[:, head], minlength=BINS)

    def add_outside(self, outside: int, known: int) -> None:
        """Count dialogues outside the training domain where only their number is known, out of ``known``."""
        self.data[_OUTSIDE] += outside
        self.data[_KNOWN] += known

    def add(self, other: Cell) -> None:
        """Count what another cell counted."""
        self.data += other.data

    def __len__(self) -> int:
        """Return the number of dialogues."""
        return int(self.data[_N])

    @property
    def low(self) -> int:
        """Dialogues that are low on both scores."""
        return int(self.data[_LOW])

    @property
    def outside(self) -> tuple[int, int]:
        """Dialogues outside the training domain, and those of which that is known."""
        return int(self.data[_OUTSIDE]), int(self.data[_KNOWN])

    @property
    def sets(self) -> dict[str, int]:
        """Dialogues in each set."""
        return dict(zip(PAPER.sets, self.data[_SETS:_SUMS].astype(int).tolist(), strict=True))

    @property
    def means(self) -> Floats:
        """The mean of each score, (2,); NaN of nothing."""
        return np.asarray(self.data[_SUMS:_SQUARES] / self.data[_N]) if self.data[_N] else np.full(2, np.nan)

    @property
    def variances(self) -> Floats:
        """The variance of each score, (2,), of a sample; NaN of fewer than two."""
        n = self.data[_N]
        if n < 2:
            return np.full(2, np.nan)
        spread = self.data[_SQUARES:_HISTOGRAMS] - self.data[_SUMS:_SQUARES] ** 2 / n
        return np.asarray(np.maximum(spread, 0) / (n - 1))

    def histogram(self, head: int) -> Floats:
        """Return the dialogues in each bin of a score, (BINS,)."""
        start = _HISTOGRAMS + head * BINS
        return self.data[start : start + BINS]

    def quantiles(self, head: int, shares: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> list[float]:
        """Return quantiles of a score, the middle of the bin that each lies in; NaN of nothing."""
        if not self.data[_N]:
            return [float("nan")] * len(shares)
        below = np.cumsum(self.histogram(head))
        places = np.searchsorted(below, np.array(shares) * below[-1] - 1e-9, side="left")
        return [float((min(place, BINS - 1) + 0.5) * BIN) for place in places]


assert (len(HEADS), len(PAPER.sets)) == (2, 3)  # what the places above stand for
