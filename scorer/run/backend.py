"""Where windows are scored: the protocol of a backend, and the one that scores them in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from scorer.bundle.tokens import Tokens
from scorer.engines.base import Scores
from scorer.model import Scorer
from scorer.reading.cut import Prepared
from scorer.run.estimate import Estimate
from scorer.run.settings import ScoreSettings


class Backend(Protocol):
    """Scores windows: this process (``Local``), or a cluster (`scorer.cluster.driver.Cluster`)."""

    scorer: Scorer
    """The scorer whose bundle, engine and precision the output names."""

    def score(self, windows: Iterator[Prepared], estimate: Estimate) -> Iterator[tuple[Prepared, Scores]]:
        """Yield each window with the columns of its dialogues (see ``score_columns``), in order."""
        ...

    def closing(self) -> list[str]:
        """Return the lines that say who scored, where that is worth saying."""
        ...


class Local:
    """Scores windows in this process."""

    def __init__(self, scorer: Scorer, settings: ScoreSettings) -> None:
        """Score with ``scorer``."""
        self.scorer = scorer
        self._settings = settings

    def score(self, windows: Iterator[Prepared], estimate: Estimate) -> Iterator[tuple[Prepared, Scores]]:
        """Yield each window with the columns of its dialogues, in order."""
        for window in windows:
            estimate.read(window.work, window.position)
            yield window, score_columns(self.scorer, window.tokens, self._settings, estimate.scored)

    def closing(self) -> list[str]:
        """Return nothing: this process scored."""
        return []


def score_columns(
    scorer: Scorer, tokens: Tokens, settings: ScoreSettings, on_batch: Callable[[int, int], None] | None = None
) -> Scores:
    """Return the columns of dialogues, in order: scores (N, 2), with ``uncertainty`` half-widths too (N, 4).

    ``on_batch`` is told the rows and tokens of each batch that is done.
    """
    scores = scorer.run(tokens, batch_tokens=settings.batch_tokens, batch_size=settings.batch_size, on_batch=on_batch)
    return np.hstack([scores, scorer.uncertainty(scores)]) if settings.uncertainty else scores
