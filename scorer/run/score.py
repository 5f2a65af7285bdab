"""Score whole files: window after window of the input, sorted by length inside, written in input order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scorer.apart import check_apart, check_own, check_rejects
from scorer.dialogue import HEADS
from scorer.errors import InputError, RejectedError
from scorer.inputs.corpus import Corpus
from scorer.inputs.records.answers import keys_found
from scorer.model import Scorer
from scorer.progress import Progress, Silent
from scorer.reading.counted import Found, found_windows, is_counted
from scorer.reading.cut import Prepared
from scorer.reading.join import CHANGED, Begun, hash_before
from scorer.reading.read_ahead import ReadJob, possible_readers, readers_for, reading
from scorer.reading.splits import splits_of
from scorer.reading.windows import Tally, Window
from scorer.run.backend import Backend, Local
from scorer.run.estimate import Estimate
from scorer.run.joined import join_shares
from scorer.run.manifest import Identity
from scorer.run.output import Run
from scorer.run.parts import REJECTS
from scorer.run.score_file import SUFFIXES, is_score_file
from scorer.run.score_table import shard_ids
from scorer.run.settings import ScoreSettings


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to. ``resumed`` records were finished by an earlier run; ``seconds`` are this run's.

    ``rejects`` is where these are: a path, or a URL where the output is at one. ``complete_before`` says that the whole
    output was there already and nothing was read.
    """

    tally: Tally
    resumed: int
    seconds: float
    rejects: Path | str | None
    complete_before: bool = False

    @property
    def rate(self) -> float:
        """Dialogues per second in this run, reading and writing included."""
        return max(0, self.tally.records - self.resumed) / max(self.seconds, 1e-9)


def score_files(
    scorer: Scorer,
    corpus: Corpus,
    output: Path,
    settings: ScoreSettings | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Score every dialogue of ``corpus`` into ``output``, in input order, and every other record into its rejects.

    ``output`` ends in .parquet, .jsonl or .csv, or is a folder for Parquet shards. It is whole or not there; what an
    interrupted run leaves can be resumed. OutputError if it may not be written, RejectedError under ``strict``.
    """
    settings = settings or ScoreSettings()
    return score_on(Local(scorer, settings), corpus, output, settings, progress)


def score_on(
    backend: Backend,
    corpus: Corpus,
    output: Path,
    settings: ScoreSettings,
    progress: Progress | None = None,
    resumable: Callable[[], None] = lambda: None,
    *,
    join: bool = True,
) -> Summary:
    """Do what ``score_files`` does, on any backend; ``resumable`` is called whenever a kill would lose nothing.

    Without ``join`` the shares of a folder are left to whoever comes later.
    """
    start = time.monotonic()
    scorer = backend.scorer
    progress = progress or Silent()
    if settings.keep and not corpus.keeps_records:
        raise InputError("columns can be kept only of a corpus that keeps its records: Corpus(..., keep_records=True)")
    check_apart(output, *corpus.inputs)
    if output.suffix in SUFFIXES:
        check_rejects(output.with_name(f"{output.name}.{REJECTS}"))
        if settings.existing == "overwrite":
            check_own(output, is_score_file, "score file")
    if settings.uncertainty:
        scorer.uncertainty(np.zeros((0, 2), dtype=np.float32))  # a scorer without one says so before anything is done
    counted = is_counted(corpus)
    identity = run_identity(scorer, settings, counted=counted)
    with Run(output, identity, run_metadata(scorer, settings), settings) as run:
        resumed = sum(window.tally.records for window in run.done.values())
        complete_before = run.complete
        resumable()
        if complete_before:
            progress.stage("comparing the input")
            run.check_input(corpus)
        else:
            _score_rest(backend, corpus, run, settings, progress, resumable, counted=counted)
            run.finish()
        if join:
            join_shares(run, corpus, scorer, settings, progress, resumable)
        total = Tally()
        for window in run.done.values():
            total.add(window.tally)
        rejects = run.rejects if total.rejected else None
    return Summary(total, resumed, time.monotonic() - start, rejects, complete_before)


def _score_rest(
    backend: Backend,
    corpus: Corpus,
    run: Run,
    settings: ScoreSettings,
    progress: Progress,
    resumable: Callable[[], None],
    *,
    counted: bool,
) -> None:
    """Score the windows that no earlier run finished; OutputError if those are not in the input any more."""
    scorer, earlier = backend.scorer, dict(run.done)
    estimate = Estimate(progress, corpus.total_bytes)
    asked = settings.readers
    readers = readers_for(corpus, scorer.engine) if asked is None else possible_readers(asked, progress)
    after = _after(corpus, run, settings) if counted else None
    begun = None if counted else _begun(corpus, run, settings)
    if begun or after:
        position = begun.position if begun else after.position if after else 0
        estimate.skipped(sum(window.tally.records for window in earlier.values()), position)
    job = ReadJob(
        corpus,
        scorer.encoder,
        scorer.bundle.info.domain,
        settings.window,
        frozenset(earlier),
        settings.share,
        settings.keep,
        begun,
        counted,
        (after.number, after.place) if after else None,
        _ids_of(run) if after and settings.share.count == 1 else (),
    )
    if begun or after:
        earlier = {}

    def unfinished(prepared: Iterator[Prepared]) -> Iterator[Prepared]:
        for window in prepared:
            if finished := earlier.pop(window.number, None):
                run.check_same(finished, window.records)
                estimate.skipped(window.size, window.position)
            else:
                if window.number == 0:  # who misspelt a column need not wait for the end
                    for column in lacking_all(window.tally):
                        where = f"the first {window.size:,} records"
                        progress.say(
                            f"--keep {column}: no such column in {where}; the first has {keys_found(window.keys)}"
                        )
                yield window

    with reading(job, readers) as prepared:
        for window, columns in backend.score(acceptable(unfinished(prepared), settings), estimate):
            tally = replace(window.tally, sums=columns[:, : len(HEADS)].sum(axis=0, dtype=float).tolist())
            finished = Window(
                window.number, window.records, tally, mark=window.mark, place=window.place, bytes=window.bytes
            )
            raw_ids = window.raw_ids if settings.share.count > 1 else None
            run.add(finished, window.ids, columns, window.rejects, window.kept, raw_ids)
            resumable()
    for finished in earlier.values():
        run.check_same(finished, "not in the input any more")


def _begun(corpus: Corpus, run: Run, settings: ScoreSettings) -> Begun | None:
    """Return where reading goes on behind what an earlier run finished, None if it has to be read again.

    OutputError if the input before that place is not what it was.
    """
    done = run.done
    last = done.get(len(done) - 1)  # windows are finished in order
    if settings.share.count > 1 or last is None or last.mark is None:
        return None
    if any("tokenizer_failed" in window.tally.rejected for window in done.values()):
        return None  # their ids stand in no shard
    splits = splits_of(corpus)[: last.mark.split]
    run.check_same(last, last.records if hash_before(corpus, splits) == last.mark.before else CHANGED)
    position = splits[-1].before + (splits[-1].end or 0) if splits else 0
    return Begun(len(done), _ids_of(run), last.mark, position)


def _after(corpus: Corpus, run: Run, settings: ScoreSettings) -> Found | None:
    """Return the last window that an earlier run finished, None if the input has to be read again.

    OutputError if the bytes of a finished window are not what they were.
    """
    done, share = run.done, settings.share
    last = done.get(share.index + (len(done) - 1) * share.count)  # windows are finished in order
    if last is None or last.place is None or last.number != max(done):
        return None
    if share.count == 1 and any("tokenizer_failed" in window.tally.rejected for window in done.values()):
        return None  # their ids stand in no shard
    if any(window.place is None for window in done.values()):
        return None
    left = dict(done)
    for found in found_windows(corpus, settings.window, done.__contains__):
        if window := left.pop(found.number, None):
            same = (window.place, window.bytes) == (found.place, found.sha256())
            run.check_same(window, window.records if same else CHANGED)
        if not left:
            return found
    run.check_same(left[min(left)], CHANGED)  # the input ends before
    return None


def _ids_of(run: Run) -> list[str]:
    """Return the ids in the finished shards of a run, in order."""
    return [id_ for shard in run.shards for id_ in shard_ids(shard)]


def lacking_all(tally: Tally) -> list[str]:
    """Return the columns to be kept that no dialogue has."""
    return [column for column, count in tally.lacking.items() if count == tally.scored]


def acceptable(windows: Iterator[Prepared], settings: ScoreSettings) -> Iterator[Prepared]:
    """Yield the same windows; under ``strict``, raise RejectedError for the first record that is no dialogue."""
    for window in windows:
        if window.rejects and settings.strict:
            raise RejectedError(f"{window.rejects[0]} (--strict)")
        yield window


def run_identity(scorer: Scorer, settings: ScoreSettings, *, counted: bool = False) -> Identity:
    """Return what must be the same for a run to be resumed; ``counted`` is how its windows are found."""
    return Identity(
        scorer=scorer.bundle.sha256,
        engine=scorer.engine.name,
        precision=scorer.engine.precision,
        window=settings.window,
        uncertainty=settings.uncertainty,
        shards=settings.share.count,
        keep=settings.keep,
        counted=counted and settings.share.count > 1,
    )


def run_metadata(scorer: Scorer, settings: ScoreSettings) -> dict[str, Any]:
    """Return what is written beside the scores: the scorer, its cuts, the engine that ran it, the columns kept."""
    kept = {"keep": list(settings.keep)} if settings.keep else {}
    return scorer.bundle.provenance() | {
        "engine": scorer.engine.name,
        "precision": scorer.engine.precision,
        "uncertainty": settings.uncertainty,
        "outside_share": scorer.bundle.info.domain.outside_share,
        **kept,
    }
