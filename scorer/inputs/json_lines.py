"""Text files: JSON lines, JSON arrays, and what looks like text and is in another encoding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from scorer.inputs.cursor import EXCERPT, Place, Records
from scorer.inputs.empathetic_dialogues import Conversations, is_row
from scorer.inputs.json_stream import iter_objects
from scorer.inputs.parse import Reject, parse_json
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.layouts import holds_dialogue
from scorer.inputs.records.wrappers import unwrapped

MAX_RECORD_BYTES = 1 << 25
"""A longer line or JSON element is rejected, so that one broken file cannot fill the memory (32 MiB)."""

BOM = b"\xef\xbb\xbf"
WIDE_BOMS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


def text_lines(
    stream: BinaryIO, place: Place, *, blank: bool = False, at_beginning: bool = True
) -> Iterator[str | Reject]:
    """Yield lines as text, ``blank`` ones where that is asked for, and rejects for those that are no text.

    Lines are counted from 1. What stands ``at_beginning`` of a file may have a byte order mark.
    """
    while line := stream.readline(MAX_RECORD_BYTES):
        place.line += 1
        data = line.removeprefix(BOM) if place.line == 1 and at_beginning else line
        excerpt = data[:EXCERPT]
        if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_RECORD_BYTES)) and not rest.endswith(b"\n"):
                pass
            detail = f"the line is longer than {MAX_RECORD_BYTES} bytes"
            yield place.reject("record_too_long", detail, record=excerpt.decode(errors="backslashreplace"))
            continue
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            detail = f"byte {error.start + 1} of the line is 0x{data[error.start]:02x}, expected UTF-8"
            yield place.reject("invalid_utf8", detail, record=excerpt.decode(errors="backslashreplace"))
            continue
        if blank or text.strip():
            yield text


def read_lines(stream: BinaryIO, place: Place, *, at_beginning: bool = True) -> Records:
    """JSON lines: one record per line, blank lines skipped; ``at_beginning`` of a file or behind it."""
    rows = Conversations(place)
    for text in text_lines(stream, place, at_beginning=at_beginning):
        if isinstance(text, Reject):
            yield text
            continue
        try:
            value = parse_json(text)
        except RecordError as error:
            values = _in_a_row(text)
            if not values:
                yield place.reject(error.reason, error.detail, record=text)
            for one in values:
                yield from place.parse(one)
        else:
            if is_row(value, place):
                if rows.add(value, text):
                    yield from rows.give_half()
            else:
                yield from place.parse(value, text)
    yield from rows.finish()


def _in_a_row(text: str) -> list[Any]:
    """Return the values of a line that holds several, one after another; nothing if it holds anything else."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    position, text = 0, text.strip()
    try:
        while position < len(text):
            value, position = decoder.raw_decode(text, position)
            values.append(value)
            while text[position : position + 1] in (" ", "\t", ","):
                position += 1
    except (ValueError, RecursionError):
        return []
    try:
        return values if any(holds_dialogue(value) or unwrapped(value) for value in values) else []
    except RecordError:
        return values  # which are rejected one by one


def read_values(stream: BinaryIO, place: Place) -> Records:
    """A JSON array, or objects one after another over several lines; numbered from 1."""
    rows = Conversations(place)
    for item in iter_objects(stream, MAX_RECORD_BYTES):
        place.line += 1
        if isinstance(item, RecordError):
            yield place.reject(item.reason, item.detail)
        else:
            value, text = item
            if is_row(value, place):
                if rows.add(value, text):
                    yield from rows.give_half()
            else:
                yield from place.parse(value, text)
    yield from rows.finish()


def read_wide(stream: BinaryIO, place: Place) -> Records:
    """UTF-16 or UTF-32: one reject for the file."""
    head = stream.read(4)
    name = next(name for bom, name in WIDE_BOMS.items() if head.startswith(bom))
    yield place.reject("invalid_utf8", f"the file is {name}, expected UTF-8; convert it", line=0)
