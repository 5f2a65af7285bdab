"""Compressed files, known by their first bytes and unpacked while they are read: gzip, bzip2, xz, zstandard."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any

from scorer.errors import reason_of
from scorer.inputs.files import archives

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""By which a file's name says so; the content decides."""

_BZIP2_BODIES = (b"1AY&SY", b"\x17rE8P\x90")  # a block, and the end of one that holds nothing
_PIECE_BYTES = 1 << 12
_XZ_MEMORY = 1 << 28  # `xz -9` wants a quarter of it
_FAULTS = (EOFError, OSError, zlib.error, lzma.LZMAError, zstd.ZstdError)  # gzip.BadGzipFile is an OSError


class TruncatedStreamError(Exception):
    """Compressed data end before their end marker, or cannot be decompressed further."""


class Decompressed(io.RawIOBase):
    """A decompressed stream whose faults are all TruncatedStreamError, raised after all the data before them."""

    def __init__(self, stream: Any, bytes_read: Callable[[], int]) -> None:
        """Take what unpacks; ``bytes_read`` says how many compressed bytes it was given so far."""
        self._stream, self._bytes_read = stream, bytes_read
        self._given = 0
        self._fault = ""

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill a buffer with decompressed bytes, in pieces: a fault costs no more than the piece it is in."""
        filled = 0
        try:
            while not self._fault and filled < len(buffer):
                piece = self._stream.read1(min(_PIECE_BYTES, len(buffer) - filled))
                if not piece:
                    break
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
        except _FAULTS as error:
            self._fault = reason_of(error)  # kept: read again, a stream may seem to end well after a fault
        self._given += filled
        if self._given > archives.most_unpacked(self._bytes_read()):
            self._fault = self._fault or archives.BOMB
        if self._fault and not filled:
            raise TruncatedStreamError(self._fault)
        return filled


def decompressed(stream: io.BufferedReader[Any], bytes_read: Callable[[], int]) -> Decompressed | None:
    """Return what a stream unpacks to, None where it is not compressed."""
    head = stream.peek(10)[:10]
    if head[:2] == b"\x1f\x8b":
        return Decompressed(gzip.GzipFile(fileobj=stream), bytes_read)
    if head[:4] == b"\x28\xb5\x2f\xfd":
        return Decompressed(zstd.ZstdFile(stream), bytes_read)
    if head[:3] == b"BZh" and head[4:] in _BZIP2_BODIES:
        return Decompressed(_Streams(stream, bz2.BZ2Decompressor), bytes_read)
    if head[:6] == b"\xfd7zXZ\0":
        return Decompressed(_Streams(stream, _xz), bytes_read)
    return None


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)


class _Streams:
    """What files of bzip2 or xz hold, one behind the other.

    BZ2File says nothing of other data behind them, and LZMAFile takes all the memory that a file asks for.
    """

    def __init__(self, stream: io.BufferedReader[Any], decoder: Callable[[], Any]) -> None:
        self._stream, self._new = stream, decoder
        self._decoder = decoder()

    def read1(self, size: int) -> bytes:
        """Return some bytes, at most ``size``; none at the end. EOFError where it ends early, else the decoder's."""
        data = b""
        while not data:
            more = b""
            if self._decoder.eof:  # another may follow, also behind zeros
                more = self._decoder.unused_data.lstrip(b"\0")
                while not more:
                    if not (more := self._stream.read1()):
                        return b""
                    more = more.lstrip(b"\0")
                self._decoder = self._new()
            elif self._decoder.needs_input and not (more := self._stream.read1()):
                raise EOFError("the data end before their end marker")
            data = self._decoder.decompress(more, size)
        return data
