"""What an output may never replace: its own inputs, and files that hold something else."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from scorer.errors import OutputError
from scorer.outputs import check_new, writing


def check_apart(output: Path, *inputs: Path | str) -> None:
    """Raise OutputError if an output is, holds or lies in what it is made from: by device and inode, links followed.

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
            if path.is_dir() and _ids([path]) & above:
                raise OutputError(f"{output}: lies in the input {path}, which would read it; {fix}")


def check_json(path: Path) -> None:
    """Raise OutputError unless JSON can be written: the file is new, empty or JSON of one record, as from before."""
    check_new(path, overwrite=True)
    if path.is_file() and path.stat().st_size:
        try:
            msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise OutputError(f"{path}: is no JSON that was written here before; name another file") from None


def check_rejects(path: Path) -> None:
    """Raise OutputError unless rejects can be written: the file is new, empty, no regular file or one of rejects."""
    with writing(path):
        if not path.is_file() or not path.stat().st_size:
            return
        with open(path, "rb") as file:
            first = file.readline(1 << 20)
    try:
        if "reason" in msgspec.json.decode(first, type=dict[str, msgspec.Raw]):
            return
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    raise OutputError(f"{path}: holds no rejects, so it would be lost; name another file")


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
