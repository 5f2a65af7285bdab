"""The body of an answer: whatever it holds, it becomes a judgement or a reason, and money is booked."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from distill.judge.prices import Price, Size
from distill.judge.records import LOST, SCORED
from distill.judge.replies import lost_reply, read_answer
from distill.judge.verdict import MAX_REPLY_CHARACTERS, ReplyError, read_judgement

PRICE = Price(per_million_in=1, per_million_out=10)
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
    assert lost_reply("x", None, SIZE).cost_usd is None


@pytest.mark.parametrize(
    "usage", [None, {}, [], "x", {"prompt_tokens": -1}, {"prompt_tokens": True}, {"prompt_tokens": 1e9}]
)
def test_without_tokens_the_worst_is_booked(usage: Any) -> None:
    assert read_answer(json.dumps(body(usage=usage)), PRICE, SIZE).cost_usd == pytest.approx(400e-6 + 640e-6)
    assert lost_reply("x", PRICE, SIZE).cost_usd == pytest.approx(400e-6 + 640e-6)
    assert lost_reply("x", PRICE, SIZE).status == LOST


@pytest.mark.parametrize(
    ("usage", "worst"), [((0, 0), 400e-6 + 640e-6), ((0, 12), 400e-6 + 120e-6), ((90, 0), 90e-6 + 640e-6)]
)
def test_a_count_of_none_is_none_until_the_server_has_shown_others(usage: tuple[int, int], worst: float) -> None:
    text = json.dumps(body(usage=dict(zip(("prompt_tokens", "completion_tokens"), usage, strict=True))))
    reply = read_answer(text, PRICE, SIZE)
    assert reply.cost_usd == pytest.approx(worst)
    assert not reply.counted
    assert read_answer(text, PRICE, SIZE, counts=True).cost_usd == pytest.approx(usage[0] * 1e-6 + usage[1] * 10e-6)


def choice(content: str) -> dict[str, Any]:
    return {"message": {"content": content}, "finish_reason": "stop"}


UNUSABLE: dict[str, tuple[Any, str]] = {
    "no JSON": ("<html>busy</html>", LOST),
    "cut JSON": (json.dumps(body())[:-20], LOST),
    "nothing": ("", LOST),
    "deep JSON": ("[" * 100_000, LOST),
    "a list": ([], LOST),
    "no choices": (body(choices=[]), LOST),
    "choices of another form": (body(choices="x"), LOST),
    "choices that are no objects": (body(choices=[1]), LOST),
    "no message": (body(choices=[{}]), LOST),
    "no text": (body(None), "empty"),
    "a list without text": (body([{"type": "image"}]), "empty"),
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


# The text of a reply

VALID = {
    "JSON": GOOD,
    "another order": '{"rationality": 8, "sensibility": 5}',
    "white space": f"\n  {GOOD}\n",
    "whole numbers written as decimals": '{"sensibility": 5.0, "rationality": 8.0}',
    "numbers as text": '{"sensibility": "5", "rationality": " 8 "}',
    "capitals": '{"Sensibility": 5, "Rationality": 8}',
    "more keys": '{"reason": "warm", "sensibility": 5, "rationality": 8}',
    "a code fence": f"```json\n{GOOD}\n```",
    "prose around": f"Here is my judgement: {GOOD}. I hope that it helps {{you}}!",
    "an object around": f'{{"scores": {GOOD}}}',
    "a list around": f"[{GOOD}]",
    "the same twice": f"{GOOD}\n{GOOD}",
    "thought aloud": f'<think>maybe {{"sensibility": 1, "rationality": 1}}?</think>{GOOD}',
    "thought, by another mark": f"[THINK]{GOOD.replace('5', '1')}?[/THINK]{GOOD}",
    "thought, in a tag with a name": f'<seed:think budget="9">{GOOD.replace("5", "1")}?</seed:think>{GOOD}',
    "channels without their marks": f"analysisWe see {GOOD.replace('5', '1')}assistantfinal{GOOD}",
    "behind the prompt's own form": f'{{"sensibility": N, "rationality": N}}\n{GOOD}',
    "encoded twice": json.dumps(GOOD),
    "encoded twice, in a fence": f"```json\n{json.dumps(GOOD)}\n```",
    "encoded twice, without quotes": json.dumps(GOOD)[1:-1],
    "out of ten": '{"sensibility": "5 out of 10", "rationality": "8/10"}',
    "published": "- Rationality: 8\n- Sensibility: 5",
    "published, one line": "Evaluation Form (scores ONLY): - Rationality: 8 - Sensibility: 5",
    "published, bold": "**Rationality**: 8\n**Sensibility:** 5",
    "published, with its scale": "Rationality (0-10): 8/10\nSensibility (0-10): 5 / 10.",
    "published, as scores": "Rationality score = 8\nSensibility score = 5",
}

INVALID = {
    "nothing": ("", "empty"),
    "white space": (" \n", "empty"),
    "only thought": ("<think>well", "empty"),
    "a thought with a draft and no verdict": (f"[THINK]{GOOD}[/THINK] I can't say.", "no_scores"),
    "a thought that never ends, with more in its tag": (f'<think type="x">{GOOD}', "empty"),
    "channels that end before the last": (f"analysisWe see {GOOD}", "empty"),
    "another scale, as text": ('{"sensibility": "4/5", "rationality": 8}', "no_scores"),
    "prose": ("I think it is rather warm.", "no_scores"),
    "refused": ("I'm sorry, but I can't help with that.", "no_scores"),
    "one of two": ('{"sensibility": 5}', "no_scores"),
    "one of two, published": ("Rationality: 8", "no_scores"),
    "cut off": ('{"sensibility": 5, "rationality": 8', "no_scores"),
    "cut off in a word": ('{"sensibility": 5, "ration', "no_scores"),
    "null": ('{"sensibility": 5, "rationality": null}', "no_scores"),
    "a truth value": ('{"sensibility": true, "rationality": 8}', "no_scores"),
    "a word": ('{"sensibility": "high", "rationality": 8}', "no_scores"),
    "a list": ('{"sensibility": [5], "rationality": 8}', "no_scores"),
    "huge": ('{"sensibility": 1' + "0" * 400 + ', "rationality": 8}', "no_scores"),
    "too high": ('{"sensibility": 11, "rationality": 8}', "out_of_range"),
    "negative": ('{"sensibility": 5, "rationality": -1}', "out_of_range"),
    "between": ('{"sensibility": 5.5, "rationality": 8}', "out_of_range"),
    "not a number": ('{"sensibility": NaN, "rationality": 8}', "no_scores"),
    "too high, published": ("Rationality: 80\nSensibility: 5", "out_of_range"),
    "between, published": ("Rationality: 7.5\nSensibility: 5", "out_of_range"),
    "two judgements": (f'{GOOD} or {{"sensibility": 6, "rationality": 8}}', "ambiguous"),
    "a key twice": ('{"sensibility": 5, "sensibility": 9, "rationality": 8}', "ambiguous"),
    "a key twice but for capitals": ('{"sensibility": 5, "Sensibility": 9, "rationality": 8}', "ambiguous"),
    "two values, published": ("Rationality: 8\nSensibility: 5\nSensibility: 6", "ambiguous"),
    "a range": ("Rationality: 7-8\nSensibility: 5", "ambiguous"),
    "a range in words": ("Rationality: 7 to 8\nSensibility: 5", "ambiguous"),
    "another scale": ("Rationality: 4/5\nSensibility: 3/5", "ambiguous"),
    "a percentage": ("Rationality: 80%\nSensibility: 5", "ambiguous"),
    "the rubric's own words": ("Rationality: 0 to 10\nSensibility: 0 to 10", "ambiguous"),
    "far too long": (GOOD + "x" * MAX_REPLY_CHARACTERS, "too_long"),
}


@pytest.mark.parametrize("case", VALID)
def test_a_clear_reply_is_read(case: str) -> None:
    assert read_judgement(VALID[case]) == (5, 8)


@pytest.mark.parametrize("case", INVALID)
def test_anything_else_is_refused_with_its_reason(case: str) -> None:
    reply, reason = INVALID[case]
    with pytest.raises(ReplyError) as caught:
        read_judgement(reply)
    assert caught.value.reason == reason


@pytest.mark.parametrize("score", range(11))
def test_every_score_is_read(score: int) -> None:
    assert read_judgement(json.dumps({"sensibility": score, "rationality": 10 - score})) == (score, 10 - score)
    assert read_judgement(f"- Rationality: {10 - score}\n- Sensibility: {score}") == (score, 10 - score)


@pytest.mark.parametrize(
    "text", ["Rationality: 8\nSensibility: 1", f"{GOOD} The resp", f"Idea {GOOD}. But wait", f"{GOOD}\n{GOOD}"]
)
def test_a_cut_reply_counts_only_if_it_is_one_object_alone(text: str) -> None:
    assert read_judgement(f" {GOOD}\n", cut=True) == (5, 8)
    with pytest.raises(ReplyError, match="cut off"):
        read_judgement(text, cut=True)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 20_000,
        '{"a":' * 4_000,
        "[" * 20_000,
        "rationality" + " " * 19_000,
        "rationality: " * 1_500,
        'rationality"*_`' * 1_300,
        "rationality(" * 1_600,
        "<think>" * 2_800,
        '{"sensibility": 1,' * 1_100,
    ],
)
def test_no_reply_is_slow_to_read(text: str) -> None:
    start = time.process_time()
    with pytest.raises(ReplyError):
        read_judgement(text[:MAX_REPLY_CHARACTERS])
    assert time.process_time() - start < 2
