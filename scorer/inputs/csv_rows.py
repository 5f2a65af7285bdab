"""CSV: the dialect, the header, and rows whose quoted fields may hold separators and line breaks."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from scorer.dialogue import HEADS
from scorer.inputs import empathetic_dialogues
from scorer.inputs.cursor import Place, Records
from scorer.inputs.json_lines import MAX_RECORD_BYTES, text_lines
from scorer.inputs.parse import Reject
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import KEYS, SURE_LISTS
from scorer.inputs.records.layouts import EXPECTED_KEYS, holds_dialogue

SEPARATORS = (",", ";", "\t", "|")
_MOST_LINES = 200
"""Lines that a quoted field may span; a quotation mark that never closes costs no more than its own row."""

_LINES_OF_TABLE = 5
_SEPARATOR_LINE = re.compile(r'"?sep=[,;\t|]"?', re.IGNORECASE)

csv.field_size_limit(1 << 26)


def header_of(line: str) -> tuple[list[str], str] | None:
    """Return the column names of a header line, in lower case, and its separator; None where it looks like none."""
    best: tuple[list[str], str] | None = None
    for separator in SEPARATORS:
        try:
            names = next(csv.reader([line.strip("\r\n\ufeff")], delimiter=separator), [])
        except csv.Error:
            continue
        names = [name.strip().strip('"').lower() for name in names]
        known = sum(name in KEYS or name in empathetic_dialogues.KEYS for name in names)
        if known and (len(names) > 1 or names[0] in SURE_LISTS) and (best is None or len(names) > len(best[0])):
            best = names, separator
    return best


def names_separator(line: str) -> bool:
    """Whether a line is the one that Excel puts before a header, ``sep=;``."""
    return _SEPARATOR_LINE.fullmatch(line.strip("\r\n\ufeff")) is not None


def is_table(text: str) -> bool:
    """Whether the lines that a file begins with have the same number of fields, two or more, whatever the header."""
    lines = text.splitlines()[:_LINES_OF_TABLE]
    if any(line.lstrip()[:1] in ("{", "[") for line in lines):
        return False
    for separator in SEPARATORS:
        try:
            rows = list(csv.reader(lines, delimiter=separator))
        except csv.Error:
            continue
        if len(rows) > 1 and len(rows[0]) > 1 and len({len(row) for row in rows if row}) == 1 and all(rows[0]):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Table:
    """What the header of a table says: its columns, known ones in lower case, and what separates them."""

    names: list[str]
    separator: str

    @property
    def is_of_turns(self) -> bool:
        """Whether several rows may make a conversation, as those of EmpatheticDialogues do."""
        return "conv_id" in self.names


def read_csv(stream: BinaryIO, place: Place) -> Records:
    """A table with the columns of EmpatheticDialogues, or of any layout of a record."""
    lines = text_lines(stream, place, blank=True)
    table = table_of(lines, place)
    return iter([table]) if isinstance(table, Reject) else records_of(lines, table, place)


def table_of(lines: Iterator[str | Reject], place: Place) -> Table | Reject:
    """Take the header from the lines of a file; the reject of the whole file where it is none of dialogues."""
    filled = (line for line in lines if isinstance(line, Reject) or line.strip())
    first = next(filled, "")
    if not isinstance(first, Reject) and names_separator(first):
        first = next(filled, "")
    if isinstance(first, Reject):
        return first
    header = header_of(first) or _any_header(first)
    if header is None:
        return place.reject("wrong_columns", "looks like CSV without a header in a line of its own", line=0)
    names, separator = header
    if place.fields or holds_dialogue(_probe(names)) or _conversations(names, place) is not None:
        return Table(names, separator)
    expected = ", ".join(empathetic_dialogues.COLUMNS) if "conv_id" in names else EXPECTED_KEYS
    missing = [name for name in empathetic_dialogues.KEYS if name not in names] if "conv_id" in names else []
    lacks = f" and lacks {', '.join(missing)}" if missing else ""
    detail = f"the file looks like CSV with {separator!a}, has the columns {', '.join(names)[:200]}{lacks}"
    return place.reject("wrong_columns", f"{detail}; expected {expected}, or --map FIELD=COLUMN", line=0)


def records_of(lines: Iterator[str | Reject], table: Table, place: Place, upto: int | None = None) -> Records:
    """Yield the records of the lines behind a header, or of some of them; of rows that begin ``upto`` a line."""
    conversations = _conversations(table.names, place)
    for line, row, raw in _rows(lines, table, place):
        if upto is not None and line > upto:
            break
        read, place.line = place.line, line  # a row is where it begins, and several lines of it may have been read
        if isinstance(row, RecordError):
            row = place.reject(row.reason, row.detail, record=raw)
        if isinstance(row, Reject):
            if conversations is None:
                yield row
            else:
                conversations.refuse(row)
        elif conversations is not None:
            if conversations.add(row, raw):
                yield from conversations.give_half()
        else:
            yield from place.parse(_typed(row), raw)
        place.line = read
    if conversations is not None:
        yield from conversations.finish()


def _any_header(line: str) -> tuple[list[str], str] | None:
    separator = max(SEPARATORS, key=line.count)
    try:
        names = next(csv.reader([line.strip("\r\n\ufeff")], delimiter=separator), [])
    except csv.Error:  # as where lines end in CR alone
        return None
    return ([name.strip() for name in names], separator) if names else None


def _conversations(names: list[str], place: Place) -> empathetic_dialogues.Conversations | None:
    if place.fields or not set(empathetic_dialogues.KEYS) <= set(names):
        return None
    return empathetic_dialogues.Conversations(place)


def _probe(names: list[str]) -> dict[str, Any]:
    """Return what a row may look like: a column of messages holds a list."""
    return {name: [] for name in names}


_Row = tuple[int, "dict[str, str] | RecordError | Reject", str]
_Line = tuple[int, "str | Reject"]


def _rows(lines: Iterator[str | Reject], table: Table, place: Place) -> Iterator[_Row]:
    """Yield each row with the number of its first line."""
    waiting: deque[_Line] = deque()

    def following() -> _Line | None:
        if waiting:
            return waiting.popleft()
        line = next(lines, None)
        return None if line is None else (place.line, line)

    published = False
    while (item := following()) is not None:
        number, line = item
        if isinstance(line, Reject):
            yield number, line, ""
            continue
        if not line.strip():
            continue
        published = published or (table.is_of_turns and "_comma_" in line)
        fields, text, back = row_of(line, table, following, published=published)
        waiting.extendleft(reversed(back))
        if isinstance(fields, RecordError):
            yield number, fields, text
            continue
        row = dict(zip(table.names, fields, strict=False))
        if table.is_of_turns and "_comma_" in text:
            row = {name: value.replace("_comma_", ",") for name, value in row.items()}
        yield number, row, text


def row_of(
    line: str, table: Table, following: Callable[[], _Line | None], *, published: bool = False
) -> tuple[list[str] | RecordError, str, Sequence[_Line]]:
    """Return the fields of the row that begins on a line, its text, and lines behind it that were read and are not its.

    Of ``published`` EmpatheticDialogues a quotation mark alone means nothing.
    """
    names, separator = table.names, table.separator
    plain = line.rstrip("\r\n").split(separator)
    quoted, is_open = _quoted(line, separator) if '"' in line else (None, False)
    text, back = line, list[_Line]()
    if is_open and not (published and len(plain) == len(names)):
        taken: list[_Line] = []
        while is_open and len(taken) < _MOST_LINES and len(text) < MAX_RECORD_BYTES:
            after = following()
            if after is None:
                break
            taken.append(after)
            if isinstance(after[1], Reject):
                break
            text += after[1]
            if '"' in after[1]:
                quoted, is_open = _quoted(text, separator)
        if quoted is None or not _fits(quoted, names):
            # Where all that follows is rows of their own, the quotation mark was just that.
            is_open = not taken or not all(
                isinstance(row, str) and _fits(row.rstrip("\r\n").split(separator), names) for _, row in taken
            )
            quoted, text, back = None, line, taken
    if quoted is not None and _fits(quoted, names):
        return quoted, text, back
    if not _fits(plain, names) or (is_open and not published):
        odd = "a quotation mark opens a field that never closes" if is_open else _odd(quoted or plain, names)
        return RecordError("wrong_columns", odd), line, back
    return plain, line, back


def _quoted(text: str, separator: str) -> tuple[list[str] | None, bool]:
    """Return the fields of one row as CSV has it, or None; and whether a quoted field is still open at its end."""
    try:
        rows = list(csv.reader(text.splitlines(keepends=True), delimiter=separator, strict=True))
    except csv.Error as error:
        return None, "unexpected end of data" in str(error)
    return (rows[0] if len(rows) == 1 else None), False


def _fits(fields: list[str], names: list[str]) -> bool:
    """Whether a row has a field per column; of EmpatheticDialogues, the optional ones at the end may be missing."""
    if len(fields) == len(names):
        return True
    left_out = names[len(fields) :]
    if not left_out or not set(left_out) <= set(empathetic_dialogues.OPTIONAL):
        return False
    row = dict(zip(names, fields, strict=False))
    return not set(row.get("selfeval", "")) - set("0123456789|_ ")  # else a comma in a text has moved the fields


def _odd(fields: list[str], names: list[str]) -> str:
    return f"the row has {len(fields)} fields, expected {len(names)}: is a separator or a quotation mark not quoted?"


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """Return a row with numbers where scores stand, lists where JSON stands, and nothing where nothing stands."""
    typed: dict[str, Any] = {}
    for name, text in row.items():
        value: Any = text
        if not text:
            value = None
        elif name in HEADS:
            try:
                value = float(text)
            except ValueError:
                value = text
        elif name in KEYS and text.lstrip()[:1] in ("[", "{"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = text
        typed[name] = value
    return typed
