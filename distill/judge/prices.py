"""What a call costs: the price of a model, the tokens of a question, and the most that a call may come to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from distill.errors import LabelError
from distill.judge.records import OPENAI_URL

BATCH_FACTOR = 0.5
"""The Batch API costs half."""

_CHARACTERS_PER_TOKEN = 4
_MESSAGE_TOKENS = 64
"""More than any chat template puts around a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD per million tokens, in and out; ``source`` says where the price comes from."""

    per_million_in: float
    per_million_out: float
    source: str = ""

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


class Size(NamedTuple):
    """Tokens of a call, or of many: ``prompt`` and ``completion`` are estimates, the ``most`` are never passed.

    A tokenizer that falls back on bytes makes no more tokens than there are bytes, whatever its vocabulary.
    """

    prompt: int
    completion: int
    most_prompt: int
    most_completion: int


def find_price(
    model: str, base_url: str, price_in: float | None, price_out: float | None, longest_prompt: int = 1
) -> Price | None:
    """Return the price given, else OpenAI's as the installed genai-prices knows it, else None.

    Prompts of hundreds of thousands of tokens have a higher price, which counts for all if the longest is one of them.
    Nothing is fetched: the prices are those of the package's release. LabelError if only one of two prices is given.
    """
    if price_in is not None and price_out is not None:
        return Price(per_million_in=price_in, per_million_out=price_out, source="as given")
    if price_in is not None or price_out is not None:
        raise LabelError("--price-in and --price-out go together (USD per million tokens); give both")
    if base_url != OPENAI_URL:  # another server may call a model anything, and ask for it what it likes
        return None
    from genai_prices import Usage, __version__, calc_price  # takes a third of a second

    try:
        found = calc_price(Usage(input_tokens=longest_prompt, output_tokens=1), model, provider_id="openai")
    except LookupError:
        return None
    if not found.output_price:  # no model that answers
        return None
    return Price(
        per_million_in=float(found.input_price / longest_prompt * 10**6),
        per_million_out=float(found.output_price * 10**6),
        source=f"OpenAI's for {found.model.id}, genai-prices {__version__}",
    )


def size_of(
    messages: Sequence[Mapping[str, str]], max_tokens: int, schema: Mapping[str, Any], answer_tokens: int
) -> Size:
    """Return the tokens of a question with these messages, this limit on the answer, and this form and length of it."""
    form = len(json.dumps(schema))
    texts = [message["content"] for message in messages]
    return Size(
        prompt=sum(map(len, texts)) // _CHARACTERS_PER_TOKEN + form // _CHARACTERS_PER_TOKEN,
        completion=min(answer_tokens, max_tokens),
        most_prompt=sum(len(text.encode()) for text in texts) + form + _MESSAGE_TOKENS * (len(texts) + 1),
        most_completion=max_tokens,
    )
