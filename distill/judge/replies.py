"""The body of a chat completion -> a reply: its judgement or why it has none, and what it cost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from distill.judge.prices import Price, Size
from distill.judge.records import LOST, SCORED, Reply
from distill.judge.rubric import SCALE
from scorer.dialogue import HEADS
from scorer.inputs.label_text import scores_in_text

MAX_REPLY_CHARACTERS = 20_000
"""A judgement has fifty; more is no judgement, and looking for one in it would only cost time."""

MAX_RAW_CHARACTERS = 100_000


@dataclass(eq=False)
class ReplyError(ValueError):
    """A reply holds no judgement: a stable ``reason`` in snake_case for counting, and a ``detail`` for people."""

    reason: str
    detail: str


def read_answer(body: str, price: Price | None, size: Size) -> Reply:
    """Return the reply in the body of an answer; whatever the body holds, there is one.

    Where the server counts no tokens, the most that the call may have come to is booked.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, Mapping):
        return replace(_priced({}, price, size), status="broken_body", detail="no JSON object", raw=_cut(body))
    reply = replace(_priced(payload, price, size), raw=_raw(payload, body))
    try:
        texts = [_text(choice) for choice in _choices(payload)]
        found = {read_judgement(text, cut=cut) for text, cut in texts}
        if len(found) > 1:
            raise ReplyError("ambiguous", f"{len(texts)} choices that differ, expected one")
    except ReplyError as error:
        return replace(reply, status=error.reason, detail=error.detail)
    ((sensibility, rationality),) = found
    return replace(reply, sensibility=sensibility, rationality=rationality)


def lost_reply(detail: str, price: Price | None, size: Size) -> Reply:
    """Return the record of a call whose answer never came whole, booked at its worst."""
    return replace(_priced({}, price, size), status=LOST, detail=detail)


def _priced(payload: Mapping[str, Any], price: Price | None, size: Size) -> Reply:
    served = payload.get("model")
    prompt, completion = (_count(payload.get("usage"), name) for name in ("prompt_tokens", "completion_tokens"))
    reply = Reply(
        status=SCORED,
        served_model=served if isinstance(served, str) else None,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )
    if price is None:
        return reply
    billed = (
        size.most_prompt if prompt is None else prompt,
        size.most_completion if completion is None else completion,
    )
    return replace(
        reply, price_in=price.per_million_in, price_out=price.per_million_out, cost_usd=round(price.of(*billed), 12)
    )


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _choices(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = payload.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices) or not choices:
        raise ReplyError("no_choice", "the answer holds no choice")
    return choices


def _text(choice: Mapping[str, Any]) -> tuple[str, bool]:
    """Return a choice's text, and whether it ran into the limit of tokens."""
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    finish = choice.get("finish_reason")
    if message.get("refusal") or finish == "content_filter":
        raise ReplyError("refused", str(message.get("refusal") or "stopped by a content filter")[:200])
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        more = ": it ran into the limit of tokens; raise --max-tokens" if finish == "length" else ""
        raise ReplyError("empty", f"the answer holds no text{more}")
    return content, finish == "length"


def _raw(payload: Mapping[str, Any], body: str) -> str:
    """Return what a person wants to see of an answer: its text if it has just one, else all of it."""
    try:
        (choice,) = payload["choices"]
        content = choice["message"]["content"]
    except (KeyError, TypeError, ValueError):
        content = None
    return _cut(content if isinstance(content, str) and content else body)


def _cut(text: str) -> str:
    return text[:MAX_RAW_CHARACTERS].encode(errors="replace").decode()


def read_judgement(reply: str, *, cut: bool = False) -> tuple[int, int]:
    """Return (sensibility, rationality), whole numbers from 0 to 10, or raise ReplyError: nothing is ever guessed.

    A reply is one JSON object with both, alone, in prose or in a code fence, or the published form ("- Rationality: 8
    - Sensibility: 5"); what a model thinks aloud first (``<think>``) does not count. ``cut`` says that the reply ran
    into its limit of tokens: a number at its very end may then lack a digit.
    """
    if len(reply) > MAX_REPLY_CHARACTERS:
        raise ReplyError("too_long", f"{len(reply)} characters, expected one JSON object")
    text = _THINKING.sub("", reply)
    if not text.strip():
        raise ReplyError("empty", "nothing but white space, expected one JSON object")
    try:
        found = set(_judgements(text) if "{" in text else product(*scores_in_text(text, cut=cut)))
    except ReplyError:
        raise
    except ValueError as error:
        raise ReplyError("ambiguous", str(error)) from None
    if not found:
        raise ReplyError("no_scores", "no JSON object with both scores" + (", cut off" if cut else ""))
    if len(found) > 1:
        raise ReplyError("ambiguous", f"{len(found)} different judgements in one reply")
    sensibility, rationality = (_level(head, value) for head, value in zip(HEADS, found.pop(), strict=True))
    return sensibility, rationality


_THINKING = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = {str(key).strip().lower(): entry for key, entry in pairs}
    if len(value) < len(pairs):
        raise ReplyError("ambiguous", "a JSON object names a key twice")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _judgements(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the scores, as text, of every JSON object that has one of them."""
    start = text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, after = _DECODER.raw_decode(text, start)
        except ReplyError:
            raise
        except (ValueError, RecursionError):
            pass  # a brace of prose, or an object that breaks off
        else:
            if any(head in value for head in HEADS):
                end = after
                yield tuple(_number(head, value.get(head)) for head in HEADS)
        start = text.find("{", end)


def _number(head: str, value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,9}", value.strip()):
        return value.strip()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9:
        return f"{value:.12g}"  # 8 and 8.0 are the same
    raise ReplyError("no_scores", f"{head} is {ascii(value)[:40]}, expected a whole number from 0 to 10")


def _level(head: str, value: str) -> int:
    number = float(value)
    if number not in SCALE:
        expected = "a whole number" if 0 <= number <= SCALE[-1] else "a number"
        raise ReplyError("out_of_range", f"{head} is {value}, expected {expected} from 0 to 10")
    return int(number)
