"""Write a file whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from scorer.errors import OutputError


@contextmanager
def writing(output: Path, *, then: str = "") -> Iterator[None]:
    """Turn a fault of the file system into one line; ``then`` says how to go on."""
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
