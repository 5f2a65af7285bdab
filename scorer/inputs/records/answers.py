"""What the answer of a record is, as text or message, single or of a preference pair; and where two may be meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scorer.dialogue import Turn
from scorer.inputs.records.faults import RecordError, clean_text, shown
from scorer.inputs.records.keys import PAIR, QUESTIONS
from scorer.inputs.records.transcripts import transcript
from scorer.inputs.records.turns import UNSPOKEN, Seen, is_message, read_turn, read_turns, visible, without_thoughts

_WRAPPED = 8  # an answer lies in at most so many objects and lists
_MAY_ANSWER = re.compile(
    r"answer|respon|complet|generat|output|repl(?:y|ies)|predict|assistant|continuation|candidate|final|ideal|gold"
    r"|next_(?:utterance|turn)|(?:text|content)\Z",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"(?:id|ids|model|models|time|format|type|tokens?|lang|language|name|role|url|path|source|status|reason|by|at|date"
    r"|count|length|emotion|label|score|config|settings|params|generator)\Z|_(?:id|by|at)_",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Answered:
    """The turns of a record up to one answer. ``suffix`` tells the two of a preference pair apart."""

    layout: str
    used: tuple[str, ...]
    turns: tuple[Turn, ...]
    seen: Seen
    suffix: str = ""
    top_system: bool = False


def keys_found(record: Iterable[Any]) -> str:
    """Return the keys of a record as they may stand in a message, also where they are many."""
    names = sorted(map(str, record))
    listed = ", ".join(ascii(name if len(name) <= 40 else name[:37] + "...")[1:-1] for name in names[:20])
    return f"keys {listed or 'none'}{f' and {len(names) - 20} more' if len(names) > 20 else ''}"


def has_pair(record: Mapping[str, Any]) -> bool:
    """Whether a record holds an answer that was preferred, or one that was not."""
    return any(filled(record.get(key)) and isinstance(record[key], (str, list, Mapping)) for key in PAIR)


def only_answer(record: Mapping[str, Any], names: list[str], seen: Seen) -> tuple[str, str]:
    """Return the one answer that the keys hold, and its key."""
    if len(names) == 1 and isinstance(value := record[names[0]], str) and not may_be_json(value):
        return without_thoughts(clean_text(value, names[0]), seen), names[0]
    texts: dict[str, str] = {}
    for name in names:
        aside = Seen()
        text = answer_in(record[name], name, aside, strict=len(names) == 1)
        if text is not None and text not in texts:
            texts[text] = name
            seen.thoughts += aside.thoughts
            seen.unread = aside.unread
    if len(texts) != 1:
        which = " and ".join(texts.values() or names)
        raise ambiguous(f"{which} hold different answers or none that is text", next(iter(names)))
    ((text, name),) = texts.items()
    return text, name


def no_unknown_answer(record: Mapping[str, Any], turns: tuple[Turn, ...]) -> None:
    """Raise where turns do not end in an answer, and a key that nobody knows looks like holding it."""
    if not any(turn.role == "assistant" for turn in turns):
        return
    for key, value in record.items():
        if isinstance(key, str) and _MAY_ANSWER.search(key) and not _NO_ANSWER.search(key):
            text = value if isinstance(value, str) else ""
            if turns[-1].content in text:
                continue  # the turns once more, as a template has them
            if visible(text) or (isinstance(value, (list, Mapping)) and value):
                raise ambiguous(f"the turns end without an answer, and {shown(key)} may hold it", key)


def pair_of(
    record: Mapping[str, Any], before: tuple[Turn, ...], seen: Seen, first: str, used: tuple[str, ...]
) -> list[Answered | RecordError]:
    """Return the turns of a preference pair: two dialogues, each fault its own."""
    layout = ", ".join(filter(None, (first, "chosen/rejected")))
    found: list[Answered | RecordError] = []
    for name in PAIR:
        if record.get(name) is None:
            continue  # one of the two was kept
        mine = Seen(seen.tool_turns, seen.parts, seen.thoughts)
        try:
            turns = _preferred(record, name, before, mine)
            found.append(Answered(layout, (*used, *PAIR), turns, mine, f"#{name}"))
        except RecordError as error:
            found.append(error)
    return found


def _preferred(record: Mapping[str, Any], name: str, before: tuple[Turn, ...], seen: Seen) -> tuple[Turn, ...]:
    value = record[name]
    other = record.get(PAIR[name == "chosen"])
    if isinstance(value, (list, Mapping)) and not is_message(value):
        own = Seen()
        turns = read_turns(value, name, own)
        if not turns or turns[-1].role != "assistant" or own.unread:
            raise RecordError("no_response", f"{name} does not end in an assistant turn with text, expected an answer")
        if any(turn.role == "user" for turn in turns):  # the whole dialogue
            seen.tool_turns, seen.parts, seen.thoughts = own.tool_turns, own.parts, own.thoughts
            return turns
        if len(turns) > 1:
            raise ambiguous(f"{name} holds several assistant turns", name)
        text = turns[-1].content
        seen.thoughts += own.thoughts
    elif isinstance(value, str) and (turns := tuple(transcript(value))) and _goes_on(turns, before):
        if turns[-1].role != "assistant":
            raise RecordError("no_response", f"{name} does not end in an Assistant turn, expected an answer")
        return turns
    else:
        text = answer_in(value, name, seen, strict=True) or ""
    if before and before[-1].role == "assistant":
        if before[-1].content not in (text, answer_in(other, "the other answer", Seen(), strict=False)):
            raise ambiguous(f"the turns end in an answer, and {name} holds another", name)
        before = before[:-1]
    if not before:
        raise RecordError("no_messages", f"{keys_found(record)}, expected prompt beside chosen and rejected")
    seen.unread = False
    return (*before, Turn("assistant", text))


def _goes_on(turns: tuple[Turn, ...], before: tuple[Turn, ...]) -> bool:
    """Whether turns are a dialogue with what was asked before, and not an answer that holds a dialogue."""
    return not before or next(turn for turn in turns if turn.role == "user").content in [t.content for t in before]


def answer_in(value: Any, where: str, seen: Seen, *, strict: bool) -> str | None:
    """Return the text of an answer: a text, a message, what an API gives, or a list of one; None for what is no answer.

    ``strict`` raises where something is there and cannot be read, for then the answer is another than the last turn.
    """
    if isinstance(value, str) and not may_be_json(value):
        return without_thoughts(clean_text(value, where), seen)
    if isinstance(value, str):
        item = _peeled(_decoded(value))
        if not is_message(item):
            return clean_text(value, where)
    else:
        item = _peeled(value)
    if isinstance(item, str):
        return without_thoughts(clean_text(item, where), seen)
    if is_message(item):
        turn = read_turn(item, 1, seen)
        if turn is not None and turn.role == "assistant":
            return turn.content
        raise RecordError("no_response", f"{where} is a message without an assistant's text, expected an answer")
    if isinstance(value, list) and (value if not strict else len(value) > 1):
        raise ambiguous(f"{where} holds {len(value)} answers", where)
    if strict and (isinstance(value, (list, Mapping)) or where in ("response", "output", "completion", *PAIR)):
        raise RecordError("wrong_type", f"{where} is {shown(value)}, expected text")
    return None


def may_be_json(text: str) -> bool:
    """Whether a text may be a message or a list of them as JSON."""
    return text[:1] in "[{ \t\n" and text.lstrip()[:2] in ("[{", '{"')


def _decoded(text: str) -> Any:
    """Return what an API's answer or messages as JSON hold; None for any other text, which is an answer itself."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    held = isinstance(value, Mapping) and any(isinstance(value.get(key), list) for key in ("choices", "candidates"))
    last = value[0] if isinstance(value, list) and len(value) == 1 else value
    said = isinstance(last, Mapping) and last.get("role") == "assistant" and is_message(last)
    return value if held or said else None


def _peeled(value: Any) -> Any:
    """Return the message or text that an API's answer holds, without what it is wrapped in and what is not said."""
    item = value
    for _ in range(_WRAPPED):
        inner = _inner(item)
        if inner is None:
            break
        item = inner
    return item


def _inner(item: Any) -> Any:
    if isinstance(item, list):  # OpenAI's responses hold thoughts and calls beside the message
        said = [one for one in item if not (isinstance(one, Mapping) and one.get("type") in UNSPOKEN)]
        return said[0] if len(said) == 1 else None
    if not isinstance(item, Mapping) or is_message(item) or any(key in item for key in (*QUESTIONS, "context")):
        return None  # a record of its own asks something too
    for key in ("body", "choices", "candidates", "output", "message"):
        if isinstance(item.get(key), Mapping if key in ("body", "message") else list):
            return item[key]
    for key in ("generated_text", "text", "answer", "output", "response", "completion"):
        if isinstance(item.get(key), str):
            return item[key]
    content = item.get("content", item.get("parts"))
    if isinstance(content, Mapping):
        return content
    return {"role": "assistant", "content": content} if isinstance(content, (str, list)) else None


def filled(value: Any) -> bool:
    """Whether a value holds anything."""
    return value is not None and value != "" and value not in ([], {}) and value == value


def ambiguous(what: str, column: str, field: str = "response") -> RecordError:
    """Return the fault of a record of which two readings may be meant."""
    return RecordError("ambiguous", f"{what}; say which one is meant: --map {field}={ascii(column)[1:-1]}")
