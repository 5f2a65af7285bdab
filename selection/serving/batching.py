"""Requests of all connections -> batches: one thread runs the network, fed by tokens, fair to each request.

The event loop hands over jobs and is told when they are done; the network releases Python's lock while it runs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from scorer.bundle.tokens import Tokens
from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from scorer.model import Scorer
from scorer.run.backend import score_columns
from scorer.run.settings import ScoreSettings
from selection.serving.reading import Lot

_BATCHES = 8
"""Batches a thread of the engine in one run of the network: as many as keep all of them busy to the end."""


@dataclass(slots=True, eq=False)
class Job:
    """A lot that is to be scored: ``done`` is given its columns (N, 2 or 4) in the loop, or an error.

    ``seconds`` is how long it waited and was scored. A job that nobody waits for any more is left out.
    """

    lot: Lot
    done: asyncio.Future[Scores]
    arrived: float = field(default_factory=time.monotonic)
    columns: Scores | None = None
    error: Exception | None = None
    begun: int = 0
    finished: int = 0
    seconds: float = 0.0

    @property
    def is_left(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done.done()


Finish = Callable[[Sequence[Job]], None]
"""What is to be done with jobs that were scored before they are answered; where it fails, they are answered so."""


class Batcher:
    """One thread that scores what waits, in runs of the network that take a part of each job in turn."""

    def __init__(
        self,
        scorer: Scorer,
        wait_ms: float,
        finish: Finish,
        on_run: Callable[[int, int], None],
        on_fault: Callable[[Exception], None],
    ) -> None:
        """Start the thread; ``on_run`` is told the rows and tokens of every run of the network.

        ``on_fault`` is told why jobs could be scored one by one alone: no job has that error.
        """
        engine, info = scorer.engine, scorer.bundle.info
        self._scorer, self._finish, self._on_run, self._on_fault = scorer, finish, on_run, on_fault
        self._settings = ScoreSettings(uncertainty=info.uncertainty is not None)
        self._wait = wait_ms / 1000
        self._enough = engine.batch_tokens * max(1, engine.threads)
        self._most = self._enough * _BATCHES
        self._jobs: deque[Job] = deque()
        self._tokens = 0
        self._changed = threading.Condition()
        self._closing = False
        self.rate = 10_000.0  # tokens a second, a guess until the first run
        self._thread = threading.Thread(target=self._serve, name="score", daemon=True)
        self._thread.start()

    def submit(self, lot: Lot) -> Job:
        """Put a lot with dialogues into the queue; call it in the loop that waits for ``done``."""
        job = Job(lot, asyncio.get_running_loop().create_future())
        with self._changed:
            self._jobs.append(job)
            self._tokens += lot.tokens
            self._changed.notify()
        return job

    def close(self) -> None:
        """Score what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while (parts := self._take()) is not None:
            start, tokens = time.monotonic(), 0
            for some in self._scored(parts):
                tokens += some
            if tokens:
                self.rate += 0.2 * (tokens / max(1e-6, time.monotonic() - start) - self.rate)
            ended = [job for job in dict.fromkeys(job for job, _, _ in parts) if self._is_ended(job)]
            self._answer(ended)

    def _take(self) -> list[tuple[Job, int, int]] | None:
        """Wait for jobs and take parts of them, each job's next one in turn; None when all is done."""
        with self._changed:
            while not self._jobs:
                if self._closing:
                    return None
                self._changed.wait()
            until = self._jobs[0].arrived + self._wait
            while self._tokens < self._enough and not self._closing and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            parts: list[tuple[Job, int, int]] = []
            room = self._most
            while self._jobs and room > 0:
                job = self._jobs.popleft()
                encoded = job.lot.encoded
                if job.is_left:
                    self._tokens -= sum(map(len, encoded[job.begun :]))
                    continue
                start, tokens = job.begun, 0
                while job.begun < len(encoded) and tokens < self._enough:
                    tokens += len(encoded[job.begun])
                    job.begun += 1
                parts.append((job, start, job.begun))
                room -= tokens
                self._tokens -= tokens
                if job.begun < len(encoded):
                    self._jobs.append(job)
            return parts

    def _scored(self, parts: Sequence[tuple[Job, int, int]]) -> list[int]:
        """Score parts of jobs; where the engine fails, each by itself. Return the tokens of each run."""
        if not parts:
            return []
        encoded = [item for job, start, stop in parts for item in job.lot.encoded[start:stop]]
        try:
            columns = score_columns(self._scorer, Tokens.of(encoded), self._settings)
        except Exception as error:  # noqa: BLE001 - whatever it is: this thread must live, and each request be answered
            if len(parts) > 1:
                runs = [tokens for part in parts for tokens in self._scored([part])]
                if all(job.error is None for job, _, _ in parts):
                    self._on_fault(error)
                return runs
            parts[0][0].error = error
            columns = np.full((len(encoded), len(HEADS)), np.nan, dtype=np.float32)
        place = 0
        for job, start, stop in parts:
            if job.columns is None:
                job.columns = np.zeros((len(job.lot.encoded), columns.shape[1]), dtype=np.float32)
            if job.error is None:
                job.columns[start:stop] = columns[place : place + stop - start]
            place += stop - start
            job.finished += stop - start
        tokens = sum(map(len, encoded))
        self._on_run(len(encoded), tokens)
        return [tokens]

    def _is_ended(self, job: Job) -> bool:
        return job.finished == len(job.lot.encoded)

    def _answer(self, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        for job in jobs:
            job.seconds = now - job.arrived
        fine = [job for job in jobs if job.error is None and not job.is_left]
        try:
            self._finish(fine)
        except Exception as error:  # noqa: BLE001 - as above
            for job in fine:
                job.error = error
        for loop in {job.done.get_loop() for job in jobs}:
            with suppress(RuntimeError):  # the loop has ended, and with it all that waited
                loop.call_soon_threadsafe(_tell, [job for job in jobs if job.done.get_loop() is loop])


def _tell(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.done.done():
            continue
        if job.error is not None:
            job.done.set_exception(job.error)
        elif job.columns is not None:
            job.done.set_result(job.columns)
