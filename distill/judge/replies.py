"""The body of a chat completion -> a reply: its judgement or why it has none, and what it cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distill.judge.prices import Price, Size
from distill.judge.records import LOST, SCORED, WRITTEN, Reply
from distill.judge.rubric import Check
from distill.judge.verdict import EMPTY, MORE_TOKENS, ReplyError, read_judgement, spoken
from distill.panel.expectation import expected_scores

MAX_RAW_CHARACTERS = 100_000


BAD_GATEWAY = 502


def fault_in(body: str) -> tuple[int, str] | None:
    """Return the HTTP status that an answer with status 200 should have had, and its words; None if it is an answer.

    Gateways send errors, pages and nothing at all with status 200. Such an answer says nothing of the dialogue.
    """
    text = _without_comments(body).strip()
    if not text:
        return BAD_GATEWAY, "an empty body"
    payload = _parsed(text)
    if not isinstance(payload, Mapping):
        broken = text.startswith("{") and payload is None  # it broke off: it may have been billed
        return None if broken else (BAD_GATEWAY, f"no JSON object but {text[:100]!a}")
    choices = payload.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    whole = payload if payload.get("object") == "error" or (_SAYS & set(payload) and not choices) else None
    for error in (payload.get("error"), first.get("error"), whole):
        if error:
            return _code(error)
    if (finish := first.get("finish_reason")) in _BROKEN_OFF:
        return BAD_GATEWAY, f"a choice that ended with {finish}"
    if not payload.get("usage") and not isinstance(first.get("message"), Mapping):
        return BAD_GATEWAY, "no choice with a message" if choices else "no choices"
    return None


_SAYS = {"message", "detail", "errors"}
_BROKEN_OFF = {"error", "abort", "network_error", "insufficient_system_resource"}
"""What servers call it where they could not end a reply."""


def _code(error: Any) -> tuple[int, str]:
    known = error if isinstance(error, Mapping) else {}
    said = str(known.get("message") or known.get("detail") or error)
    words = f"{known.get('code')} {known.get('type')} {said}".lower()
    for value in (known.get("code"), known.get("status")):
        digits = str(value)
        if len(digits) == 3 and digits.isdecimal() and 400 <= int(digits) <= 599:
            return int(digits), said
    for status, signs in _SIGNS.items():
        if any(sign in words for sign in signs):
            return status, said
    return 500, said


_SIGNS = {
    402: ("insufficient_quota", "insufficient credit", "payment"),
    429: ("rate_limit", "rate limit", "too many requests", "resource_exhausted"),
    503: ("overloaded", "unavailable"),
    401: ("invalid_api_key",),
    400: ("invalid_request", "context_length", "context length", "content_filter", "content policy"),
}


def _without_comments(body: str) -> str:
    """Return a body without the comments (": PROCESSING") that a gateway sends while it waits."""
    return _COMMENTS.sub("", body.removeprefix("\ufeff"))


_COMMENTS = re.compile(r"^[ \t\r]*+:[^\n]*+(?:\n|\Z)", re.MULTILINE)  # no line of JSON begins so


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_answer(
    body: str, price: Price | None, size: Size, *, counts: bool = False, check: Check | None = None
) -> Reply:
    """Return the reply in the body of an answer; whatever the body holds, there is one.

    Where the server counts no tokens, the most that the call may have come to is booked. A count of 0 is none until
    ``counts`` says that the server has shown others: only then may it mean that nothing is billed. With ``check`` the
    reply is a text that passes it, else a judgement.
    """
    payload = _parsed(_without_comments(body))
    if not isinstance(payload, Mapping):
        return replace(lost_reply("broken_body: no whole JSON object", price, size), raw=_cut(body))
    reply = replace(_priced(payload, price, size, counts=counts), raw=_raw(payload, body))
    try:
        choices = _choices(payload)
        texts = [_text(choice) for choice in choices]
        if check is not None:
            check(*texts[0])
            return replace(reply, status=WRITTEN, raw=_cut(texts[0][0]))
        found = {read_judgement(text, cut=cut) for text, cut in texts}
        if len(found) > 1:
            raise ReplyError("ambiguous", f"{len(texts)} choices that differ, expected one")
    except ReplyError as error:
        return replace(reply, status=error.reason, detail=error.detail)
    (said,) = found
    reply = replace(reply, sensibility=said[0], rationality=said[1])
    expected = expected_scores(choices[0].get("logprobs"), spoken(texts[0][0]), said)
    if expected is None:
        return reply
    first, second = expected
    return replace(
        reply,
        sensibility_mean=first.mean,
        rationality_mean=second.mean,
        sensibility_spread=first.spread,
        rationality_spread=second.spread,
    )


def lost_reply(detail: str, price: Price | None, size: Size) -> Reply:
    """Return the record of a call whose answer never came whole, booked at its worst."""
    return replace(_priced({}, price, size), status=LOST, detail=detail)


def _priced(payload: Mapping[str, Any], price: Price | None, size: Size, *, counts: bool = False) -> Reply:
    served = payload.get("model")
    prompt, completion = usage_of(payload)
    reply = Reply(
        status=SCORED,
        served_model=served if isinstance(served, str) else None,
        prompt_tokens=prompt,
        completion_tokens=completion,
    )
    if price is None:
        return reply
    billed = (
        size.most_prompt if prompt is None or not (prompt or counts) else prompt,
        size.most_completion if completion is None or not (completion or counts) else completion,
    )
    return replace(
        reply, price_in=price.per_million_in, price_out=price.per_million_out, cost_usd=round(price.of(*billed), 12)
    )


def usage_of(payload: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return the tokens of question and answer as the server counted them, None where it did not."""
    usage = payload.get("usage")
    return _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _choices(payload: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    choices = payload.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices) or not choices:
        raise ReplyError(LOST, "no_choice: the answer holds no choice")  # the server's fault, not the dialogue's
    return choices


def _text(choice: Mapping[str, Any]) -> tuple[str, bool]:
    """Return a choice's text, and whether it ran into the limit of tokens."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise ReplyError(LOST, "no_choice: a choice without a message")
    finish = choice.get("finish_reason")
    if message.get("refusal") or finish == "content_filter":
        raise ReplyError("refused", str(message.get("refusal") or "stopped by a content filter")[:200])
    content = _joined(message.get("content"))
    if content.strip():
        return content, finish == "length"
    for name in ("reasoning_content", "reasoning"):  # where some servers put all that a model writes
        thought = message.get(name)
        if isinstance(thought, str) and _is_verdict(thought):
            return thought, True
    more = f": it ran into the limit of tokens; {MORE_TOKENS}" if finish == "length" else ""
    raise ReplyError(EMPTY, f"the answer holds no text{more}")


def _joined(content: Any) -> str:
    """Return a content's text: one string, a list of parts, or an object that the server has read already."""
    if isinstance(content, Mapping):
        return json.dumps(content)
    if isinstance(content, list):
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _is_verdict(text: str) -> bool:
    try:
        read_judgement(text, cut=True)
    except ReplyError:
        return False
    return True


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
