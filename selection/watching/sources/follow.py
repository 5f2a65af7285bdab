"""Follow score files and folders that grow: each row is counted once, also over restarts."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from scorer.bundle.bundle import load_bundle
from scorer.bundle.cuts import JUDGE_CUTS, Cuts, read_cuts
from scorer.errors import EmpathyError
from scorer.run.manifest import finished_windows, manifests
from scorer.run.score_file import SUFFIXES, read_metadata
from selection.errors import WatchError
from selection.watching.counting.reference import Reference, reference_of
from selection.watching.observation import Observation, observations
from selection.watching.sources.places import Place, Places, ends_of, score_files
from selection.watching.sources.rows import Columns, Part, json_part, read_rows
from selection.watching.watch import Watch

_SHARD = "part-"


@dataclass(slots=True)
class Reading:
    """How score files are read: columns, and the cuts of files that say none.

    Those of ``scorer`` (a bundle), else of the included starter; with ``raw_cuts`` scores are a judge's own.
    ``assumed`` says of the latest file whose cuts were taken, ``before`` are the hashes of the reference's scorers.
    """

    columns: Columns = field(default_factory=Columns)
    scorer: Path | None = None
    raw_cuts: bool = False
    assumed: str | None = None
    before: set[str] = field(default_factory=set)
    _bundle: tuple[Cuts, str, str] | None = None

    def cuts_of(self, path: Path | None) -> tuple[Cuts, str | None, dict[str, Any]]:
        """Return a file's cuts, the hash of its scorer where it says so, and all that it says."""
        said = {} if path is None else read_metadata(path)
        if self.raw_cuts:
            return JUDGE_CUTS, None, said
        if "cuts" in said:
            try:
                return read_cuts(said["cuts"]), said.get("sha256"), said
            except ValueError as error:
                raise WatchError(f"{path}: what it says of its scorer is damaged ({error}); score again") from None
        if self._bundle is None:
            bundle = load_bundle(self.scorer)
            self._bundle = bundle.info.cuts, bundle.sha256, bundle.info.name
        cuts, sha256, name = self._bundle
        if self.scorer is None:
            self.assumed = f"does not say its scorer's cuts: they are taken to be those of {name}, the included scorer"
        return cuts, sha256, said


class Follower:
    """Counts what sources hold, and what comes after."""

    def __init__(self, sources: Sequence[Path], watch: Watch, reading: Reading) -> None:
        """Take up where the watch's state ends."""
        self._sources, self._watch, self._reading = sources, watch, reading
        known = {name: msgspec.convert(value, Place) for name, value in watch.positions().items()}
        self._places = Places(known)
        self._seen: dict[Path, tuple[int, int, int]] = {}
        self._stdin: list[str] = []  # the first line that could not be read

    def step(self) -> int:
        """Count what is new, and return how many rows were."""
        before = self._watch.total
        for source in self._sources:
            for path in score_files(source, SUFFIXES):
                try:
                    self._read(path)
                except FileNotFoundError:
                    self._seen.pop(path, None)  # it was replaced meanwhile: the next step finds what is there
                except (EmpathyError, OSError) as error:
                    self._problem(path, str(error).removeprefix(f"{path}: "))
        scorers = self._places.scorers() | self._reading.before
        if len(scorers) > 1:
            names = ", ".join(sorted(name[:12] for name in scorers))
            what = "the scores and the reference" if self._reading.before else "the scores"
            self._watch.problem("scorers", f"{what} are of {len(scorers)} scorers ({names}): they do not compare")
        return self._watch.total - before

    def add_line(self, block: bytes) -> None:
        """Count whole lines of JSON that came through standard input."""
        part = json_part(block, 0, 0, self._reading.columns)
        cuts, _, _ = self._reading.cuts_of(None)
        assumed = self._reading.assumed
        self._watch.record(observed_of(part, cuts, clock.time()))
        self._stdin += part.faults[: 1 if not self._stdin else 0]
        notes = [*([assumed] if assumed else []), *(f"a line could not be read: {fault}" for fault in self._stdin)]
        if notes:
            self._problem(Path("standard input"), "; ".join(notes))

    def _read(self, path: Path) -> None:
        about = path.stat()
        now = about.st_size, about.st_mtime_ns, about.st_ino
        if self._seen.get(path) == now:
            return
        outside = _outside_of_shard(path)
        if outside is None:
            return  # its run has yet to say that it is whole
        place = self._places.find(path)
        self._reading.assumed = None
        cuts, scorer, said = self._reading.cuts_of(path)
        if outside == (0, 0) and not place.at:
            outside = _outside_of_file(said)
        for part in read_rows(path, place.at, place.rows, self._reading.columns):
            head, tail = ends_of(path, part.at)
            first = place.first_fault or next(iter(part.faults), "")
            faults = place.faults + len(part.faults)
            place = Place(
                at=part.at, rows=part.rows, head=head, tail=tail, scorer=scorer, faults=faults, first_fault=first
            )
            observed = observed_of(part, cuts, about.st_mtime)
            self._watch.record(observed, outside=outside, positions={str(path): asdict(place)})
            self._places.known[str(path)] = place
            outside = (0, 0)
        if place.at and self._places.known.get(str(path)) != place:  # it has another name now
            self._watch.record([], positions={str(path): asdict(place)})
            self._places.known[str(path)] = place
        self._seen[path] = now
        notes = [self._reading.assumed] if self._reading.assumed else []
        if place.faults:
            notes.append(f"{place.faults:,} rows could not be read; the first: {place.first_fault}")
        if notes:
            self._problem(path, "; ".join(notes))

    def _problem(self, path: Path, text: str) -> None:
        self._watch.problem(path.name, text)


def read_reference(path: Path, reading: Reading) -> Reference:
    """Return scores from before, a score file or a folder of them; WatchError if they cannot be read as such."""
    if (path / "scorer.json").exists():
        raise WatchError(
            f"{path}: is a scorer, and keeps no scores of what it was trained on; score dialogues of that kind with it "
            "(`empathy score`) and name that file"
        )
    if not path.exists():
        raise WatchError(f"{path}: no such file or folder, expected scores from before, of `empathy score`")
    total = [0, 0]

    def parts() -> Iterator[list[Observation]]:
        for file in score_files(path, SUFFIXES):
            if file.suffix not in SUFFIXES:
                raise WatchError(f"{file}: expected scores as {', '.join(SUFFIXES)} or a folder of `empathy score`")
            cuts, scorer, said = reading.cuts_of(file)
            reading.before |= {scorer} if scorer else set()
            shard = _outside_of_shard(file) or (0, 0)
            for i, n in enumerate(shard if shard[1] else _outside_of_file(said)):
                total[i] += n
            for part in read_rows(file, 0, 0, reading.columns):
                if part.faults:
                    raise WatchError(f"{file}: {part.faults[0]}; score it again")
                yield observed_of(part, cuts, 0.0)

    found = reference_of(str(path), parts())
    found.whole.add_outside(total[0], total[1])
    return replace(found)


def observed_of(part: Part, cuts: Cuts, time: float) -> list[Observation]:
    """Return rows as observations; ``time`` is that of rows that say none."""
    return observations(
        [time if one is None else one for one in part.times],
        part.ids,
        np.array(part.scores).reshape(-1, 2),
        cuts,
        categories=part.categories,
        texts=part.texts,
    )


def _outside_of_shard(path: Path) -> tuple[int, int] | None:
    """Return how many of a shard are outside the domain, of how many: (0, 0) of no shard, None of one not yet whole."""
    number = path.stem.removeprefix(_SHARD)
    if path.suffix != ".parquet" or not number.isdigit() or not manifests(path.parent):
        return 0, 0
    for window in finished_windows(path.parent):
        if window.number == int(number):
            return window.tally.outside.get("any", 0), window.tally.scored
    return None


def _outside_of_file(said: dict[str, Any]) -> tuple[int, int]:
    """Return how many of a file are outside the domain, of how many, where it says so."""
    found = said.get("outside") or {}
    return int(found.get("counts", {}).get("any", 0)), int(found.get("dialogues", 0))
