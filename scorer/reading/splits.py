"""Splits of an input: ranges that are read apart from each other, in any process, and found without parsing.

They are for inputs in which some file can't be counted (see ``scorer.reading.counted``). There a large file of JSON
lines is cut every megabyte: a split has the lines that begin in its range, as in Hadoop. Any other file is one split.
The end of a line alone does not tell where a record of an array begins, rows of EmpatheticDialogues make a conversation
only together, and compressed data have no middle to begin at. Where a file is small one reader has it; a large one is
parsed by all of them, who take turns with what follows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from scorer.errors import InputError, reason_of
from scorer.inputs.corpus import Corpus
from scorer.inputs.cursor import Place, Records
from scorer.inputs.files.sources import STDIN, Source, open_raw
from scorer.inputs.formats import is_of_lines, read_source
from scorer.inputs.json_lines import MAX_RECORD_BYTES, read_lines

SPLIT_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Split:
    """The lines of a corpus's source of that number that begin from byte ``start`` to before ``end``.

    ``end`` None is the end of the file, and None of a split that begins at 0 a whole file of any format; ``shared`` is
    one that all readers parse. ``before`` are the bytes of all sources before it, where they say.
    """

    source: int
    start: int = 0
    end: int | None = None
    before: int = 0
    shared: bool = False

    @property
    def is_range(self) -> bool:
        """Whether it is a range of lines, and not a whole file."""
        return self.start > 0 or self.end is not None


def splits_of(corpus: Corpus, size: int = SPLIT_BYTES) -> list[Split]:
    """Return the splits of a corpus, in order, of about ``size`` bytes where a file can be cut.

    InputError where a file cannot be read.
    """
    splits: list[Split] = []
    before = 0
    for number, source in enumerate(corpus.sources):
        length = source.size or 0
        if length >= 2 * size and _can_be_cut(source, corpus):
            starts = range(0, length - size + 1, size)
            splits += [
                Split(number, start, end, before) for start, end in zip(starts, [*starts[1:], None], strict=True)
            ]
        else:
            splits.append(Split(number, before=before, shared=source.size is None or length > size))
        before += length
    return splits


def _can_be_cut(source: Source, corpus: Corpus) -> bool:
    return source.name != STDIN and "::" not in source.name and is_of_lines(source, corpus.fields)


@dataclass(slots=True)
class Reading:
    """How far a split was read: ``lines`` of a range, ``position`` in bytes of the corpus, ``sha256`` of its bytes."""

    position: int = 0
    lines: int = 0
    sha256: str = ""


def read_split(corpus: Corpus, split: Split, reading: Reading) -> Records:
    """Yield every record of a split and keep ``reading`` up to date; InputError where the file cannot be read.

    Ids are as they are in the file, and the lines of a range are counted from its beginning: who joins the splits knows
    what stands before.
    """
    source = corpus.sources[split.source]
    if not split.is_range:
        source.bytes_read = 0
        for record in read_source(source, corpus.labels, corpus.fields, keep=corpus.keeps_records):
            reading.position = split.before + source.bytes_read
            yield record
        return
    data, reading.sha256 = load(source, split)
    reading.position = split.before + split.start + len(data)
    place = Place(source, corpus.labels, corpus.fields, keep=corpus.keeps_records)
    yield from read_lines(io.BytesIO(data), place, at_beginning=not split.start)
    reading.lines = place.line


def load(source: Source, split: Split) -> tuple[bytes, str]:
    """Return the lines of a range, and the SHA-256 of their bytes; InputError where the file cannot be read.

    Of a line that is longer than any record only so much is returned as shows that it is.
    """
    try:
        with open_raw(source.name) as raw:
            if split.start:
                raw.seek(split.start - 1)
                for _ in _to_end_of_line(raw):  # of the line that began before
                    pass
            left = -1 if split.end is None else max(0, split.end - raw.tell())
            data = bytearray(_exactly(raw, left))
            digest = sha256(data)
            whole = len(data) + MAX_RECORD_BYTES
            for block in _to_end_of_line(raw) if data and not data.endswith(b"\n") else ():
                digest.update(block)
                data += block[: max(0, whole - len(data))]
    except OSError as error:
        raise InputError(f"{source.name}: cannot be read further: {reason_of(error)}") from error
    return bytes(data), digest.hexdigest()


def _exactly(raw: BinaryIO, count: int) -> bytes:
    """Return so many bytes, fewer at the end of the file; -1 is all."""
    parts = []
    while count and (part := raw.read(count)):  # one read may give less
        parts.append(part)
        count -= len(part) if count > 0 else 0
    return b"".join(parts)


def _to_end_of_line(raw: BinaryIO) -> Iterator[bytes]:
    """Yield what there is up to the next line feed, which is the last byte; the file then stands behind it."""
    while block := raw.read(_BLOCK_BYTES):
        end = block.find(b"\n") + 1
        if end:
            raw.seek(end - len(block), io.SEEK_CUR)
            yield block[:end]
            return
        yield block
