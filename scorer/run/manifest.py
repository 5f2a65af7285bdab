"""The manifest of a run: which windows are done, one JSON line each, and who may continue.

The first line is the run's identity: the scorer and the settings that a resumed run must have too. The last one says
that the run is complete. A line without its line feed was being written when the process died. Of several processes
that share a folder each has a manifest of its own. A process holds a lock on its manifest as long as it lives.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from scorer.errors import OutputError
from scorer.locks import lock
from scorer.outputs import JOINED, MANIFESTS, check_same, decode_json, json_line, read_json
from scorer.reading.windows import Share, Window
from scorer.values import Count

NAME = "_manifest.jsonl"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""

IDS = "_ids-*.npy"
"""What matches the name of every file of ids that were not compared yet with those of the others."""

_AFRESH = "start afresh with --overwrite"
_OF_SHARE = re.compile(r"_manifest-(\d+)-of-(\d+)\.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What must be the same for a run to be resumed.

    ``scorer`` is a bundle's hash, ``shards`` how many share it, ``keep`` the columns that are kept. ``counted`` says
    that those who share it know their windows by counting, and not each other's ids, which are compared at the end.
    """

    scorer: str
    engine: str
    precision: str
    window: Count
    uncertainty: bool
    shards: Count
    keep: tuple[str, ...] = ()
    counted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What became of windows whose dialogues have ids that occur in windows before them, when shares were joined."""

    windows: list[Window]


@dataclass(frozen=True, slots=True)
class _Begun:
    identity: Identity


@dataclass(frozen=True, slots=True)
class _Ended:
    complete: Count


class Manifest:
    """The manifest of one process in a folder. Opening it takes its lock; OutputError if another process has it."""

    def __init__(self, folder: Path, share: Share, identity: Identity) -> None:
        """Open or begin the manifest of a share; ``read`` says what it holds."""
        self.path = manifest_of(folder, share)
        self._identity = identity
        self._file = open(self.path, "ab")  # noqa: SIM115 - the lock lasts as long as it is open
        try:
            lock(
                self._file.fileno(),
                f"{folder}: another process is writing it; wait until it has ended, name another output, or let "
                "several share a folder with --shard",
            )
        except OutputError:
            self._file.close()
            raise

    def read(self) -> tuple[dict[int, Window], bool]:
        """Return the finished windows by their number, and whether the run is complete.

        A new manifest gets the run's identity. OutputError if the run was begun with another one, or is damaged.
        """
        whole, _, torn = self.path.read_bytes().rpartition(b"\n")
        lines = whole.splitlines()
        complete = _is_end(lines)
        known = [decode_json(line, _Begun, self.path, _AFRESH).identity for line in lines[:1]]
        windows = [decode_json(line, Window, self.path, _AFRESH) for line in lines[1 : len(lines) - complete]]
        if len({window.number for window in windows}) < len(windows):
            raise OutputError(f"{self.path}: is damaged (a window is there twice); {_AFRESH}")
        if torn:
            os.truncate(self.path, len(whole) + bool(lines))
        others = (identity_of(path) for path in manifests(self.path.parent) if path != self.path)
        for identity in (*known, *filter(None, others)):
            check_same(self.path.parent, asdict(identity), asdict(self._identity))
        if not lines:
            self._append(_Begun(self._identity))
        joined = joined_windows(self.path.parent)
        return {window.number: joined.get(window.number, window) for window in windows}, complete

    def add(self, window: Window) -> None:
        """Note a finished window: after this it survives anything."""
        self._append(window)

    def end(self, windows: int) -> None:
        """Note that the run is complete."""
        self._append(_Ended(windows))

    def close(self) -> None:
        """Give the lock back."""
        self._file.close()

    def _append(self, entry: Any) -> None:
        with open(self.path, "r+b") as file:  # not created anew, should the folder have been emptied meanwhile
            file.seek(0, os.SEEK_END)
            file.write(json_line(entry).encode())
            file.flush()
            os.fsync(file.fileno())


def finished_windows(folder: Path) -> list[Window]:
    """Return the windows that the manifests of a folder name; OutputError if one is damaged."""
    found = []
    for path in manifests(folder):
        lines = path.read_bytes().rpartition(b"\n")[0].splitlines()
        found += [decode_json(line, Window, path, _AFRESH) for line in lines[1 : len(lines) - _is_end(lines)]]
    joined = joined_windows(folder)
    return [joined.get(window.number, window) for window in found]


def joined_windows(folder: Path) -> dict[int, Window]:
    """Return the windows that were changed when shares were joined, by their number."""
    try:
        return {window.number: window for window in read_json(folder / JOINED, Joined, _AFRESH).windows}
    except FileNotFoundError:
        return {}


def ids_of(folder: Path, number: int) -> Path:
    """Return where the hashes of a window's ids wait until shares are joined."""
    return folder / f"_ids-{number:06d}.npy"


def is_unjoined(folder: Path) -> bool:
    """Whether a folder holds shards whose ids were not compared yet with those of the others."""
    return next(folder.glob(IDS), None) is not None


def manifest_of(folder: Path, share: Share) -> Path:
    """Return where the manifest of a share stands."""
    return folder / (NAME if share.count == 1 else f"_manifest-{share}.jsonl")


def begun_with(folder: Path) -> Identity | None:
    """Return the identity of the run that a folder holds, None if there is none."""
    return next(filter(None, map(identity_of, manifests(folder))), None)


def identity_of(manifest: Path) -> Identity | None:
    """Return the identity of the run that a manifest is of, None where it is not begun or damaged."""
    try:
        with open(manifest, "rb") as file:
            return msgspec.json.decode(file.readline(), type=_Begun).identity
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def manifests(folder: Path) -> list[Path]:
    """Return the manifests of a folder, in order; none where no run is there."""
    return sorted(folder.glob(MANIFESTS))


def missing_from(folder: Path) -> str | None:
    """Return what is missing until the run in a folder is complete, None if nothing is or no run is there."""
    unjoined = "its shards are not joined: repeat one of them" if is_unjoined(folder) else None
    return unfinished(folder) or unjoined


def unfinished(folder: Path) -> str | None:
    """Return which shards of a folder are not finished, None if all are or no run is there."""
    present = {path.name: path for path in manifests(folder)}
    counts = {int(found[2]) for name in present if (found := _OF_SHARE.fullmatch(name))}
    names = [manifest_of(folder, Share(index, count)).name for count in counts for index in range(count)]
    expected = names or list(present)
    open_ones = [
        name for name in expected if name not in present or not _is_end(present[name].read_bytes().splitlines())
    ]
    if not open_ones:
        return None
    shares = [found[1] for name in open_ones if (found := _OF_SHARE.fullmatch(name))]
    return f"shards {', '.join(shares)} of {max(counts)} are not finished" if shares else "it is not finished"


def _is_end(lines: list[bytes]) -> bool:
    """Whether the last line of a manifest says that the run is complete, with as many windows as stand before it."""
    try:
        return bool(lines) and msgspec.json.decode(lines[-1], type=_Ended).complete == len(lines) - 2
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
