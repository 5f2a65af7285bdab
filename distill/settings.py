"""How the loop of `empathy distill` runs: one frozen record, from which the command reads its options."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import LabelError
from distill.sampling.settings import STRATEGIES
from scorer.settings import check, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """When to sample what, and when to stop.

    Agreement is the mean over both heads of Pearson's correlation with the judge on the dialogues that were kept apart.
    """

    check: int = setting(
        300, "Dialogues that are labelled to measure and never trained on, drawn at random.", 20, 10**6
    )
    step: int = setting(500, "Dialogues that each round labels.", 50, 10**6)
    rounds: int = setting(5, "Rounds, at most.", 1, 1000)
    strategy: str = setting(
        "uncertain", "Which dialogues a round labels; the last scorer says where it is least sure.", choices=STRATEGIES
    )
    target: float | None = setting(
        None, "Stop at this agreement: Pearson's r with the judge, the mean of both heads.", 0, 1
    )
    min_gain: float = setting(0.005, "Stop after a round whose agreement gains less.", -2, 2)
    seed: int = setting(0, "The seed of the samples and the training.")
    max_cost: float | None = setting(
        None, "USD: stop before the loop costs more in all its runs, calls in flight counted at their worst.", 0, 10**9
    )

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        check(self, LabelError)
