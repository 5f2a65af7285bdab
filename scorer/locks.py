"""Locks of outputs: of two processes that would write one, the second is told so.

A lock is the system's, on an open file, so that a process which is dead, however it died, holds none. On Windows it is
one of bytes far behind the end of the file: nobody may read there, and nobody needs to.
"""

from __future__ import annotations

import errno
import importlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident, get_native_id

from scorer.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    _POSIX = False
else:
    _POSIX = True

_MODE = 0o600
_PATIENCE_SECONDS, _PAUSE_SECONDS = 1.0, 0.02
"""A process that was killed while it started another has its locks until that one is under way."""
_FIRST_BYTE = 1 << 30
_BYTES = 1 << 20

_HELD: dict[Path, int] = {}
"""The outputs that this process has locked, and the thread that did, which may do so again inside."""


@contextmanager
def locked(output: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of an output, a file .OUT.lock beside it; OutputError if another process (or thread) has it.

    ``shared`` is for processes that write different parts of one output: they exclude only whoever wants it alone. An
    output that cannot be there (no folder, a device) is not locked: whoever writes it says what is wrong.
    """
    output_is = output.resolve()  # of a link what it leads to, and "." has a name
    if _HELD.get(output_is) == get_ident():
        yield
        return
    file = output_is.with_name(f".{output_is.name}.lock")
    if not output_is.parent.is_dir() or (output_is.exists() and not (output_is.is_file() or output_is.is_dir())):
        yield
        return
    busy = f"{output}: another process is writing it; wait until it has ended, or name another output"
    descriptor = _open(file, busy, shared=shared)
    if descriptor is None:
        yield
        return
    _HELD[output_is] = get_ident()
    try:
        yield
    finally:
        _HELD.pop(output_is, None)
        try:
            with suppress(OSError, OutputError):
                if _POSIX:
                    lock(descriptor, "", patience=0)  # whoever shares it still needs the file
                    file.unlink()
        finally:
            os.close(descriptor)
            with suppress(OSError):
                if not _POSIX:
                    file.unlink()  # which fails while anybody has it open


def _open(file: Path, busy: str, *, shared: bool) -> int | None:
    """Return the descriptor of a locked file, None where the folder takes no file."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, _MODE)
        except OSError:
            return None
        try:
            lock(descriptor, busy, shared=shared)
            found = file.stat()
        except FileNotFoundError:  # whoever had it removed it meanwhile
            os.close(descriptor)
            continue
        except BaseException:
            os.close(descriptor)
            raise
        mine = os.fstat(descriptor)
        if (mine.st_dev, mine.st_ino) == (found.st_dev, found.st_ino):
            return descriptor
        os.close(descriptor)


def lock(descriptor: int, busy: str, *, shared: bool = False, patience: float = _PATIENCE_SECONDS) -> None:
    """Take the lock of an open file until it is closed or the process ends; OutputError ``busy`` if another has it."""
    if not _POSIX:
        _lock_bytes(descriptor, busy, shared=shared)
        return
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    until = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise OutputError(busy) from None
            time.sleep(_PAUSE_SECONDS)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # some network file systems have no locks
            raise


def _lock_bytes(descriptor: int, busy: str, *, shared: bool) -> None:
    """Lock as Windows can, which knows no shared locks: one byte for each that shares, all of them for one alone."""
    msvcrt = importlib.import_module("msvcrt")
    first, count = (_FIRST_BYTE + get_native_id() % _BYTES, 1) if shared else (_FIRST_BYTE, _BYTES)
    os.lseek(descriptor, first, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, count)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK):
            raise OutputError(busy) from None
        if error.errno not in (errno.EINVAL, errno.ENOSYS):  # some network file systems have no locks
            raise
