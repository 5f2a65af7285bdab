"""Columns of a record, whatever a reader made of them: found by name or path, read from text, and as JSON."""

from __future__ import annotations

import json
import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import msgspec

from scorer.inputs.records.faults import RecordError, shown

_ARRAY = re.compile(r"\Aarray\((.*), dtype=object\)\Z", re.DOTALL)
_BETWEEN_OBJECTS = re.compile(r"\}\s+\{")  # numpy writes no commas there, and so tables of pandas hold none


def value_at(record: Mapping[str, Any], column: str) -> tuple[bool, Any]:
    """Return whether a record has a column, and what it holds; what is no key may be a path (``request.uid``)."""
    if column in record:
        return True, record[column]
    value: Any = record
    for step in column.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False, None
        value = value[step]
    return True, value


def written(text: str, key: str) -> Any:
    """Return the value of a list that a table keeps as JSON, or as Python or numpy writes it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    for spelling in (text, _BETWEEN_OBJECTS.sub("}, {", _ARRAY.sub(r"\1", text))):
        try:
            return literal_eval(spelling)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise RecordError("wrong_type", f"{key} is {shown(text)}, expected a list of messages")


def columns_as_json(record: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Return those columns that a record has, each as JSON; half a surrogate pair, which no table holds, as U+FFFD.

    What is nested too deeply for JSON costs a column and no dialogue: it is null.
    """
    found: dict[str, str] = {}
    for column in columns:
        there, value = value_at(record, column)
        if there:
            try:
                found[column] = _well_formed(_json(value))
            except RecursionError:
                found[column] = "null"
    return found


def as_json(value: Any) -> str:
    """Return one line of JSON of anything that a reader gives, dictionaries in their order.

    Numbers that JSON has not (NaN, infinity) become null; times are ISO 8601, decimals text and bytes Base64.
    RecursionError for what is nested too deeply.
    """
    text = _json(value)
    if _well_formed(text) == text:
        return text
    return json.dumps(json.loads(text), separators=(",", ":"))  # half a surrogate pair: only an escape can hold it


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError):  # half a surrogate pair, a number of over 64 bits, a type of its own
        pass
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def _well_formed(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it: null for numbers that it has not, text for types that it has not."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
