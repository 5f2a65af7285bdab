"""Finished outputs: what they were made from and the hashes of their files, by which a later run knows them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import msgspec

from scorer.errors import OutputError
from scorer.outputs import RUN, check_same, read_json, write_json

AFRESH = "name another output or say --overwrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What run.json of a finished folder holds: the identity of its run, and the hash of each of its files by name."""

    identity: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path, patterns: Iterable[str]) -> str:
    """Return a hash of the names and bytes of a folder's files that match one of the patterns."""
    state = sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns):
            state.update(f"{path.name}\0{file_hash(path)}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def file_hashes(output: Path) -> dict[str, str]:
    """Return the hash of each file in a folder, or of the one file that ``output`` is, by its path in there.

    Hidden files and run.json do not count. Empty where nothing is there.
    """
    if output.is_file():
        return {"": file_hash(output)}
    files = {path.relative_to(output).as_posix(): path for path in sorted(output.rglob("*")) if path.is_file()}
    return {name: file_hash(path) for name, path in files.items() if not f"/{name}".count("/.") and name != RUN}


def changed_file(output: Path, files: Mapping[str, str]) -> Path | None:
    """Return the first of some files in ``output`` that is missing or not what its hash says, None if all are right."""
    paths = {output / name if name else output: known for name, known in files.items()}
    return next((path for path, known in paths.items() if not path.is_file() or file_hash(path) != known), None)


def seal(folder: Path, identity: Any) -> None:
    """Note in a folder that is whole what it was made from: a record of all that a run must share to resume it."""
    write_json(folder / RUN, Finished(identity=msgspec.to_builtins(identity), files=file_hashes(folder)))


def sealed_files(folder: Path) -> dict[str, str]:
    """Return the hashes that were noted of a folder's files, {} where none were."""
    try:
        return read_json(folder / RUN, Finished, AFRESH).files
    except FileNotFoundError:
        return {}


def check_sealed(output: Path, identity: Any) -> None:
    """Raise OutputError unless a finished folder was made from the same, and its files are what was made."""
    try:
        known = read_json(output / RUN, Finished, AFRESH)
    except FileNotFoundError:
        raise OutputError(f"{output}: is finished and does not say what it was made from; {AFRESH}") from None
    check_made_from(output, known.identity, identity)
    if (path := changed_file(output, known.files)) is not None:
        raise OutputError(f"{path}: is missing or was changed since it was made; {AFRESH}")


def check_made_from(output: Path, known: Mapping[str, Any], identity: Any) -> None:
    """Raise OutputError for the first value in which a finished output's run differs from this one."""
    check_same(output, known, msgspec.to_builtins(identity), AFRESH, how="is finished and was made with")
