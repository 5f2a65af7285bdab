"""Outputs on disk: the one place that decides whether an output may be written, and that writes it whole or not at all.

A file is written under a temporary name, flushed to disk and renamed. A folder is made beside its place and renamed
when it is whole. A run that takes long works in OUT.partial, whose ``run.json`` says what it was begun with: only a run
of the same kind may resume it. JSON is read back as a typed record, so that a damaged file is one clear line.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TypeVar

import msgspec

from scorer.errors import EmpathyError, OutputError, printable, reason_of
from scorer.locks import locked

Existing = Literal["error", "resume", "overwrite"]
"""What to do with an output that exists: refuse, resume the run that began it, or replace it."""

FilesOf = Callable[[Path], Collection[str]]
"""Returns the names of the files that a run wrote into a folder; what else lies there is the user's and is kept."""

MANIFESTS = "_manifest*.jsonl"
"""What matches the name of every manifest in a folder of scores, a share's among them."""

JOINED = "_joined.json"
"""Which windows in a folder of scores were changed when shares were joined."""

RUN = "run.json"
"""What a run was begun with: in OUT.partial, and in a folder that is finished."""

_HASH = re.compile("[0-9a-f]{32,}")

T = TypeVar("T")


@contextmanager
def writing(output: Path, *, then: str = "") -> Iterator[None]:
    """Turn a fault of the file system into one line; ``then`` says how to resume."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or output
        raise OutputError(f"{where}: cannot be written: {error.strerror or error}{then}") from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file that takes its name only once it is whole and on disk."""
    with replacing_binary(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


@contextmanager
def replacing_binary(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name only once it is whole and on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        if hasattr(os, "O_DIRECTORY"):  # else the new name may be lost in a power cut, though the data are not
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


def json_text(value: Any, **how: Any) -> str:
    """Return a record, or anything that JSON holds, as this project writes it: one key per line."""
    return json.dumps(msgspec.to_builtins(value), indent=1, **how) + "\n"


def json_line(value: Any) -> str:
    """Return a record, or anything that JSON holds, as one line, closed by a line feed."""
    return json.dumps(msgspec.to_builtins(value)) + "\n"


def write_json(path: Path, value: Any, **how: Any) -> None:
    """Write a record, or anything that JSON holds, whole or not at all; OutputError where the disk does not take it."""
    with writing(path), replacing(path) as file:
        file.write(json_text(value, **how))


def read_json(path: Path, kind: type[T], fix: str, error: type[EmpathyError] = OutputError) -> T:
    """Return the record of a type that a JSON file holds; ``error`` names the file, the fault and the ``fix``.

    Keys that the type does not know are passed over, so that a later release may add some. FileNotFoundError where
    there is no such file.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise error(f"{path}: cannot be read: {reason_of(fault)}; {fix}") from None
    return decode_json(raw, kind, path, fix, error)


def read_json_lines(path: Path, kind: type[T], fix: str, error: type[EmpathyError] = OutputError) -> Iterator[T]:
    """Yield the records of a type that a file of JSON lines holds; otherwise what ``read_json`` does."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield decode_json(line, kind, f"{path}:{number}", fix, error)
    except FileNotFoundError:
        raise
    except OSError as fault:
        raise error(f"{path}: cannot be read: {reason_of(fault)}; {fix}") from None


def decode_json(
    raw: bytes | str, kind: type[T], where: Path | str, fix: str, error: type[EmpathyError] = OutputError
) -> T:
    """Return the record of a type that a text of JSON is; ``error`` says ``where`` it stands, the fault and the fix."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, EmpathyError) as fault:  # the last: of a setting
        raise error(f"{where}: is damaged ({reason_of(fault)}); {fix}") from None


def check_parent(output: Path, error: type[EmpathyError] = OutputError) -> None:
    """Raise ``error`` unless the folder that an output will lie in exists."""
    if not output.parent.is_dir():
        raise error(f"{output}: the folder {output.parent} does not exist; create it first")


def check_new(output: Path, *, overwrite: bool = False) -> None:
    """Raise OutputError unless a file can be written: its folder exists, and it is new or may be replaced."""
    check_parent(output)
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; name a file")
    if output.exists() and not output.is_file():
        raise OutputError(f"{output}: is a device or a pipe, which a file would replace; name a file")
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already; name another output or say --overwrite")


def check_folder(output: Path, existing: Existing, mark: str, maker: str, written: FilesOf | None = None) -> None:
    """Raise OutputError unless a folder can be written: it is new, empty, or holds ``mark`` and may be replaced.

    ``mark`` is the file that ``maker`` (the name of a command) puts into every folder that it makes, so that no other
    folder is ever replaced. ``written`` is what ``new_folder`` gets.
    """
    with locked(output), writing(output):
        _settle(output.resolve(), mark, written)
    check_parent(output)
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / mark).is_file():
        raise OutputError(f"{output}: holds no {mark}, so {maker} did not make it and will not replace it")
    if existing != "overwrite":
        hint = "it is finished" if existing == "resume" else "name another output or say --overwrite"
        raise OutputError(f"{output}: exists already; {hint}")


def partial(output: Path) -> Path:
    """Return where the unfinished work for an output lies: OUT.partial beside it."""
    return output.with_name(f"{output.name}.partial")


@contextmanager
def new_folder(output: Path, *, mark: str = "", written: FilesOf | None = None, then: str = "") -> Iterator[Path]:
    """Give an empty folder that takes the name ``output`` once it is whole; one that fails is removed.

    What it replaces is removed only then, and of that only what ``written`` names: other files move into the new
    folder. A later run ends what a kill left half done. ``mark`` is the file by which a replaced folder is known, so
    that nothing else is ever removed. Left out, all files of ``output`` are replaced. OutputError where another
    process writes ``output`` at this moment.
    """
    named, output = output, output.resolve()  # of a link what it leads to, and "." has a name
    work, old = _unfinished(output), _aside(output)
    with locked(named), writing(named, then=then):
        _settle(output, mark, written)
        if old.exists():
            raise OutputError(f"{old}: holds other files, and what is replaced goes there; move them away")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            yield work
            if output.is_dir() and not any(output.iterdir()):
                output.rmdir()
            if output.exists():
                if clash := sorted(_kept(output, written) & _names(work)):
                    file = output / clash[0]
                    raise OutputError(f"{file}: was not written by the earlier run, which is replaced; move it away")
                output.rename(old)
            work.rename(output)
            _settle(output, mark, written)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _settle(output: Path, mark: str, written: FilesOf | None) -> None:
    """End the exchange of two folders, also where a kill left it half done."""
    old = _aside(output)
    if not (old / mark).exists():
        return
    if not output.exists():
        old.rename(output)
        return
    for name in _kept(old, written):
        (old / name).rename(output / name)
    work = _unfinished(output)
    shutil.rmtree(work, ignore_errors=True)
    old.rename(work)  # at once: half of it, without its mark, would be somebody else's files
    shutil.rmtree(work)


def _unfinished(output: Path) -> Path:
    return output.with_name(f".{output.name}.unfinished")


def _aside(output: Path) -> Path:
    return output.with_name(f".{output.name}.old")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _kept(folder: Path, written: FilesOf | None) -> set[str]:
    """Return the names of files that are the user's."""
    return set() if written is None else _names(folder) - set(written(folder))


def is_own_output(name: str) -> bool:
    """Whether a file name is one that scoring writes beside its output, never an input."""
    endings = (".rejects.jsonl", ".meta.json", ".partial")
    return name.endswith(endings) or name in ("rejects.jsonl", JOINED) or fnmatch(name, MANIFESTS)


def begin_work(output: Path, identity: Any, existing: Existing) -> Path:
    """Return the folder OUT.partial in which a run works, begun now or by an earlier run of the same ``identity``.

    ``identity`` is a record of all that must be the same for a run to be resumed. OutputError where an earlier run lies
    there and ``existing`` is ``error``, or where it was begun with something else.
    """
    work = partial(output)
    manifest = work / RUN
    if work.exists() and existing == "error":
        raise OutputError(f"{work}: an earlier run's; continue it with --resume or start afresh with --overwrite")
    with writing(output):
        if work.exists() and existing == "overwrite":
            shutil.rmtree(work)
        if manifest.exists():
            known = read_json(manifest, dict[str, Any], "start afresh with --overwrite")
            check_same(work, known, msgspec.json.decode(json_line(identity)))  # as JSON has it: no tuples
        else:
            work.mkdir(exist_ok=True)
            write_json(manifest, identity)
    return work


def end_work(output: Path, identity: Any) -> None:
    """Remove OUT.partial, the output being whole, unless a run of another ``identity`` works there.

    What says whose it is goes last, so that a run that is killed here leaves nothing that the next one does not remove.
    """
    work = partial(output)
    manifest = work / RUN
    with writing(output):
        if manifest.exists():
            if read_json(manifest, dict[str, Any], "remove it") != msgspec.json.decode(json_line(identity)):
                return
            for path in work.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path != manifest:
                    path.unlink()
            manifest.unlink()
        if work.is_dir() and not any(work.iterdir()):
            work.rmdir()


def check_same(
    where: Path,
    known: Mapping[str, Any],
    mine: Mapping[str, Any],
    fix: str = "start afresh with --overwrite",
    *,
    how: str = "was begun with",
) -> None:
    """Raise OutputError for the first value in which a run that was begun ``where`` differs from this one.

    Both are identities as JSON holds them. Of a record inside, such as the settings, the value in it is named.
    """
    for name in sorted({*known, *mine}):
        before, now = known.get(name), mine.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            check_same(where, before, now, fix, how=how)
        elif before != now:
            name, before, now = printable(name.replace("_", " ")), _listed(before), _listed(now)
            raise OutputError(f"{where}: {how} {name} {before} and this run has {now}; use the same, or {fix}")


def _listed(value: Any) -> Any:
    """Return a value as it may stand in a message: a list with commas, of a hash the beginning."""
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_listed(one)) for one in value) or "nothing"
    return f"{value[:12]}..." if isinstance(value, str) and _HASH.fullmatch(value) else printable(str(value))
