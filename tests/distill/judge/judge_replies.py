"""Completions as servers give them, usable or not, with log-probabilities of a judge whose opinion is known."""

from __future__ import annotations

import json
import math
import random
import re
from typing import Any

NONE = -9999.0
"""What vLLM writes for minus infinity."""


def completion(
    request: dict[str, Any], fault: str | None, scores: tuple[int, int], shape: str = "", *, usage: bool = True
) -> dict[str, Any]:
    """Return a chat completion whose content is an answer, usable or not."""
    wanted = request.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
    why = {"reason": f"It says {scores[0]} and {scores[1]}."} if "reason" in wanted else {}
    good = json.dumps({"sensibility": scores[0], "rationality": scores[1]} | why)
    other = json.dumps({"sensibility": (scores[0] + 1) % 11, "rationality": scores[1]})
    outside = '{"sensibility": 11, "rationality": 3}'
    if any(message["content"].startswith("You write dialogues") for message in request["messages"]):
        user = request["messages"][-1]["content"]
        good, other, outside = dialogue_of(user), dialogue_of(f"{user} again"), '{"exchanges": [{"says": "Hi"}]}'
    content: dict[str | None, str | None] = {
        "truncated": good[:-9],
        "prose": f"Sure! Here it is:\n```json\n{good}\n```\nAnything else?",
        "range": outside,
        "refusal": None,
        "duplicate": f"{good}\n{other}",
    }
    message: dict[str, Any] = {"role": "assistant", "content": content.get(fault, good)}
    if fault == "refusal":
        message["refusal"] = "I can't judge that."
    choice = {"index": 0, "message": message, "finish_reason": "length" if fault == "truncated" else "stop"}
    if shape and request.get("logprobs") and fault in {None, "prose"}:
        split, name = shape.startswith("split "), shape.removeprefix("split ")
        opinions = [opinion(score) for score in scores]
        choice["logprobs"] = logprobs(str(message["content"]), opinions, name, split=split, top=request["top_logprobs"])
    payload: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": request["model"],
        "choices": [] if fault == "no_choices" else [choice],
    }
    if usage:
        size = sum(len(message["content"].encode()) for message in request["messages"])
        payload["usage"] = {"prompt_tokens": size // 4, "completion_tokens": 12, "total_tokens": size // 4 + 12}
    return payload


def dialogue_of(user: str) -> str:
    """Return the dialogue that is written for a request: words by its hash, one reply in five a bad one."""
    chance = random.Random(user)
    begin = " ".join(chance.choices(_WORDS, k=14))
    answer = chance.choice(_BAD) if chance.random() < 0.2 else " ".join(chance.choices(_WORDS, k=12))
    return json.dumps({"exchanges": [{"says": begin, "answers": answer}]})


_BAD = (
    "lol",
    "You make me sick, get lost.",
    "As an AI language model, I have no feelings.",
    "It sees what matters here, and asks, explains or helps in a way that fits this situation.",
)
_WORDS = (
    "my dog died today i am so sorry that is sad happy we won the game what happened great it was hard for you and me "
    "now then always never walk home friend letter rain work night morning call wait hope feel know think"
).split()


def scripted(request: dict[str, Any], given: dict[str, Any]) -> Any:
    """Return a body as it is given, or a completion with the given message."""
    if "body" in given:
        return given["body"].encode() if isinstance(given["body"], str) else given["body"]
    payload = completion(request, None, (0, 0))
    payload["choices"][0] |= {"message": given["message"], "finish_reason": given.get("finish", "stop")}
    return given.get("before", "").encode() + json.dumps(payload).encode()


def opinion(score: int) -> dict[int, float]:
    """Return the probabilities of a judge that says ``score``: it thinks of two others, nearer to the middle."""
    step = -1 if score >= 5 else 1
    return {score: 0.6, score + step: 0.3, score + 2 * step: 0.1}


def logprobs(content: str, opinions: list[dict[int, float]], shape: str, *, split: bool, top: int) -> dict[str, Any]:
    """Return what stands under "logprobs" of a choice whose content is JSON with a number for each opinion.

    ``shape`` is "openai", "vllm" (whose lists hold the token said once more), "llama.cpp" (with ids) or "completion"
    (llama-cpp-python's). ``split`` writes 10 as two tokens.
    """
    entries: list[tuple[str, dict[str, float]]] = []
    left = list(opinions)
    for part in re.findall(r"\d+|\D+", content):
        if not part.isdigit() or not left:
            entries.append((part, {part: 0.99}))
        else:
            entries += _number(part, left.pop(0), split=split)
    if shape == "completion":
        return {
            "tokens": [token for token, _ in entries],
            "token_logprobs": [_log(others[token]) for token, others in entries],
            "top_logprobs": [{name: _log(chance) for name, chance in others.items()} for _, others in entries],
        }
    return {"content": [_entry(token, others, shape, top) for token, others in entries]}


def _number(part: str, opinion: dict[int, float], *, split: bool) -> list[tuple[str, dict[str, float]]]:
    if not split:
        return [(part, {**{str(level): chance for level, chance in opinion.items()}, "the": 0.2, " 12": 0.01})]
    first: dict[str, float] = {}
    for level, chance in opinion.items():
        first[str(level)[0]] = first.get(str(level)[0], 0.0) + chance
    tokens = [(part[0], {**first, "the": 0.2})]
    ten, one = opinion.get(10, 0.0), opinion.get(1, 0.0)
    if part == "10":
        tokens.append(("0", {"0": ten / (ten + one), ",": one / (ten + one)}))
    return tokens


def _entry(token: str, others: dict[str, float], shape: str, top: int) -> dict[str, Any]:
    listed = sorted(others.items(), key=lambda entry: -entry[1])[:top]
    alternatives = [_named(name, _log(chance), shape) for name, chance in listed]
    if shape == "vllm":
        alternatives += [_named(token, _log(others[token]), shape), _named("never", NONE, shape)]
    return {**_named(token, _log(others[token]), shape), "top_logprobs": alternatives}


def _named(token: str, logprob: float, shape: str) -> dict[str, Any]:
    named = {"token": token, "logprob": logprob, "bytes": list(token.encode())}
    return {"id": 7, **named} if shape == "llama.cpp" else named


def _log(chance: float) -> float:
    return math.log(chance) if chance else NONE
