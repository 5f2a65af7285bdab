"""JSON values one by one from a stream; own code, as no streaming parser reads on after a broken element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from scorer.inputs.faults import RecordError
from scorer.inputs.layouts import holds_dialogue
from scorer.inputs.parse import json_fault
from scorer.inputs.sources import TruncatedStreamError

_CHUNK = 1 << 16
_BETWEEN = re.compile(r"[\s,\[]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A fault this near to the end of what has been read may be just the end of it.
_NEAR_END = 16


def iter_objects(stream: BinaryIO, max_characters: int) -> Iterator[tuple[Any, str] | RecordError]:
    """Yield (value, raw text) of each element of a JSON array, or of each of several values in a row.

    A broken element is yielded as RecordError, and reading continues at the next object that has a record's keys. An
    element longer than ``max_characters`` counts as broken. Memory holds about one element.
    """
    buffer = _Buffer(stream)
    is_array = closed = False
    while True:
        is_array = "[" in buffer.skip_between() or is_array
        if not buffer.text and not buffer.fill():
            break
        if buffer.text[0] == "]" and is_array and not closed:
            buffer.drop(1)
            closed = True
            continue
        yield _next_value(buffer, max_characters)
    if is_array and not closed:
        yield RecordError("truncated_input", "the JSON array is not closed, expected ']': is the file whole?")


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
        if _SURROGATE.search(raw):
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
