"""Ask through the Batch API: half the price, an answer within a day, and a process that may die meanwhile.

A batch is noted in the store before it is submitted, under a name that goes with it to the server. Whoever labels with
that store next finds it, by its id or, where the process died between submitting and noting the id, by its name;
collects what it brought, whole or in part; and sends again what it did not bring. A row of which a batch says nothing
may have been answered, so it counts at its worst.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from distill.errors import LabelError
from distill.judge.asker import Asker, Call
from distill.judge.budget import BudgetSpentError
from distill.judge.prices import Price, Size
from distill.judge.records import LOST, OpenBatch, Question, Reply, host_of
from distill.judge.replies import fault_in, lost_reply, read_answer, usage_of
from distill.judge.rubric import Check
from distill.judge.server import CallError

if TYPE_CHECKING:
    from openai.pagination import AsyncCursorPage
    from openai.types import Batch

_T = TypeVar("_T")

MAX_ROWS = 50_000
MAX_BYTES = 190_000_000
"""The Batch API takes 50,000 requests and 200 MB per file."""

_ROWS_WITH_LOGPROBS = 10_000  # these make some 25 kB of an answer, and all answers of a batch are read at once
_PATH: Final = "/v1/chat/completions"
_FINAL = {"completed", "failed", "expired", "cancelled"}
_NAME = "empathy_batch"
_LISTED = 100
_MAX_PAGES = 10_000
_TRIES = 8


@dataclass(eq=False)
class BatchJudge(Asker):
    """Asks many questions per batch, at the Batch API's own price. A batch counts as spent when it is collected."""

    _stop: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _waiting: dict[str, Question] = field(init=False, default_factory=dict)
    _open: dict[str, tuple[OpenBatch, int]] = field(init=False, default_factory=dict)  # and its reservation's number

    def stop(self, why: str) -> None:
        """Wait no longer; batches that were submitted continue at the server and are collected by the next run."""
        self.outcome.stopped = self.outcome.stopped or why
        self._stop.set()

    def drop(self) -> None:
        """Do nothing more than ``stop`` did: nothing is lost by it."""

    async def ask_all(self, questions: Sequence[Question]) -> None:
        """Submit, wait, collect, and submit again what failed; LabelError if the server takes no batch."""
        self._waiting = {question.key: question for question in questions}
        for batch in self.store.open_batches(self.endpoint.asking.base_url):
            batch_id = batch.batch_id or await self._find(batch.name)
            self._note(batch, batch_id, requests=0)
        while not self._stop.is_set():
            await self._submit_all()
            if not self._open:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), self.settings.poll_seconds)
            for name in list(self._open):
                if not self._stop.is_set():
                    await self._look(name)

    def _note(self, batch: OpenBatch, batch_id: str | None, requests: int) -> None:
        """Note the id of a batch; None says that the server never got it."""
        self.store.set_batch(batch.name, batch_id)
        if batch_id is not None:
            self._open[batch.name] = replace(batch, batch_id=batch_id), self.budget.take(batch.worst_usd, requests)

    async def _find(self, name: str) -> str | None:
        """Return the id of the batch of this name, None if the server never got it."""
        after: str | None = None
        for _ in range(_MAX_PAGES):
            page = await self._try(partial(self._page, after))
            for batch in page.data:
                if (batch.metadata or {}).get(_NAME) == name:
                    return batch.id
            if not page.data or page.has_more is False or page.data[-1].id == after:
                return None
            after = page.data[-1].id
        raise LabelError(f"the server's list of batches has no end, so batch {name} cannot be looked for in it")

    async def _page(self, after: str | None) -> AsyncCursorPage[Batch]:
        batches = self.endpoint.client.batches
        return await (batches.list(limit=_LISTED) if after is None else batches.list(limit=_LISTED, after=after))

    async def _submit_all(self) -> None:
        asked = {key for batch, _ in self._open.values() for key in batch.sizes}
        calls = [self.call_for(question) for key, question in self._waiting.items() if key not in asked]
        for rows in self._chunks(calls):
            await self._submit(rows)

    def _chunks(self, calls: Iterable[Call]) -> Iterator[dict[bytes, Call]]:
        """Yield as many calls, by their line, as a batch takes, until none is left or a limit is met."""
        chunk: dict[bytes, Call] = {}
        length, usd = 0, 0.0
        most = min(MAX_ROWS, _ROWS_WITH_LOGPROBS) if self.settings.logprobs else MAX_ROWS
        for call in calls:
            line = self._line(call)
            if len(chunk) == most or length + len(line) > MAX_BYTES:
                yield chunk
                chunk, length, usd = {}, 0, 0.0
            usd, length = usd + call.worst_usd, length + len(line)
            try:
                if not self.budget.allows(usd, len(chunk) + 1):
                    break
            except BudgetSpentError as limit:
                if not chunk:  # else what the batch leaves of its worst case may be enough
                    self.outcome.stopped = str(limit)
                break
            chunk[line] = call
        if chunk:
            yield chunk

    def _line(self, call: Call) -> bytes:
        body = self.endpoint.body(call.messages)
        row = {"custom_id": call.question.key, "method": "POST", "url": _PATH, "body": body}
        return json.dumps(row).encode() + b"\n"

    async def _submit(self, rows: Mapping[bytes, Call]) -> None:
        client = self.endpoint.client
        file = await self._try(lambda: client.files.create(file=("empathy.jsonl", b"".join(rows)), purpose="batch"))
        calls = rows.values()
        batch = OpenBatch(
            name=uuid.uuid4().hex,
            sizes={call.question.key: (call.size.most_prompt, call.size.most_completion) for call in calls},
            worst_usd=sum(call.worst_usd for call in calls),
            prices=(self.price.per_million_in, self.price.per_million_out) if self.price else None,
        )
        self.store.add_batch(batch, self.endpoint.asking.base_url)

        async def create() -> str:
            found = await self._find(batch.name)  # an earlier try may have reached the server
            if found is not None:
                return found
            made = await client.batches.create(
                input_file_id=file.id, endpoint=_PATH, completion_window="24h", metadata={_NAME: batch.name}
            )
            return made.id

        batch_id = await self._try(create)
        self._note(batch, batch_id, requests=len(rows))
        self.say(f"batch {batch_id} submitted")

    async def _look(self, name: str) -> None:
        batch_id = self._open[name][0].batch_id
        assert batch_id is not None
        batch = await self._try(lambda: self._known(self.endpoint.client.batches.retrieve(batch_id)))
        if batch is None:
            raise LabelError(
                f"{host_of(self.endpoint.asking.base_url)}: knows no batch {batch_id}, which is paid for and not "
                "collected; use the key of the project that submitted it or, if it was deleted, another --store"
            )
        counts = batch.request_counts
        self.say(f"batch {batch.status}" + (f", {counts.completed} of {counts.total}" if counts else ""))
        if batch.status in _FINAL:
            await self._collect(name, batch)

    async def _collect(self, name: str, batch: Batch) -> None:
        """Take what a batch brought, in one transaction, and count a failure for every row that it did not."""
        opened, number = self._open[name]
        replies: dict[str, Reply] = {}
        errors: dict[str, tuple[int, str]] = {}
        rows = [row for file_id in (batch.output_file_id, batch.error_file_id) for row in await self._rows(file_id)]
        self.endpoint.counts |= any(_counted(row) for row in rows)
        for row in rows:
            _take(row, opened, replies, errors, counts=self.endpoint.counts, check=self.rubric.check)
        unbilled = batch.status == "failed" and batch.output_file_id is None  # not a row of it was asked
        for key in () if unbilled else opened.sizes.keys() - replies.keys() - errors.keys():
            replies[key] = lost_reply(f"the batch {batch.status} without it", _price(opened), _size(opened, key))
        self.store.add_all(list(replies.items()), done=name)
        del self._open[name]
        lost = [reply.cost_usd or 0.0 for reply in replies.values() if reply.status == LOST]
        self.budget.settle(number, sum(reply.cost_usd or 0.0 for reply in replies.values()), lost=lost)
        form = errors and self.endpoint.learn(*next(iter(errors.values())))  # of the request: no row's own attempt
        for key in opened.sizes:
            if form and key in errors:
                continue
            reply, (_, detail) = replies.get(key), errors.get(key, (0, f"the batch {batch.status} without it"))
            status = (reply.status, reply.detail) if reply and reply.status != LOST else ("batch_error", detail)
            if key in self._waiting and self.attempted(key, *status):
                del self._waiting[key]
        if batch.status == "failed":
            why = "; ".join(error.message or "" for error in (batch.errors.data if batch.errors else None) or [])
            raise LabelError(f"batch {batch.id} failed: {self.endpoint.redact(why)[:300] or 'no reason given'}")

    async def _rows(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        content = await self._try(lambda: self._known(self.endpoint.client.files.content(file_id)))
        if content is None:  # servers keep the files of a batch for some weeks
            self.say(f"the server has no {file_id} any more: its rows count at their worst")
            return []
        rows = []
        for line in self.endpoint.redact(content.content.decode(errors="replace")).splitlines():
            with suppress(ValueError):  # a broken line brings nothing: its row counts as failed and is sent again
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict)]

    async def _known(self, call: Awaitable[_T]) -> _T | None:
        """Return what the server gives, None if it has no such thing."""
        from openai import NotFoundError

        try:
            return await call
        except NotFoundError:
            return None

    async def _try(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call that costs nothing, again after a fault; LabelError when it keeps failing."""
        for failures in range(1, _TRIES + 1):
            try:
                return await self.endpoint.guarded(call)
            except CallError as error:
                last = error
            if last.kind == "refused":
                raise LabelError(f"the server refuses the batch: {last.detail}")
            if failures < _TRIES:
                await asyncio.sleep(last.wait if last.wait is not None else self.pace.backoff(failures))
        raise LabelError(f"no answer after {_TRIES} tries: {last.detail}; run the same command again")


def _price(opened: OpenBatch) -> Price | None:
    return Price(per_million_in=opened.prices[0], per_million_out=opened.prices[1]) if opened.prices else None


def _size(opened: OpenBatch, key: str) -> Size:
    return Size(0, 0, *opened.sizes[key])


def _counted(row: Mapping[str, Any]) -> bool:
    """Whether a row of a batch's output holds counts of tokens."""
    body = _answer(row).get("body")
    return isinstance(body, Mapping) and all(usage_of(body))


def _answer(row: Mapping[str, Any]) -> Mapping[str, Any]:
    answer = row.get("response")
    return answer if isinstance(answer, Mapping) else {}


def _take(
    row: Mapping[str, Any],
    opened: OpenBatch,
    replies: dict[str, Reply],
    errors: dict[str, tuple[int, str]],
    *,
    counts: bool,
    check: Check | None,
) -> None:
    """Note what a row of a batch's output brought: a reply, or an error; the first of a question counts."""
    key = row.get("custom_id")
    if not isinstance(key, str) or key not in opened.sizes or key in replies:
        return
    answer = _answer(row)
    if answer.get("status_code") == 200:
        body = json.dumps(answer.get("body"))
        if (fault := fault_in(body)) is not None:
            errors[key] = fault
        else:
            replies[key] = read_answer(body, _price(opened), _size(opened, key), counts=counts, check=check)
    else:
        status = answer.get("status_code")
        errors[key] = (
            status if isinstance(status, int) else 500,
            json.dumps(row.get("error") or answer.get("body"))[:300],
        )
