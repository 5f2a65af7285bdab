"""Where dialogues are: names, folders, globs, URLs and standard input -> streams of bytes, decompressed."""

from __future__ import annotations

import glob
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO, cast

from scorer.errors import InputError, reason_of, without_secrets
from scorer.inputs.files import archives
from scorer.inputs.files.compressed import Decompressed, TruncatedStreamError, decompressed
from scorer.outputs import is_own_output

STDIN = "-"
BUFFER_BYTES = 1 << 16
_GLOB_CHARACTERS = set("*?[")
_DATASET_STATE = "state.json"
# What `datasets` writes beside its Arrow files, in no format of dialogues.
_DATASET_METADATA = (_DATASET_STATE, "dataset_info.json", "dataset_dict.json")


@dataclass(slots=True)
class Source:
    """One file of dialogues. ``bytes_read`` grows while it is read, up to ``size``, for the progress bar."""

    name: str
    size: int | None = None
    bytes_read: int = field(default=0, compare=False)

    @property
    def shown(self) -> str:
        """The name as it is shown and written: as UTF-8, and a URL without user, password and signature."""
        return without_secrets(os.fsencode(self.name).decode(errors="backslashreplace"))

    def advance_to(self, position: int) -> None:
        """Note how far a reader that seeks has come."""
        self.bytes_read = max(self.bytes_read, min(position, self.size or 0))

    @contextmanager
    def open(self) -> Iterator[io.BufferedReader[Any]]:
        """Open the file for buffered reading, decompressed if its first bytes say that it is compressed."""
        with open_raw(self.name) as raw:
            counted = io.BufferedReader(_Counted(raw, self), BUFFER_BYTES)
            unpacked = decompressed(counted, lambda: self.bytes_read)
            yield counted if unpacked is None else io.BufferedReader(unpacked, BUFFER_BYTES)

    @contextmanager
    def seekable(self, stream: io.BufferedReader[Any]) -> Iterator[BinaryIO]:
        """Give the file that was opened as ``stream``, from its beginning, for reading anywhere in it.

        What cannot seek (compressed data, standard input, a pipe) is copied to a temporary file on disk.
        """
        if self.size is None or isinstance(stream.raw, Decompressed):
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(stream, copy, BUFFER_BYTES)
                copy.seek(0)
                yield cast("BinaryIO", copy)
        else:
            with open_raw(self.name) as raw:
                yield raw


class _Counted(io.RawIOBase):
    """Counts what is read, for the progress bar. Only the first read waits for a whole line: it shows the format."""

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


def expand(names: Iterable[str], is_data: Callable[[Source], bool]) -> tuple[list[Source], list[str]]:
    """Return the files that ``names`` stand for, in order, and the names of files in folders that hold no data.

    A name is a file, a folder (searched recursively, in sorted order; a Hugging Face ``datasets`` folder gives its
    Arrow files), a glob, ``-`` for standard input, or any of these behind an fsspec URL. ``is_data`` says for a file of
    a folder whether it holds records. InputError if a name stands for nothing, or two for the same file.
    """
    sources: list[Source] = []
    skipped: list[str] = []
    for name in names:
        before = len(sources)
        for source, is_named in _found(name):
            if is_named or is_data(source):
                sources.append(source)
            else:
                skipped.append(source.shown)
        if len(sources) == before:
            if any("/xl/" in shown for shown in skipped):
                raise InputError(f"{name}: is an Excel workbook, expected JSON, CSV or Parquet; export it as CSV")
            held = f"; it holds only {', '.join(skipped[:3])}" if skipped else ""
            raise InputError(f"{name}: no file of dialogues there, expected JSON, CSV, Parquet or Arrow files{held}")
    seen: set[str] = set()
    for source in sources:
        place = source.name if source.name == STDIN or "://" in source.name else os.path.realpath(source.name)
        if place in seen:
            raise InputError(f"{source.name}: named twice among the inputs; name each file once")
        seen.add(place)
    return sources, skipped


_Found = Iterator[tuple[Source, bool]]
"""Files, and for each whether it was named itself rather than the folder that it is in."""


def _found(name: str) -> _Found:
    if not name:
        raise InputError("'': an empty name, expected a file, folder, glob or URL (is a variable not set?)")
    if name == STDIN:
        yield Source(STDIN), True
    elif name.startswith("tar://") and Path(archive := name.partition("::")[2]).is_file():
        yield from _in_tar(name.removeprefix("tar://").partition("::")[0], archive)
    elif "://" in name:
        yield from _at_url(name)
    else:
        try:
            yield from _at_path(name)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(f"{name!r}: cannot be read: {reason_of(error)}") from None


def _at_path(name: str) -> _Found:
    path = Path(name)
    if path.is_dir():
        yield from _in_folder(path)
    elif path.is_file():
        source = Source(name, path.stat().st_size)
        kind = _archive_kind(source)
        yield from _in_archive(name, kind) if kind else [(source, True)]
    elif path.exists():
        yield Source(name), True
    elif not _GLOB_CHARACTERS & set(name):
        raise InputError(f"{name}: no such file or folder")
    elif matches := sorted(glob.glob(name, recursive=True)):
        for match in matches:
            yield from _at_path(match)
    else:
        raise InputError(f"{name}: the pattern matches no file")


def _in_folder(folder: Path) -> _Found:
    state = folder / _DATASET_STATE
    if state.is_file():  # written by datasets.Dataset.save_to_disk
        yield from _in_dataset(folder, state)
        return
    for entry in sorted(folder.iterdir()):
        if _is_passed_over(entry.name):
            continue
        if entry.is_dir():
            if not folder.resolve().is_relative_to(entry.resolve()):  # a link to a folder above has no end
                yield from _in_folder(entry)
        elif entry.is_file():
            source = Source(str(entry), entry.stat().st_size)
            kind = _archive_kind(source) if entry.name.endswith(archives.SUFFIXES) else ""
            yield from _in_archive(str(entry), kind) if kind else [(source, False)]


def _archive_kind(source: Source) -> str:
    try:
        with source.open() as stream:
            return archives.kind_of(stream.peek(archives.HEAD_BYTES)[: archives.HEAD_BYTES])
    except (TruncatedStreamError, OSError):
        return ""  # its reader will say so


def _in_archive(name: str, kind: str) -> _Found:
    """Yield the files of an archive, under the names that fsspec gives them ("zip://a.csv::b.zip")."""
    try:
        found = list(archives.zip_members(name) if kind == "zip" else archives.tar_members(name, Source(name).open()))
    except TruncatedStreamError as error:
        raise InputError(f"{name}: the tar archive is not whole: {reason_of(error)}") from None
    for member, size in found:
        if not any(map(_is_passed_over, member.removeprefix("./").split("/"))):
            yield Source(f"{kind}://{member}::{name}", size), False


def _in_tar(wanted: str, archive: str) -> _Found:
    """Yield the members of that name, in that folder or of that pattern; fsspec knows fewer compressions."""
    for source, _ in _in_archive(archive, "tar"):
        member = source.name.removeprefix("tar://").partition("::")[0].removeprefix("./")
        name = wanted.removeprefix("./").strip("/")
        if member == name or member.startswith(f"{name}/") or fnmatch(member, name):
            yield source, member == name


def _in_dataset(folder: Path, state: Path) -> _Found:
    try:
        files = [folder / entry["filename"] for entry in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{state}: no `datasets` folder state ({error!r}); save the dataset again") from None
    for file in files:
        if file.resolve().parent != folder.resolve() or not file.is_file():
            raise InputError(f"{file}: named in {state} and not in that folder; copy the whole dataset folder")
        yield Source(str(file), file.stat().st_size), True


def _at_url(url: str) -> list[tuple[Source, bool]]:
    import fsspec  # most runs read local files

    found: list[tuple[Source, bool]] = []
    try:
        fs, path = fsspec.core.url_to_fs(url)
        if fs.isfile(path):
            return [(Source(url, fs.info(path).get("size")), True)]
        for match in sorted(fs.glob(path)) if _GLOB_CHARACTERS & set(path) else [path]:
            is_named = fs.isfile(match)
            if not is_named and not fs.exists(match):
                raise FileNotFoundError
            for file in [match] if is_named else sorted(fs.find(match)):
                if is_named or not any(map(_is_passed_over, file.removeprefix(match).split("/"))):
                    # A member of an archive ("zip://a.csv::b.zip") is known by the archive's name too.
                    kind, archive = url.split("://", maxsplit=1)[0], url.partition("::")[2]
                    whole = f"{kind}://{file}::{archive}" if archive else ""
                    found.append((Source(whole or fs.unstrip_protocol(file), fs.info(file).get("size")), is_named))
    except ImportError as error:
        raise InputError(f"{url}: {reason_of(error)}; pip install that package") from None
    except FileNotFoundError:
        raise InputError(f"{url}: no such file or folder") from None
    except Exception as error:  # every fsspec driver raises exceptions of its own
        raise InputError(f"{url}: cannot be read: {reason_of(error)}") from error
    return found


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in _DATASET_METADATA or is_own_output(name)


def open_raw(name: str) -> BinaryIO:
    """Open a file as it is; InputError if that fails."""
    if name == STDIN:
        return cast("BinaryIO", os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0))
    if "://" not in name:
        try:
            return open(name, "rb", buffering=0)
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            raise InputError(f"{name}: cannot be read: {reason_of(error)}") from error
    import fsspec

    try:
        if name.startswith("tar://") and "::" in name:
            member, archive = name.removeprefix("tar://").split("::", maxsplit=1)
            return archives.open_tar_member(member, Source(archive).open())
        if "::" not in name:
            return cast("BinaryIO", fsspec.open(name, "rb").open())
        fs, path = fsspec.core.url_to_fs(name.partition("::")[2])
        with fsspec.open(name, "rb") as member:  # the archive closes before its member has been read
            return archives.unpacked_copy(member, fs.size(path) or 0)
    except InputError:  # of the archive, which has said it
        raise
    except Exception as error:  # every fsspec driver raises exceptions of its own
        raise InputError(f"{name}: cannot be read: {reason_of(error)}") from error
