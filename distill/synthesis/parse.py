"""The text of a reply -> the turns of a dialogue, or the reason why it holds none; nothing is ever mended."""

from __future__ import annotations

import json
import re
from typing import Any

from distill.judge.verdict import EMPTY, MORE_TOKENS, ReplyError, spoken
from scorer.dialogue import Turn

MOST_TURNS = 20
MOST_CHARACTERS = 2000
"""Of one turn."""

SPEAKERS = ("user", "assistant")

_HARMLESS = {ord(char): " " for char in "\n\t\u00a0\u200d"}  # the last joins emoji
_DECODER = json.JSONDecoder()
_LABEL = re.compile(r"\s*(?:user|assistant|speaker|listener|person|friend|human|bot|ai|[ab])\s*:", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"\[[^\[\]\n]{1,40}\]|<[^<>\n]{1,40}>|\{\{?[^{}\n]{1,40}\}|\b(?:lorem ipsum|insert name)\b", re.IGNORECASE
)


def read_written(reply: str, cut: bool) -> tuple[Turn, ...]:
    """Return the turns of the one dialogue in a reply; ReplyError says why there is none.

    A dialogue is one JSON object {"turns": [{"speaker": ..., "text": ...}, ...]}, alone, in prose or in a code fence:
    both speakers by turns, the user first and the assistant last. ``cut`` says that the reply ran into its limit of
    tokens.
    """
    text = spoken(reply, cut=cut).strip()
    if not text:
        raise ReplyError(EMPTY, "nothing but white space, expected one JSON object")
    found = _objects(text)
    if not found:
        more = f"; {MORE_TOKENS}" if cut else ""
        raise ReplyError("no_dialogue", f'no JSON object with "turns"{more}')
    if len(found) > 1:
        raise ReplyError("ambiguous", f"{len(found)} dialogues in one reply, expected one")
    return _turns(found[0])


def _objects(text: str) -> list[dict[str, Any]]:
    """Return every object of a text that has turns."""
    found, start = [], text.find("{")
    while start >= 0:
        end = start + 1
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            if text.count("{", start) > MOST_TURNS * 4:  # each brace more would be tried in vain
                break
        else:
            found += [value] if isinstance(value, dict) and "turns" in value else []
        start = text.find("{", end)
    return found


def _turns(found: dict[str, Any]) -> tuple[Turn, ...]:
    turns = found["turns"]
    if set(found) != {"turns"} or not isinstance(turns, list):
        raise ReplyError("out_of_form", f'an object of {sorted(found)!a:.80}, expected "turns" alone, a list')
    if not 2 <= len(turns) <= MOST_TURNS or len(turns) % 2:
        raise ReplyError("out_of_form", f"{len(turns)} turns, expected an even number from 2 to {MOST_TURNS}")
    return tuple(_turn(turn, number) for number, turn in enumerate(turns))


def _turn(turn: Any, number: int) -> Turn:
    where, speaker = f"turn {number + 1}", SPEAKERS[number % 2]
    if not isinstance(turn, dict) or set(turn) != {"speaker", "text"} or not isinstance(turn["text"], str):
        raise ReplyError("out_of_form", f"{where} is {turn!a:.60}, expected speaker and text")
    if turn["speaker"] != speaker:
        raise ReplyError("out_of_form", f"{where} is of {turn['speaker']!a:.40}, expected {speaker}")
    text = turn["text"].strip()
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
    return Turn(speaker, text)
