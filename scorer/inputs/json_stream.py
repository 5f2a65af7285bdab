"""JSON values one by one from a stream; own code, as no streaming parser reads on after a broken element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from scorer.inputs.parse import json_fault
from scorer.inputs.records.faults import RecordError
from scorer.inputs.records.keys import KEYS
from scorer.inputs.records.layouts import holds_dialogue
from scorer.inputs.records.turns import is_message
from scorer.inputs.sources import TruncatedStreamError

_CHUNK = 1 << 13  # what is left is copied with every element
_LOOK_AHEAD = 1 << 20
_MOST_DEPTH = 2
_BETWEEN = re.compile(r"[\s,]*")
_SPACE = re.compile(r"\s*")
_KEY = re.compile(r'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
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
    holds about one element.
    """
    buffer = _Buffer(stream)
    depth, wrapped = 0, False
    begun = False
    while True:
        buffer.skip_between()
        if not buffer.text and not buffer.fill():
            break
        first = buffer.text[0]
        if first == "]" and depth:
            buffer.drop(1)
            depth -= 1
            continue
        if first == "[" and depth < _MOST_DEPTH and _is_container(buffer, max_characters):
            buffer.drop(1)
            depth += 1
            begun = True
            continue
        if first == "{" and not begun and (prefix := _wrapper(buffer, max_characters)):
            buffer.drop(prefix)
            wrapped, begun = True, True
            continue
        if wrapped and not depth:
            if first == "}":
                buffer.drop(1)
                wrapped = begun = False
                continue
            if key := _KEY.match(buffer.text):  # what stands beside the records
                buffer.drop(key.end())
                if buffer.skip_between() or buffer.text[:1] != "[":
                    _next_value(buffer, max_characters)
                continue
        begun = True
        yield _next_value(buffer, max_characters)
    if depth:
        yield RecordError("truncated_input", "the JSON array is not closed, expected ']': is the file whole?")
    elif wrapped:
        yield RecordError("truncated_input", "the JSON object is not closed, expected '}': is the file whole?")


def _first_in(buffer: _Buffer, start: int, max_characters: int) -> Any:
    """Return the first value in the list whose bracket is at ``start``, or None; nothing is consumed."""
    decoder = json.JSONDecoder()
    while True:
        found = _SPACE.match(buffer.text, start + 1)
        position = found.end() if found else start + 1
        try:
            if position < len(buffer.text):
                if buffer.text[position] in "[]":
                    return buffer.text[position]
                return decoder.raw_decode(buffer.text, position)[0]
        except (ValueError, RecursionError) as error:
            if not _may_be_unfinished(error, len(buffer.text)):
                return None
        if len(buffer.text) >= max_characters or not buffer.fill():
            return None


def _is_container(buffer: _Buffer, max_characters: int) -> bool:
    """Whether the list at hand holds records, or anything but messages."""
    return not is_message(_first_in(buffer, 0, max_characters))


def _wrapper(buffer: _Buffer, max_characters: int) -> int:  # noqa: C901 - one decision per sign
    """Return how many characters stand before the list of records in the object at hand; 0 if it has none."""
    decoder = json.JSONDecoder()
    position = 1
    while True:
        key = _KEY.match(buffer.text, position)
        if key is None or key.end() >= len(buffer.text):
            if len(buffer.text) - position < _LOOK_AHEAD and buffer.fill():
                continue
            if key is None:
                return 0
        if key[1] in KEYS:
            return 0
        if buffer.text[key.end() : key.end() + 1] == "[":
            first = _first_in(buffer, key.end(), max_characters)
            if first == "[":  # a list of lists: of messages, or it is something else
                first = _first_in(buffer, buffer.text.index("[", key.end() + 1), max_characters)
                first = {"messages": first} if is_message(first) else None
            if holds_dialogue(first):
                return key.end()
        try:
            _, position = decoder.raw_decode(buffer.text, key.end())
        except (ValueError, RecursionError):
            if len(buffer.text) < _LOOK_AHEAD and buffer.fill():
                continue
            return 0


def _next_value(buffer: _Buffer, max_characters: int) -> tuple[Any, str] | RecordError:
    decoder = json.JSONDecoder()
    while True:
        try:
            value, end = decoder.raw_decode(buffer.text)
        except (ValueError, RecursionError) as error:
            if _may_be_unfinished(error, len(buffer.text)) and len(buffer.text) < max_characters and buffer.fill():
                continue
            skipped = _skip_broken(buffer, max_characters)
            return RecordError("broken_json", f"{json_fault(error)}; {skipped} characters skipped")
        if isinstance(value, (int, float)) and len(buffer.text) - end < _NEAR_END and buffer.fill():
            continue  # a number may continue
        raw = buffer.drop(end)
        if not raw.isascii() and _SURROGATE.search(raw):
            return RecordError("invalid_utf8", "the element holds bytes that are no UTF-8")
        return value, raw


def _may_be_unfinished(error: Exception, length: int) -> bool:
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= length - _NEAR_END


def _skip_broken(buffer: _Buffer, max_characters: int) -> int:
    """Drop text up to the next object that is a record; return how many characters were dropped."""
    decoder = json.JSONDecoder()
    dropped, start = 0, 1
    while True:
        start = buffer.text.find("{", start)
        if start < 0:
            dropped += len(buffer.drop(len(buffer.text)))
            if not buffer.fill():
                return dropped
            start = 0
            continue
        try:
            value, _ = decoder.raw_decode(buffer.text, start)
        except (ValueError, RecursionError) as error:
            unfinished = _may_be_unfinished(error, len(buffer.text))
            if unfinished and len(buffer.text) - start < max_characters and buffer.fill():
                continue
        else:
            if holds_dialogue(value):
                return dropped + len(buffer.drop(start))
        start += 1


class _Buffer:
    """Text that was read and not yet used. Bytes that are no UTF-8 become surrogates."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read = getattr(stream, "read1", stream.read)  # read() loses what came before a fault
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self._ended = False
        self.fill()
        self.text = self.text.removeprefix("\ufeff")

    def fill(self) -> bool:
        """Read more, at least doubling the text, so that a long element is not parsed too often; False at the end.

        A fault of the stream is raised once all the text before it was used.
        """
        if self._ended:
            return False
        wanted = max(_CHUNK, len(self.text))
        data = bytearray()
        try:
            while len(data) < wanted and (part := self._read(wanted - len(data))):
                data += part
        except TruncatedStreamError:
            if not data:
                raise
        self._ended = not data
        self.text += self._decoder.decode(data, final=self._ended)
        return bool(data)

    def drop(self, length: int) -> str:
        """Take ``length`` characters off the front."""
        dropped, self.text = self.text[:length], self.text[length:]
        return dropped

    def skip_between(self) -> str:
        """Take off what is between values, reading more while nothing else is left."""
        skipped = ""
        while match := _BETWEEN.match(self.text):
            skipped += self.drop(match.end())
            if self.text or not self.fill():
                break
        return skipped
