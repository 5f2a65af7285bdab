"""Every file format that is read: what it looks like, and the stream of dialogues and rejects that it gives.

A format is recognised by the first bytes of the decompressed stream, never by a file's name. Each reader is a
generator that holds one record (Parquet and Arrow: one batch of rows) in memory.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, BinaryIO

from scorer.dialogue import HEADS, Dialogue, Turn, content_hash
from scorer.errors import InputError
from scorer.jsonstream import iter_objects
from scorer.records import (
    LabelUse,
    RecordError,
    Reject,
    clean_text,
    holds_dialogue,
    parse_json,
    parse_record,
    until_response,
)
from scorer.sources import BUFFER_BYTES, Source, TruncatedStreamError, reason_of
from scorer.text import normalise

Records = Iterator[Dialogue | Reject]

MAX_RECORD_BYTES = 1 << 25
"""A longer line or JSON element is rejected, so that one broken file cannot fill the memory (32 MiB)."""

CSV_COLUMNS = ("conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance")
_CSV_KEYS = ("conv_id", "utterance_idx", "speaker_idx", "utterance")  # those that are read; context is optional
_CSV_OPTIONAL = ("selfeval", "tags")
_COLUMNS = {
    "id", "messages", "conversations", "context", "response", "evaluation", "conversation", "category", "judge",
    *HEADS, *CSV_COLUMNS,
}  # fmt: skip
_DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".arrow")
_BOM = b"\xef\xbb\xbf"
_WIDE_BOMS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
_EXCERPT = 500
_ROWS_A_BATCH = 1024


def read_source(source: Source, labels: LabelUse = "ignore") -> Records:
    """Yield what one source holds, in order; a fault of the file as a whole is a reject of line 0."""
    where = _Where(source, labels)
    empty = True
    try:
        with source.open() as stream:
            reader = _reader_for(_head(stream))
            with source.seekable(stream) if reader in _COLUMNAR else nullcontext(stream) as file:
                for record in reader(file, where):
                    empty = False
                    yield record
    except TruncatedStreamError as error:
        detail = f"the compressed data end or break early ({error}); {where.line} records were read before"
        yield where.reject("truncated_input", detail, line=where.line + 1)
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read further: {reason_of(error)}") from error
    else:
        if empty:
            yield where.reject("empty_file", "no record in it, expected dialogues", line=0)
        source.advance_to(source.size or 0)  # readers that seek leave out what is of no use to them


def looks_like_data(source: Source) -> bool:
    """Whether a file found in a folder holds records, by its name or, failing that, by its content."""
    name = source.name.removesuffix(".gz").removesuffix(".zst")
    if name.endswith(_DATA_SUFFIXES):
        return True
    try:
        with source.open() as stream:
            head = _head(stream)
    except TruncatedStreamError:
        return False
    reader = _reader_for(head)
    if reader is not _read_lines:
        # An array of objects is data, one pretty-printed object is some program's settings, and a README may
        # begin with a badge: "[![...".
        text = head.lstrip()
        return reader is not _read_values or (text[:1] == b"[" and text.lstrip(b"[ \t\r\n")[:1] == b"{")
    try:
        return holds_dialogue(json.loads(head.split(b"\n", 1)[0]))
    except (ValueError, RecursionError):
        return False


class _Where:
    """The place in a source that is being read: makes dialogues and rejects that know where they came from."""

    def __init__(self, source: Source, labels: LabelUse) -> None:
        self.source = source
        self.labels = labels
        self.line = 0

    def reject(
        self, reason: str, detail: str, *, record: str = "", line: int | None = None, id_: str | None = None
    ) -> Reject:
        excerpt = record[:_EXCERPT].encode("utf-8", "backslashreplace").decode()
        return Reject(self.source.name, self.line if line is None else line, reason, detail, id_, excerpt)

    def parse(self, value: Any, record: str | None = None) -> Dialogue | Reject:
        """Return the dialogue in a decoded record, or its reject."""
        try:
            return parse_record(value, labels=self.labels, source=self.source.name, line=self.line)
        except RecordError as error:
            id_ = value.get("id") if isinstance(value, Mapping) else None
            text = record if record is not None else ascii(value)
            shown = ascii(id_)[1:-1] if isinstance(id_, str) else None
            return self.reject(error.reason, error.detail, record=text, id_=shown)


Reader = Callable[[BinaryIO, _Where], Records]


def _head(stream: io.BufferedReader) -> bytes:
    """Return the beginning of a stream without consuming it; of a pipe, what has arrived."""
    return stream.peek(BUFFER_BYTES).removeprefix(_BOM)


def _reader_for(head: bytes) -> Reader:
    if head[:4] == b"PAR1":
        return _read_parquet
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return _read_arrow
    if any(head.startswith(bom) for bom in _WIDE_BOMS):
        return _read_wide
    text = head.lstrip()
    first_line = text.split(b"\n", 1)[0].strip()
    if text[:1] == b"[" or first_line == b"{":  # an array, or one object written over several lines
        return _read_values
    if {b"conv_id", b"utterance"} & {name.strip(b' "') for name in first_line.split(b",")}:
        return _read_csv
    return _read_lines


def _lines(stream: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield each line and whether it was too long, in which case only its beginning is given."""
    while line := stream.readline(MAX_RECORD_BYTES):
        too_long = len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n")
        yield line, too_long
        while too_long and (rest := stream.readline(MAX_RECORD_BYTES)):
            too_long = not rest.endswith(b"\n")


def _text_lines(stream: BinaryIO, where: _Where) -> Iterator[str | Reject]:
    """Yield the lines that are not blank as text, and rejects for those that are none; counts lines from 1."""
    for line, too_long in _lines(stream):
        where.line += 1
        data = line.removeprefix(_BOM) if where.line == 1 else line
        if too_long:
            detail = f"the line is longer than {MAX_RECORD_BYTES} bytes"
            yield where.reject("record_too_long", detail, record=data[:_EXCERPT].decode(errors="backslashreplace"))
            continue
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            detail = f"byte {error.start + 1} of the line is 0x{data[error.start]:02x}, expected UTF-8"
            yield where.reject("invalid_utf8", detail, record=data[:_EXCERPT].decode(errors="backslashreplace"))
            continue
        if text.strip():
            yield text


def _read_lines(stream: BinaryIO, where: _Where) -> Records:
    """JSON lines: one record a line, blank lines skipped."""
    for text in _text_lines(stream, where):
        if isinstance(text, Reject):
            yield text
            continue
        try:
            value = parse_json(text)
        except RecordError as error:
            yield where.reject(error.reason, error.detail, record=text)
        else:
            yield where.parse(value, text)


def _read_values(stream: BinaryIO, where: _Where) -> Records:
    """A JSON array, or objects one after another over several lines; numbered from 1."""
    for item in iter_objects(stream, MAX_RECORD_BYTES):
        where.line += 1
        if isinstance(item, RecordError):
            yield where.reject(item.reason, item.detail)
        else:
            yield where.parse(*item)


def _read_wide(stream: BinaryIO, where: _Where) -> Records:
    head = stream.read(4)
    name = next(name for bom, name in _WIDE_BOMS.items() if head.startswith(bom))
    yield where.reject("invalid_utf8", f"the file is {name}, expected UTF-8; convert it", line=0)


def _read_csv(stream: BinaryIO, where: _Where) -> Records:
    """EmpatheticDialogues CSV: rows of one conversation follow each other; each listener turn is a dialogue."""
    lines = _text_lines(stream, where)
    header = next(lines)
    names = [] if isinstance(header, Reject) else [name.strip(' "\r\n') for name in header.split(",")]
    missing = [name for name in _CSV_KEYS if name not in names]
    if missing:
        detail = f"the CSV lacks {', '.join(missing)}, expected the columns {', '.join(CSV_COLUMNS)}"
        yield where.reject("wrong_columns", detail, line=0)
        return
    rows = _Conversations(where)
    for line in lines:
        if isinstance(line, Reject):
            yield line
            rows.break_off()
            continue
        try:
            row = dict(zip(names, _fields(line, names), strict=False))
        except RecordError as error:
            yield where.reject(error.reason, error.detail, record=line)
            rows.break_off()
        else:
            yield from rows.add(row, line)


def _fields(line: str, names: list[str]) -> list[str]:
    """Return the fields of a row, one a column; trailing optional columns may lack.

    The published files put "_comma_" for a comma and quote nothing, so that a quotation mark in an utterance is
    just that: a plain split comes first, quoted fields only where that gives another count of columns. A split
    that fills every column goes before one that leaves out optional ones.
    """
    required = sum(name not in _CSV_OPTIONAL for name in names)
    plain = line.rstrip("\r\n").split(",")
    candidates = [plain]
    if '"' in line:
        quoted = next(csv.reader([line.rstrip("\r\n")]), [])
        wrapped = any(len(field) > 1 and field[0] == field[-1] == '"' for field in plain)
        candidates = [quoted, plain] if wrapped else [plain, quoted]
    for fields in sorted(candidates, key=lambda fields: len(fields) != len(names)):
        if required <= len(fields) <= len(names):
            return [field.replace("_comma_", ",") for field in fields]
    raise RecordError("wrong_columns", f"the row has {len(plain)} fields, expected {len(names)}")


class _Conversations:
    """Groups rows of EmpatheticDialogues into conversations and gives a dialogue for each listener turn."""

    def __init__(self, where: _Where) -> None:
        self._where = where
        self._key: str | None = None
        self._speaker = ""
        self._turns: list[Turn] = []
        self._broken = False

    def break_off(self) -> None:
        """Note that a row was lost: what follows in its conversation has no whole context any more."""
        self._broken = True

    def add(self, row: Mapping[str, Any], record: str) -> Records:
        """Take the next row; yield a dialogue or a reject if it is a listener's turn or no turn at all."""
        try:
            key, speaker = (clean_text(_as_text(row.get(name)), name) for name in ("conv_id", "speaker_idx"))
            if key != self._key:
                # A row that was lost just before may have begun this conversation, unless this one does.
                first = _as_text(row.get("utterance_idx"))
                self._broken = self._broken and first != "1"
                self._key, self._speaker, self._turns = key, speaker, []
            role = "user" if speaker == self._speaker else "assistant"
            self._turns.append(Turn(role, clean_text(_as_text(row.get("utterance")), "utterance")))
            if role == "user" and normalise(self._turns[-1].content):
                return
            if self._where.labels == "required":
                raise RecordError("no_label", "EmpatheticDialogues has no scores, expected a labelled record")
            if self._broken:
                raise RecordError("broken_conversation", f"an earlier row of conversation {key} was rejected")
            turns = until_response(tuple(self._turns))
            category = _as_text(row.get("context"))
            yield Dialogue(
                id=content_hash(turns),
                turns=turns,
                conversation=key,
                category=clean_text(category, "context") or None if category is not None else None,
                source=self._where.source.name,
                line=self._where.line,
            )
        except RecordError as error:
            self.break_off()
            yield self._where.reject(error.reason, error.detail, record=record)


def _as_text(value: Any) -> Any:
    """Return a whole number as text (Parquet keeps indices as numbers), anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _read_parquet(stream: BinaryIO, where: _Where) -> Records:
    """Parquet with any of the columns of a record or of EmpatheticDialogues."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(stream)
        batches = file.iter_batches(batch_size=_ROWS_A_BATCH)
        yield from _read_batches(batches, file.schema_arrow.names, stream, where)
    except (pa.ArrowException, OSError) as error:
        yield where.reject("broken_file", f"Parquet: {reason_of(error)}", line=where.line + 1)


def _read_arrow(stream: BinaryIO, where: _Where) -> Records:
    """Arrow IPC, the stream form (a `datasets` folder) or the file form."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        head = stream.read(6)
        stream.seek(0)
        if head == b"ARROW1":
            file = pa.ipc.open_file(stream)
            batches, names = (file.get_batch(i) for i in range(file.num_record_batches)), file.schema.names
        else:
            reader = pa.ipc.open_stream(stream)
            batches, names = iter(reader), reader.schema.names
        yield from _read_batches(batches, names, stream, where)
    except (pa.ArrowException, OSError) as error:
        yield where.reject("broken_file", f"Arrow: {reason_of(error)}", line=where.line + 1)


def _read_batches(batches: Iterator[Any], names: list[str], stream: BinaryIO, where: _Where) -> Records:
    conversations = _Conversations(where) if set(_CSV_KEYS) <= set(names) else None
    if conversations is None and not holds_dialogue(dict.fromkeys(names)):
        detail = f"columns {', '.join(names)}, expected messages, conversations or context and response"
        yield where.reject("wrong_columns", detail, line=0)
        return
    used = [index for index, name in enumerate(names) if name in _COLUMNS]
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS_A_BATCH):
            for row in _rows(batch.select(used).slice(start, _ROWS_A_BATCH)):
                where.line += 1
                if isinstance(row, RecordError):
                    yield where.reject(row.reason, row.detail)
                    if conversations is not None:
                        conversations.break_off()
                elif conversations is None:
                    yield where.parse(row)
                else:
                    yield from conversations.add(row, ascii(row))
            where.source.advance_to(stream.tell())


def _rows(batch: Any) -> Iterator[dict[str, Any] | RecordError]:
    """Yield the rows as Python values; where one has none, it alone is an error."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows > 1:
            for index in range(batch.num_rows):
                yield from _rows(batch.slice(index, 1))
        else:
            reason = "invalid_utf8" if isinstance(error, UnicodeDecodeError) else "wrong_type"
            yield RecordError(reason, f"the row cannot be read: {reason_of(error)}")


_COLUMNAR = (_read_parquet, _read_arrow)
"""The readers that seek in their file."""
