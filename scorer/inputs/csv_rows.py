"""CSV: the dialect, the header, and rows whose quoted fields may hold separators and line breaks."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
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


def read_csv(stream: BinaryIO, place: Place) -> Records:  # noqa: C901 - one decision per make of row
    """A table with the columns of EmpatheticDialogues, or of any layout of a record."""
    lines = text_lines(stream, place, blank=True)
    first = next(line for line in lines if isinstance(line, Reject) or line.strip())
    header = None if isinstance(first, Reject) else header_of(first)
    if header is None and isinstance(first, str):
        header = _any_header(first)
    if header is None:
        yield (
            first
            if isinstance(first, Reject)
            else place.reject("wrong_columns", "looks like CSV without a header in a line of its own", line=0)
        )
        return
    names, separator = header
    conversations = _conversations(names, place)
    if conversations is None and not place.fields and not holds_dialogue(_probe(names)):
        expected = ", ".join(empathetic_dialogues.COLUMNS) if "conv_id" in names else EXPECTED_KEYS
        missing = [name for name in empathetic_dialogues.KEYS if name not in names] if "conv_id" in names else []
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        detail = f"the file looks like CSV with {separator!a}, has the columns {', '.join(names)[:200]}{lacks}"
        yield place.reject("wrong_columns", f"{detail}; expected {expected}, or --map FIELD=COLUMN", line=0)
        return
    for line, row, raw in _rows(lines, names, separator, place):
        place.line = line
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


def _rows(  # noqa: C901, PLR0912 - one decision per line: a row, the beginning of one, or a mark that never closes
    lines: Iterator[str | Reject], names: list[str], separator: str, place: Place
) -> Iterator[_Row]:
    """Yield each row with the number of its first line."""
    waiting: deque[tuple[int, str | Reject]] = deque()

    def following() -> tuple[int, str | Reject] | None:
        if waiting:
            return waiting.popleft()
        line = next(lines, None)
        return None if line is None else (place.line, line)

    published = False
    is_rows = "conv_id" in names
    while (item := following()) is not None:
        number, line = item
        if isinstance(line, Reject):
            yield number, line, ""
            continue
        if not line.strip():
            continue
        comma = is_rows and "_comma_" in line
        published = published or comma
        plain = line.rstrip("\r\n").split(separator)
        fields = plain
        if '"' in line:
            quoted, is_open = _quoted(line, separator)
            text = line
            if is_open and not (published and len(plain) == len(names)):
                taken: list[tuple[int, str | Reject]] = []
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
                    waiting.extendleft(reversed(taken))
                    is_open = not taken or not all(
                        isinstance(row, str) and _fits(row.rstrip("\r\n").split(separator), names) for _, row in taken
                    )
                    quoted, text = None, line
            if quoted is not None and _fits(quoted, names):
                fields, line = quoted, text
            elif not _fits(plain, names) or (is_open and not published):
                yield number, RecordError("wrong_columns", _odd(quoted or plain, names)), line
                continue
        if len(fields) != len(names) and not _fits(fields, names):
            yield number, RecordError("wrong_columns", _odd(fields, names)), line
            continue
        row = dict(zip(names, fields, strict=False))
        if is_rows and (comma or "_comma_" in line):  # the line has grown by those of a quoted field
            row = {name: text.replace("_comma_", ",") for name, text in row.items()}
        yield number, row, line


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
