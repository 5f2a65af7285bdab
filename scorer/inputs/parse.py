"""One decoded record of any format -> its dialogues, or the reason why it has none; and a dialogue -> its record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal
from uuid import UUID

import msgspec

from scorer.dialogue import HEADS, Dialogue, Turn, content_hash, conversation_key
from scorer.inputs.notes import Notes
from scorer.inputs.records.answers import Answered, keys_found
from scorer.inputs.records.columns import value_at
from scorer.inputs.records.faults import MAX_TURN_CHARACTERS, RecordError, clean_text, shown
from scorer.inputs.records.keys import (
    ANSWERS,
    HISTORIES,
    LAST_QUESTIONS,
    LESSER_LISTS,
    LESSER_QUESTIONS,
    LISTS,
    PAIR,
    QUESTIONS,
)
from scorer.inputs.records.labels import labels_of
from scorer.inputs.records.layouts import holds_dialogue, in_lower_case, read_layout
from scorer.inputs.records.roles import SPEAKER_FIELDS, roles_of_names, with_roles
from scorer.inputs.records.transcripts import whole_dialogue
from scorer.inputs.records.turns import VISIBLE, Seen, visible

__all__ = [
    "FIELDS",
    "MAX_TURN_CHARACTERS",
    "LabelUse",
    "RecordError",
    "Reject",
    "clean_text",
    "columns_of",
    "fields_fault",
    "holds_dialogue",
    "json_fault",
    "parse_json",
    "parse_record",
    "parse_records",
    "to_messages",
    "to_record",
    "until_response",
]

LabelUse = Literal["ignore", "optional", "required"]
"""What to do with a judge's scores: ignore them, take them where there are some, or reject records without."""

FIELDS = ("response", "context", "messages", "id", "category", "conversation", "system", *HEADS, *SPEAKER_FIELDS)
"""What a column may be said to hold (``--map FIELD=COLUMN``), and how the speakers of messages are called."""

_decode = msgspec.json.Decoder().decode
_PLAIN_KEYS = ("id", "conversation", "category", "synthetic", *HEADS, "evaluation", "judge")
_MOST_KEYS = 40
_MOST_NOTES = 1 << 10


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was not scored, and why.

    ``line`` is the line of a text file, the number of the element in a JSON array, or the row of a Parquet or
    Arrow file, from 1; 0 is the file as a whole. ``record`` is the beginning of the raw text.
    """

    source: str
    line: int
    reason: str
    detail: str
    id: str | None = None
    record: str = ""

    def __str__(self) -> str:
        """Return the one line that a person reads."""
        return f"{self.source}:{self.line}: {self.reason}: {self.detail}"


def parse_json(text: str) -> Any:
    """Return the value of one JSON text; RecordError ``broken_json`` where it has none."""
    try:
        return _decode(text)  # three times as fast, and stricter: NaN, halves of surrogate pairs, depth
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError("broken_json", json_fault(error)) from None


def json_fault(error: Exception) -> str:
    """Return one line that says what is wrong with a JSON text and where."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}, expected one JSON object"
    if isinstance(error, RecursionError):
        return "nested too deeply, expected one JSON object with messages"
    return f"{error}, expected one JSON object"


def parse_record(value: Any, *, labels: LabelUse = "ignore", source: str = "", line: int = 0) -> Dialogue:
    """Return the dialogue in a decoded record of any form that is read; RecordError says why there is none."""
    found = parse_records(value, labels=labels, source=source, line=line)
    if len(found) > 1:
        raise RecordError("ambiguous", "the record holds two answers, chosen and rejected; expected one")
    if isinstance(found[0], RecordError):
        raise found[0]
    return found[0]


def parse_records(
    value: Any,
    labels: LabelUse = "ignore",
    source: str = "",
    line: int = 0,
    fields: Mapping[str, str] | None = None,
    *,
    keep: bool = False,
) -> list[Dialogue | RecordError]:
    """Return the dialogues in a decoded record: one, or the two of a preference pair, each perhaps with its own fault.

    RecordError says why there is none. ``fields`` says which column holds what (``FIELDS``); ``keep`` keeps the record.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        raise RecordError("not_an_object", f"{shown(value)}, expected a JSON object with messages")
    record = _mapped(value, fields) if fields else value
    try:
        found = read_layout(record)
    except RecordError:
        lowered = in_lower_case(record)
        other = _in_text(lowered or record) or lowered
        if other is None:
            raise
        record, found = other, read_layout(other)
    said = record.get("synthetic")
    id_, conversation, category = _id(record), _plain(record, "conversation"), _category(record)
    scores = None if labels == "ignore" else labels_of(record, required=labels == "required")
    dialogues: list[Dialogue | RecordError] = []
    for item in found:
        if isinstance(item, RecordError):
            dialogues.append(item)
            continue
        try:
            turns = until_response(item.turns, item.seen)
        except RecordError as error:
            dialogues.append(error)
            continue
        dialogues.append(
            Dialogue(
                id=id_ + item.suffix if id_ else content_hash(turns),
                turns=turns,
                conversation=conversation_key(turns) if conversation is None else conversation,
                category=category,
                labels=scores,
                synthetic=said is True or (isinstance(said, str) and said.lower() == "true"),
                source=source,
                line=line,
                notes=_notes(record, item, len(turns)),
                record=value if keep else None,
            )
        )
    return dialogues


def fields_fault(fields: Mapping[str, str]) -> str:
    """Return what is wrong with fields, "" for nothing."""
    unknown = next((field for field in fields if field not in FIELDS), None)
    if unknown is not None:
        return f"fields names {unknown!a}, expected some of {', '.join(FIELDS)}"
    both = set.intersection(*({*roles_of_names({field: fields.get(field, "")})} for field in SPEAKER_FIELDS))
    return f"{both.pop()!a} is the name of user and assistant, expected one of them" if both else ""


def columns_of(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that hold a column, without the names of speakers."""
    return {field: column for field, column in fields.items() if field not in SPEAKER_FIELDS}


def _mapped(record: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return a record whose fields are under the names that readers know; RecordError where a column is not there.

    A column that is no key may be a path (``request.messages``). What is mapped goes before what would be found. Texts
    without roles, mapped to ``messages``, are turns of two speakers, the last of them the answer.
    """
    if names := roles_of_names(fields):
        record = with_roles(record, names)
        fields = columns_of(fields)
    found: dict[str, Any] = {}
    for name, column in fields.items():
        there, found[name] = value_at(record, column)
        if not there:
            raise RecordError("no_column", f"no column {column!a} for {name}; {keys_found(record)}")
    texts = found.get("messages")
    if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
        roles = [("assistant", "user")[number % 2] for number in range(len(texts))][::-1]
        found["messages"] = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    dropped = {column if column in record else column.partition(".")[0] for column in fields.values()}
    if "response" in fields:
        dropped |= {*ANSWERS, *PAIR}
    if "context" in fields or "messages" in fields:
        dropped |= {*LISTS, *LESSER_LISTS, *QUESTIONS, *LESSER_QUESTIONS, *LAST_QUESTIONS, *HISTORIES, "context"}
    return {**{key: value for key, value in record.items() if key not in dropped}, **found}


_seen_notes: dict[tuple[Any, ...], Notes] = {}


def _in_text(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a record with what its ``text`` holds: JSON (ESConv on the hub) or a transcript; None where neither."""
    text = record.get("text")
    if not isinstance(text, str):
        return None
    outer = {key: value for key, value in record.items() if key != "text"}
    if text.lstrip()[:1] != "{":
        turns = whole_dialogue(text)
        return {**outer, "messages": to_messages(turns)} if turns else None
    try:
        inner = parse_json(text)
    except RecordError:
        return None
    return {**outer, **inner} if holds_dialogue(inner) else None


def _notes(record: Mapping[str, Any], item: Answered, judged: int) -> Notes:
    """Return what was noticed; one object for all records of one shape."""
    seen, later = item.seen, len(item.turns) - judged
    ends_in_user = item.turns[-1].role == "user"
    counts = (seen.tool_turns, seen.parts, seen.thoughts, later, ends_in_user, item.top_system)
    key = (item.layout, item.suffix, item.used, *record, *counts)
    notes = _seen_notes.get(key)
    if notes is None:
        used = (*item.used, *(name for name in _PLAIN_KEYS if name in record and name not in item.used))
        notes = Notes(
            layout=item.layout,
            used=used,
            aside=tuple(str(name)[:40] for name in record if name not in used)[:_MOST_KEYS],
            tool_turns=seen.tool_turns,
            parts=seen.parts,
            thoughts=seen.thoughts,
            later_turns=later,
            ends_in_user=ends_in_user,
            top_system=item.top_system,
            answer=item.suffix.removeprefix("#"),
        )
        if len(_seen_notes) >= _MOST_NOTES:
            _seen_notes.clear()
        _seen_notes[key] = notes
    return notes


def until_response(turns: tuple[Turn, ...], seen: Seen | None = None) -> tuple[Turn, ...]:
    """Return the turns up to the last assistant turn, which is the response; check that there is a dialogue."""
    last = len(turns) - 1
    while last >= 0 and turns[last].role != "assistant":
        last -= 1
    for number, turn in enumerate(turns[: last + 1] or turns, start=1):
        if not VISIBLE.search(turn.content) and not visible(turn.content):
            raise RecordError("empty_turn", f"turn {number} of {len(turns)} ({turn.role}) is empty, expected text")
    if seen is not None and seen.unread:
        raise RecordError("no_response", "the last assistant turn is a tool call, a thought or an image, without text")
    if last < 0:
        raise RecordError("no_response", f"{len(turns)} turns and no assistant turn, so there is nothing to score")
    if "user" not in [turn.role for turn in turns[:last]]:
        left = seen.tool_turns + seen.parts if seen else 0
        note = f" ({left} without text left out)" if left else ""
        raise RecordError("one_speaker", f"no user turn before the last assistant turn{note}, expected two speakers")
    return turns[: last + 1]


def to_messages(turns: Iterable[Turn]) -> list[dict[str, str]]:
    """Return turns as a record's ``messages``."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def to_record(dialogue: Dialogue, *, short: bool = False) -> dict[str, Any]:
    """Return a dialogue as a record of a file, in OpenAI's form: ``parse_record`` gives the same dialogue again.

    ``short`` leaves out the conversation where it follows from the first turn.
    """
    messages = to_messages(dialogue.turns)
    category: dict[str, Any] = {} if dialogue.category is None else {"category": dialogue.category}
    category |= {"synthetic": True} if dialogue.synthetic else {}
    if not short:
        return {"id": dialogue.id, "conversation": dialogue.conversation, **category, "messages": messages}
    named = dialogue.conversation != conversation_key(dialogue.turns)
    conversation = {"conversation": dialogue.conversation} if named else {}
    return {"id": dialogue.id, "messages": messages, **category, **conversation}


def _id(record: Mapping[str, Any]) -> str | None:
    """Return the id as text; RecordError where nobody could join by it."""
    value = record.get("id")
    if isinstance(value, str):
        return clean_text(value, "id") or None
    if value is None or value != value:
        return None
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if len(value) == 16 else value.hex() or None
    if isinstance(value, Mapping) and isinstance(value.get("$oid"), str):  # MongoDB
        return clean_text(value["$oid"], "id") or None
    text = _number(value)
    if text is None:
        raise RecordError("wrong_type", f"id is {shown(value)}, expected text or a number")
    return text


def _number(value: Any) -> str | None:
    """Return a number as text, a whole one without a fraction; None for what is no finite number."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value in (inf, -inf):
        return None
    return str(int(value) if value == int(value) else value)


def _plain(record: Mapping[str, Any], name: str) -> str | None:
    """Return an optional key as text; None where it holds something else, which costs no dialogue."""
    value = record.get(name)
    if value is None or value == "":
        return None
    return (clean_text(value, name) or None) if isinstance(value, str) else _number(value)


def _category(record: Mapping[str, Any]) -> str | None:
    value = record.get("category")
    if isinstance(value, list):
        texts = [item if isinstance(item, str) else _number(item) for item in value]
        return ", ".join(clean_text(text, "category") for text in texts if text) or None
    return _plain(record, "category")
