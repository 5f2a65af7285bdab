"""How labels are bought: the settings of `empathy label`, of its samples, and of the loop of `empathy distill`."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import LabelError, SampleError
from scorer.settings import check_settings, setting

DEFAULT_KEY = "OPENAI_API_KEY"
STRATEGIES = ("random", "stratified", "diverse", "uncertain")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How a judge is asked. Money is USD, prices are per million tokens, times are seconds."""

    model: str
    base_url: str | None = None
    key_name: str = setting(
        DEFAULT_KEY, "The environment variable that holds the key, which can be given in no other way."
    )
    temperature: float = setting(0.0, "The judge's temperature.", 0, 2)
    draws: int = setting(1, "Judge each dialogue so many times, to see how far the judge agrees with itself.", 1, 100)
    logprobs: bool = setting(
        True,
        "Where the server gives log-probabilities, a label is their expectation (7.4) in place of the number said (7).",
    )
    max_tokens: int = setting(
        128, "Tokens per answer, at most; a model that reasons first needs 2000 or more.", 8, 100_000
    )
    concurrency: int = setting(16, "Calls at the same time.", 1, 1000)
    timeout: float = setting(60.0, "Seconds that a call may take in all.", 0.1, 3600)
    rpm: int | None = setting(None, "Requests per minute, at most.", 1, 10**9)
    tpm: int | None = setting(None, "Tokens per minute, at most.", 1, 10**12)
    price_in: float | None = setting(None, "USD per million prompt tokens.", 0, 10**6, shown="OpenAI's, where known")
    price_out: float | None = setting(None, "USD per million answer tokens.", 0, 10**6, shown="OpenAI's, where known")
    max_cost: float | None = setting(
        None, "USD: stop before this run costs more, calls in flight counted at their worst.", 0, 10**9
    )
    max_requests: int | None = setting(None, "Stop before this run sends more requests.", 0, 10**12)
    retry_rejects: bool = setting(False, "Ask again what was rejected before, with five new attempts.")
    batch: bool = setting(False, "Use the Batch API: half the price, an answer within a day.")
    poll_seconds: float = setting(30.0, "With --batch: seconds between two looks at the batches.", 0.01, 3600)

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        if not self.model.strip():
            raise LabelError("--model is empty, expected the name under which the server knows the judge")
        check_settings(self, LabelError)


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
        check_settings(self, SampleError)


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
        check_settings(self, LabelError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RubricSettings:
    """On which dialogues rubrics are tried, and what is shown of them."""

    sample: int | None = setting(None, "Try them on N of the dialogues of LABELS.", 10, 10**7, shown="all")
    strategy: str = setting(
        "stratified", "Which N: spread over the scores of LABELS, or at random.", choices=("stratified", "random")
    )
    seed: int = setting(0, "The seed of the sample.")
    repeats: int = setting(1, "Ask each question so many times, to see how far a variant agrees with itself.", 1, 100)
    threshold: int = setting(5, "T of the paper's rule.", 1, 9)
    bootstrap: int = setting(1000, "Replicates for the intervals; 0 leaves them out.", 0, 100_000)
    show: int = setting(12, "Show so many of the dialogues that changed most.", 0, 1000)
    reasons: bool = setting(
        True, "Ask the two variants that differ most on a dialogue that is shown for a sentence on why; one call each."
    )

    def __post_init__(self) -> None:
        """Check every value; LabelError gives the value and what was expected."""
        check_settings(self, LabelError)
