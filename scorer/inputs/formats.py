"""Every file format that is read: what it looks like, and the stream of dialogues and rejects that it gives.

A format is recognised by the first bytes of the decompressed stream, never by a file's name. Each reader is a
generator that holds one record (Parquet and Arrow: one batch of rows) in memory.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from typing import BinaryIO, Literal

from scorer.errors import InputError, reason_of
from scorer.inputs.arrow import read_arrow, read_parquet
from scorer.inputs.csv_rows import Table, header_of, is_table, names_separator, read_csv, table_of
from scorer.inputs.cursor import Place, Reader, Records
from scorer.inputs.empathetic_dialogues import is_row
from scorer.inputs.files.archives import HEAD_BYTES, kind_of
from scorer.inputs.files.compressed import SUFFIXES, Decompressed, TruncatedStreamError
from scorer.inputs.files.sources import BUFFER_BYTES, Source
from scorer.inputs.json_lines import BOM, WIDE_BOMS, read_lines, read_values, read_wide, text_lines
from scorer.inputs.parse import LabelUse, Reject
from scorer.inputs.records.layouts import holds_dialogue

_WRAPPER = re.compile(rb'\{\s*"(?:[^"\\]|\\.)*"\s*:\s*(?:\[\s*[\[{]|[^\[{"]*,\s*"|"[^"]*",\s*")')
_DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".arrow")
_COLUMNAR = (read_parquet, read_arrow)  # they seek in their file


def read_source(
    source: Source,
    labels: LabelUse = "ignore",
    fields: Mapping[str, str] | None = None,
    *,
    keep: bool | Collection[str] = False,
) -> Records:
    """Yield what one source holds, in order; a fault of the file as a whole is a reject of line 0."""
    place = Place(source, labels, fields, keep=keep)
    empty = True
    try:
        with source.open() as stream:
            reader = _reader_for(_head(stream), place.fields)
            with source.seekable(stream) if reader in _COLUMNAR else nullcontext(stream) as file:
                for record in reader(file, place):
                    empty = False
                    yield record
    except TruncatedStreamError as error:
        yield truncated(place, str(error))
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read further: {reason_of(error)}") from error
    else:
        if empty:
            yield place.reject("empty_file", "no record in it, expected dialogues", line=0)
        source.advance_to(source.size or 0)  # readers that seek leave out what is of no use to them


def truncated(place: Place, fault: str) -> Reject:
    """Return the reject of compressed data that end or break behind a place."""
    detail = f"the compressed data end or break early ({fault}); {place.line} records were read before"
    return place.reject("truncated_input", detail, line=place.line + 1)


def is_of_lines(source: Source, fields: Mapping[str, str] | None = None) -> bool:
    """Whether each line of a file is read by itself: JSON lines as they are, and not the rows of conversations."""
    return counted_as(source, fields) == "lines"


Countable = Literal["lines", "packed lines", "csv", "table", ""]
"""How the records of a file are counted without parsing any; "" where they cannot be."""


def counted_as(source: Source, fields: Mapping[str, str] | None = None) -> Countable:
    """Return how the records of a file can be counted without parsing any: each line, or each row of a table, is one.

    Lines are JSON lines, ``packed`` where they are compressed; a table is Parquet or Arrow, and CSV has a row for each
    record, where they are not compressed as a whole. Any other file is "". InputError where it cannot be read.
    """
    place = Place(source, "ignore", fields)
    try:
        with source.open() as stream:
            packed = isinstance(stream.raw, Decompressed)
            reader = _reader_for(_head(stream), place.fields)
            if reader in _COLUMNAR:
                return "" if packed else "table"
            if reader is read_csv:
                return "csv" if not packed and _has_a_record_per_row(_head(stream), place) else ""
            first = _head(stream).lstrip().split(b"\n", 1)[0]
            if reader is not read_lines or not first:  # it may hold no record at all, which is said of a whole file
                return ""
            lines: Countable = "packed lines" if packed else "lines"
            try:
                return "" if is_row(json.loads(first), place) else lines
            except (ValueError, RecursionError):  # the first line is no JSON, and the others may be
                return lines
    except TruncatedStreamError:
        return ""
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read: {reason_of(error)}") from error
    finally:
        source.bytes_read = 0


def _has_a_record_per_row(head: bytes, place: Place) -> bool:
    """Whether a file of CSV with that beginning has rows behind its header, each of which is a record."""
    beginning = io.BytesIO(head)
    table = table_of(text_lines(beginning, place, blank=True), place)
    is_whole = head[: beginning.tell()].endswith(b"\n")
    return isinstance(table, Table) and not table.is_of_turns and is_whole and bool(beginning.read().strip())


def looks_like_data(source: Source) -> bool:
    """Whether a file found in a folder holds records, by its name or, failing that, by its content."""
    name = source.name.partition("::")[0] if "://" in source.name else source.name  # of a member, its own
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    if name.endswith(_DATA_SUFFIXES):
        return True
    try:
        with source.open() as stream:
            head = _head(stream)
    except TruncatedStreamError:
        return False
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read: {reason_of(error)}") from error
    reader = _reader_for(head)
    if reader is read_csv:  # any text may look like a table; here it must be one of dialogues
        return header_of(head.lstrip().split(b"\n", 1)[0].decode(errors="replace")) is not None
    if reader is not read_lines and head.lstrip()[:1] != b"{":
        # An array of objects is data, one object over several lines is settings, and a README may begin with "[![".
        text = head.lstrip()
        return reader is not read_values or (text[:1] == b"[" and text.lstrip(b"[ \t\r\n")[:1] == b"{")
    try:
        first = json.loads(head if reader is read_values else head.split(b"\n", 1)[0])
        return holds_dialogue(first) and (reader is read_lines or b"\n" not in head.strip())
    except (ValueError, RecursionError):
        return False


def _head(stream: io.BufferedReader) -> bytes:
    """Return the beginning of a stream without consuming it; of a pipe, what has arrived."""
    return stream.peek(BUFFER_BYTES).removeprefix(BOM)


def _reader_for(head: bytes, fields: Mapping[str, str] | None = None) -> Reader:  # noqa: PLR0911 - one per format
    if head[:4] == b"PAR1":
        return read_parquet
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return read_arrow
    if any(head.startswith(bom) for bom in WIDE_BOMS):
        return read_wide
    if kind_of(head):
        return _read_archive
    text = head.lstrip()
    first_line = text.split(b"\n", 1)[0].strip()
    if text[:1] == b"[" or first_line == b"{" or _goes_on(first_line, text):  # an array, or an object of several lines
        return read_values
    # A table is known by its header, or by the columns that are said to be there.
    if first_line[:1] != b"{" and _looks_like_table(first_line.decode(errors="replace"), text, fields):
        return read_csv
    return read_lines


def _read_archive(stream: BinaryIO, place: Place) -> Records:
    """An archive that was not named as a local file: one reject for the whole."""
    kind = kind_of(stream.read(HEAD_BYTES))
    detail = f"the data are a {kind} archive; name the local file, or its members: {kind}://*::URL"
    yield place.reject("broken_file", detail, line=0)


def _looks_like_table(line: str, text: bytes, fields: Mapping[str, str] | None) -> bool:
    if names_separator(line) or header_of(line) or (fields and all(column in line for column in fields.values())):
        return True
    whole = text[: text.rfind(b"\n")].decode(errors="replace")  # the last line may be cut
    return '"' not in line[:1] and is_table(whole)


def _goes_on(first_line: bytes, text: bytes) -> bool:
    """Whether the object that begins on the first line ends on a later one, or may hold the records of a whole file.

    A line that is there whole is read as one: a pipe may give no more for now.
    """
    if first_line[:1] != b"{":
        return False
    if first_line[-1:] in (b"[", b"{", b",", b":"):
        return True
    return _WRAPPER.match(first_line) is not None and b"\n" not in text
