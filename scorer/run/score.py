"""Score whole files: window after window of the input, sorted by length inside, written in input order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scorer.bundle.encode import Encoded
from scorer.dialogue import HEADS, Dialogue
from scorer.engines.base import Scores
from scorer.errors import RejectedError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.model import BATCH_SIZE, Scorer
from scorer.outputs import Existing
from scorer.run.manifest import WHOLE, Share
from scorer.run.output import Run
from scorer.run.prepare import Prepared, prepare
from scorer.run.read_ahead import ReadJob, readers_for, reading
from scorer.run.windows import Tally, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """How to score: padded tokens and dialogues a batch, records a window (and shard), what may go wrong.

    ``batch_tokens`` None are as many as suit the engine. ``window`` is also the most work that a killed run repeats.
    ``existing`` says what to do with an output that is there already. ``strict`` makes the first bad record an error.
    ``uncertainty`` adds a half-width a score. ``share`` is this process's part of a run of several in one folder.
    ``readers`` are the processes that read and tokenise: 0 for a thread of this one, None for as many as are needed.
    """

    batch_tokens: int | None = None
    batch_size: int = BATCH_SIZE
    window: int = 8192
    share: Share = WHOLE
    readers: int | None = None
    existing: Existing = "error"
    strict: bool = False
    uncertainty: bool = False


class Progress(Protocol):
    """Hears how far a run has come."""

    def skipped(self, records: int, position: int) -> None:
        """Note records that an earlier run finished, and how many bytes of the input were read by then."""
        ...

    def read(self, tokens: int, position: int) -> None:
        """Note that a window with so many tokens is to be scored, and how many bytes were read by then."""
        ...

    def scored(self, rows: int, tokens: int) -> None:
        """Note that so many dialogues and tokens were scored."""
        ...


class NoProgress:
    """Says nothing."""

    def skipped(self, records: int, position: int) -> None:
        """Say nothing."""

    def read(self, tokens: int, position: int) -> None:
        """Say nothing."""

    def scored(self, rows: int, tokens: int) -> None:
        """Say nothing."""


ScoreWindows = Callable[[Scorer, Iterator[Prepared], ScoreSettings, Progress], Iterator[tuple[Prepared, Scores]]]
"""Scores windows and yields them in order; tells the progress."""


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
        return self.tally.records

    @property
    def rate(self) -> float:
        """Dialogues a second in this run, reading and writing included."""
        return max(0, self.records - self.resumed) / max(self.seconds, 1e-9)


def score_files(
    scorer: Scorer,
    corpus: Corpus,
    output: Path,
    settings: ScoreSettings | None = None,
    progress: Progress | None = None,
    score: ScoreWindows | None = None,
) -> Summary:
    """Score every dialogue of ``corpus`` into ``output``, in input order, and every other record into its rejects.

    ``output`` ends in .parquet, .jsonl or .csv, or is a folder for Parquet shards. It is whole or not there; what an
    interrupted run leaves can be resumed. OutputError if it may not be written, RejectedError under ``strict``.
    ``score`` is what scores windows; left out, ``score_windows``, which does it here.
    """
    settings = settings or ScoreSettings()
    progress = progress or NoProgress()
    start = time.monotonic()
    if settings.uncertainty:
        scorer.uncertainty(np.zeros((0, 2), dtype=np.float32))  # a scorer without one says so before anything is done
    identity, metadata = run_identity(scorer, settings), run_metadata(scorer, settings)
    with Run(output, identity, metadata, settings.existing, settings.share) as run:
        resumed = sum(window.tally.records for window in run.done.values())
        complete_before = run.complete
        if not complete_before:
            _score_rest(scorer, corpus, run, settings, progress, score or score_windows)
            run.finish()
        total = Tally()
        for window in run.done.values():
            total.add(window.tally)
        rejects = run.rejects if total.rejected else None
    return Summary(total, resumed, time.monotonic() - start, rejects, complete_before)


def _score_rest(
    scorer: Scorer, corpus: Corpus, run: Run, settings: ScoreSettings, progress: Progress, score: ScoreWindows
) -> None:
    readers = readers_for(corpus, scorer.engine.readers) if settings.readers is None else settings.readers
    earlier = dict(run.done)
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.domain, settings.window, frozenset(earlier), settings.share)

    def new(prepared: Iterator[Prepared]) -> Iterator[Prepared]:
        for window in prepared:
            if finished := earlier.pop(window.number, None):
                run.check_same(finished, window.records)
                progress.skipped(window.size, window.position)
            else:
                yield window

    with reading(job, readers) as prepared:
        for window, columns in score(scorer, new(prepared), settings, progress):
            tally = replace(window.tally, sums=columns[:, : len(HEADS)].sum(axis=0, dtype=float).tolist())
            run.add(Window(window.number, window.records, tally), window.ids, columns, window.rejects)
    for finished in earlier.values():
        run.check_same(finished, "not in the input any more")


def score_windows(
    scorer: Scorer, windows: Iterator[Prepared], settings: ScoreSettings, progress: Progress
) -> Iterator[tuple[Prepared, Scores]]:
    """Yield each window with the score columns of its dialogues (see ``score_encoded``), in order."""
    for window in windows:
        check_strict(window.rejects, settings)
        progress.read(window.work, window.position)
        yield window, score_encoded(scorer, window.encoded, settings, progress)


def score_encoded(scorer: Scorer, encoded: Sequence[Encoded], settings: ScoreSettings, progress: Progress) -> Scores:
    """Return the score columns of dialogues, in order: scores (N, 2), with ``uncertainty`` half-widths too (N, 4)."""
    scores = scorer.run(
        encoded, batch_tokens=settings.batch_tokens, batch_size=settings.batch_size, on_batch=progress.scored
    )
    return np.hstack([scores, scorer.uncertainty(scores)]) if settings.uncertainty else scores


def score_window(
    scorer: Scorer, records: Sequence[Dialogue | Reject], settings: ScoreSettings, progress: Progress
) -> tuple[Tally, list[str], Scores, list[Reject]]:
    """Return what records came to: their tally, the ids and columns of the rows, and the rejects."""
    window = prepare(records, scorer.encoder, scorer.bundle.domain)
    ((_, columns),) = score_windows(scorer, iter([window]), settings, progress)
    return window.tally, window.ids, columns, window.rejects


def check_strict(rejects: Sequence[Reject], settings: ScoreSettings) -> None:
    """Raise RejectedError for the first reject, under ``strict``."""
    if rejects and settings.strict:
        raise RejectedError(f"{rejects[0]} (--strict)")


def run_identity(scorer: Scorer, settings: ScoreSettings) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed."""
    engine = scorer.engine
    return {
        "scorer": scorer.bundle.sha256,
        "engine": engine.name,
        "precision": engine.precision,
        "window": settings.window,
        "uncertainty": settings.uncertainty,
        "shards": settings.share.count,
    }


def run_metadata(scorer: Scorer, settings: ScoreSettings) -> dict[str, Any]:
    """Return what is written beside the scores: the scorer, its cuts, and the engine that ran it."""
    return scorer.bundle.provenance() | {
        "engine": scorer.engine.name,
        "precision": scorer.engine.precision,
        "uncertainty": settings.uncertainty,
    }


def domain_warning(scorer: Scorer, tally: Tally) -> str | None:
    """Return a line that says how the input departs from the training data, or None where it does not."""
    return scorer.bundle.domain.warning(tally.outside, tally.scored)
