"""Whatever `Scorer.score` is given -> one dialogue or many, each perhaps with the reason why it is none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from scorer.dialogue import Dialogue
from scorer.errors import RejectedError
from scorer.inputs.arrow import rows_of
from scorer.inputs.parse import RecordError, fields_fault, parse_records
from scorer.inputs.records.answers import keys_found
from scorer.inputs.records.faults import shown
from scorer.inputs.records.keys import KEYS
from scorer.inputs.records.layouts import EXPECTED_KEYS, holds_dialogue
from scorer.inputs.records.turns import is_message
from scorer.inputs.records.wrappers import unwrapped

OnBad = Literal["raise", "nan"]
"""What to do with a record that is no dialogue: raise RejectedError, or give it NaN for scores."""

Fields = Mapping[str, str]
"""Which column holds what, as in ``--map FIELD=COLUMN``: ``{"response": "answer"}``."""

_EXPECTED = "a record, a list of messages, a pair (context, response), a table, or several of them"
_ROWS = 1024
_PAIR = 2


@dataclass(frozen=True, slots=True)
class Given:
    """What a call is about: ``count`` is None where nobody knows, ``one`` says that it is one dialogue and no list."""

    items: Iterator[Dialogue | RecordError]
    count: int | None = None
    one: bool = False


def read_given(given: Any, fields: Fields | None = None) -> Given:
    """Return the dialogues in what a call was given; RejectedError for what cannot hold any.

    One dialogue is a `Dialogue`, a record as it stands in a file, a list of messages, or a tuple (context, response)
    that reads as a record with these two keys does. Many are any iterable of these, a table (pandas, polars, pyarrow,
    DuckDB), a Hugging Face dataset or a batch of one.
    """
    if fault := fields_fault(fields or {}):
        raise RejectedError(fault)
    if is_table(given):
        return Given(_rows(given, fields), _count(given))
    if isinstance(given, Mapping) and isinstance(_parsed(given, fields), RecordError):
        rows = [_parsed(row, fields) for row in unwrapped(given) if isinstance(row, Mapping)]
        if any(isinstance(row, Dialogue) for row in rows):  # no dialogue, and the rows of its columns are
            return Given(iter(rows), len(rows))
    if _is_one(given):
        return Given(iter([_dialogue(given, fields)]), 1, one=True)
    if isinstance(given, (str, bytes, Path)):
        raise RejectedError(f"{shown(given)}: expected {_EXPECTED}; files are scored by scorer.score_files")
    if hasattr(given, "collect_schema"):
        raise RejectedError(f"a {type(given).__name__} holds no rows yet; say .collect() first")
    if not isinstance(given, Iterable):
        raise RejectedError(f"{shown(given)}: expected {_EXPECTED}")
    return Given((_dialogue(item, fields) for item in given), _count(given))


def is_table(given: Any) -> bool:
    """Whether something is a table of rows: it speaks Arrow's protocol and has columns, or is a `datasets.Dataset`."""
    if _is_dataset(given):
        return True
    return hasattr(given, "__arrow_c_stream__") and any(hasattr(given, name) for name in ("columns", "schema"))


def _is_dataset(given: Any) -> bool:
    """Whether something is a `datasets.Dataset`, of which none is imported here; one that streams is no table."""
    return hasattr(given, "with_format") and hasattr(given, "flatten_indices")


def _count(given: Any) -> int | None:
    return len(given) if hasattr(given, "__len__") else None


def _is_one(given: Any) -> bool:
    if isinstance(given, (Dialogue, Mapping)) or _is_row(given):
        return True
    if isinstance(given, tuple):
        return _is_pair(given)
    return isinstance(given, list) and bool(given) and all(map(is_message, given))


def _is_pair(item: Any) -> bool:
    """Whether an item is (context, response): two texts, or a list of messages and a text; a missing one is None."""
    return len(item) == _PAIR and isinstance(item[1], (str, NoneType)) and isinstance(item[0], (str, list, NoneType))


def _is_row(item: Any) -> bool:
    """Whether an item is one row of a table: a named tuple, or pandas' row with the names of columns beside it."""
    if isinstance(item, tuple):
        return hasattr(item, "_asdict")
    return hasattr(item, "iloc") and holds_dialogue(dict.fromkeys(item.index)) and not is_table(item)


def _dialogue(item: Any, fields: Fields | None) -> Dialogue | RecordError:
    if isinstance(item, Dialogue):
        return item
    if _is_row(item):
        return _parsed(item._asdict() if hasattr(item, "_asdict") else _without_gaps(item), fields)
    if not isinstance(item, (list, tuple, Mapping)):  # pandas keeps lists as arrays, polars as series
        item = next((getattr(item, name)() for name in ("to_list", "tolist") if hasattr(item, name)), item)
    if isinstance(item, (list, tuple)):
        if _is_pair(item):
            return _parsed({"context": item[0], "response": item[1]}, None)
        if item and all(map(is_message, item)):
            return _parsed({"messages": [*item]}, None)
    return _parsed(item, fields)


def _parsed(record: Any, fields: Fields | None) -> Dialogue | RecordError:
    try:
        found = parse_records(record, fields=fields)
    except RecordError as error:
        return error
    if len(found) > 1:
        return RecordError("ambiguous", "the record holds two answers, chosen and rejected; expected one")
    return found[0]


def _rows(table: Any, fields: Fields | None) -> Iterator[Dialogue | RecordError]:
    """Yield the dialogues of a table's rows; RejectedError where no column can hold any."""
    names = [str(name) for name in _names(table)]
    if not fields and not holds_dialogue({name: [] for name in names}):
        found = keys_found(names).removeprefix("keys ")
        raise RejectedError(f'columns {found}, expected {EXPECTED_KEYS}, or fields={{"response": "COLUMN", ...}}')
    mapped = [column for value in (fields or {}).values() for column in (value, value.split(".")[0])]
    used = [name for name in names if name.strip().lower() in KEYS or name in mapped]
    if len(set(used)) < len(used):
        twice = next(name for name in used if used.count(name) > 1)
        raise RejectedError(f"the table has two columns {twice!a}; rename one")
    if missing := [column for column in (fields or {}).values() if not {column, column.split(".")[0]} & set(used)]:
        raise RejectedError(f"no column {missing[0]!a}; {keys_found(names)}")
    for rows in _slices(table, used):
        for row in rows:
            yield row if isinstance(row, RecordError) else _parsed(row, fields)


def _names(table: Any) -> list[Any]:
    if hasattr(table, "column_names"):
        return [*table.column_names]
    return [*table.columns] if isinstance(getattr(table, "columns", None), Iterable) else [*table.schema.names]


def _slices(table: Any, used: list[str]) -> Iterator[Iterable[Any]]:
    """Yield the rows of a table as Python values, some at a time."""
    import pyarrow as pa

    if hasattr(table, "iloc"):
        for start in range(0, len(table), _ROWS):
            part = table.iloc[start : start + _ROWS][used]
            try:
                batches = pa.Table.from_pandas(part, preserve_index=False).to_batches()
            except (pa.ArrowException, TypeError, ValueError):  # a column of several types
                yield map(_without_gaps, part.to_dict("records"))
                continue
            yield from (rows_of(batch, used) for batch in batches)
        return
    if hasattr(table, "iter_slices"):
        yield from (part.to_dicts() for part in table.select(used).iter_slices(_ROWS))
        return
    if _is_dataset(table):
        parts = table.select_columns(used).with_format("arrow").iter(_ROWS)
        batches = (batch for part in parts for batch in part.to_batches())
    else:
        batches = pa.RecordBatchReader.from_stream(table)
    yield from (rows_of(batch, used) for batch in batches)


def _without_gaps(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a row of pandas in which what is missing (NaN, NA, NaT) is None and arrays are lists."""
    values = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
    return {name: None if _is_gap(value) else value for name, value in values.items()}


def _is_gap(value: Any) -> bool:
    return (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
