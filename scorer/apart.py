"""What an output may never replace: its own inputs, and files that hold something else."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from scorer.errors import OutputError
from scorer.outputs import check_new, writing


def check_apart(output: Path, *inputs: Path | str, inside: bool = False) -> None:
    """Raise OutputError if an output is, holds or lies in what it is made from: by device and inode, links followed.

    ``inside`` allows that it lies in an input, for what reads of a folder only files that it knows by name.
    Inputs are files, folders, globs, the archive of a tar:// URL, or - for what standard input is redirected from.
    """
    fix = "name another output"
    above = _ids(output.resolve().parents)
    mine = _ids([output])
    for name in inputs:
        if str(name) == "-":
            if _ids([0]) & mine:
                raise OutputError(f"{output}: is what standard input reads, which it would replace; {fix}")
            continue
        for path in _paths(str(name)):
            if _ids([path]) & mine:
                raise OutputError(f"{output}: is an input as well, which it would replace; {fix}")
            if _ids(path.resolve().parents) & mine:
                raise OutputError(f"{output}: holds the input {path}, which it would replace; {fix}")
            if not inside and path.is_dir() and _ids([path]) & above:
                raise OutputError(f"{output}: lies in the input {path}, which would read it; {fix}")


def check_own(path: Path, own: Callable[[Path], bool], what: str) -> None:
    """Raise OutputError if a file may not be replaced: it exists, is not empty and not ``own``, an earlier output."""
    with writing(path):
        if not path.is_file() or not path.stat().st_size or own(path):
            return
    raise OutputError(f"{path}: is no {what} that was written here before, so it is not replaced; name another file")


def check_json(path: Path, key: str) -> None:
    """Raise OutputError unless JSON can be written: the file is new, empty or a record with ``key``, as from before."""
    check_new(path, overwrite=True)
    check_own(path, lambda found: key in _record(found.read_bytes()), f"JSON with {key!r}")


def check_rejects(path: Path) -> None:
    """Raise OutputError unless rejects can be written: the file is new, empty, no regular file or one of rejects."""
    check_own(path, lambda found: "reason" in first_record(found), "file of rejects")


def first_record(path: Path) -> dict[str, Any]:
    """Return the record in the first line of a file of JSON lines; empty if there is none."""
    with open(path, "rb") as file:
        return _record(file.readline(1 << 24))


def footer_holds(path: Path, key: bytes) -> bool:
    """Whether a file is Parquet whose metadata hold a key."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
        if magic != b"PAR1" or length > size:
            return False
        file.seek(max(0, size - 8 - length))
        return key in file.read(length)


def _record(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def _paths(name: str) -> list[Path]:
    """Return the files and folders that an input names."""
    name = name.partition("::")[2] or name.removeprefix("file://")
    if "\0" in name:
        return []
    if os.path.lexists(name) or not glob.has_magic(name):
        return [Path(name)]
    return [Path(found) for found in glob.iglob(name, recursive=True)]


def _ids(paths: Iterable[Path | int]) -> set[tuple[int, int]]:
    """Return device and inode of the paths (or open descriptors) that exist."""
    found = set()
    for path in paths:
        with suppress(OSError, ValueError):
            what = os.stat(path)  # noqa: PTH116 - or an open descriptor
            found.add((what.st_dev, what.st_ino))
    return found
