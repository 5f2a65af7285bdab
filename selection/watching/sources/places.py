"""How far a file is read, known by what it holds: a file that was renamed or copied is not read again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

_ENDS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``at`` bytes of a file are read, which began with ``head`` and ended with ``tail`` (hashes of ``_ENDS`` bytes).

    ``rows`` are the rows in them, ``scorer`` the hash of the scorer that the file names.
    """

    at: int = 0
    rows: int = 0
    head: str = ""
    tail: str = ""
    scorer: str | None = None
    faults: int = 0
    first_fault: str = ""

    def is_in(self, path: Path) -> bool:
        """Whether a file holds what was read, perhaps with more behind it."""
        return bool(self.at) and path.stat().st_size >= self.at and ends_of(path, self.at) == (self.head, self.tail)


def ends_of(path: Path, at: int) -> tuple[str, str]:
    """Return the hashes of the first and the last bytes of the first ``at`` bytes of a file."""
    with open(path, "rb") as file:
        head = file.read(min(at, _ENDS))
        file.seek(max(0, at - _ENDS))
        return _hash(head), _hash(file.read(min(at, _ENDS)))


def _hash(data: bytes) -> str:
    return sha256(data).hexdigest()[:32]


@dataclass(slots=True)
class Places:
    """The places of all files, by path; ``find`` also knows one that has another name now."""

    known: dict[str, Place] = field(default_factory=dict)

    def find(self, path: Path) -> Place:
        """Return how far a file is read."""
        found = self.known.get(str(path))
        if found is not None and found.is_in(path):
            return found
        size = path.stat().st_size
        heads: dict[int, str] = {}
        for place in sorted(self.known.values(), key=lambda place: -place.at):
            if 0 < place.at <= size:
                length = min(place.at, _ENDS)
                if length not in heads:
                    heads[length] = ends_of(path, length)[0]
                if heads[length] == place.head and place.is_in(path):
                    return place
        return Place()

    def scorers(self) -> set[str]:
        """Return the hashes of all scorers that files name."""
        return {place.scorer for place in self.known.values() if place.scorer}


def score_files(source: Path, suffixes: Iterable[str]) -> list[Path]:
    """Return the score files of a source: itself, or those in a folder and its folders; what is unfinished is not."""
    if not source.is_dir():
        return [source] if source.exists() else []
    found = []
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        hidden = any(part.startswith((".", "_")) or part.endswith(".partial") for part in parts)
        if path.suffix in suffixes and not hidden and not path.name.endswith("rejects.jsonl") and path.is_file():
            found.append(path)
    return found
