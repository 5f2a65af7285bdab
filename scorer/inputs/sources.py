"""Where dialogues lie: names, folders, globs, URLs and standard input -> streams of bytes, decompressed."""

from __future__ import annotations

import glob
import gzip
import io
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, cast

from backports import zstd

from scorer.errors import InputError, reason_of
from scorer.run.manifest import NAMES as MANIFESTS

STDIN = "-"
BUFFER_BYTES = 1 << 16
_GLOB_CHARACTERS = set("*?[")
_PIECE_BYTES = 1 << 12
_DATASET_STATE = "state.json"
# What `datasets` writes beside its Arrow files, in no format of dialogues.
_DATASET_METADATA = (_DATASET_STATE, "dataset_info.json", "dataset_dict.json")


class TruncatedStreamError(Exception):
    """Compressed data end before their end marker, or cannot be decompressed further."""


@dataclass(slots=True)
class Source:
    """One file of dialogues. ``bytes_read`` grows while it is read, up to ``size``, for the progress bar."""

    name: str
    size: int | None = None
    bytes_read: int = field(default=0, compare=False)

    def advance_to(self, position: int) -> None:
        """Note how far a reader that seeks has come; the position never goes back nor beyond the size."""
        self.bytes_read = max(self.bytes_read, min(position, self.size or 0))

    @contextmanager
    def open(self) -> Iterator[io.BufferedReader[Any]]:
        """Open the file for buffered reading, decompressed if it is gzip or zstandard by its first bytes."""
        with _open_raw(self.name) as raw:
            counted = io.BufferedReader(_Counted(raw, self), BUFFER_BYTES)
            head = counted.peek(4)[:4]
            if head[:2] == b"\x1f\x8b":
                yield io.BufferedReader(Decompressed(gzip.GzipFile(fileobj=counted)), BUFFER_BYTES)
            elif head == b"\x28\xb5\x2f\xfd":
                yield io.BufferedReader(Decompressed(zstd.ZstdFile(counted)), BUFFER_BYTES)
            else:
                yield counted

    @contextmanager
    def seekable(self, stream: io.BufferedReader[Any]) -> Iterator[BinaryIO]:
        """Give the file that was opened as ``stream``, from its beginning, for reading anywhere in it.

        What cannot be sought (compressed data, standard input, a pipe) is copied to a temporary file on disk.
        """
        if self.size is None or isinstance(stream.raw, Decompressed):
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(stream, copy, BUFFER_BYTES)
                copy.seek(0)
                yield cast("BinaryIO", copy)
        else:
            with _open_raw(self.name) as raw:
                yield raw


class _Counted(io.RawIOBase):
    """Counts what is read, for the progress bar; gives what there is, so that a pipe is not waited for.

    Only the first read waits, for a whole line: by that the format is recognised.
    """

    def __init__(self, raw: BinaryIO, source: Source) -> None:
        self._raw = raw
        self._source = source
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        read = getattr(self._raw, "read1", self._raw.read)
        data = read(len(buffer))
        while not self._begun and b"\n" not in data and (more := read(len(buffer) - len(data))):
            data += more
        self._begun = True
        buffer[: len(data)] = data
        self._source.bytes_read += len(data)
        return len(data)


class Decompressed(io.RawIOBase):
    """A decompressed stream whose faults all are TruncatedStreamError, raised behind all that came before them."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._fault = ""

    def readable(self) -> bool:
        """Say yes."""
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
        except (EOFError, zlib.error, zstd.ZstdError, OSError) as error:  # gzip.BadGzipFile is an OSError
            self._fault = reason_of(error)  # kept, for a stream that is read behind a fault may seem to end well
        if self._fault and not filled:
            raise TruncatedStreamError(self._fault)
        return filled


def expand(names: Iterable[str], is_data: Callable[[Source], bool]) -> tuple[list[Source], list[str]]:
    """Return the files that ``names`` stand for, in order, and the names of files in folders that hold no data.

    A name is a file, a folder (searched recursively, in sorted order; a Hugging Face ``datasets`` folder gives
    its Arrow files), a glob, ``-`` for standard input, or any of these behind an fsspec URL. ``is_data`` tells
    for a file of a folder whether it holds records. InputError if a name stands for nothing, or two for the
    same file.
    """
    expansion = _Expansion(is_data)
    for name in names:
        expansion.add(name)
    seen: set[str] = set()
    for source in expansion.sources:
        place = source.name if source.name == STDIN or "://" in source.name else os.path.realpath(source.name)
        if place in seen:
            raise InputError(f"{source.name}: named twice among the inputs; name each file once")
        seen.add(place)
    return expansion.sources, expansion.skipped


class _Expansion:
    """Collects the files that names stand for."""

    def __init__(self, is_data: Callable[[Source], bool]) -> None:
        self.sources: list[Source] = []
        self.skipped: list[str] = []
        self._is_data = is_data

    def add(self, name: str) -> None:
        """Add what one name stands for."""
        before = len(self.sources)
        if not name:
            raise InputError("'': an empty name, expected a file, folder, glob or URL (is a variable not set?)")
        if name == STDIN:
            self.sources.append(Source(STDIN))
        elif "://" in name:
            self._add_url(name)
        else:
            self._add_path(name)
        if len(self.sources) == before:
            held = f"; it holds only {', '.join(self.skipped[:3])}" if self.skipped else ""
            raise InputError(f"{name}: no file of dialogues there, expected JSON, CSV, Parquet or Arrow files{held}")

    def _add_path(self, name: str) -> None:
        path = Path(name)
        try:
            if path.is_dir():
                self._add_folder(path)
            elif path.exists():
                self.sources.append(Source(name, path.stat().st_size if path.is_file() else None))
            elif _GLOB_CHARACTERS & set(name):
                matches = sorted(glob.glob(name, recursive=True))
                if not matches:
                    raise InputError(f"{name}: the pattern matches no file")
                for match in matches:
                    self._add_path(match)
            else:
                raise InputError(f"{name}: no such file or folder")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(f"{name!r}: cannot be read: {reason_of(error)}") from None

    def _add_folder(self, folder: Path) -> None:
        state = folder / _DATASET_STATE
        if state.is_file():  # written by datasets.Dataset.save_to_disk
            self.sources += _dataset_files(folder, state)
            return
        for entry in sorted(folder.iterdir()):
            if _is_passed_over(entry.name):
                continue
            if entry.is_dir():
                if not folder.resolve().is_relative_to(entry.resolve()):  # a link to a folder above has no end
                    self._add_folder(entry)
            elif entry.is_file():
                self._add_if_data(Source(str(entry), entry.stat().st_size))

    def _add_url(self, url: str) -> None:
        for source, is_named in _listed(url):
            if is_named:
                self.sources.append(source)
            else:
                self._add_if_data(source)

    def _add_if_data(self, source: Source) -> None:
        if self._is_data(source):
            self.sources.append(source)
        else:
            self.skipped.append(source.name)


def _listed(url: str) -> list[tuple[Source, bool]]:
    """Return the files of a URL in order, and whether it names each, rather than the folder that the file is in."""
    import fsspec  # most runs read local files

    found: list[tuple[Source, bool]] = []
    try:
        fs, path = fsspec.core.url_to_fs(url)
        if fs.isfile(path):
            return [(Source(url, fs.info(path).get("size")), True)]
        for match in sorted(fs.glob(path)) if _GLOB_CHARACTERS & set(path) else [path]:
            if fs.isfile(match):
                found.append((Source(fs.unstrip_protocol(match), fs.info(match).get("size")), True))
                continue
            if not fs.exists(match):
                raise FileNotFoundError
            for file in sorted(fs.find(match)):
                if not any(map(_is_passed_over, file.removeprefix(match).split("/"))):
                    found.append((Source(fs.unstrip_protocol(file), fs.info(file).get("size")), False))
    except ImportError as error:
        raise InputError(f"{url}: {reason_of(error)}; pip install that package") from None
    except FileNotFoundError:
        raise InputError(f"{url}: no such file or folder") from None
    except Exception as error:  # every fsspec driver raises exceptions of its own
        raise InputError(f"{url}: cannot be read: {reason_of(error)}") from error
    return found


def _dataset_files(folder: Path, state: Path) -> list[Source]:
    try:
        files = [folder / entry["filename"] for entry in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{state}: no `datasets` folder state ({error!r}); save the dataset again") from None
    for file in files:
        if file.resolve().parent != folder.resolve() or not file.is_file():
            raise InputError(f"{file}: named in {state} and not in that folder; copy the whole dataset folder")
    return [Source(str(file), file.stat().st_size) for file in files]


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in _DATASET_METADATA or is_own_output(name)


def is_own_output(name: str) -> bool:
    """Whether a file name is one that scoring writes beside its output, never an input."""
    return (
        name.endswith((".rejects.jsonl", ".meta.json", ".partial"))
        or name == "rejects.jsonl"
        or fnmatch(name, MANIFESTS)
    )


def _open_raw(name: str) -> BinaryIO:
    if name == STDIN:
        return cast("BinaryIO", os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0))
    if "://" not in name:
        try:
            return open(name, "rb", buffering=0)
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            raise InputError(f"{name}: cannot be read: {reason_of(error)}") from error
    import fsspec

    try:
        return cast("BinaryIO", fsspec.open(name, "rb").open())
    except Exception as error:  # every fsspec driver raises exceptions of its own
        raise InputError(f"{name}: cannot be read: {reason_of(error)}") from error
