"""A dialogue as a selection keeps it: all that came in with it, in the form of the contract.

The turns of the record, whatever its layout, become ``messages`` with the text as it stood there: tool calls, names,
images, thoughts and what follows the judged turn included. All other columns stay as they are. The scorer reads the
same dialogue in what is written; a column that would change that is moved into ``source_columns``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scorer.dialogue import HEADS, Dialogue, Turn
from scorer.inputs.empathetic_dialogues import MOVED
from scorer.inputs.parse import parse_records, to_messages, to_record, until_response
from scorer.inputs.records.columns import value_at
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import HISTORIES, KEYS, PAIR
from scorer.inputs.records.layouts import usual_names
from scorer.inputs.records.roles import roles_of_names, with_roles
from scorer.inputs.records.transcripts import transcript
from scorer.inputs.records.turns import (
    Seen,
    as_message,
    is_message,
    message_list,
    read_turn,
    read_turns,
    without_thoughts,
)

SOURCE_COLUMNS = "source_columns"
"""Where columns go whose names mean something else in what is written."""

_OWN = ("id", "conversation", "category", "synthetic", *HEADS, "evaluation", "judge")

_Item = tuple[Any, Turn | None]


def whole_record(dialogue: Dialogue, fields: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a dialogue with everything that came in, in OpenAI's form; a dialogue without its record as it is.

    ``fields`` are those of the corpus: which column holds what.
    """
    plain = to_record(dialogue)
    if dialogue.record is None:
        return plain
    record = usual_names(dialogue.record)
    if dialogue.notes.layout == "EmpatheticDialogues":
        return with_columns(plain, {name: value for name, value in record.items() if name not in MOVED})
    fields = fields or {}
    names = roles_of_names(fields)
    own = [name for name in _OWN if name != "conversation" or not message_list(record.get(name))]
    used = [fields.get(name, name) for name in dialogue.notes.used if name not in own]
    if dialogue.notes.answer:
        plain["preference"] = dialogue.notes.answer
        used = [name for name in used if name not in PAIR or name == dialogue.notes.answer]
    said = with_roles(record, names) if names else record
    plain["messages"], moved = _messages(dialogue, {name: value_at(said, name)[1] for name in used})
    if dialogue.notes.answer:
        moved.update(name for name in PAIR if name != dialogue.notes.answer)  # it has a record of its own
        moved.update(["input"] if record.get("input") is None else [])
    plain |= {head: value_at(record, fields[head])[1] for head in HEADS if head in fields}
    columns = {name: value for name, value in record.items() if name not in moved and name != "id"}
    if isinstance(columns.get("conversation", ""), (str, int, float)) or not columns["conversation"]:
        columns.pop("conversation", None)
    if columns.get("category") is not None and dialogue.category is not None:
        plain["category"] = columns.pop("category")
    return with_columns(plain, columns)


def with_columns(record: dict[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of any layout with more columns, so that readers take it for the same dialogue as without."""
    free = {name: value for name, value in columns.items() if name not in record}
    aside = {name: value for name, value in columns.items() if name in record and record[name] != value}
    doubtful = KEYS.intersection(free)
    if doubtful and _read(record) != _read(record | free):
        aside |= {name: free.pop(name) for name in [*free] if name in doubtful}
    if SOURCE_COLUMNS in free and isinstance(free[SOURCE_COLUMNS], Mapping):  # of an earlier selection
        aside = {**free.pop(SOURCE_COLUMNS), **aside}
    return record | free | ({SOURCE_COLUMNS: aside} if aside else {})


def _read(record: Mapping[str, Any]) -> Any:
    try:
        return parse_records(record)
    except RecordError as error:
        return error.reason


def _messages(dialogue: Dialogue, used: Mapping[str, Any]) -> tuple[list[dict[str, Any]], set[str]]:
    """Return the turns of a record as messages, and which of the columns that held them are in these whole."""
    if len(used) == 1 and (only := message_list(*used.values())):  # the short way of most records
        return [as_message(item) for item in only], set(used)
    lists = {name: found for name, value in used.items() if (found := _items(value))}
    raw = _raw_texts(used)
    order = sorted(lists, key=lambda name: name not in HISTORIES)  # it stands before what was asked
    moved: set[str] = set()
    for names in ([*order], order[-1:]):
        items = [item for name in names for item in lists[name]]
        messages, rest = _aligned(dialogue.turns, items, raw)
        later = [as_message(item) for item, _ in rest]
        if _same(messages + later, dialogue.turns):
            messages, moved = messages + later, {*names}
            break
    else:
        if len(order) == 1 and dialogue.notes.answer and len(rest) == 1:  # the turns end in the other answer
            moved = {*order}
        messages = messages if _same(messages, dialogue.turns) else to_messages(dialogue.turns)
    said = "\n".join(text for message in messages for text in _strings(message["content"]))
    return messages, moved | {name for name, value in used.items() if name not in lists and _is_said(value, said)}


def _is_said(value: Any, said: str) -> bool:
    """Whether what is said holds every text of a value."""
    if isinstance(value, str):
        pieces = [turn.content for turn in transcript(value)] or value.split("</s>")
        return all(piece.strip() in said for piece in pieces)
    return not value or (_is_pairs(value) and all(text.strip() in said for text in _strings(value)))


def _items(value: Any) -> list[_Item] | None:
    """Return the messages in a value, each with the turn that is read in it; None where it holds anything else."""
    found = [value] if is_message(value) else message_list(value)
    try:
        return [(item, read_turn(item, 1, Seen())) for item in found or []] or None
    except RecordError:
        return None


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pair, list) for pair in value)


def _raw_texts(used: Mapping[str, Any]) -> dict[str, str]:
    """Return for each text, as a turn has it, the text as it stands in the record."""
    found: dict[str, str] = {}
    for value in used.values():
        for text in _strings(value):
            found.setdefault(text.strip(), text)
            found.setdefault(without_thoughts(text.strip(), Seen()), text)
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings(value.get("text", value.get("value")))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for item in value:
            yield from _strings(item)


def _aligned(
    turns: Sequence[Turn], items: Sequence[_Item], raw: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[_Item]]:
    """Return a message for each turn, with what stands between them, and the items after the last one."""
    messages: list[dict[str, Any]] = []
    rest = list(items)
    for turn in turns:
        place = next((number for number, (_, found) in enumerate(rest) if found is not None), len(rest))
        if place < len(rest) and rest[place][1] == turn:
            messages += [as_message(item) for item, _ in rest[: place + 1]]
            rest = rest[place + 1 :]
        else:
            messages.append({"role": turn.role, "content": raw.get(turn.content, turn.content)})
    return messages, rest


def _same(messages: list[dict[str, Any]], turns: tuple[Turn, ...]) -> bool:
    """Whether the reader finds the same dialogue in messages."""
    try:
        seen = Seen()
        return until_response(read_turns(messages, "messages", seen), seen) == turns
    except RecordError:
        return False
