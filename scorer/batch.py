"""Score whole files: window after window of the input, sorted by length inside, written in input order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scorer.corpus import Corpus
from scorer.dialogue import Dialogue, content_hash
from scorer.encode import Encoded
from scorer.engine import Scores
from scorer.errors import RejectedError
from scorer.model import BATCH_SIZE, BATCH_TOKENS, Scorer
from scorer.records import Reject
from scorer.shards import Existing, Run, Tally, Window

_WINDOW_CHARACTERS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """How to score: padded tokens and dialogues a batch, records a window (and shard), what may go wrong.

    ``window`` is also the most work that a killed run repeats. ``existing`` says what to do with an output that is
    there already. ``strict`` makes the first bad record an error. ``uncertainty`` adds a half-width a score.
    """

    batch_tokens: int = BATCH_TOKENS
    batch_size: int = BATCH_SIZE
    window: int = 8192
    existing: Existing = "error"
    strict: bool = False
    uncertainty: bool = False


class Progress(Protocol):
    """Hears how far a run has come."""

    def skipped(self, records: int) -> None:
        """Note records that an earlier run finished."""
        ...

    def read(self, tokens: int) -> None:
        """Note that a window with so many tokens was read and is to be scored."""
        ...

    def scored(self, rows: int, tokens: int) -> None:
        """Note that so many dialogues and tokens were scored."""
        ...


class NoProgress:
    """Says nothing."""

    def skipped(self, records: int) -> None:
        """Say nothing."""

    def read(self, tokens: int) -> None:
        """Say nothing."""

    def scored(self, rows: int, tokens: int) -> None:
        """Say nothing."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to. ``resumed`` records were finished by an earlier run; ``seconds`` are this run's.

    ``complete_before`` says that the whole output was there already and nothing was read.
    """

    tally: Tally
    resumed: int
    seconds: float
    rejects: Path | None
    complete_before: bool = False

    @property
    def rejected(self) -> int:
        """The number of records that were no dialogue."""
        return self.tally.rejected.total()

    @property
    def records(self) -> int:
        """The number of records in the input."""
        return self.tally.scored + self.rejected

    @property
    def rate(self) -> float:
        """Dialogues a second in this run, reading and writing included."""
        return max(0, self.records - self.resumed) / max(self.seconds, 1e-9)


Record = Dialogue | Reject


@dataclass(frozen=True, slots=True)
class Scored:
    """What a window came to: the hash of its records, its tally, the ids and columns of its rows, its rejects."""

    records: str
    tally: Tally
    ids: list[str]
    columns: Scores
    rejects: list[Reject]


Numbered = Iterable[tuple[int, Sequence[Record]]]
ScoreWindows = Callable[[Scorer, Numbered, ScoreSettings, Progress], Iterator[tuple[int, Scored]]]
"""Scores numbered windows, here or elsewhere, and yields what they came to in the same order."""


def score_windows(
    scorer: Scorer, windows: Numbered, settings: ScoreSettings, progress: Progress
) -> Iterator[tuple[int, Scored]]:
    """Score windows in this process."""
    for number, records in windows:
        yield number, score_one(scorer, records, settings, progress)


def score_one(scorer: Scorer, records: Sequence[Record], settings: ScoreSettings, progress: Progress) -> Scored:
    """Return what one window came to: a function of its records alone, on whatever machine."""
    return Scored(records_hash(records), *score_window(scorer, records, settings, progress))


def score_files(
    scorer: Scorer,
    corpus: Corpus,
    output: Path,
    settings: ScoreSettings | None = None,
    progress: Progress | None = None,
    score: ScoreWindows = score_windows,
) -> Summary:
    """Score every dialogue of ``corpus`` into ``output``, in input order, and every other record into its rejects.

    ``output`` ends in .parquet, .jsonl or .csv, or is a folder for Parquet shards. It is whole or not there; what an
    interrupted run leaves can be resumed. OutputError if it may not be written, RejectedError under ``strict``.
    """
    settings = settings or ScoreSettings()
    progress = progress or NoProgress()
    start = time.monotonic()
    if settings.uncertainty:
        scorer.uncertainty(np.zeros((0, 2), dtype=np.float32))  # a scorer without one says so before anything is done
    run = Run(output, run_identity(scorer, settings), run_metadata(scorer, settings), settings.existing)
    resumed = sum(window.tally.scored + window.tally.rejected.total() for window in run.done)
    complete_before = run.complete
    if not complete_before:
        earlier = list(run.done)
        windows = _windows(corpus, settings.window)
        for window in earlier:
            records = next(windows, [])
            run.check_same(window, records_hash(records))
            progress.skipped(len(records))
        for number, done in score(scorer, enumerate(windows, start=len(earlier)), settings, progress):
            run.add(Window(number, done.records, done.tally), done.ids, done.columns, done.rejects)
        run.finish()
    total = Tally()
    for window in run.done:
        total.add(window.tally)
    return Summary(total, resumed, time.monotonic() - start, run.rejects if total.rejected else None, complete_before)


def score_window(
    scorer: Scorer, records: Sequence[Dialogue | Reject], settings: ScoreSettings, progress: Progress
) -> tuple[Tally, list[str], Scores, list[Reject]]:
    """Return what a window came to: its tally, the ids and score columns in input order, and its rejects.

    The columns are the scores (N, 2), or with ``settings.uncertainty`` scores and half-widths (N, 4).
    """
    dialogues = [record for record in records if isinstance(record, Dialogue)]
    rejects = [record for record in records if isinstance(record, Reject)]
    if rejects and settings.strict:
        raise RejectedError(f"{rejects[0]} (--strict)")
    encoded = scorer.encoder.encode(dialogues)
    tally = _tally(scorer, dialogues, encoded, rejects)
    progress.read(tally.tokens)
    scores = scorer.run(
        encoded, batch_tokens=settings.batch_tokens, batch_size=settings.batch_size, on_batch=progress.scored
    )
    tally.sums = scores.sum(axis=0, dtype=float).tolist()
    columns = np.hstack([scores, scorer.uncertainty(scores)]) if settings.uncertainty else scores
    return tally, [dialogue.id for dialogue in dialogues], columns, rejects


def run_identity(scorer: Scorer, settings: ScoreSettings) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed."""
    engine = scorer.engine
    return {
        "scorer": scorer.bundle.sha256, "engine": engine.name, "precision": engine.precision,
        "window": settings.window, "uncertainty": settings.uncertainty,
    }  # fmt: skip


def run_metadata(scorer: Scorer, settings: ScoreSettings) -> dict[str, Any]:
    """Return what is written beside the scores: the scorer, its cuts, and the engine that ran it."""
    return scorer.bundle.provenance() | {
        "engine": scorer.engine.name, "precision": scorer.engine.precision, "uncertainty": settings.uncertainty
    }  # fmt: skip


def records_hash(records: Sequence[Dialogue | Reject]) -> str:
    """Return a hash of ids, contents and faults, by which a resumed run knows its input again."""
    state = sha256()
    for record in records:
        if isinstance(record, Dialogue):
            state.update(f"{record.id}\0{content_hash(record.turns)}\n".encode())
        else:
            state.update(f"{record.line}\0{record.reason}\0{record.record}\n".encode())
    return state.hexdigest()[:32]


def domain_warning(scorer: Scorer, tally: Tally) -> str | None:
    """Return a line that says how the input departs from the training data, or None where it does not."""
    return scorer.bundle.domain.warning(tally.outside, tally.scored)


def _tally(
    scorer: Scorer, dialogues: Sequence[Dialogue], encoded: Sequence[Encoded], rejects: Sequence[Reject]
) -> Tally:
    tally = Tally(
        scored=len(dialogues),
        cut=sum(item.cut for item in encoded),
        cut_turns=sum(item.cut_turns for item in encoded),
        cut_tokens=sum(item.cut_tokens for item in encoded),
        tokens=sum(map(len, encoded)),
    )
    tally.rejected.update(reject.reason for reject in rejects)
    if dialogues:
        outside: Mapping[str, Any] = scorer.bundle.domain.outside(dialogues, encoded)
        tally.outside.update({name: int(rows.sum()) for name, rows in outside.items()})
    return tally


def _windows(corpus: Corpus, size: int) -> Iterator[list[Dialogue | Reject]]:
    """Yield windows of ``size`` records, fewer where these are so long that their text would fill the memory."""
    window: list[Dialogue | Reject] = []
    characters = 0
    for record in corpus:
        window.append(record)
        characters += sum(len(turn.content) for turn in record.turns) if isinstance(record, Dialogue) else 0
        if len(window) == size or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window
