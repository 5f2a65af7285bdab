"""EmpatheticDialogues: rows that are turns, put in order by their index; each listener turn is one dialogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scorer.dialogue import Dialogue, Turn, content_hash
from scorer.inputs.cursor import EXCERPT, Place, Records
from scorer.inputs.id_set import HashSet, hash64
from scorer.inputs.notes import Notes
from scorer.inputs.parse import Reject, until_response
from scorer.inputs.records.faults import MAX_TURN_CHARACTERS, RecordError, clean_text
from scorer.inputs.records.turns import visible

COLUMNS = ("conv_id", "utterance_idx", "context", "prompt", "speaker_idx", "utterance")
KEYS = ("conv_id", "utterance_idx", "speaker_idx", "utterance")
"""The columns without which there is no dialogue; ``context``, the emotion, is read where it is there."""

OPTIONAL = ("selfeval", "tags")

MAX_ROWS = 1 << 17
"""Rows that wait for others of their conversation: all 107,220 of the data set, in whatever order."""

MAX_CHARACTERS = 1 << 26
"""Characters that wait with them."""

MOVED = ("conv_id", "context", "utterance")
"""The columns that a dialogue holds as its conversation, its category and its last turn."""

_KEYS = frozenset(KEYS)
_NOTES = Notes(layout="EmpatheticDialogues", used=COLUMNS, aside=())

_Waiting = dict[int, tuple[int, str, str, str | None, str, Mapping[str, Any] | None]]
"""By index: line, speaker, utterance, emotion, the row as it stood there, and its columns if they are kept."""


class Conversations:
    """Gathers the rows of conversations, in whatever order, and gives a dialogue for each listener turn.

    Rows wait until all are read or ``MAX_ROWS`` do; then the half that came first is given. A row of a conversation
    that was given already is a reject: sort a larger file.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._waiting: dict[str, _Waiting] = {}
        self._rejects: list[Reject] = []
        self._count = self._characters = 0
        self._given = HashSet()
        self._base = 1

    def add(self, row: Mapping[str, Any], record: str) -> bool:
        """Take the next row; return whether so much waits that ``give_half`` must follow.

        Published rows, on the hub too, have ``_comma_`` for a comma.
        """
        texts = {name: value for name, value in row.items() if isinstance(value, str) and "_comma_" in value}
        if texts:
            row = {**row, **{name: value.replace("_comma_", ",") for name, value in texts.items()}}
        try:
            self._keep(row, record)
        except RecordError as error:
            self._rejects.append(self._place.reject(error.reason, error.detail, record=record))
        return self._count >= MAX_ROWS or self._characters >= MAX_CHARACTERS or len(self._rejects) >= MAX_ROWS

    def give_half(self) -> Records:
        """Yield the half of the conversations that came first."""
        yield from self._give(self._count // 2)

    def refuse(self, reject: Reject) -> None:
        """Take the reject of a row that could not be read: it is given in its place."""
        self._rejects.append(reject)

    def finish(self) -> Records:
        """Yield all that waits."""
        yield from self._give(0)

    def _keep(self, row: Mapping[str, Any], record: str) -> None:
        key, speaker = _text_of(row, "conv_id"), _text_of(row, "speaker_idx")
        text, index = _text_of(row, "utterance"), _index(row.get("utterance_idx"))
        if not key or not speaker:
            raise RecordError("wrong_type", "conv_id or speaker_idx is empty, expected a name or a number")
        if len(self._given) and hash64(key) in self._given:
            where = f"conversation {key!a} began more than {MAX_ROWS // 2} rows before"
            raise RecordError("broken_conversation", f"{where}; sort the file by conv_id and utterance_idx")
        if not visible(text):
            raise RecordError("empty_turn", f"utterance {index} of conversation {key!a} is empty, expected text")
        rows = self._waiting.setdefault(key, {})
        if index in rows:
            if rows[index][1:3] != (speaker, text):
                rows[index] = (self._place.line, "", "", None, record, None)  # no one knows which of the two is meant
                raise RecordError("broken_conversation", f"two rows are utterance {index} of conversation {key!a}")
            raise RecordError("repeated_row", f"utterance {index} of conversation {key!a} occurred before")
        if index == 0:
            self._base = 0
        emotion = _as_text(row.get("context"))
        category = (clean_text(emotion, "context") or None) if isinstance(emotion, str) else None
        excerpt, kept = record[:EXCERPT], row if self._place.keep else None
        rows[index] = (self._place.line, speaker, text, category, excerpt, kept)
        self._count += 1
        self._characters += _size(rows[index])

    def _give(self, keep: int) -> Iterator[Dialogue | Reject]:
        """Yield the conversations that came first, until at most ``keep`` rows wait; in the order of rows."""
        found: list[Dialogue | Reject] = [*self._rejects]
        self._rejects = []
        while self._waiting and self._count > keep:
            key = next(iter(self._waiting))
            rows = self._waiting.pop(key)
            self._count -= len(rows)
            if keep:
                self._characters -= sum(map(_size, rows.values()))
                self._given.add(hash64(key))
            found += self._dialogues(key, rows)
        self._characters = self._characters if keep else 0
        found.sort(key=lambda item: item.line)
        yield from found

    def _dialogues(self, key: str, rows: _Waiting) -> Iterator[Dialogue | Reject]:
        """Yield a dialogue for each listener turn, up to the first gap; rejects for the rows behind it."""
        turns: list[Turn] = []
        place = self._place
        first = rows[self._base][1] if self._base in rows else ""
        broken: str | None = None
        listener = ""
        for expected, index in enumerate(sorted(rows), start=self._base):
            line, speaker, text, category, record, kept = rows[index]
            if broken is None and (index != expected or not speaker):
                broken = f"utterance {expected} of conversation {key!a} is missing, was rejected or is there twice"
            role = "user" if speaker == first else "assistant"
            if broken is None and role == "assistant" and speaker != (listener := listener or speaker):
                broken = f"conversation {key!a} has a third speaker, {speaker!a}, expected a speaker and a listener"
            if broken is not None:
                if speaker and (not first or role == "assistant"):
                    yield place.reject("broken_conversation", broken, record=record, line=line)
                continue
            turns.append(Turn(role, text))
            if role == "user":
                continue
            if place.labels == "required":
                detail = "EmpatheticDialogues has no scores, expected a labelled record"
                yield place.reject("no_label", detail, record=record, line=line)
                continue
            try:
                whole = until_response(tuple(turns))
            except RecordError as error:
                yield place.reject(error.reason, error.detail, record=record, line=line)
                continue
            yield Dialogue(
                id=content_hash(whole),
                turns=whole,
                conversation=key,
                category=category,
                source=place.source.shown,
                line=line,
                notes=_NOTES,
                record=kept,
            )


def _size(row: tuple[Any, ...]) -> int:
    """Return about how many characters a row holds while it waits."""
    kept = row[5] or {}
    return len(row[2]) + len(row[4]) + sum(len(value) for value in kept.values() if isinstance(value, (str, bytes)))


def is_row(value: Any, place: Place) -> bool:
    """Whether a decoded record is one row of a conversation."""
    return type(value) is dict and "utterance_idx" in value and value.keys() >= _KEYS and not place.fields


def _index(value: Any) -> int:
    """Return the number of an utterance; RecordError where it is none, for then no one knows where it belongs."""
    number = value
    if isinstance(value, str) and (text := value.strip().removesuffix(".0")).isdecimal():
        number = int(text)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise RecordError("wrong_type", f"utterance_idx is {value!a}, expected a whole number from 1")
    return number


def _text_of(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if isinstance(value, str) and value.isascii() and "\0" not in value and len(value) <= MAX_TURN_CHARACTERS:
        return value.strip()
    return clean_text(_as_text(value), name)


def _as_text(value: Any) -> Any:
    """Return a whole number as text (Parquet keeps indices as numbers), anything else as it is."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
