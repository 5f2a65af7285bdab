"""How a dialogue is written for training: OpenAI messages, ShareGPT or Alpaca.

A layout changes names and places, not the content: what it has no place for is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from scorer.dialogue import Dialogue, Turn
from scorer.inputs.parse import to_record
from scorer.inputs.records.columns import as_json
from scorer.inputs.records.turns import Seen, read_turn
from selection.files.whole import whole_record, with_columns

_SHAREGPT = {"user": "human", "assistant": "gpt", "developer": "system", "function": "tool"}
_OWN = ("id", "conversation", "category", "preference")
_CALLS = ("tool_calls", "function_call", "tool_call_id")

LOST = {
    "tool_turns": "tool calls and results",
    "parts": "images, sounds or files",
    "thoughts": "thoughts",
    "later_turns": "turns after the judged one",
    "turns_between": "answers between the last question and the judged one",
    "turn_keys": "other keys of turns",
    "columns": "columns that are nested too deeply",
}
"""What a set's file may have no place for, and how a person calls it."""


def to_line(record: Mapping[str, Any]) -> bytes:
    """Return one line of JSON; RecursionError for what is nested too deeply."""
    return as_json(record).encode() + b"\n"


def whole_line(dialogue: Dialogue, fields: Mapping[str, str], lost: Counter[str]) -> bytes:
    """Return a dialogue with all that came in as one line of the contract's form; ``fields`` are the corpus's."""
    try:
        return to_line(whole_record(dialogue, fields))
    except RecursionError:  # JSON that is nested as deeply can be read and not be written
        lost["columns"] += len(dialogue.notes.aside)
        return to_line(to_record(dialogue))


def _openai(record: dict[str, Any], _lost: Counter[str]) -> dict[str, Any]:
    return record


def _sharegpt(record: dict[str, Any], _lost: Counter[str]) -> dict[str, Any]:
    """Return the messages with ShareGPT's names; everything else in them stays."""
    turns = []
    for message in record.pop("messages"):
        role, content = message["role"], message["content"]
        named = {"from": _SHAREGPT.get(role, role), "value": "" if content is None else content}
        more = {name: value for name, value in message.items() if name not in ("role", "content")}
        turns.append(named | {f"source_{name}" if name in named else name: value for name, value in more.items()})
    own = {name: record.pop(name) for name in _OWN if name in record}
    return with_columns(own | {"conversations": turns}, record)


def _alpaca(record: dict[str, Any], lost: Counter[str]) -> dict[str, Any]:
    """Return the last user turn as the instruction and the turns before as pairs of ``history``.

    Turns of one speaker that follow each other become one, a line each; a dialogue that the assistant began has an
    empty first question.
    """
    *context, response = spoken_turns(record.pop("messages"), lost)
    system = [turn.content for turn in context if turn.role == "system"]
    said = [turn for turn in context if turn.role != "system"]
    while said and said[-1].role != "user":
        lost["turns_between"] += 1
        said.pop()
    pairs: list[list[str]] = []
    for turn in said:
        if turn.role == "assistant":
            if not pairs:
                pairs.append(["", ""])
            pairs[-1][1] = _joined(pairs[-1][1], turn.content)
        elif not pairs or pairs[-1][1]:
            pairs.append([turn.content, ""])
        else:
            pairs[-1][0] = _joined(pairs[-1][0], turn.content)
    question = pairs.pop()[0] if pairs else ""
    made = {name: record.pop(name) for name in _OWN if name in record}
    made |= {"instruction": question, "input": "", "output": response.content}
    if system:
        made["system"] = "\n".join(system)
    return with_columns(made | ({"history": pairs} if pairs else {}), record)


def spoken_turns(messages: list[dict[str, Any]], lost: Counter[str]) -> list[Turn]:
    """Return the turns that are text, up to the judged one; what is in none of them is added to ``lost``."""
    found: list[Turn] = []
    judged = 0
    for message in messages:
        seen = Seen()
        turn = read_turn(message, 1, seen)
        content = message["content"]
        calls = sum(bool(message.get(name)) for name in _CALLS[:2])
        lost["tool_turns"] += max(seen.tool_turns, calls)
        lost["parts"] += seen.parts
        if turn is None:
            lost["thoughts"] += seen.thoughts
            continue
        lost["thoughts"] += 0 if isinstance(content, str) else seen.thoughts
        lost["turn_keys"] += len(message.keys() - {"role", "content", *_CALLS})
        found.append(Turn(turn.role, content if isinstance(content, str) else turn.content))
        judged = len(found) if turn.role == "assistant" else judged
    lost["later_turns"] += len(found) - judged
    return found[:judged]


LAYOUTS: dict[str, Callable[[dict[str, Any], Counter[str]], dict[str, Any]]] = {
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}
"""For each format what makes its record of the contract's, counting what is lost."""


def convert(line: bytes, layout: str, lost: Counter[str]) -> bytes:
    """Return a line of the contract's form in another layout; what it has no place for is added to ``lost``."""
    return line if layout == "openai" else to_line(LAYOUTS[layout](json.loads(line), lost))


def _joined(first: str, second: str) -> str:
    return f"{first}\n{second}" if first else second
