"""Prices and the bound of what a call may cost."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.errors import LabelError
from distill.judge.prices import find_price, size_of
from distill.judge.records import OPENAI_URL
from distill.judge.rubric import SCHEMA, Rubric
from tests.conftest import make_dialogue


@pytest.mark.parametrize(
    ("model", "longest", "prices"),
    [
        ("gpt-4.1-mini", 1000, (0.4, 1.6)),
        ("gpt-4.1-mini-2025-04-14", 1000, (0.4, 1.6)),
        ("gpt-4o-2024-05-13", 1000, (5, 15)),  # this dated version has a price of its own
        ("gpt-5.4", 272_000, (2.5, 15)),
        ("gpt-5.4", 272_001, (5, 22.5)),  # long prompts cost more
    ],
)
def test_openai_s_models_and_their_dated_versions_have_prices(
    model: str, longest: int, prices: tuple[float, float]
) -> None:
    price = find_price(model, OPENAI_URL, None, None, longest)
    assert price is not None
    assert (price.per_million_in, price.per_million_out) == prices
    assert "genai-prices" in price.source
    assert price.halved().of(1_000_000, 500_000) == pytest.approx((prices[0] + prices[1] / 2) / 2)


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt-4.1-mini", "http://localhost:8000/v1"),
        ("gpt-4.1-mini-tuned", OPENAI_URL),
        ("llama", OPENAI_URL),
        ("text-embedding-3-small", OPENAI_URL),
    ],
)
def test_another_server_or_model_has_no_price_unless_it_is_given(model: str, url: str) -> None:
    assert find_price(model, url, None, None) is None
    given = find_price(model, url, 1, 0)
    assert given is not None
    assert given.of(10**6, 10**6) == 1


def test_prices_are_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("threading.Thread.start", refuse)
    assert find_price("gpt-4.1-mini", OPENAI_URL, None, None) is not None


@pytest.mark.parametrize("prices", [(1.0, None), (None, 1.0)])
def test_one_price_of_two_is_refused(prices: tuple[float | None, float | None]) -> None:
    with pytest.raises(LabelError, match="give both"):
        find_price("m", OPENAI_URL, *prices)


@pytest.mark.parametrize("text", ["plain", "só 😢 我很难过 " * 20, "\x00\x01 \u200b" * 30, "<>[]" * 40])
def test_no_tokenizer_that_falls_back_on_bytes_passes_the_bound(text: str) -> None:
    # The worst there is: a vocabulary of the 256 bytes alone.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: number for number, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    messages = Rubric().messages(make_dialogue(text.replace("\x00", ""), text))
    size = size_of(messages, 100, SCHEMA, 15)
    assert sum(len(tokenizer.encode(message["content"])) for message in messages) <= size.most_prompt
    assert size.prompt < size.most_prompt
    assert (size.completion, size.most_completion) == (15, 100)
