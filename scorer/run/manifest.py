"""The manifest of a run: which windows are done, one JSON line each, and who may go on with them.

The first line is the run's identity: the scorer and the settings that a resumed run must have too. The last one says
that the run is complete. A line without its line feed was being written when the process died. Of several processes
that share a folder each has a manifest of its own. A process holds a lock on its manifest as long as it lives.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorer.errors import OutputError
from scorer.run.windows import Tally, Window

NAME = "_manifest.jsonl"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""

NAMES = "_manifest*.jsonl"
"""What matches every manifest's name, a share's among them."""

_OF_SHARE = re.compile(r"_manifest-(\d+)-of-(\d+)\.jsonl")


@dataclass(frozen=True, slots=True)
class Share:
    """The windows that one of several processes scores: every ``count``-th, from the one with number ``index``."""

    index: int = 0
    count: int = 1

    def has(self, number: int) -> bool:
        """Whether the window of that number is in this share."""
        return number % self.count == self.index

    def split(self, parts: int) -> list[Share]:
        """Return this share in so many parts, in the order in which their windows come."""
        return [Share(self.index + part * self.count, self.count * parts) for part in range(parts)]

    def __str__(self) -> str:
        """Return it as it stands in names of files: counted from 1."""
        return f"{self.index + 1}-of-{self.count}"


WHOLE = Share()
"""The share of a process that is alone."""


class Manifest:
    """The manifest of one process in a folder. Opening it takes its lock; OutputError if another process has it."""

    def __init__(self, folder: Path, share: Share, identity: Mapping[str, Any]) -> None:
        """Open or begin the manifest of a share; ``read`` says what it holds."""
        self.path = manifest_of(folder, share)
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._file = open(self.path, "ab")  # noqa: SIM115 - the lock lasts as long as it is open
        try:
            _lock(self._file.fileno(), folder)
        except OutputError:
            self._file.close()
            raise

    def read(self) -> tuple[dict[int, Window], bool]:
        """Return the finished windows by their number, and whether the run is complete.

        A new manifest gets the run's identity. OutputError if the run was begun with another one, or is damaged.
        """
        whole, _, torn = self.path.read_bytes().rpartition(b"\n")
        try:
            entries = [json.loads(line) for line in whole.splitlines()]
            identity = entries[0]["identity"] if entries else self._identity
            complete = bool(entries) and "complete" in entries[-1]
            windows = [
                Window(entry["number"], entry["records"], Tally.from_json(entry["tally"]))
                for entry in entries[1 : len(entries) - complete]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.path}: damaged ({error}); start afresh with --overwrite") from None
        self._check(identity)
        if torn:
            os.truncate(self.path, len(whole) + bool(entries))
        if not entries:
            self.append({"identity": self._identity})
        for other in manifests(self.path.parent):
            if other != self.path and (known := identity_of(other)) is not None:
                self._check(known)
        return {window.number: window for window in windows}, complete

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a line: after this it survives anything."""
        with open(self.path, "r+b") as file:  # not created anew, should the folder have been emptied meanwhile
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()

    def _check(self, identity: Mapping[str, Any]) -> None:
        for key in sorted({*identity, *self._identity}):
            if identity.get(key) != self._identity.get(key):
                raise OutputError(
                    f"{self.path.parent}: was begun with {key} {identity.get(key)} and this run has "
                    f"{self._identity.get(key)}; use the same, or start afresh with --overwrite"
                )


def manifest_of(folder: Path, share: Share) -> Path:
    """Return where the manifest of a share stands."""
    return folder / (NAME if share.count == 1 else f"_manifest-{share}.jsonl")


def begun_with(folder: Path) -> dict[str, Any] | None:
    """Return the identity of the run that a folder holds, None if there is none."""
    return next(filter(None, map(identity_of, manifests(folder))), None)


def identity_of(manifest: Path) -> dict[str, Any] | None:
    """Return the identity of the run that a manifest is of, None where it is not begun or damaged."""
    try:
        with open(manifest, "rb") as file:
            identity = json.loads(file.readline())["identity"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return identity if isinstance(identity, dict) else None


def manifests(folder: Path) -> list[Path]:
    """Return the manifests of a folder, in order; none where no run is there."""
    return sorted(folder.glob(NAMES))


def unfinished(folder: Path) -> str | None:
    """Return what is missing until the run in a folder is complete, None if nothing is or no run is there."""
    present = {path.name: path for path in manifests(folder)}
    counts = {int(found[2]) for name in present if (found := _OF_SHARE.fullmatch(name))}
    names = [manifest_of(folder, Share(index, count)).name for count in counts for index in range(count)]
    expected = names or list(present)
    open_ = [name for name in expected if name not in present or not _is_complete(present[name])]
    if not open_:
        return None
    shares = [found[1] for name in open_ if (found := _OF_SHARE.fullmatch(name))]
    return f"shards {', '.join(shares)} of {max(counts)} are not finished" if shares else "it is not finished"


def _is_complete(manifest: Path) -> bool:
    return b'"complete"' in manifest.read_bytes().rstrip(b"\n").rpartition(b"\n")[2]


def _lock(descriptor: int, folder: Path) -> None:
    """Take the lock of an open file until it is closed or the process ends, however it ends."""
    if os.name != "posix":
        return
    import fcntl  # POSIX only

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"{folder}: another process is writing it; wait until it has ended, name another output, or let several "
            "share a folder with --shard"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # some network file systems have no locks
            raise
