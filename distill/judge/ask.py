"""Ask a judge many questions at once: every answer is in the store before the next question goes out.

Each worker takes question after question from one queue. A question has a few attempts; the budget is asked before
every one of them, the pace and the cool-down are shared, and whatever an attempt cost is written down when it ends.
The run stops early - never in the middle of a paid call - when a limit is met, when the server refuses everything, or
when it is told to.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from distill.errors import LabelError
from distill.judge.asker import ATTEMPTS, Asker, Call
from distill.judge.budget import BudgetSpentError
from distill.judge.records import LOST, Question, Reply
from distill.judge.replies import lost_reply, read_answer
from distill.judge.server import CallError

_SYNC_SECONDS = 1.0
_MIN_FAILURES = 10
_MAX_BUSY_SECONDS = 900.0
_LONG_PAUSE_SECONDS = 5.0


@dataclass(eq=False)
class Judge(Asker):
    """Asks one question per call."""

    _queue: deque[Question] = field(init=False, default_factory=deque)
    _workers: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _calling: set[asyncio.Task[None] | None] = field(init=False, default_factory=set)
    _in_a_row: int = field(init=False, default=0)  # failures since the last answer
    _last_answer: float = field(init=False, default_factory=time.monotonic)

    async def ask_all(self, questions: Sequence[Question]) -> None:
        """Ask until every question is settled or the run is stopped; LabelError if no call can succeed."""
        self._queue.extend(questions)
        syncing = asyncio.create_task(self._keep_in_sync())
        try:
            count = min(self.settings.concurrency, len(questions))
            self._workers = {asyncio.create_task(self._work()) for _ in range(count)}
            for worker in self._workers:
                worker.add_done_callback(self._ended)
            results = await asyncio.gather(*self._workers, return_exceptions=True)
        finally:
            syncing.cancel()
            await asyncio.gather(syncing, return_exceptions=True)
            self.store.sync()  # if the disk fails, it says so here too
        for result in results:
            if isinstance(result, Exception):
                raise result

    def stop(self, why: str) -> None:
        """Ask nothing more; calls in flight end and are saved, everything that waits gives up."""
        if self.outcome.stopped is None:
            self.outcome.stopped = why
            for worker in self._workers - self._calling:
                worker.cancel()

    def drop(self) -> None:
        """Give up calls in flight too: they may be billed and are not saved."""
        for worker in self._workers:
            worker.cancel()

    def _ended(self, worker: asyncio.Task[None]) -> None:
        if not worker.cancelled() and worker.exception() is not None:
            self.stop("an error")

    async def _work(self) -> None:
        while self._queue and self.outcome.stopped is None:
            try:
                await self._settle(self.call_for(self._queue.popleft()))
            except BudgetSpentError as limit:
                self.stop(str(limit))

    async def _settle(self, call: Call) -> None:
        """Ask until there is a judgement, no attempt is left, or the run is stopped."""
        key, settled = call.question.key, False
        while self.outcome.stopped is None and not settled:
            wait = 0.0
            try:
                reply = await self._call(call)
            except CallError as error:
                if error.kind == "busy":
                    self._pause(error)
                elif error.kind != "adapt":
                    refused = error.kind == "refused"
                    settled = self.attempted(key, error.reason, error.detail, last=refused)
                    wait = self._failed(key, error.detail, counts=not (refused and self.outcome.scored))
            else:
                settled = self.attempted(key, reply.status, reply.detail)
                if reply.status == LOST:
                    wait = self._failed(key, reply.detail)
                else:
                    self._in_a_row = 0
                    self._last_answer = time.monotonic()
                    self.pace.answered()
            if not settled:
                await asyncio.sleep(wait)

    def _pause(self, error: CallError) -> None:
        """Let everybody wait for a busy server."""
        self.pace.cool_down(error.wait)
        if self.pace.cooling > _LONG_PAUSE_SECONDS:
            self.say(f"the server asks for a pause of {self.pace.cooling:.0f} s")
        if time.monotonic() - self._last_answer > _MAX_BUSY_SECONDS:
            raise self._hopeless(f"the server has been busy for {_MAX_BUSY_SECONDS / 60:g} minutes", error.detail)

    def _failed(self, key: str, detail: str, *, counts: bool = True) -> float:
        """Note a call that brought no answer; return the seconds to wait before the next attempt at its question."""
        self._in_a_row += counts
        if self._in_a_row >= max(_MIN_FAILURES, ATTEMPTS * self.settings.concurrency):
            raise self._hopeless(f"{self._in_a_row} calls in a row brought no answer", detail)
        return self.pace.backoff(self.failures[key])

    def _hopeless(self, what: str, last: str) -> LabelError:
        """Return the error that ends a run in which nothing succeeds: an outage must not reject a whole corpus."""
        return LabelError(
            f"{what}, the last: {last}; what was answered is in {self.store.path}: fix that and run the same command "
            "again"
        )

    async def _call(self, call: Call) -> Reply:
        """Make one call within budget and pace, and write down what came of it."""
        number = await self.budget.reserve(call.worst_usd)
        try:
            await self.pace.turn(call.size.prompt + call.size.most_completion)
        except asyncio.CancelledError:
            self.budget.release(number)
            raise
        reply = None
        try:
            reply = await self._send(call)
        finally:
            cost = 0.0 if reply is None else reply.cost_usd or 0.0
            self.budget.settle(number, cost, lost=reply is not None and reply.status == LOST)
        return reply

    async def _send(self, call: Call) -> Reply:
        """Send one call; between its answer and the store nothing waits."""
        me, key = asyncio.current_task(), call.question.key
        self._calling.add(me)
        start = time.monotonic()
        try:
            reply = read_answer(await self.endpoint.ask(call.messages), self.price, call.size)
        except CallError as error:
            if error.kind != "lost":
                raise
            reply = lost_reply(f"{error.reason}: {error.detail}", self.price, call.size)
        except asyncio.CancelledError:
            self.store.add(key, lost_reply("given up", self.price, call.size))
            raise
        finally:
            self._calling.discard(me)
        self.store.add(key, replace(reply, seconds=round(time.monotonic() - start, 3)))
        return reply

    async def _keep_in_sync(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_SECONDS)
            await asyncio.to_thread(self.store.sync)
