"""Archives of data files, read like folders: zip, and tar as it is or compressed in any way that a file may be."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, cast

from scorer.errors import InputError, reason_of

SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""In a folder, an archive is known by these; where it is named itself, by its content."""

HEAD_BYTES = 512
_COPY_BYTES = 1 << 16
_MOST_UNPACKED, _MOST_RATIO = 1 << 30, 200
BOMB = f"they unpack to more than {_MOST_RATIO} times their size"
"""What is wrong with data of which more comes out than ``most_unpacked``."""


def most_unpacked(size: int) -> int:
    """Return how many bytes so many compressed ones may unpack to: far more than any text."""
    return _MOST_UNPACKED + _MOST_RATIO * size


def unpacked_copy(member: Any, size: int) -> BinaryIO:
    """Return a member of an archive of so many bytes as a temporary file; OSError where far too much comes out."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
    while part := member.read(_COPY_BYTES):
        copy.write(part)
        if copy.tell() > most_unpacked(size):
            copy.close()
            raise OSError(BOMB)
    copy.seek(0)
    return cast("BinaryIO", copy)


def kind_of(head: bytes) -> str:
    """Return "zip" or "tar" for the first ``HEAD_BYTES`` of an archive, decompressed; else ""."""
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    return "tar" if head[257:262] == b"ustar" else ""


def zip_members(path: str) -> Iterator[tuple[str, int]]:
    """Yield name and size of each file in a zip archive, in sorted order; InputError for a broken one."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: the zip archive cannot be read: {reason_of(error)}") from None
    yield from sorted((entry.filename, entry.file_size) for entry in entries)


def tar_members(name: str, opened: AbstractContextManager[Any]) -> Iterator[tuple[str, int]]:
    """Yield name and size of each file in a tar archive, in sorted order; ``opened`` gives its decompressed stream."""
    try:
        with opened as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            entries = sorted((entry.name, entry.size) for entry in archive if entry.isfile())
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{name}: the tar archive cannot be read: {reason_of(error)}") from None
    yield from entries


def open_tar_member(member: str, opened: AbstractContextManager[Any]) -> BinaryIO:
    """Return one file of a tar archive as a temporary file; FileNotFoundError if it is not there."""
    with opened as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            if entry.isfile() and entry.name == member and (file := archive.extractfile(entry)) is not None:
                copy = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads it closes it
                shutil.copyfileobj(file, copy, _COPY_BYTES)
                copy.seek(0)
                return cast("BinaryIO", copy)
    raise FileNotFoundError(f"no file {member!a} in the archive")
