"""EmpatheticDialogues: rows that are turns, grouped into conversations; each listener turn is one dialogue."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any, BinaryIO

from scorer.dialogue import Dialogue, Turn, content_hash
from scorer.inputs.cursor import Place, Records
from scorer.inputs.json_lines import text_lines
from scorer.inputs.parse import RecordError, Reject, clean_text, until_response
from scorer.text import normalise

COLUMNS = ("conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance")
KEYS = ("conv_id", "utterance_idx", "speaker_idx", "utterance")
"""The columns without which there is no dialogue; ``context``, the emotion, is read where it is there."""

_OPTIONAL = ("selfeval", "tags")


def read_csv(stream: BinaryIO, place: Place) -> Records:
    """The published CSV; rows of one conversation follow each other."""
    lines = text_lines(stream, place)
    header = next(lines)
    names = [] if isinstance(header, Reject) else [name.strip(' "\r\n') for name in header.split(",")]
    missing = [name for name in KEYS if name not in names]
    if missing:
        detail = f"the CSV lacks {', '.join(missing)}, expected the columns {', '.join(COLUMNS)}"
        yield place.reject("wrong_columns", detail, line=0)
        return
    rows = Conversations(place)
    for line in lines:
        if isinstance(line, Reject):
            yield line
            rows.break_off()
            continue
        try:
            row = dict(zip(names, _fields(line, names), strict=False))
        except RecordError as error:
            yield place.reject(error.reason, error.detail, record=line)
            rows.break_off()
        else:
            yield from rows.add(row, line)


def _fields(line: str, names: list[str]) -> list[str]:
    """Return the fields of a row, one per column; optional columns at the end may be missing.

    The published files write "_comma_" for a comma and quote nothing, so a quotation mark in an utterance is just that:
    quoted fields count only where a plain split gives another number of columns. A split that fills every column goes
    before one that leaves out optional ones.
    """
    required = sum(name not in _OPTIONAL for name in names)
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


class Conversations:
    """Groups rows into conversations and gives a dialogue for each listener turn."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._key: str | None = None
        self._speaker = ""
        self._turns: list[Turn] = []
        self._broken = False

    def break_off(self) -> None:
        """Note that a row was lost: the rest of its conversation has no complete context."""
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
            if self._place.labels == "required":
                raise RecordError("no_label", "EmpatheticDialogues has no scores, expected a labelled record")
            if self._broken:
                raise RecordError("broken_conversation", f"an earlier row of conversation {key} was rejected")
            turns = until_response(tuple(self._turns))
            category = _as_text(row.get("context"))
            yield Dialogue(
                id=content_hash(turns),
                turns=turns,
                conversation=key,
                category=None if category is None else clean_text(category, "context") or None,
                source=self._place.source.name,
                line=self._place.line,
            )
        except RecordError as error:
            self.break_off()
            yield self._place.reject(error.reason, error.detail, record=record)


def _as_text(value: Any) -> Any:
    """Return a whole number as text (Parquet keeps indices as numbers), anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
