"""Ask a judge many questions at once: every answer is in the store before the next question goes out.

Each worker takes question after question from one queue. A question has a few attempts; the budget is asked before
every one of them, the limits and the cool-down are shared, and whatever an attempt cost is written down when it ends.
The run stops early - never in the middle of a paid call - when a limit is met, when the server refuses everything, or
when it is told to.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from distill.errors import LabelError
from distill.judge.budget import Budget, BudgetSpentError, Spending
from distill.judge.prices import Price, Size, size_of
from distill.judge.rate_limit import Limits
from distill.judge.records import LOST, SCORED, Known, Question, Reply
from distill.judge.replies import lost, read_answer
from distill.judge.rubric import Rubric
from distill.judge.server import CallError, Endpoint
from distill.judge.store import Store

ATTEMPTS = 5
"""How often a question is asked before it is rejected, over all runs; waiting for a busy server is no attempt."""

_SYNC_SECONDS = 1.0
_MIN_FAILURES = 10
_MAX_BUSY_SECONDS = 900.0
_LONG_PAUSE_SECONDS = 5.0


class Watcher:
    """Hears of a labelling; the base class keeps quiet."""

    def begin(self, questions: int, answered: int) -> None:
        """So many questions in all, so many of them answered by the store."""

    def done(self, status: str) -> None:
        """A question is settled: ``SCORED``, or the reason why it was rejected."""

    def spent(self, usd: float) -> None:
        """What the run has spent so far."""

    def note(self, text: str) -> None:
        """Why nothing seems to happen: the server asked everybody to wait, or a batch is on its way."""


@dataclass(slots=True)
class Outcome:
    """What a run came to. ``failed`` are questions that got no answer, by key, as (reason, detail).

    ``stopped`` is the limit or the request that ended the run early, None if every question was settled.
    """

    scored: int = 0
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    stopped: str | None = None


class Judge:
    """One labelling over one endpoint."""

    def __init__(
        self,
        endpoint: Endpoint,
        rubric: Rubric,
        store: Store,
        budget: Budget,
        limits: Limits,
        *,
        price: Price | None = None,
        concurrency: int = 16,
        watcher: Watcher | None = None,
    ) -> None:
        """Put the parts together; ``price`` None counts no money."""
        self._endpoint = endpoint
        self._rubric = rubric
        self._store = store
        self._budget = budget
        self._limits = limits
        self._price = price
        self._concurrency = concurrency
        self._watcher = watcher or Watcher()
        self._outcome = Outcome()
        self._queue: deque[tuple[Question, int]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._calling: set[asyncio.Task[None] | None] = set()
        self._in_a_row = 0  # failures since the last answer
        self._last_answer = time.monotonic()

    async def ask_all(self, questions: Iterable[Question], known: Mapping[str, Known]) -> Outcome:
        """Ask what ``known`` does not answer and return what it came to; LabelError if no call can succeed."""
        self._queue.extend((question, known.get(question.key, Known()).failures) for question in questions)
        self._store.add_questions((question for question, _ in self._queue), self._endpoint.asking, self._rubric.text)
        syncing = asyncio.create_task(self._keep_in_sync())
        try:
            self._workers = {asyncio.create_task(self._work()) for _ in range(min(self._concurrency, len(self._queue)))}
            for worker in self._workers:
                worker.add_done_callback(self._ended)
            results = await asyncio.gather(*self._workers, return_exceptions=True)
        finally:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)
            self._store.sync()  # if the disk fails, it says so here too
        for result in results:
            if isinstance(result, Exception):
                raise result
        return self._outcome

    def stop(self, why: str) -> None:
        """Ask nothing more; calls in flight end and are saved, everything that waits gives up."""
        if self._outcome.stopped is None:
            self._outcome.stopped = why
            for worker in self._workers - self._calling:
                worker.cancel()

    @property
    def spending(self) -> Spending:
        """What was spent so far."""
        return self._budget.spending

    @property
    def stopping(self) -> bool:
        """Whether the run ends as soon as the calls in flight do."""
        return self._outcome.stopped is not None

    def drop(self) -> None:
        """Give up calls in flight too: they may be billed and are not saved."""
        for worker in self._workers:
            worker.cancel()

    def _ended(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and worker.exception() is not None:
            self.stop("an error")

    async def _work(self) -> None:
        while self._queue and self._outcome.stopped is None:
            question, failures = self._queue.popleft()
            try:
                status = await self._settle(question, failures)
            except BudgetSpentError as limit:
                self.stop(str(limit))
                return
            if status is not None:
                self._outcome.scored += status == SCORED
                self._watcher.done(status)

    async def _settle(self, question: Question, failures: int) -> str | None:
        """Ask until there is a judgement or no attempt is left; return the status, None if the run was stopped."""
        messages = self._rubric.messages(question.dialogue)
        size = size_of(messages, self._endpoint.asking.max_tokens)
        while self._outcome.stopped is None:
            try:
                reply = await self._call(question, messages, size)
            except CallError as error:
                wait = self._heard(error, failures + 1)
                failures += error.kind in {"failed", "refused"}
                last = (error.reason, error.detail)
                final = error.kind == "refused"
            else:
                wait = self._heard(reply, failures + 1)
                if reply.status == SCORED:
                    return SCORED
                failures += 1
                last = (reply.status, reply.detail)
                final = False
            if final or failures >= ATTEMPTS:
                self._outcome.failed[question.key] = last
                return last[0]
            await asyncio.sleep(wait)
        return None

    def _heard(self, what: Reply | CallError, failures: int) -> float:
        """Note how a call ended; return the seconds to wait before the next attempt at its question."""
        if isinstance(what, CallError) and what.kind == "busy":
            self._limits.cool_down(what.wait)
            if self._limits.cooling > _LONG_PAUSE_SECONDS:
                self._watcher.note(f"the server asks for a pause of {self._limits.cooling:.0f} s")
            if time.monotonic() - self._last_answer > _MAX_BUSY_SECONDS:
                raise self._hopeless(f"the server has been busy for {_MAX_BUSY_SECONDS / 60:g} minutes", what.detail)
            return 0.0  # everybody waits, and this question no longer
        if isinstance(what, CallError) and what.kind == "adapt":
            return 0.0
        if isinstance(what, Reply) and what.status != LOST:
            self._in_a_row = 0
            self._last_answer = time.monotonic()
            self._limits.answered()
            return 0.0
        self._in_a_row += not (isinstance(what, CallError) and what.kind == "refused" and self._outcome.scored)
        if self._in_a_row >= max(_MIN_FAILURES, ATTEMPTS * self._concurrency):
            raise self._hopeless(f"{self._in_a_row} calls in a row brought no answer", what.detail)
        return self._limits.backoff(failures)

    def _hopeless(self, what: str, last: str) -> LabelError:
        """Return the error that ends a run in which nothing succeeds: an outage must not reject a whole corpus."""
        return LabelError(
            f"{what}, the last: {last}; what was answered is in {self._store.path}: mend that and run the same command "
            "again"
        )

    async def _call(self, question: Question, messages: Sequence[Mapping[str, str]], size: Size) -> Reply:
        """Make one call within budget and limits, and write down what came of it."""
        worst = self._price.of(size.most_prompt, size.most_completion) if self._price else 0.0
        number = await self._budget.reserve(worst)
        try:
            await self._limits.turn(size.prompt + size.most_completion)
        except asyncio.CancelledError:
            self._budget.release(number)
            raise
        reply = None
        try:
            reply = await self._send(question, messages, size)
        finally:
            cost = 0.0 if reply is None else reply.cost_usd or 0.0
            self._budget.settle(number, cost, lost=reply is not None and reply.status == LOST)
            self._watcher.spent(self._budget.spending.usd)
        return reply

    async def _send(self, question: Question, messages: Sequence[Mapping[str, str]], size: Size) -> Reply:
        """Send one call; between its answer and the store nothing waits."""
        me = asyncio.current_task()
        self._calling.add(me)
        start = time.monotonic()
        try:
            body = await self._endpoint.ask(messages)
            reply = read_answer(body, self._price, size)
        except CallError as error:
            if error.kind != "lost":
                raise
            reply = lost(f"{error.reason}: {error.detail}", self._price, size)
        except asyncio.CancelledError:
            self._store.add(question.key, lost("given up", self._price, size))
            raise
        finally:
            self._calling.discard(me)
        self._store.add(question.key, replace(reply, seconds=round(time.monotonic() - start, 3)))
        return reply

    async def _keep_in_sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_SECONDS)
            await asyncio.to_thread(self._store.sync)
