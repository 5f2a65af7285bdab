"""Ask a judge many questions at once: every answer is in the store before the next question goes out.

Each worker takes question after question from one queue. A question has a few attempts; the budget is asked before
every one of them, the pace and the cool-down are shared, and whatever an attempt cost is written down when it ends.
The run stops early - never in the middle of a paid call - when a limit is met, when the server refuses everything, or
when it is told to.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from distill.errors import LabelError
from distill.judge.asker import ATTEMPTS, Asker, Call
from distill.judge.budget import BudgetSpentError
from distill.judge.records import LOST, Question, Reply, host_of
from distill.judge.replies import lost_reply, read_answer
from distill.judge.server import NO_CONNECTION, CallError, Form
from distill.judge.verdict import EMPTY, MORE_TOKENS

_SYNC_SECONDS = 1.0
_MIN_FAILURES = 10
_MAX_BUSY_SECONDS = 900.0
_LONG_PAUSE_SECONDS = 5.0
_MAX_BLANKS = 8
_GATE_SECONDS = 0.02
_NOBODY_SECONDS = 20.0


@dataclass(eq=False)
class Judge(Asker):
    """Asks one question per call."""

    _queue: deque[Question] = field(init=False, default_factory=deque)
    _workers: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _calling: set[asyncio.Task[None] | None] = field(init=False, default_factory=set)
    _in_a_row: int = field(init=False, default=0)  # failures since the last answer
    _why: Counter[str] = field(init=False, default_factory=Counter)  # and what they said
    _doubtful: list[str] = field(init=False, default_factory=list)  # questions that were given up since then
    _lost: int = field(init=False, default=0)  # calls since the last answer that may have been billed for nothing
    _out: int = field(init=False, default=0)  # calls that are sent or about to be
    _answers: int = field(init=False, default=0)
    _blanks: int = field(init=False, default=0)  # replies in a row that ran into the limit of tokens
    _last_answer: float = field(init=False, default_factory=time.monotonic)
    _nobody_since: float | None = field(init=False, default=None)

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
        key, settled, before, simpler = call.question.key, False, self._answers, None
        while self.outcome.stopped is None and not settled:
            wait = 0.0
            try:
                reply = await self._call(call, simpler)
            except CallError as error:
                if error.kind != "failed" or self.failures[key]:  # one fault of the server says nothing of the form
                    simpler = error.simpler or simpler  # of this dialogue or of the form? The next answer tells
                if error.kind == "busy":
                    self._pause(error)
                elif error.kind == "failed" or (error.kind == "refused" and error.simpler is None):
                    settled, wait = self._unanswered(key, error, others=self._answers > before)
            else:
                if reply.status == LOST:
                    lost = CallError("lost", LOST, reply.detail)
                    settled, wait = self._unanswered(key, lost, others=self._answers > before)
                else:
                    self._came(reply)
                    settled = self.attempted(key, reply.status, reply.detail)
            if not settled:
                await asyncio.sleep(wait)

    def _unanswered(self, key: str, error: CallError, *, others: bool) -> tuple[bool, float]:
        """Note a call without an answer: whether its question is settled, and the seconds to wait if it is not.

        Only where ``others`` were answered meanwhile, and not while nobody is, may the fault be this dialogue's.
        """
        refused = error.kind == "refused"
        if error.reason == NO_CONNECTION and not self._answers:
            self._nobody_there(error.detail)
        wait = self._failed(key, error.detail, counts=not (error.own and self.outcome.scored))
        if self.outcome.stopped is not None:
            return False, 0.0
        others = others and self._in_a_row <= max(ATTEMPTS, len(self._workers))
        if refused or others or self.failures[key] + 1 < ATTEMPTS:
            settled = self.attempted(key, error.reason, error.detail, last=refused)
            if settled and not error.own:
                self._doubtful.append(key)
            return settled, wait
        return False, wait

    def _nobody_there(self, detail: str) -> None:
        """Say at once that no server is there; LabelError where there has been none from the beginning."""
        now, host = time.monotonic(), host_of(self.endpoint.asking.base_url)
        if self._nobody_since is None:
            self._nobody_since = now
            self.say(f"{host}: no server answers ({detail}): tried again for {_NOBODY_SECONDS:g} s")
        elif now - self._nobody_since > _NOBODY_SECONDS:
            raise LabelError(f"{host}: no server answers ({detail}): start it, or give the right --base-url")

    def _came(self, reply: Reply) -> None:
        """Note an answer: the server is there. LabelError where it only ever thinks."""
        self._in_a_row = self._lost = 0
        self._why.clear()
        self._doubtful.clear()
        self._answers += 1
        self._last_answer = time.monotonic()
        self.pace.answered()
        self._blanks = self._blanks + 1 if reply.status == EMPTY or MORE_TOKENS in reply.detail else 0
        if self._blanks >= _MAX_BLANKS:
            raise LabelError(
                f"{self._blanks} replies in a row held no verdict, most likely since --max-tokens "
                f"{self.settings.max_tokens} ended them: {MORE_TOKENS}, to 2000 or more if the model reasons"
            )

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
        self._why[detail] += 1
        most = max(_MIN_FAILURES, ATTEMPTS * len(self._workers))
        given_up = len(self._doubtful) >= max(_MIN_FAILURES, len(self._workers)) - 1  # this would be the next
        if self._lost >= self._most_lost or self._in_a_row >= most or given_up:
            what = f"{self._in_a_row} calls in a row brought no answer"
            error = self._hopeless(what, self._why.most_common(1)[0][0])
            for doubtful in self._doubtful:  # it was no fault of theirs
                self.outcome.failed.pop(doubtful, None)
            if self._queue or not self._answered + self.outcome.scored:
                raise error
            self.stop(str(error))  # the rest of the labels need not wait for these few
        if self._in_a_row > len(self._workers):
            self.pace.cool_down(None)
        return self.pace.backoff(self.failures[key] or 1)

    @property
    def _most_lost(self) -> int:
        """So many calls in a row may be billed for nothing, at most: no more than are in flight at once."""
        return max(_MIN_FAILURES, self.settings.concurrency)

    def _hopeless(self, what: str, last: str) -> LabelError:
        """Return the error that ends a run in which nothing succeeds: an outage must not reject a whole corpus."""
        return LabelError(
            f"{what}, most of them: {last}; what was answered is in {self.store.path}: fix that and run the same "
            "command again"
        )

    async def _call(self, call: Call, simpler: Form | None) -> Reply:
        """Make one call within budget and pace, and write down what came of it."""
        while self._lost and self._lost + self._out >= self._most_lost:  # one of those in flight may end the doubt
            await asyncio.sleep(_GATE_SECONDS)
        self._out += 1
        try:
            reply = await self._paid(call, simpler)
        finally:
            self._out -= 1
        self._lost += reply.status == LOST
        return reply

    async def _paid(self, call: Call, simpler: Form | None) -> Reply:
        number = await self.budget.reserve(call.worst_usd)
        try:
            await self.pace.turn(call.size.prompt + call.size.most_completion)
        except asyncio.CancelledError:
            self.budget.release(number)
            raise
        try:
            reply = await self._send(call, simpler)
        except (CallError, LabelError):  # the server did not answer the question: it asks nothing for that
            self.budget.settle(number, 0.0)
            raise
        except BaseException:  # given up, or the disk is full: it may be billed
            self.budget.settle(number, call.worst_usd, lost=(call.worst_usd,))
            raise
        cost = reply.cost_usd or 0.0
        self.budget.settle(number, cost, lost=(cost,) if reply.status == LOST else ())
        return reply

    async def _send(self, call: Call, simpler: Form | None) -> Reply:
        """Send one call; between its answer and the store nothing waits."""
        me, key = asyncio.current_task(), call.question.key
        self._calling.add(me)
        start = time.monotonic()
        try:
            body = await self.endpoint.ask(call.messages, simpler)
            reply = read_answer(body, self.price, call.size, counts=self.endpoint.counts, check=self.rubric.check)
            self.endpoint.counts |= reply.counted
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
