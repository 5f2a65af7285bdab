"""How a dialogue is written for training: OpenAI messages, ShareGPT or Alpaca."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_SHAREGPT = {"user": "human", "assistant": "gpt", "system": "system", "tool": "tool"}


def to_line(record: Mapping[str, Any]) -> bytes:
    """Return one line of JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _sharegpt(record: dict[str, Any]) -> dict[str, Any]:
    messages = record.pop("messages")
    turns = [{"from": _SHAREGPT[turn["role"]], "value": turn["content"]} for turn in messages]
    return record | {"conversations": turns}


def _alpaca(record: dict[str, Any]) -> dict[str, Any]:
    """Return the last user turn as the instruction and the turns before as pairs of ``history``.

    Turns of one speaker that follow each other become one, a line each; what a tool said is taken for the user's; a
    dialogue that the assistant began has an empty first question.
    """
    *context, response = record.pop("messages")
    system = [turn["content"] for turn in context if turn["role"] == "system"]
    pairs: list[list[str]] = []
    for turn in context:
        if turn["role"] == "system":
            continue
        if turn["role"] == "assistant":
            if not pairs:
                pairs.append(["", ""])
            pairs[-1][1] = _joined(pairs[-1][1], turn["content"])
        elif not pairs or pairs[-1][1]:
            pairs.append([turn["content"], ""])
        else:
            pairs[-1][0] = _joined(pairs[-1][0], turn["content"])
    question = pairs.pop()[0] if pairs and not pairs[-1][1] else ""
    record |= {"instruction": question, "input": "", "output": response["content"]}
    if system:
        record["system"] = "\n".join(system)
    return record | ({"history": pairs} if pairs else {})


LAYOUTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "openai": lambda record: record,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}
"""For each format what makes its record of the contract's."""


def convert(line: bytes, layout: str) -> bytes:
    """Return a line of the contract's form in another layout."""
    return line if layout == "openai" else to_line(LAYOUTS[layout](json.loads(line)))


def _joined(first: str, second: str) -> str:
    return f"{first}\n{second}" if first else second
