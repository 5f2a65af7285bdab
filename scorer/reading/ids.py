"""Chunks in their place in the input: ids that are unique along it, and lines that are those of the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from scorer.arrays import Hashes
from scorer.inputs.id_set import HashSet, hash64
from scorer.inputs.parse import Reject
from scorer.reading.chunks import Chunk, dialogue_line, reject_line

_NUMBERED = re.compile(r"-\d+$")


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A chunk in its place in the input: its ``ids`` are unique, and its lines are those of the file.

    ``alive`` (D,) says which dialogues are some still: one whose id occurred before is among ``rejects`` now, each with
    its place among the records.
    """

    chunk: Chunk
    ids: Sequence[str]
    alive: npt.NDArray[np.bool_]
    rejects: Sequence[tuple[int, Reject]]
    poisoned: dict[int, Reject]

    @property
    def characters(self) -> npt.NDArray[np.int64]:
        """The characters of the records up to each, (N,)."""
        of_record = np.zeros(self.chunk.size, dtype=np.int64)
        of_record[self.chunk.rows[self.alive]] = self.chunk.characters[self.alive]
        return np.cumsum(of_record)

    def lines(self) -> list[str]:
        """Return what is hashed of each record, (N,)."""
        chunk, found = self.chunk, [""] * self.chunk.size
        for number, (place, id_, content) in enumerate(zip(chunk.rows.tolist(), self.ids, chunk.contents, strict=True)):
            kept = ((name, value) for name, column in chunk.kept.items() if (value := column[number]) is not None)
            found[place] = dialogue_line(id_, content, kept)
        for place, reject in self.rejects:
            found[place] = reject_line(reject)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class RawIds:
    """Ids of a window as they stand in it: their hashes (D,), and which are ``own`` hashes of their contents (D,)."""

    hashes: Hashes
    own: npt.NDArray[np.bool_]


def as_it_is(chunk: Chunk) -> Placed:
    """Return a chunk whose ids and lines are right already."""
    return Placed(chunk, chunk.ids, np.ones(len(chunk.ids), dtype=bool), chunk.rejects, chunk.poisoned)


class Ids:
    """Makes ids unique along an input.

    A second dialogue with the same explicit id is rejected; of those without an id and with the same content, whose id
    is the content's hash, the second gets "-2". Memory grows by 16 to 32 bytes per id.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._seen = HashSet()
        self._repeats: dict[int, int] = {}

    def know(self, ids: Iterable[str]) -> None:
        """Take ids that an earlier run gave."""
        hashes = np.array([hash64(id_) for id_ in ids], dtype=np.uint64)
        if not self.are_new(hashes):  # as where two ids have one hash
            for number in hashes.tolist():
                self._seen.add(number)

    def are_new(self, hashes: Hashes) -> bool:
        """Take the hashes of ids (N,) if all are new and none is there twice, else none; say whether it took them."""
        return self._seen.add_if_new(hashes)

    def renamed(self, ids: Sequence[str], raw: RawIds) -> list[str] | None:
        """Take ids (D,) of a window and return what they become; None, and take none, if one may be a reject."""
        hashes, own = raw.hashes, raw.own
        given = {number for number, is_own in zip(hashes.tolist(), own.tolist(), strict=True) if not is_own}
        if len(given) < int((~own).sum()) or any(number in self._seen for number in given):
            return None
        if given & set(hashes[own].tolist()):
            return None
        if any(_NUMBERED.search(id_) for id_, is_own in zip(ids, own.tolist(), strict=True) if not is_own):
            return None  # as what such a hash may become
        first = zip(ids, hashes.tolist(), strict=True)
        return [id_ if self._seen.add(number) else self._numbered(id_, number) for id_, number in first]

    def place(self, chunk: Chunk, line: int) -> Placed:
        """Return a chunk in its place, behind so many lines of its file."""
        poisoned = {number: _moved(reject, line) for number, reject in chunk.poisoned.items()}
        rejects = [(place, _moved(reject, line)) for place, reject in chunk.rejects] if line else chunk.rejects
        alive = np.ones(len(chunk.ids), dtype=bool)
        if self.are_new(chunk.id_hashes):
            return Placed(chunk, chunk.ids, alive, rejects, poisoned)
        ids, refused = list(chunk.ids), []
        for row, first in enumerate(chunk.id_hashes.tolist()):
            if self._seen.add(first):
                continue
            id_ = chunk.ids[row]
            if id_ == chunk.contents[row]:
                ids[row] = self._numbered(id_, first)
                continue
            detail = f"id {id_!a} occurred before, expected unique ids (or none: the content's hash is taken)"
            reject = Reject(chunk.sources[row], int(chunk.lines[row]) + line, "duplicate_id", detail, id_)
            refused.append((int(chunk.rows[row]), reject))
            alive[row] = False
            poisoned.pop(row, None)
        return Placed(chunk, ids, alive, sorted([*rejects, *refused], key=lambda item: item[0]), poisoned)

    def _numbered(self, id_: str, first: int) -> str:
        while True:
            self._repeats[first] = self._repeats.get(first, 1) + 1
            numbered = f"{id_}-{self._repeats[first]}"
            if self._seen.add(hash64(numbered)):
                return numbered


def _moved(reject: Reject, line: int) -> Reject:
    return replace(reject, line=reject.line + line) if line else reject
