"""One list of messages, of whatever make, -> turns; what the scorer cannot read is left out and counted."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.faults import MAX_TURN_CHARACTERS, RecordError, clean_text, shown
from scorer.text import normalise

_NAMES_OF_ROLES = {
    "user": "user human prompter speaker seeker patient client",
    "assistant": "assistant gpt chatgpt bot model listener ai supporter counselor counsellor therapist chatbot",
    "system": "system developer",
    "tool": "tool function observation ipython tool_response tool_result function_response",
    "call": "function_call tool_call",  # the assistant's, and no text
}
_ROLES = {name: role for role, names in _NAMES_OF_ROLES.items() for name in names.split()}
_USR_SYS = {"usr": "user", "sys": "assistant"}  # of user and dialogue system; beside other roles sys may be a prompt
_OPENAI = ("system", "developer", "user", "assistant", "tool", "function")
_SPEAKERS = {name: role for name, role in _ROLES.items() if role in ("user", "assistant")}
_ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
_TEXT_KEYS = ("content", "value", "text", "message", "utterance", "parts")
_CALL_KEYS = ("tool_calls", "function_call")
_THOUGHT_TYPES = ("reasoning", "thinking", "redacted_thinking", "thought", "reasoning_text")
_TOOL_TYPES = ("tool_use", "tool_result", "tool_call", "function_call", "server_tool_use", "function_call_output")

VISIBLE = re.compile(r"[!-~]")  # text that holds one of these has something visible, whatever its spelling
_TAG = "think|thinking|thoughts?|reasoning"
_THOUGHTS = re.compile(
    rf"<({_TAG})>.*?(?:</\1>|\Z)|◁think▷.*?(?:◁/think▷|\Z)|\[THINK\].*?(?:\[/THINK\]|\Z)"
    r"|<\|begin_of_thought\|>.*?(?:<\|end_of_thought\|>|\Z)"
    r"|<\|channel\|>(?:analysis|commentary)<\|message\|>.*?(?:<\|end\|>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_MAY_THINK = re.compile(r"[<◁\[]")
# A chat template may have opened the thought in the prompt: then only its end stands in the answer.
_END_OF_THOUGHT = re.compile(rf"\A.*(?:</(?:{_TAG})>|◁/think▷|\[/THINK\])", re.DOTALL | re.IGNORECASE)
_MARKS = re.compile(
    r"<\|(?:begin|end)_of_solution\|>|(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>|<\|start\|>assistant"
    r"|<\|return\|>\s*\Z|<\|end\|>\s*\Z"
)
_HUMAN = re.compile(r"\A\s*(?:Human|User): ?")
_SAID = re.compile(r"\n\s*\n(Human|User|Assistant):[ ]?")


@dataclass(slots=True)
class Seen:
    """What was left out of a record's turns so far. ``unread`` says that the last assistant turn had no text at all."""

    tool_turns: int = 0
    parts: int = 0
    thoughts: int = 0
    unread: bool = False


def visible(text: str) -> bool:
    """Whether a text holds anything that can be seen."""
    return VISIBLE.search(text) is not None or normalise(text) != ""


def is_message(value: Any) -> bool:
    """Whether a value looks like one message of a list."""
    return (
        isinstance(value, Mapping)
        and any(key in value for key in _ROLE_KEYS)
        and any(key in value for key in (*_TEXT_KEYS, *_CALL_KEYS))
    )


def read_turns(value: Any, key: str, seen: Seen) -> tuple[Turn, ...]:
    """Return the turns with text of a list of messages; RecordError where it is none."""
    turns = []
    items = value if isinstance(value, list) else _listed(value, key)
    if items and _speaker(items[0]) in _USR_SYS and all(_speaker(item) in _USR_SYS for item in items):
        items = [{**item, "role": _USR_SYS[_speaker(item)]} for item in items]
    for number, item in enumerate(items, start=1):
        turn = read_turn(item, number, seen)
        if turn is not None:
            turns.append(turn)
    return tuple(turns)


def _speaker(message: Any) -> str:
    """Return who a message says that its speaker is, "" where it does not."""
    named = (message.get(key) for key in _ROLE_KEYS) if isinstance(message, Mapping) else ()
    return next((name for name in named if isinstance(name, str)), "")


def _listed(value: Any, key: str) -> list[Any]:
    """Return the list of messages that a table keeps as text, or `datasets` as a record of lists."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = _written(value, key)
    if isinstance(value, Mapping):
        columns = list(value.values())
        if all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            value = [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise RecordError("wrong_type", f"{key} is {shown(value)}, expected a list of messages")
    return value


def _written(text: str, key: str) -> Any:
    """Return the value of a list that a table keeps as JSON, or as Python writes it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise RecordError("wrong_type", f"{key} is {shown(text)}, expected a list of messages") from None


def read_turn(item: Any, number: int, seen: Seen) -> Turn | None:  # noqa: C901, PLR0912 - one per make of message
    """Return a message as a turn, or None where it holds nothing that the scorer reads."""
    if type(item) is not dict and not isinstance(item, Mapping):
        fault = f"turn {number} is {shown(item)}, expected an object with role and content"
        if isinstance(item, str):
            fault += "; of texts without roles, --map messages=COLUMN takes the last for the answer"
        raise RecordError("wrong_type", fault)
    said = item.get("role")
    if len(item) == 2:  # the short way of most messages
        plain, content = (said, item.get("content")) if said else (item.get("from"), item.get("value"))
        role = _SPEAKERS.get(plain) if isinstance(plain, str) else None
        if role is not None and isinstance(content, str):
            text = plain_text(content, number, role)
            if role == "user" or (text and not _MAY_THINK.search(text)):
                seen.unread = seen.unread and role == "user"
                return Turn(role, text)
    if said is None:
        said = next((item[key] for key in _ROLE_KEYS if item.get(key) is not None), None)
        said = said.get("role") if isinstance(said, Mapping) else said
    role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        raise RecordError("unknown_role", f"turn {number} has role {shown(said)}, expected user, assistant or system")
    if role in ("tool", "call"):
        seen.tool_turns += 1
        seen.unread = seen.unread or role == "call"
        return None
    content = item.get("content")
    if content is None:
        content = next((item[key] for key in _TEXT_KEYS if item.get(key) is not None), None)
    if isinstance(content, Mapping) and isinstance(content.get("parts"), list):
        content = content["parts"]
    if content is None and role == "assistant":
        content = item.get("refusal")
    left = seen.tool_turns + seen.parts + seen.thoughts
    calls = role == "assistant" and any(item.get(key) for key in _CALL_KEYS)
    seen.tool_turns += calls
    if content is None and (calls or item.get("audio") or item.get("reasoning_content")):
        seen.parts += not calls
        content = ""
    elif isinstance(content, list):
        content = _parts(content, number, seen)
    text = clean_text(content, f"turn {number} ({role})")
    if role == "assistant":
        seen.thoughts += bool(item.get("reasoning_content") or item.get("reasoning"))
        text = without_thoughts(text, seen)
        seen.unread = not text and seen.tool_turns + seen.parts + seen.thoughts > left
    if not text and (role == "system" or seen.tool_turns + seen.parts + seen.thoughts > left):
        return None
    return Turn(role, text)


def as_message(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message that ``read_turn`` takes under OpenAI's names, its text untouched, with all else that it holds.

    Roles that OpenAI has no name for, such as ``function_call``, stay; keys without a value are left out.
    """
    if len(item) == 2 and item.get("role") in ("user", "assistant", "system") and "content" in item:
        return dict(item)
    named = next(key for key in ("role", *_ROLE_KEYS) if item.get(key) is not None)
    said: Any = item[named]
    if isinstance(said, Mapping):
        rest = {named: said} if len(said) > 1 else {}
        said = said["role"]
    else:
        rest = {}
    name = said.strip().lower()
    role = _ROLES[name]
    filled = (key for key in ("content", *_TEXT_KEYS) if item.get(key) is not None)
    text = next(filled, "content")
    rest |= {key: value for key, value in item.items() if key not in (named, text) and value is not None}
    return {"role": name if name in _OPENAI or role == "call" else role, "content": item.get(text), **rest}


def message_list(value: Any) -> list[Any] | None:
    """Return the messages that ``read_turns`` reads in a value, as they stand there; None where it is no list."""
    try:
        return value if isinstance(value, list) else _listed(value, "")
    except RecordError:
        return None


def plain_text(content: str, number: int, role: str) -> str:
    """Return ``clean_text``; for what is plain ASCII at once."""
    if content.isascii() and "\0" not in content and len(content) <= MAX_TURN_CHARACTERS:
        return content.strip()
    return clean_text(content, f"turn {number} ({role})")


def _parts(content: list[Any], number: int, seen: Seen) -> str:
    """Return the text of OpenAI's or Anthropic's content parts; the other parts are counted."""
    texts = []
    for part in content:
        text: Any = part
        if isinstance(part, Mapping):
            kind = part.get("type")
            if kind in _THOUGHT_TYPES:
                seen.thoughts += 1
                continue
            if kind in _TOOL_TYPES:
                seen.tool_turns += 1
                continue
            text = next((part[key] for key in ("text", "value", "refusal") if part.get(key) is not None), None)
            text = text.get("value") if isinstance(text, Mapping) else text
            if not isinstance(text, str) or (isinstance(kind, str) and kind not in _TEXT_TYPES):
                seen.parts += 1
                continue
        texts.append(clean_text(text, f"a part of turn {number}"))
    return "\n".join(texts)


_TEXT_TYPES = ("text", "input_text", "output_text", "refusal", "summary_text", "string")


def without_thoughts(text: str, seen: Seen) -> str:
    """Return an assistant's text without what it thought aloud; thoughts are counted."""
    if not _MAY_THINK.search(text):
        return text
    spoken, count = _THOUGHTS.subn("", text)
    spoken, more = _END_OF_THOUGHT.subn("", spoken)
    seen.thoughts += count + more
    return _MARKS.sub("", spoken).strip() if spoken != text or "<|" in text else text


def transcript(text: str) -> list[Turn]:
    """Return the turns of "Human: ... Assistant: ...", a blank line before each, as in the HH data; else nothing."""
    begin = _HUMAN.match(text)
    if begin is None:
        return []
    said = ["Human", *_SAID.split(text[begin.end() :], maxsplit=0)] if begin else []
    pieces = [said[0], *said[1:]]
    turns = [
        Turn("assistant" if pieces[index] == "Assistant" else "user", pieces[index + 1].strip())
        for index in range(0, len(pieces) - 1, 2)
    ]
    return turns[:-1] if turns[-1] == Turn("assistant", "") else turns  # "Assistant:" asks for the answer
