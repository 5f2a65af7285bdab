"""One list of messages, of whatever make, -> turns; what the scorer cannot read is left out and counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.columns import written
from scorer.inputs.records.faults import MAX_TURN_CHARACTERS, RecordError, clean_text, shown
from scorer.inputs.records.keys import ANSWERS, LESSER_ANSWERS, LESSER_QUESTIONS, LISTS, QUESTIONS
from scorer.inputs.records.roles import ROLE_KEYS, ROLES, SPEAKERS, TEXT_KEYS, WHOSE, answering_systems
from scorer.inputs.records.transcripts import transcript, without_end
from scorer.text import normalise

_USR_SYS = {"usr": "user", "sys": "assistant"}  # of user and dialogue system; beside other roles sys may be a prompt
_OPENAI = ("system", "developer", "user", "assistant", "tool", "function")
_CALL_KEYS = ("tool_calls", "function_call")
_THOUGHT_TYPES = ("reasoning", "thinking", "redacted_thinking", "thought", "reasoning_text")
_TOOL_TYPES = ("tool_use", "tool_result", "tool_call", "function_call", "server_tool_use", "function_call_output")
UNSPOKEN = (*_THOUGHT_TYPES, *_TOOL_TYPES)
"""Types of what an assistant does and does not say."""

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
    if not isinstance(value, Mapping):
        return False
    if any(key in value for key in ROLE_KEYS):
        return any(key in value for key in (*TEXT_KEYS, *_CALL_KEYS))
    return isinstance(value.get("type"), str) and value["type"].lower() in SPEAKERS and _holds_text(value)  # LangChain


def _holds_text(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("data"), Mapping) or any(key in value for key in TEXT_KEYS)


def has_roles(value: Any) -> bool:
    """Whether a value is a list of messages, all of speakers that are known, a user among them."""
    if not is_turns(value):
        return False
    roles = [ROLES.get(_speaker(item).strip().lower()) for item in _usual(value)]
    return None not in roles and "user" in roles


def is_turns(value: Any) -> bool:
    """Whether a value is a list of messages, in whatever shape they are."""
    return isinstance(value, list) and bool(value) and all(map(is_message, _usual(value)))


def read_turns(value: Any, key: str, seen: Seen) -> tuple[Turn, ...]:
    """Return the turns with text of a list of messages; RecordError where it is none."""
    turns: list[Turn] = []
    items = value if isinstance(value, list) else _listed(value, key)
    if not _is_plain(items):
        items = _messages(items)
    for number, item in enumerate(items, start=1):
        turn = read_turn(item, number, seen)
        if turn is not None:
            turns.append(turn)
    return tuple(turns)


def _is_plain(items: list[Any]) -> bool:
    """Whether messages are as they should be, as far as the first and the last show: a short way of most."""
    if not items or type(items[0]) is not dict or type(items[-1]) is not dict:
        return False
    first, last = items[0].get("role") or items[0].get("from"), items[-1].get("role") or items[-1].get("from")
    return type(first) is str and first not in _USR_SYS and type(last) is str and SPEAKERS.get(last) == "assistant"


def _messages(items: list[Any]) -> list[Any]:
    """Return the messages of what is known to be turns: ``_usual`` ones, or those of questions with their answers."""
    messages = _usual(items)
    if messages is items and items and not is_message(items[0]) and all(isinstance(item, Mapping) for item in items):
        found = [_asked_and_said(item, last=item is items[-1]) for item in items]
        messages = [message for pair in found for message in pair] if all(found) else items
    return messages


def _usual(items: list[Any]) -> list[Any]:
    """Return messages as objects with roles, also LangChain's, and pairs of a role and a text."""
    first = items[0] if items else None
    if isinstance(first, Mapping):
        if any(key in first for key in ROLE_KEYS):
            return _with_who_answers(items)
        found = [_of_langchain(item) if isinstance(item, Mapping) else {} for item in items]
        return found if all(found) else items
    if isinstance(first, list) and all(map(_is_role_and_text, items)):
        return _with_who_answers([{"role": role, "content": text} for role, text in items])
    return items


def _with_who_answers(items: list[Any]) -> list[Any]:
    """Return messages in which `sys`, or a speaker `system`, is the assistant where nobody else is."""
    if not all(isinstance(item, Mapping) for item in items):
        return items
    if _speaker(items[0]) in _USR_SYS and all(_speaker(item) in _USR_SYS for item in items):
        return [{**item, "role": _USR_SYS[_speaker(item)]} for item in items]
    if all("speaker" in item for item in items):  # in `role` and `from` a system is a prompt, wherever it stands
        roles = [ROLES.get(_speaker(item).lower(), "") for item in items]
        if (answering := answering_systems(roles)) != roles:
            return [{**item, "role": role} for item, role in zip(items, answering, strict=True)]
    return items


def names_speaker(value: Any) -> bool:
    """Whether a value is the name of a known speaker, the first of a pair of a role and a text."""
    return isinstance(value, str) and value.strip().lower() in (*ROLES, *_USR_SYS)


def _is_role_and_text(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 2 and names_speaker(item[0])


def _of_langchain(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of LangChain's as one with a role; {} for anything else."""
    kind, made = item.get("type"), item.get("id")
    if kind == "constructor" and isinstance(made, list) and made and isinstance(item.get("kwargs"), Mapping):
        kind, item = str(made[-1]).lower().removesuffix("chunk").removesuffix("message"), item["kwargs"]
    role = ROLES.get(kind.lower(), "") if isinstance(kind, str) else ""
    if not role or not _holds_text(item):
        return {}
    data = item["data"] if isinstance(item.get("data"), Mapping) else {}
    return {**{key: value for key, value in item.items() if key not in ("type", "data")}, **data, "role": role}


def _asked_and_said(item: Mapping[str, Any], *, last: bool) -> list[dict[str, Any]]:
    """Return the turns of an object that has a question and its answer, which the last of a list may lack; else []."""
    texts = {key: value for key, value in item.items() if isinstance(value, str) and value.strip()}
    asked = [key for key in (*QUESTIONS, *LESSER_QUESTIONS) if key in texts]
    said = [key for key in (*ANSWERS, *LESSER_ANSWERS) if key in texts]
    if len(asked) != 1 or len(said) > 1 or not (said or last):
        return []
    roles = {"system": "system", asked[0]: "user", **dict.fromkeys(said, "assistant")}
    return [{"role": role, "content": texts[key]} for key, role in roles.items() if key in texts]


def _speaker(message: Any) -> str:
    """Return who a message says that its speaker is, "" where it does not."""
    named = (message.get(key) for key in ROLE_KEYS) if isinstance(message, Mapping) else ()
    return next((name for name in named if isinstance(name, str)), "")


def _listed(value: Any, key: str) -> list[Any]:
    """Return the list of messages that a table keeps as text, or `datasets` as a record of lists."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        value = written(value, key)
    elif isinstance(value, str) and (said := transcript(value)):
        return [{"role": turn.role, "content": turn.content} for turn in said]
    if isinstance(value, Mapping):
        inner: list[list[Any]] = [value[name] for name in LISTS if isinstance(value.get(name), list)]
        if inner:  # one list in another's name
            return inner[0]
        columns = list(value.values())
        if is_message(value) and not all(isinstance(column, list) for column in columns):
            return [value]
        if all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            value = [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise RecordError("wrong_type", f"{key} is {shown(value)}, expected a list of messages")
    return value


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
        role = SPEAKERS.get(plain) if isinstance(plain, str) else None
        if role is not None and isinstance(content, str):
            text = plain_text(content, number, role)
            if role == "user" or (text and not _MAY_THINK.search(text)):
                seen.unread = seen.unread and role == "user"
                return Turn(role, text)
    if said is None:
        said = next((item[key] for key in ROLE_KEYS if item.get(key) is not None), None)
        said = said.get("role") if isinstance(said, Mapping) else said
    role = ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        has = f"has role {shown(said)}" if said is not None else f"is {shown(item)} without a role"
        raise RecordError("unknown_role", f"turn {number} {has}, expected user, assistant or system; {WHOSE}")
    if role in ("tool", "call"):
        seen.tool_turns += 1
        seen.unread = seen.unread or role == "call"
        return None
    content = item.get("content")
    if content is None:
        content = next((item[key] for key in TEXT_KEYS if item.get(key) is not None), None)
    if isinstance(content, Mapping):
        content = next((content[key] for key in ("parts", "content", "text") if content.get(key) is not None), content)
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
    named = next(key for key in ("role", *ROLE_KEYS) if item.get(key) is not None)
    said: Any = item[named]
    if isinstance(said, Mapping):
        rest = {named: said} if len(said) > 1 else {}
        said = said["role"]
    else:
        rest = {}
    name = said.strip().lower()
    role = ROLES[name]
    filled = (key for key in ("content", *TEXT_KEYS) if item.get(key) is not None)
    text = next(filled, "content")
    rest |= {key: value for key, value in item.items() if key not in (named, text) and value is not None}
    return {"role": name if name in _OPENAI or role == "call" else role, "content": item.get(text), **rest}


def message_list(value: Any) -> list[Any] | None:
    """Return the messages that ``read_turns`` reads in a value, as they stand there; None where it is no list."""
    try:
        return _messages(value if isinstance(value, list) else _listed(value, ""))
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
            if kind in _THOUGHT_TYPES or part.get("thought") is True:  # the latter is Gemini's
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
    """Return an assistant's text without what it thought aloud, and the token that ends it; thoughts are counted."""
    if not _MAY_THINK.search(text):
        return text
    text = without_end(text)
    spoken, count = _THOUGHTS.subn("", text)
    spoken, more = _END_OF_THOUGHT.subn("", spoken)
    seen.thoughts += count + more
    return _MARKS.sub("", spoken).strip() if spoken != text or "<|" in text else text
