"""What a call costs: a dated table of prices, the tokens of a question, and the most that a call may come to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from distill.errors import LabelError
from distill.judge.records import OPENAI_URL
from distill.judge.rubric import SCHEMA

PRICES_AS_OF = "2026-03"
"""The month in which this table was true, as far as this project knows; your invoice decides."""

BATCH_FACTOR = 0.5
"""The Batch API costs half."""

ANSWER_TOKENS = 15
"""Tokens of a plain judgement, for estimates; a model that reasons first takes hundreds."""

_PRICES = {  # USD a million tokens: in, out
    "gpt-3.5-turbo": (0.5, 1.5),
    "gpt-4o": (2.5, 10),
    "gpt-4o-mini": (0.15, 0.6),
    "gpt-4.1": (2, 8),
    "gpt-4.1-mini": (0.4, 1.6),
    "gpt-4.1-nano": (0.1, 0.4),
    "gpt-5": (1.25, 10),
    "gpt-5-mini": (0.25, 2),
    "gpt-5-nano": (0.05, 0.4),
    "gpt-5.1": (1.25, 10),
    "gpt-5.4": (2.5, 15),
    "o3": (2, 8),
    "o4-mini": (1.1, 4.4),
}
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")

_CHARACTERS_A_TOKEN = 4
_MESSAGE_TOKENS = 64
"""More than any chat template puts around a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD a million tokens, in and out; ``source`` says where the price comes from."""

    per_million_in: float
    per_million_out: float
    source: str

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost, USD."""
        return (prompt_tokens * self.per_million_in + completion_tokens * self.per_million_out) / 1e6

    def halved(self) -> Price:
        """Return the Batch API's price."""
        return replace(
            self,
            per_million_in=self.per_million_in * BATCH_FACTOR,
            per_million_out=self.per_million_out * BATCH_FACTOR,
            source=f"{self.source}, half for a batch",
        )


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a call. ``prompt`` and ``completion`` are estimates; the ``most`` are bounds that cannot be passed.

    A tokenizer that falls back on bytes makes no more tokens than there are bytes, whatever its vocabulary.
    """

    prompt: int
    completion: int
    most_prompt: int
    most_completion: int


def find_price(model: str, base_url: str, price_in: float | None, price_out: float | None) -> Price | None:
    """Return the price given, else the table's, else None; LabelError if only one of two is given."""
    if price_in is not None and price_out is not None:
        return Price(per_million_in=price_in, per_million_out=price_out, source="as given")
    if price_in is not None or price_out is not None:
        raise LabelError("--price-in and --price-out go together (USD a million tokens); give both")
    # A server of one's own may call a model anything, so the table is OpenAI's alone.
    known = _PRICES.get(_DATED.sub("", model)) if base_url == OPENAI_URL else None
    if known is None:
        return None
    return Price(per_million_in=known[0], per_million_out=known[1], source=f"OpenAI's list of {PRICES_AS_OF}")


def size_of(messages: Sequence[Mapping[str, str]], max_tokens: int) -> Size:
    """Return the tokens of a question with these messages and this limit on the answer."""
    texts = [message["content"] for message in messages]
    around = len(_SCHEMA_TEXT) + _MESSAGE_TOKENS * (len(texts) + 1)
    return Size(
        prompt=sum(map(len, texts)) // _CHARACTERS_A_TOKEN + len(_SCHEMA_TEXT) // _CHARACTERS_A_TOKEN,
        completion=min(ANSWER_TOKENS, max_tokens),
        most_prompt=sum(len(text.encode()) for text in texts) + around,
        most_completion=max_tokens,
    )


_SCHEMA_TEXT = json.dumps(SCHEMA)
