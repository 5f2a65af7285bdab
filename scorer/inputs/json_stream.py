"""JSON values one by one from a stream; own code, as no streaming parser reads on after a broken element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from scorer.inputs.files.compressed import TruncatedStreamError
from scorer.inputs.parse import json_fault
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import KEYS
from scorer.inputs.records.layouts import holds_dialogue
from scorer.inputs.records.turns import is_message, names_speaker

_CHUNK = 1 << 13
_FREE = 1 << 22
_MOST_IN_VAIN = 16
"""Characters that may be parsed in vain: so many in all, and so many for each that was read."""
_PIECE = 2 * _CHUNK
_LOOK_AHEAD = 1 << 20
_MOST_DEPTH = 2
_BETWEEN = re.compile(r"[\s,]*")
_SPACE = re.compile(r"\s*")
_KEY = re.compile(r'[\s,]*"((?:[^"\\]++|\\.)*+)"\s*:\s*')
# What may begin a record: an object whose first key has a colon behind it, as far as can be seen at once.
_OBJECT = re.compile(r'\{\s*"(?![^"\\]{0,256}(?:"\s*[^\s:]|\\[^"\\/bfnrtu]))')
_SURROGATE = re.compile("[\ud800-\udfff]")
# A fault this near to the end of what has been read may be just the end of it.
_NEAR_END = 16


def iter_objects(  # noqa: C901 - one decision per sign
    stream: BinaryIO, max_characters: int
) -> Iterator[tuple[Any, str] | RecordError]:
    """Yield (value, raw text) of each record: of arrays, of arrays of arrays, of several values in a row, of a wrapper.

    A list of messages is one value. Of an object that holds its records in a list (``{"version": 1, "data": [...]}``)
    they are yielded one by one. A broken element is yielded as RecordError, and reading continues at the next object
    that has a record's keys. An element longer than ``max_characters`` counts as broken. Memory
    holds about one element, and the work is bounded per character, whatever is broken.
    """
    buffer = _Buffer(stream, max_characters)
    depth, wrapped = 0, False
    begun = False
    while True:
        buffer.skip_between()
        first = buffer.text[buffer.at : buffer.at + 1]
        if not first:
            break
        if first == "]" and depth:
            buffer.at += 1
            depth -= 1
            continue
        if first == "[" and depth < _MOST_DEPTH and not _begins_turns(buffer):  # a list of records
            buffer.at += 1
            depth += 1
            begun = True
            continue
        if first == "{" and not begun and (prefix := _wrapper(buffer)):
            buffer.at += prefix
            wrapped, begun = True, True
            continue
        if wrapped and not depth:
            if first == "}":
                buffer.at += 1
                wrapped = begun = False
                continue
            if key := _KEY.match(buffer.text, buffer.at):  # what stands beside the records
                buffer.at = key.end()
                if buffer.skip_between() or buffer.text[buffer.at : buffer.at + 1] != "[":
                    _next_value(buffer)
                continue
        begun = True
        yield _next_value(buffer)
    if depth:
        yield RecordError("truncated_input", "the JSON array is not closed, expected ']': is the file whole?")
    elif wrapped:
        yield RecordError("truncated_input", "the JSON object is not closed, expected '}': is the file whole?")


def _begins_turns(buffer: _Buffer) -> bool:
    """Whether the list at hand begins like the messages of one dialogue: objects, or pairs of a role and a text."""
    first = _first_in(buffer, buffer.at)
    if first == "[":
        return names_speaker(_first_in(buffer, buffer.text.index("[", buffer.at + 1)))
    return is_message(first)


def _first_in(buffer: _Buffer, bracket: int) -> Any:
    """Return the first value in the list whose bracket is at a place, or None; nothing is consumed."""
    ahead = bracket + 1 - buffer.at
    while True:
        found = _SPACE.match(buffer.text, buffer.at + ahead)
        ahead = found.end() - buffer.at if found else ahead
        if buffer.at + ahead < len(buffer.text) or ahead >= buffer.max_characters or not buffer.fill():
            break
    sign = buffer.text[buffer.at + ahead : buffer.at + ahead + 1]
    if not sign or sign in "[]":
        return sign or None
    found_value = buffer.parse(buffer.at + ahead)
    return None if isinstance(found_value, _Failed) else found_value[0]


def _wrapper(buffer: _Buffer) -> int:
    """Return how many characters stand before the list of records in the object at hand; 0 if it has none."""
    ahead = 1  # as places move when the buffer is filled
    while True:
        key = _KEY.match(buffer.text, buffer.at + ahead)
        if key is None or key.end() >= len(buffer.text):
            if len(buffer.text) - buffer.at - ahead < _LOOK_AHEAD and buffer.fill():
                continue
            if key is None:
                return 0
        if key[1] in KEYS:
            return 0
        end = key.end() - buffer.at
        if buffer.text[key.end() : key.end() + 1] == "[":
            first = _first_in(buffer, key.end())
            if first == "[":  # a list of lists: of messages, or it is something else
                first = _first_in(buffer, buffer.text.index("[", buffer.at + end + 1))
                first = {"messages": first} if is_message(first) else None
            if holds_dialogue(first):
                return end
        found = buffer.parse(buffer.at + end, _LOOK_AHEAD)
        if isinstance(found, _Failed):
            return 0
        ahead = found[1] - buffer.at


def _next_value(buffer: _Buffer) -> tuple[Any, str] | RecordError:
    while True:
        found = buffer.parse(buffer.at)
        if isinstance(found, _Failed):
            skipped = _skip_broken(buffer, found)
            return RecordError("broken_json", f"{json_fault(found.error)}; {skipped} characters skipped")
        value, end = found
        if isinstance(value, (int, float)) and len(buffer.text) - end < _NEAR_END and buffer.fill():
            continue  # a number may continue
        raw = buffer.text[buffer.at : end]
        buffer.at = end
        if not raw.isascii() and _SURROGATE.search(raw):
            return RecordError("invalid_utf8", "the element holds bytes that are no UTF-8")
        return value, raw


def _skip_broken(buffer: _Buffer, failed: _Failed) -> int:
    """Drop text up to the next object that is a record; return how many characters were dropped.

    Every "{" may begin one. Where objects lie in each other, or quotation marks are missing, attempts may all fail far
    away: once too much was parsed in vain, what the last attempt has looked at is skipped too.
    """
    before = buffer.passed
    buffer.at += failed.reached if buffer.is_wasteful else 1
    while True:
        if (found := _OBJECT.search(buffer.text, buffer.at)) is None:
            last = buffer.text.rfind("{", buffer.at)  # what follows it may not have been read
            near = last >= 0 and len(buffer.text) - last < buffer.max_characters
            is_open = near and not buffer.text[last + 1 :].strip()
            buffer.at = last if is_open else len(buffer.text)
            if buffer.fill():
                continue
            buffer.at = len(buffer.text)
            return buffer.passed - before
        buffer.at = found.start()
        attempt = buffer.parse(buffer.at)
        if isinstance(attempt, _Failed):
            buffer.at += attempt.reached if buffer.is_wasteful else 1
        elif holds_dialogue(attempt[0]):
            return buffer.passed - before
        else:
            buffer.in_vain += attempt[1] - buffer.at
            buffer.at = attempt[1] if buffer.is_wasteful else buffer.at + 1


def _may_be_unfinished(error: Exception, length: int) -> bool:
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= length - _NEAR_END


@dataclass(frozen=True, slots=True)
class _Failed:
    """A text that is no value: why, and how many characters of it were looked at."""

    error: Exception
    reached: int


def _failed(error: Exception, begin: int, length: int) -> _Failed:
    """Return what became of an attempt at ``begin`` of a text; the error's place counts from there."""
    error.__traceback__ = None  # which would keep the text until the garbage is collected
    if not isinstance(error, json.JSONDecodeError):
        return _Failed(error, max(1, length - begin))
    error.pos -= begin
    unterminated = error.msg.startswith("Unterminated string")
    return _Failed(error, max(1, length - begin if unterminated else error.pos))


class _Buffer:
    """Text that was read, used up to ``at``. Bytes that are no UTF-8 become surrogates."""

    def __init__(self, stream: BinaryIO, max_characters: int) -> None:
        self._read = getattr(stream, "read1", stream.read)  # read() loses what came before a fault
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decode = json.JSONDecoder().raw_decode
        self.max_characters = max_characters
        self.text = ""
        self.at = 0
        self.in_vain = 0  # characters that were parsed and gave no record
        self._dropped = 0
        self._ended = False
        self.fill()
        self.text = self.text.removeprefix("\ufeff")

    def fill(self) -> bool:
        """Read more, at least doubling what is left, so that a long element is not parsed too often; False at the end.

        What was used is dropped, so that places move where it is True. A fault of the stream is raised once all the
        text before it was used.
        """
        if self._ended:
            return False
        wanted = max(_CHUNK, len(self.text) - self.at)
        data = bytearray()
        try:
            while len(data) < wanted and (part := self._read(wanted - len(data))):
                data += part
        except TruncatedStreamError:
            if not data:
                raise
        if not data:
            self._ended = True
            self.text += self._decoder.decode(b"", final=True)  # half a character
            return False
        self._dropped, self.text, self.at = self.passed, self.text[self.at :] + self._decoder.decode(data), 0
        return True

    def parse(self, start: int, longest: int = 0) -> tuple[Any, int] | _Failed:
        """Return the value that begins at a place and where it ends, reading on while it may be unfinished.

        Places move where more was read: what was at ``at`` is there still. A value longer than ``longest`` (left out:
        ``max_characters``) fails.
        """
        ahead, size = start - self.at, _PIECE
        while True:
            start = self.at + ahead
            # An error counts the lines before it, and a failed attempt in a large text must not cost all of it.
            text, begin = (self.text, start) if len(self.text) <= _PIECE else (self.text[start : start + size], 0)
            is_cut = begin == 0 and start + size < len(self.text) and len(self.text) > _PIECE
            try:
                value, end = self._decode(text, begin)
            except (ValueError, RecursionError) as error:
                failed = _failed(error, begin, len(text))
                self.in_vain += failed.reached
                if not _may_be_unfinished(error, len(text) - begin):
                    return failed
                if not is_cut and (len(self.text) - start >= (longest or self.max_characters) or not self.fill()):
                    return failed
            else:
                if not is_cut or not isinstance(value, (int, float)) or end < len(text) - _NEAR_END:
                    return value, start + end - begin
            size *= 4

    @property
    def passed(self) -> int:
        """Characters that were used."""
        return self._dropped + self.at

    @property
    def is_wasteful(self) -> bool:
        """Whether so much was parsed in vain that it must be less per character from here on."""
        return self.in_vain > _FREE + _MOST_IN_VAIN * (self._dropped + len(self.text))

    def skip_between(self) -> bool:
        """Pass over what is between values, reading more while nothing else is left; whether there was any."""
        skipped = False
        while found := _BETWEEN.match(self.text, self.at):
            skipped = skipped or found.end() > self.at
            self.at = found.end()
            if self.at < len(self.text) or not self.fill():
                break
        return skipped
