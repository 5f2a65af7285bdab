"""The text of a reply -> the turns of a dialogue, or the reason why it holds none; nothing is ever mended."""

from __future__ import annotations

import json
import re
from typing import Any

from distill.judge.verdict import EMPTY, MORE_TOKENS, ReplyError, spoken
from scorer.dialogue import Turn

MOST_EXCHANGES = 10
MOST_CHARACTERS = 2000
"""Of one turn."""

ROLES = {"says": "user", "answers": "assistant"}
"""Role by the key of what it says."""

_HARMLESS = {ord(char): " " for char in "\n\t\u00a0\u200d"}  # the last joins emoji
_DECODER = json.JSONDecoder()
_LABEL = re.compile(
    r"\s*(?:the )?(?:user|assistant|speaker|listener|person|friend|human|bot|ai|[ab])(?:['’]s own words|['’]s)?\s*:",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"\[[^\[\]\n]{1,40}\]|<[^<>\n]{1,40}>|\{\{?[^{}\n]{1,40}\}|\b(?:lorem ipsum|insert name)\b", re.IGNORECASE
)


def read_written(reply: str, cut: bool) -> tuple[Turn, ...]:
    """Return the turns of the one dialogue in a reply; ReplyError says why there is none.

    A dialogue is one JSON object {"exchanges": [{"says": ..., "answers": ...}, ...]}, alone, in prose or in a code
    fence. ``cut`` says that the reply ran into its limit of tokens.
    """
    text = spoken(reply, cut=cut).strip()
    if not text:
        raise ReplyError(EMPTY, "nothing but white space, expected one JSON object")
    found = _objects(text)
    if not found:
        more = f"; {MORE_TOKENS}" if cut else ""
        raise ReplyError("no_dialogue", f'no JSON object with "exchanges"{more}')
    if len(found) > 1:
        raise ReplyError("ambiguous", f"{len(found)} dialogues in one reply, expected one")
    return _turns(found[0])


def _objects(text: str) -> list[dict[str, Any]]:
    """Return every object of a text that has exchanges."""
    found, start = [], text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            if text.count("{", start) > MOST_EXCHANGES * 8:  # each brace more would be tried in vain
                break
        else:
            found += [value] if isinstance(value, dict) and "exchanges" in value else []
        start = text.find("{", end)
    return found


def _turns(found: dict[str, Any]) -> tuple[Turn, ...]:
    exchanges = found["exchanges"]
    if set(found) != {"exchanges"} or not isinstance(exchanges, list):
        raise ReplyError("out_of_form", f'an object of {sorted(found)!a:.80}, expected "exchanges" alone, a list')
    if not 1 <= len(exchanges) <= MOST_EXCHANGES:
        raise ReplyError("out_of_form", f"{len(exchanges)} exchanges, expected 1 to {MOST_EXCHANGES}")
    return tuple(turn for number, exchange in enumerate(exchanges, 1) for turn in _exchange(exchange, number))


def _exchange(exchange: Any, number: int) -> list[Turn]:
    if not isinstance(exchange, dict) or set(exchange) != set(ROLES):
        raise ReplyError("out_of_form", f"exchange {number} is {exchange!a:.60}, expected the keys says and answers")
    return [_turn(role, exchange[key], f"{key!r} of exchange {number}") for key, role in ROLES.items()]


def _turn(role: str, said: Any, where: str) -> Turn:
    if not isinstance(said, str):
        raise ReplyError("out_of_form", f"{where} is {said!a:.60}, expected text")
    text = said.strip()
    if not any(char.isalpha() for char in text) or len(text) > MOST_CHARACTERS:
        raise ReplyError(
            "out_of_form", f"{where} has {len(text)} characters, expected words, at most {MOST_CHARACTERS}"
        )
    if not text.translate(_HARMLESS).isprintable():
        raise ReplyError("out_of_form", f"{where} holds characters that don't print")
    if (label := _LABEL.match(text)) is not None:
        raise ReplyError("label", f"{where} begins with {label[0]!a}, expected what is said alone")
    if (place := _PLACEHOLDER.search(text)) is not None:
        raise ReplyError("placeholder", f"{where} holds {place[0]!a}, expected real words")
    return Turn(role, text)
