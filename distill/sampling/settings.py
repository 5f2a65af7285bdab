"""How a sample is drawn: one frozen record, from which `label` reads its options."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import SampleError
from scorer.settings import check, setting

STRATEGIES = ("random", "stratified", "diverse", "uncertain")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """Which dialogues are chosen; what the strategies do is told in ``distill.sampling.strategies``."""

    strategy: str = setting(
        "random",
        "Which N: at random, spread over scores, spread over embeddings, or those the scorer is least sure of.",
        choices=STRATEGIES,
    )
    seed: int = setting(0, "The seed of the sample.")
    whole_conversations: bool = setting(False, "Keep the dialogues of a conversation together.")

    def __post_init__(self) -> None:
        """Check every value; SampleError gives the value and what was expected."""
        check(self, SampleError)
