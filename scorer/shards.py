"""A run of scoring on disk: shards that are whole or absent, and a manifest that says which are done.

A run works in a folder: the output itself if that is a folder, ``OUT.partial`` beside an output that is one file.
Window after window of the input becomes one Parquet shard and one file of rejects, each written to a temporary
name, flushed to disk and renamed; then the manifest gets one line, so that what it names is whole. A killed run
is resumed by reading the same input again and skipping the windows that the manifest names, after checking by a
hash of their records that they are the same.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scorer.dialogue import HEADS
from scorer.engine import Scores
from scorer.errors import OutputError
from scorer.files import replacing, replacing_binary, writing
from scorer.records import Reject
from scorer.writers import JOIN, METADATA_KEY, meta_path, read_metadata, score_columns

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_manifest.jsonl"
"""Readers of a folder of Parquet files pass over names that begin with an underscore."""

REJECTS = "rejects.jsonl"
_COLUMNS = {True: "without the columns of --uncertainty", False: "with the columns of --uncertainty"}
_THEN = "; mend that and go on with --resume"

Existing = Literal["error", "resume", "overwrite"]


@dataclass(slots=True)
class Tally:
    """What one window, or a whole run, came to. ``sums`` are of the scores, by head."""

    scored: int = 0
    cut: int = 0
    cut_turns: int = 0
    cut_tokens: int = 0
    tokens: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(HEADS))
    rejected: Counter[str] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add what another window came to."""
        self.scored += other.scored
        self.cut += other.cut
        self.cut_turns += other.cut_turns
        self.cut_tokens += other.cut_tokens
        self.tokens += other.tokens
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]
        self.rejected.update(other.rejected)
        self.outside.update(other.outside)

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """Return a tally from JSON; KeyError or TypeError if it is none."""
        counters = {name: Counter(value[name]) for name in ("rejected", "outside")}
        return cls(**{**value, **counters})


@dataclass(frozen=True, slots=True)
class Window:
    """One finished window: its place in the run, the hash of its records, and what it came to."""

    number: int
    records: str
    tally: Tally


class Run:
    """The output of one run. ``done`` are the windows that an earlier, interrupted run finished."""

    def __init__(
        self, output: Path, identity: Mapping[str, Any], metadata: Mapping[str, Any], existing: Existing
    ) -> None:
        """Open ``output`` for a run of this ``identity`` (scorer and settings); OutputError if that may not be.

        ``metadata`` is written into the scores. With ``resume``, an output that does not exist is begun.
        """
        self.output = output
        self.is_file = output.suffix in JOIN
        self.folder = output.with_name(output.name + ".partial") if self.is_file else output
        self.rejects = output.with_name(f"{output.name}.{REJECTS}") if self.is_file else output / REJECTS
        self.complete = False
        self.done: list[Window] = []
        self._identity = json.loads(json.dumps(identity))
        self._metadata = json.dumps(metadata, sort_keys=True)
        with writing(output):
            self._open(existing)

    def add(self, window: Window, ids: Sequence[str], scores: Scores, rejects: Sequence[Reject]) -> None:
        """Write a finished window: after this it survives anything."""
        with writing(self.output, then=_THEN):
            if ids:
                self._write_shard(window.number, ids, scores)
            if rejects:
                with replacing(self._rejects_of(window.number)) as file:
                    file.writelines(_reject_line(reject) for reject in rejects)
            self._append({"number": window.number, "records": window.records, "tally": window.tally.to_json()})
        self.done.append(window)

    def check_same(self, window: Window, records: str) -> None:
        """Raise OutputError unless a finished window's records are those that the input holds now."""
        if window.records != records:
            raise OutputError(
                f"{self.folder}: window {window.number} of the input is not what was scored before, so the input was "
                "changed or reordered; start afresh with --overwrite"
            )

    def finish(self) -> None:
        """Make the output from the shards: whole at its own name, or not there."""
        with writing(self.output, then=_THEN):
            parts = [path for window in self.done if (path := self._rejects_of(window.number)).exists()]
            if parts:
                with replacing(self.rejects) as file:
                    for part in parts:
                        file.write(part.read_text())
            else:
                self.rejects.unlink(missing_ok=True)  # those of an output that is overwritten
            if self.is_file:
                self._join()
            else:
                self._append({"complete": len(self.done)})
                for part in parts:
                    part.unlink()
        self.complete = True

    def _join(self) -> None:
        if any(window.tally.scored for window in self.done):
            if self.output.suffix != ".parquet":  # its shards carry the metadata, and so does what they join to
                with replacing(meta_path(self.output)) as file:
                    file.write(self._metadata + "\n")
            JOIN[self.output.suffix](self.output, self._shards())
        # Without its manifest the folder is no run any more, should this be interrupted.
        (self.folder / MANIFEST).unlink()
        shutil.rmtree(self.folder)

    def _open(self, existing: Existing) -> None:
        if not self.output.parent.is_dir():
            raise OutputError(f"{self.output}: the folder {self.output.parent} does not exist; create it first")
        self._check_kind()
        foreign = not self.is_file and self.folder.is_dir() and not (self.folder / MANIFEST).exists()
        if foreign and any(self.folder.iterdir()):
            raise OutputError(f"{self.output}: holds other files and no {MANIFEST}; name a new or empty folder")
        if existing == "overwrite":
            self._clear()
        elif existing == "error":
            self._refuse()
        elif self.is_file and self.output.exists() and not (self.folder / MANIFEST).exists():
            self._check_finished_file()
            self.complete = True
            return
        self.folder.mkdir(exist_ok=True)
        for unfinished in self.folder.glob(".*.tmp"):
            unfinished.unlink()
        if (self.folder / MANIFEST).exists():
            self._read_manifest()
        else:
            self._append({"identity": self._identity})

    def _check_kind(self) -> None:
        if self.is_file and self.output.is_dir():
            raise OutputError(f"{self.output}: is a folder, expected a file; name another output")
        if not self.is_file and self.output.exists() and not self.output.is_dir():
            raise OutputError(
                f"{self.output}: is a file without {', '.join(JOIN)} and so no folder for shards; rename it"
            )

    def _refuse(self) -> None:
        if (self.folder / MANIFEST).exists():
            raise OutputError(f"{self.folder}: an earlier run's; go on with --resume or start afresh with --overwrite")
        if self.is_file and self.output.exists():
            raise OutputError(f"{self.output}: exists already; name another output or say --overwrite")

    def _clear(self) -> None:
        """Remove an earlier run's shards and nothing else; an earlier file stays until the new one takes its place."""
        if self.is_file:
            if self.folder.exists():
                shutil.rmtree(self.folder)
        elif (self.folder / MANIFEST).exists():
            for path in [*self.folder.glob("part-*"), self.rejects, self.folder / MANIFEST]:
                path.unlink(missing_ok=True)

    def _check_finished_file(self) -> None:
        known = read_metadata(self.output)
        mine = json.loads(self._metadata)
        if known.get("sha256") != mine["sha256"]:
            raise OutputError(
                f"{self.output}: is finished, by another scorer ({known.get('name')} {str(known.get('sha256'))[:12]}); "
                "name another output or say --overwrite"
            )
        if known.get("uncertainty", False) != mine.get("uncertainty", False):
            raise OutputError(f"{self.output}: is finished, {_COLUMNS[mine['uncertainty']]}; say --overwrite")

    def _read_manifest(self) -> None:
        lines = (self.folder / MANIFEST).read_bytes().split(b"\n")
        whole, torn = lines[:-1], lines[-1]  # a line without its line feed was being written when the run died
        try:
            entries = [json.loads(line) for line in whole]
            identity = entries[0]["identity"] if entries else self._identity
            self.complete = "complete" in (entries[-1] if entries else {})
            self.done = [
                Window(entry["number"], entry["records"], Tally.from_json(entry["tally"]))
                for entry in entries[1 : len(entries) - self.complete]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{self.folder / MANIFEST}: damaged ({error}); start afresh with --overwrite") from None
        for key in sorted({*identity, *self._identity}):
            if identity.get(key) != self._identity.get(key):
                raise OutputError(
                    f"{self.folder}: was begun with {key} {identity.get(key)} and this run has "
                    f"{self._identity.get(key)}; use the same, or start afresh with --overwrite"
                )
        for window in self.done:
            if window.tally.scored and not self._shard_of(window.number).exists():
                raise OutputError(f"{self._shard_of(window.number)}: is missing; start afresh with --overwrite")
        if torn or not entries:
            with replacing(self.folder / MANIFEST) as file:
                file.writelines(line.decode() + "\n" for line in whole)
        if not entries:
            self._append({"identity": self._identity})

    def _append(self, entry: Mapping[str, Any]) -> None:
        with open(self.folder / MANIFEST, "a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _write_shard(self, number: int, ids: Sequence[str], scores: Scores) -> None:
        import pyarrow as pa  # noqa: PLC0415 - 0.1 s that `import scorer` need not cost
        import pyarrow.parquet as pq  # noqa: PLC0415

        columns = [pa.array(ids, pa.string()), *map(pa.array, scores.T)]
        table = pa.table(columns, names=["id", *score_columns(scores.shape[1])])
        with replacing_binary(self._shard_of(number)) as file:
            pq.write_table(table.replace_schema_metadata({METADATA_KEY: self._metadata}), file)

    def _shard_of(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.parquet"

    def _rejects_of(self, number: int) -> Path:
        return self.folder / f"part-{number:06d}.{REJECTS}"

    def _shards(self) -> Iterator[pa.Table]:
        import pyarrow.parquet as pq  # noqa: PLC0415

        for window in self.done:
            if window.tally.scored:
                yield pq.read_table(self._shard_of(window.number))


def _reject_line(reject: Reject) -> str:
    return json.dumps(asdict(reject)) + "\n"
