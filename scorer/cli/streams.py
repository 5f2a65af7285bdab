"""The standard streams of `empathy`: they may be closed or full, and what is printed may be anybody's text."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from scorer.errors import reason_of
from scorer.text import plain

_STDIN, _STDOUT, _STDERR = range(3)
_WINDOWS = os.name == "nt"


class GoneError(Exception):
    """Standard output cannot be written any more; ``run`` says why."""


class _Kept(io.FileIO):
    """A standard stream that keeps its first fault: what runs is not cut short because nobody can read of it."""

    fault: OSError | None = None
    is_all = False

    def write(self, data: Any) -> int:
        """Write, or do as if."""
        if self.fault is None:
            try:
                return super().write(data)
            except OSError as error:
                self.fault = error
                if self.is_all:
                    raise GoneError from error
        return memoryview(data).nbytes


def settle() -> None:
    """Make all three streams usable: one that is closed fails where it is used, and no file takes its number."""
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            # Open the wrong way round, so that it is there and cannot be used.
            os.open(os.devnull, os.O_RDONLY if number == _STDOUT else os.O_WRONLY)  # the lowest number is taken
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(_STDIN, "rb", closefd=False)), encoding="utf-8")
    for name, number in (("stdout", _STDOUT), ("stderr", _STDERR)):
        with suppress(AttributeError, OSError):
            getattr(sys, name).flush()
        encoding = getattr(getattr(sys, name), "encoding", None) or "utf-8"
        raw = _Kept(number, "wb", closefd=False)
        if _WINDOWS and raw.isatty():  # a console there takes bytes for another alphabet's; Python's own stream knows
            continue
        kept = io.TextIOWrapper(
            io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=number == _STDERR or raw.isatty()
        )
        setattr(sys, name, kept)


@contextmanager
def output_is_all() -> Iterator[None]:
    """Let a fault of standard output raise GoneError at once, where nothing else comes of the work."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Kept):
        raw.is_all = True
    try:
        yield
    finally:
        if isinstance(raw, _Kept):
            raw.is_all = False


def output_fault() -> str:
    """Return why standard output could not be written; "" where it could, or whoever read it has enough."""
    sys.stdout.flush()
    fault = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "fault", None)
    if not isinstance(fault, OSError) or fault.errno == errno.EPIPE:
        return ""
    return "is closed" if fault.errno == errno.EBADF else f"cannot be written: {reason_of(fault)}"


def say(*lines: str, err: bool = False) -> None:
    """Print lines, to standard error if ``err``; without control characters, whoever wrote what they quote."""
    for line in lines:
        click.echo(plain(line), err=err)
