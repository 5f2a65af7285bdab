"""The body of a chat completion -> a reply: its judgement or why it has none, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distill.judge.prices import Price, Size
from distill.judge.records import LOST, SCORED, Reply
from distill.judge.rubric import ReplyError, parse

MAX_RAW_CHARACTERS = 100_000


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
    reply = _priced(payload, price, size)
    try:
        texts = [_text(choice) for choice in _choices(payload)]
        found = {parse(text, cut=cut) for text, cut in texts}
        if len(found) > 1:
            raise ReplyError("ambiguous", f"{len(texts)} choices that differ, expected one")
    except ReplyError as error:
        return replace(reply, status=error.reason, detail=error.detail, raw=_raw(payload, body))
    ((sensibility, rationality),) = found
    return replace(reply, sensibility=sensibility, rationality=rationality, raw=_raw(payload, body))


def lost(detail: str, price: Price | None, size: Size) -> Reply:
    """Return the record of a call whose answer never came whole, booked at its worst."""
    return replace(_priced({}, price, size), status=LOST, detail=detail)


def _priced(payload: Mapping[str, Any], price: Price | None, size: Size) -> Reply:
    usage = payload.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    served = payload.get("model")
    reply = Reply(
        status=SCORED,
        served_model=served if isinstance(served, str) else None,
        prompt_tokens=counts[0],
        completion_tokens=counts[1],
    )
    if price is None:
        return reply
    billed = (
        size.most_prompt if counts[0] is None else counts[0],
        size.most_completion if counts[1] is None else counts[1],
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
