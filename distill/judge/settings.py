"""How a judge is asked: one frozen record, from which `label` and `distill` read their options."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import LabelError
from scorer.settings import check, setting

DEFAULT_KEY = "OPENAI_API_KEY"


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
        check(self, LabelError)
