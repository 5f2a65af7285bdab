"""The body of an answer: whatever it holds, it becomes a judgement or a reason, and money is booked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from distill.judge.prices import Price, Size
from distill.judge.records import LOST, SCORED
from distill.judge.replies import lost, read_answer

PRICE = Price(per_million_in=1, per_million_out=10, source="")
SIZE = Size(100, 15, 400, 64)
GOOD = '{"sensibility": 5, "rationality": 8}'


def body(content: Any = GOOD, *, finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 90, "completion_tokens": 12}
    return {"model": "m-1", "choices": [{"message": message, "finish_reason": finish}], "usage": usage} | more


def test_a_judgement_with_its_tokens_and_price() -> None:
    reply = read_answer(json.dumps(body()), PRICE, SIZE)
    assert (reply.status, reply.sensibility, reply.rationality, reply.raw) == (SCORED, 5, 8, GOOD)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.served_model) == (90, 12, "m-1")
    assert reply.cost_usd == pytest.approx(90e-6 + 120e-6)


def test_without_a_price_no_money_is_counted() -> None:
    assert read_answer(json.dumps(body()), None, SIZE).cost_usd is None
    assert lost("x", None, SIZE).cost_usd is None


@pytest.mark.parametrize(
    "usage", [None, {}, [], "x", {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 1e9}]
)
def test_without_tokens_the_worst_is_booked(usage: Any) -> None:
    assert read_answer(json.dumps(body(usage=usage)), PRICE, SIZE).cost_usd == pytest.approx(400e-6 + 640e-6)
    assert lost("x", PRICE, SIZE).cost_usd == pytest.approx(400e-6 + 640e-6)
    assert lost("x", PRICE, SIZE).status == LOST


def choice(content: str) -> dict[str, Any]:
    return {"message": {"content": content}, "finish_reason": "stop"}


UNUSABLE: dict[str, tuple[Any, str]] = {
    "no JSON": ("<html>busy</html>", "broken_body"),
    "cut JSON": (json.dumps(body())[:-20], "broken_body"),
    "nothing": ("", "broken_body"),
    "deep JSON": ("[" * 100_000, "broken_body"),
    "a list": ([], "broken_body"),
    "no choices": (body(choices=[]), "no_choice"),
    "choices of another form": (body(choices="x"), "no_choice"),
    "choices that are no objects": (body(choices=[1]), "no_choice"),
    "no message": (body(choices=[{}]), "empty"),
    "no text": (body(None), "empty"),
    "a list for text": (body([GOOD]), "empty"),
    "refused": (body(choices=[{"message": {"refusal": "No.", "content": None}}]), "refused"),
    "filtered": (body(GOOD, finish="content_filter"), "refused"),
    "cut off": (body('{"sensibility": 5, "rationality": 1', finish="length"), "no_scores"),
    "out of range": (body('{"sensibility": 50, "rationality": 1}'), "out_of_range"),
    "choices that differ": (body(choices=[choice(GOOD), choice(GOOD.replace("8", "7"))]), "ambiguous"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_answer_says_why_and_was_paid_all_the_same(case: str) -> None:
    given, reason = UNUSABLE[case]
    text = given if isinstance(given, str) else json.dumps(given)
    reply = read_answer(text, PRICE, SIZE)
    assert (reply.status, reply.sensibility) == (reason, None)
    assert reply.cost_usd
    assert len(reply.raw) <= 100_000


def test_the_same_choice_twice_is_one() -> None:
    assert read_answer(json.dumps(body(choices=[choice(GOOD), choice(GOOD)])), PRICE, SIZE).status == SCORED


def test_an_answer_without_text_says_to_raise_the_limit_of_tokens() -> None:
    assert "raise --max-tokens" in read_answer(json.dumps(body("", finish="length")), PRICE, SIZE).detail


def test_half_a_surrogate_pair_can_be_stored() -> None:
    assert read_answer('{"choices": [{"message": {"content": "\\ud83d"}}]}', PRICE, SIZE).raw == "?"
