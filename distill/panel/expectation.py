"""Log-probabilities -> what a judge expects, beside the number that it says.

A judge that is torn between 7 and 8 says one of them; the probabilities of its tokens say how torn. At the token where
a score begins, the probabilities of all tokens that are a score are taken and scaled to one, as a judge held to the
schema would draw them:

    p(k) = P(token is k) / sum over 0..10,    expectation = sum k p(k),    spread = sqrt(sum (k - expectation)^2 p(k))

(G-Eval, Liu et al. 2023, arXiv 2303.16634, weighs scores so.) Where a tokenizer writes 10 as "1" and "0", the share of
"1" that is a 10 is read at the next token if "1" was said; else it is that of p(9) in p(9) + p(2), the neighbours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.judge.rubric import SCALE
from scorer.dialogue import HEADS

_Tokens = Sequence[tuple[str, Sequence[Any]]]  # each token said, and it and its alternatives with log-probabilities


@dataclass(frozen=True, slots=True)
class Expected:
    """A score's expectation, 0 to 10, and its standard deviation."""

    mean: float
    spread: float


def expected_scores(logprobs: Any, text: str, said: Sequence[int]) -> tuple[Expected, ...] | None:
    """Return the expectation of each head whose number was ``said`` in ``text``, a reply without its thoughts.

    ``logprobs`` is what a choice holds under that name, in OpenAI's form (vLLM's and llama.cpp's too) or in that of old
    completions (llama-cpp-python's). None where it does not hold the score's tokens.
    """
    tokens = _tokens(logprobs)
    whole = "".join(token for token, _ in tokens)
    text = text.strip()
    start = whole.rfind(text)
    if not text or start < 0:
        return None
    found = []
    for head, number in zip(HEADS, said, strict=True):
        places = [match for match in _place(head).finditer(whole, start) if int(match[1]) == number]
        chances = _chances(tokens, places[0].start(1), number) if places else None
        if chances is None:
            return None
        mean = sum(level * chance for level, chance in chances.items())
        variance = sum((level - mean) ** 2 * chance for level, chance in chances.items())
        found.append(Expected(round(mean, 4), round(math.sqrt(max(variance, 0.0)), 4)))
    return tuple(found)


def _place(head: str) -> re.Pattern[str]:
    return re.compile(rf"{head}(?:\s*\([^()]{{0,20}}\))?[\W_]{{0,16}}(\d{{1,3}})(?!\d)", re.IGNORECASE)


def _tokens(logprobs: Any) -> _Tokens:
    """Return the tokens of either form; an empty list where it is neither."""
    if not isinstance(logprobs, Mapping):
        return []
    content = logprobs.get("content")
    if isinstance(content, list):
        entries = [entry for entry in content if isinstance(entry, Mapping)]
        return [(str(entry.get("token")), [*_list(entry.get("top_logprobs")), entry]) for entry in entries]
    said, top = (_list(logprobs.get(name)) for name in ("tokens", "top_logprobs"))
    chances = _list(logprobs.get("token_logprobs"))
    if not len(said) == len(top) == len(chances):
        return []
    pairs = [[*_dict(others).items(), (token, own)] for token, others, own in zip(said, top, chances, strict=True)]
    return [
        (str(token), [{"token": name, "logprob": value} for name, value in listed])
        for token, listed in zip(said, pairs, strict=True)
    ]


def _alternatives(entries: Sequence[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in entries:
        value = entry.get("logprob") if isinstance(entry, Mapping) else None
        if isinstance(value, (int, float)) and -1000 < value <= 1e-3:  # vLLM writes -9999 for minus infinity
            found[str(entry.get("token"))] = math.exp(value)
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


_SCORE = re.compile(r"[^\w.\-−]*+(\d{1,3})[^\w.\-−]*+", re.ASCII)  # a space, quote or comma may be of the token
_SEVERAL_DIGITS = re.compile(r"\W*+\d{2,9}\W*+", re.ASCII)


def _chances(tokens: _Tokens, place: int, said: int) -> dict[int, float] | None:
    """Return the probability of each score whose first digit stands at ``place``; None where the tokens hide it."""
    number = -1
    while place >= 0:  # the token in which the number begins
        number += 1
        place -= len(tokens[number][0])
    own, entries = tokens[number]
    first = own[place + len(own) :]
    digits = len(first) - len(first.lstrip("0123456789"))
    if digits > 1 and int(first[:digits]) != said:
        return None
    chances = dict.fromkeys(SCALE, 0.0)
    for token, chance in _alternatives(entries).items():
        if (match := _SCORE.fullmatch(token)) and int(match[1]) in SCALE and match[1] in _WRITTEN:
            chances[int(match[1])] += chance
    ends = first[digits:] != ""  # the token holds what follows the number, so the number is whole
    if chances[1] and ((digits == 1 and said == max(SCALE)) or not _has_long_numbers(tokens)):
        following = _alternatives(tokens[number + 1][1]) if number + 1 < len(tokens) else {}
        tens = _share_of_tens(chances, first[:1] == "1" and not ends, following)
        chances[10] += chances[1] * tens
        chances[1] *= 1 - tens
    total = sum(chances.values())
    if not chances[said]:
        return None
    return {level: chance / total for level, chance in chances.items()}


def _has_long_numbers(tokens: _Tokens) -> bool:
    """Whether any token has two digits: then the tokenizer writes 10 as one."""
    texts = (entry.get("token") for _, entries in tokens for entry in entries if isinstance(entry, Mapping))
    return any(_SEVERAL_DIGITS.fullmatch(text) for text in texts if isinstance(text, str))


_WRITTEN = {str(level) for level in SCALE}


def _share_of_tens(chances: Mapping[int, float], said_one: bool, following: Mapping[str, float]) -> float:
    """Return which share of a lone "1" is the beginning of a 10."""
    if said_one:
        zero = sum(chance for token, chance in following.items() if token[:1] == "0")
        other = sum(chance for token, chance in following.items() if not token[:1].isdigit())
        return zero / (zero + other) if zero + other else 0.0
    high, low = chances[9], chances[2]
    if high + low:
        return high / (high + low)
    rest = {level: chance for level, chance in chances.items() if level != 1}
    total = sum(rest.values())
    return float(total > 0 and sum(level * chance for level, chance in rest.items()) / total > max(SCALE) / 2)
