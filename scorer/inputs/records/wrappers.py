"""What holds records and is none itself: lists, objects by id, columns, tables of messages -> the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import CONVERSATIONS, LISTS
from scorer.inputs.records.layouts import holds_dialogue
from scorer.inputs.records.turns import is_message, is_turns

_CANDIDATES = {"choices", "candidates", "responses", "completions", "outputs", "generations", "targets"}


def unwrapped(value: Any, depth: int = 4) -> list[Any]:  # noqa: C901, PLR0911 - one per kind of wrapper
    """Return the records that a value holds in lists or in one object of it; a list of messages is a record."""
    if isinstance(value, list):
        if value and all(is_message(item) for item in value):
            return _by_conversation(value)
        if is_turns(value):
            return [{"messages": value}]
        return value if any(isinstance(item, (list, Mapping)) for item in value) else []
    if not isinstance(value, Mapping):
        return []
    if isinstance(nodes := value.get("mapping"), Mapping) and nodes and all(map(_is_node, nodes.values())):
        outer = {key: item for key, item in value.items() if key != "mapping"}
        return [{**outer, "messages": _shown_path(nodes, value.get("current_node"))}]
    for key in LISTS:  # several dialogues under the name of one
        many = value.get(key)
        if isinstance(many, list) and many and not is_turns(many) and all(map(is_turns, many)):
            named = isinstance(value.get("id"), (str, int))
            ids = [{"id": f"{value['id']}#{number}"} if named else {} for number in range(1, len(many) + 1)]
            return [{**value, key: turns, **id_} for turns, id_ in zip(many, ids, strict=True)]
    if len(value) > 1 and (rows := _rows_of_columns(value)):
        return rows
    if holds_dialogue(value) or not depth:
        return []
    if value and all(map(is_turns, value.values())):  # by id; one alone may as well be a name for the list
        return [{"messages": turns, **({"id": key} if len(value) > 1 else {})} for key, turns in value.items()]
    lists = [
        item for item in value.values() if isinstance(item, list) and any(_holds_record(one, depth) for one in item)
    ]
    if lists:
        return [record for item in lists for record in item]
    inner = [item for item in value.values() if isinstance(item, Mapping) and _holds_record(item, depth)]
    if len(inner) == 1 and holds_dialogue(inner[0]):
        outer = {key: item for key, item in value.items() if item is not inner[0]}
        return [{**outer, **inner[0]}]
    return inner


def _by_conversation(messages: list[Any]) -> list[dict[str, Any]]:
    """Return the records of a table of messages; RecordError where one is answered several times (a tree).

    Without a key of their conversation they are one dialogue.
    """
    values = {key: [item.get(key) for item in messages] for key in CONVERSATIONS}
    key = next((key for key, those in values.items() if None not in those and _divides(those)), None)
    own = {str(item[name]) for item in messages for name in ("message_id", "id", "uuid") if item.get(name) is not None}
    parents = [str(item["parent_id"]) for item in messages if item.get("parent_id") is not None]
    if any(count > 1 and parent in own for parent, count in Counter(parents).items()):
        raise RecordError("ambiguous", "several messages have the same parent_id, so they are a tree; choose its paths")
    if key is None:
        return [{"messages": messages}]
    found: dict[str, list[Any]] = {}
    for item in messages:
        found.setdefault(str(item.get(key)), []).append(item)
    return [{"conversation": name, "messages": turns} for name, turns in found.items()]


def _divides(values: list[Any]) -> bool:
    """Whether values name several conversations, and not each message another one."""
    return 1 < len({*map(str, values)}) < len(values)


def _is_node(value: Any) -> bool:
    parent = value.get("parent", 0) if isinstance(value, Mapping) else 0
    return (parent is None or isinstance(parent, str)) and "message" in value


def _shown_path(nodes: Mapping[str, Any], last: Any) -> list[dict[str, Any]]:
    """Return the messages of a ChatGPT export, a tree by edits and repeated answers: the path that was shown last.

    RecordError where nothing says which one that is.
    """
    if not isinstance(last, str) or last not in nodes:
        parents = {node["parent"] for node in nodes.values()}
        leaves = [key for key in nodes if key not in parents]
        if len(leaves) != 1:
            raise RecordError("ambiguous", f"mapping is a tree with {len(leaves)} paths, and no current_node names one")
        (last,) = leaves
    path, passed = list[dict[str, Any]](), set[Any]()
    while last in nodes and last not in passed:  # a path that meets itself ends
        passed.add(last)
        path += _said(nodes[last]["message"])
        last = nodes[last]["parent"]
    return path[::-1]


def _said(message: Any) -> list[dict[str, Any]]:
    """Return a message of a ChatGPT export as one with a role; nothing where it holds nothing for anybody's eyes."""
    if not isinstance(message, Mapping):
        return []  # of the root
    author, content, about = (message.get(key) or {} for key in ("author", "content", "metadata"))
    if not all(isinstance(part, Mapping) for part in (author, content, about)):
        return []
    kind, parts = content.get("content_type"), content.get("parts")
    if kind == "user_editable_context" or about.get("is_visually_hidden_from_conversation") or parts in ([], [""]):
        return []
    if kind not in ("text", "multimodal_text"):
        parts = [{"type": "tool_use" if kind in ("code", "execution_output") else "thinking"}]
    return [{"role": author.get("role"), "content": parts}]


def _holds_record(value: Any, depth: int) -> bool:
    return (
        holds_dialogue(value) or is_turns(value) or (isinstance(value, Mapping) and bool(unwrapped(value, depth - 1)))
    )


def _rows_of_columns(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table that is kept as columns: each a list, or an object by the row's name (pandas)."""
    columns = list(value.values())
    if any(is_message(column) or _is_text(column) for column in columns):
        return []  # a question and its answer
    if not _CANDIDATES.isdisjoint(value) and isinstance(value.get("context"), list):
        return []  # candidates of one answer
    if all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        rows = [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    elif all(isinstance(column, Mapping) and column.keys() == columns[0].keys() for column in columns):
        rows = [{name: column[key] for name, column in value.items()} for key in columns[0]]
    else:
        return []
    return rows if all(map(holds_dialogue, rows)) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(value.get(key), str) for key in ("text", "content", "value"))
