"""Ask through the Batch API: half the price, an answer within a day, and a process that may die meanwhile.

A batch is noted in the store before it is submitted, under a name that goes with it to the server. Whoever labels with
that store next finds it, by its id or, where the process died between submitting and noting the id, by its name;
collects what it brought, whole or in part; and sends again what it did not bring.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from distill.errors import LabelError
from distill.judge.ask import ATTEMPTS, Outcome, Watcher
from distill.judge.budget import Spending
from distill.judge.prices import Price, Size, size_of
from distill.judge.rate_limit import Limits
from distill.judge.records import SCORED, Known, OpenBatch, Question, Reply
from distill.judge.replies import read_answer
from distill.judge.rubric import Rubric
from distill.judge.server import CallError, Endpoint
from distill.judge.store import Store

if TYPE_CHECKING:
    from openai.types import Batch

T = TypeVar("T")

MAX_ROWS = 50_000
MAX_BYTES = 190_000_000
"""The Batch API takes 50,000 requests and 200 MB a file."""

_FINAL = {"completed", "failed", "expired", "cancelled"}
_NAME = "empathy_batch"
_LISTED = 100
_TRIES = 8


@dataclass(frozen=True, slots=True)
class _Row:
    question: Question
    size: Size
    worst: float
    line: bytes


class BatchJudge:
    """One labelling over the Batch API of one endpoint. ``price`` is the Batch API's own."""

    def __init__(
        self,
        endpoint: Endpoint,
        rubric: Rubric,
        store: Store,
        *,
        price: Price | None = None,
        max_usd: float | None = None,
        max_requests: int | None = None,
        poll_seconds: float = 30.0,
        watcher: Watcher | None = None,
    ) -> None:
        """Put the parts together; ``poll_seconds`` lie between two looks at the batches."""
        self._endpoint = endpoint
        self._rubric = rubric
        self._store = store
        self._price = price
        self._max_usd = max_usd
        self._max_requests = max_requests
        self._poll_seconds = poll_seconds
        self._watcher = watcher or Watcher()
        self._limits = Limits(None, None)
        self._outcome = Outcome()
        self._stop = asyncio.Event()
        self._open: dict[str, OpenBatch] = {}
        self._failures: dict[str, int] = {}
        self._usd = 0.0
        self._requests = 0

    @property
    def spending(self) -> Spending:
        """What was spent so far; a batch counts when it is collected."""
        return Spending(requests=self._requests, usd=self._usd, lost=0, lost_usd=0.0)

    @property
    def stopping(self) -> bool:
        """Whether the run was told to end."""
        return self._stop.is_set()

    def stop(self, why: str) -> None:
        """Wait no longer; batches that were submitted go on at the server and are collected by the next run."""
        self._outcome.stopped = self._outcome.stopped or why
        self._stop.set()

    def drop(self) -> None:
        """Do what ``stop`` did: nothing is lost by it."""

    async def ask_all(self, questions: Iterable[Question], known: Mapping[str, Known]) -> Outcome:
        """Submit, wait, collect, and submit again what failed; LabelError if the server takes no batch."""
        waiting = {question.key: question for question in questions}
        self._failures = {key: known.get(key, Known()).failures for key in waiting}
        self._store.add_questions(waiting.values(), self._endpoint.asking, self._rubric.text)
        for batch in self._store.open_batches(self._endpoint.asking.base_url):
            await self._recover(batch)
        while not self.stopping:
            await self._submit_all(waiting)
            if not self._open:
                break
            await self._wait()
            for name in list(self._open):
                await self._look(name, waiting)
        return self._outcome

    async def _recover(self, batch: OpenBatch) -> None:
        batch_id = batch.batch_id or await self._find(batch.name)
        self._store.set_batch(batch.name, batch_id)
        if batch_id is not None:
            self._open[batch.name] = batch.known_as(batch_id)

    async def _find(self, name: str) -> str | None:
        """Return the id of the batch of this name, None if the server never got it."""
        page = await self._try(lambda: self._endpoint.client.batches.list(limit=_LISTED))
        return next((batch.id for batch in page.data if (batch.metadata or {}).get(_NAME) == name), None)

    async def _submit_all(self, waiting: Mapping[str, Question]) -> None:
        asked = {key for batch in self._open.values() for key in batch.sizes}
        rows = [self._row(question) for key, question in waiting.items() if key not in asked]
        for chunk in self._chunks(rows):
            await self._submit(chunk)

    def _row(self, question: Question) -> _Row:
        messages = self._rubric.messages(question.dialogue)
        size = size_of(messages, self._endpoint.asking.max_tokens)
        worst = self._price.of(size.most_prompt, size.most_completion) if self._price else 0.0
        request = {
            "custom_id": question.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": self._endpoint.body(messages),
        }
        return _Row(question, size, worst, json.dumps(request).encode() + b"\n")

    def _chunks(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Yield as many rows a batch as it takes, until none is left or a limit is met."""
        chunk: list[_Row] = []
        length = 0
        usd = self._usd + sum(batch.worst_usd for batch in self._open.values())
        requests = self._requests
        for row in rows:
            if self._max_requests is not None and requests + 1 > self._max_requests:
                self._outcome.stopped = f"--max-requests {self._max_requests}"
                break
            if self._max_usd is not None and usd + row.worst > self._max_usd:
                if not self._open and not chunk:  # else what the batches leave of their worst case may be enough
                    self._outcome.stopped = f"--max-cost {self._max_usd:g}: ${self._usd:.4f} are spent"
                break
            if len(chunk) == MAX_ROWS or length + len(row.line) > MAX_BYTES:
                yield chunk
                chunk, length = [], 0
            chunk.append(row)
            length += len(row.line)
            usd += row.worst
            requests += 1
        if chunk:
            yield chunk

    async def _submit(self, rows: list[_Row]) -> None:
        client = self._endpoint.client
        data = b"".join(row.line for row in rows)
        file = await self._try(lambda: client.files.create(file=("empathy.jsonl", data), purpose="batch"))
        batch = OpenBatch(
            name=uuid.uuid4().hex,
            sizes={row.question.key: (row.size.most_prompt, row.size.most_completion) for row in rows},
            worst_usd=sum(row.worst for row in rows),
            prices=(self._price.per_million_in, self._price.per_million_out) if self._price else None,
        )
        self._store.add_batch(batch, self._endpoint.asking.base_url)

        async def create() -> str:
            found = await self._find(batch.name)  # an earlier try may have reached the server
            if found is not None:
                return found
            made = await client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_NAME: batch.name},
            )
            return made.id

        batch_id = await self._try(create)
        self._store.set_batch(batch.name, batch_id)
        self._open[batch.name] = batch.known_as(batch_id)
        self._requests += len(rows)
        self._watcher.note(f"batch {batch_id} submitted")

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self._poll_seconds)

    async def _look(self, name: str, waiting: dict[str, Question]) -> None:
        if self.stopping:
            return
        batch_id = self._open[name].batch_id
        assert batch_id is not None
        batch = await self._try(lambda: self._endpoint.client.batches.retrieve(batch_id))
        counts = batch.request_counts
        self._watcher.note(f"batch {batch.status}" + (f", {counts.completed} of {counts.total}" if counts else ""))
        if batch.status in _FINAL:
            await self._collect(name, batch, waiting)

    async def _collect(self, name: str, batch: Batch, waiting: dict[str, Question]) -> None:
        """Take what a batch brought, in one transaction, and count a failure for every row that it did not."""
        opened = self._open[name]
        replies: dict[str, Reply] = {}
        errors: dict[str, str] = {}
        for file_id in (batch.output_file_id, batch.error_file_id):
            for row in await self._rows(file_id):
                self._take(row, opened, replies, errors)
        self._store.add_all(list(replies.items()), done=name)
        del self._open[name]
        self._usd += sum(reply.cost_usd or 0.0 for reply in replies.values())
        self._watcher.spent(self._usd)
        for key in opened.sizes:
            if key in waiting:
                detail = errors.get(key, f"the batch {batch.status} without it")
                self._settle(key, replies.get(key), detail, waiting)
        if batch.status == "failed":
            why = "; ".join(error.message or "" for error in (batch.errors.data if batch.errors else None) or [])
            raise LabelError(f"batch {batch.id} failed: {self._endpoint.redact(why)[:300] or 'no reason given'}")

    def _take(
        self, row: Mapping[str, Any], opened: OpenBatch, replies: dict[str, Reply], errors: dict[str, str]
    ) -> None:
        key = row.get("custom_id")
        if not isinstance(key, str) or key not in opened.sizes or key in replies:
            return
        answer = row.get("response")
        answer = answer if isinstance(answer, Mapping) else {}
        if answer.get("status_code") == 200:
            per_million = opened.prices
            price = per_million and Price(per_million_in=per_million[0], per_million_out=per_million[1], source="")
            replies[key] = read_answer(json.dumps(answer.get("body")), price, Size(0, 0, *opened.sizes[key]))
        else:
            errors[key] = json.dumps(row.get("error") or answer.get("body"))[:300]

    def _settle(self, key: str, reply: Reply | None, detail: str, waiting: dict[str, Question]) -> None:
        if reply is not None and reply.status == SCORED:
            self._outcome.scored += 1
            self._watcher.done(SCORED)
            del waiting[key]
            return
        self._failures[key] += 1
        if self._failures[key] >= ATTEMPTS:
            reason = (reply.status, reply.detail) if reply else ("batch_error", detail)
            self._outcome.failed[key] = reason
            self._watcher.done(reason[0])
            del waiting[key]

    async def _rows(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        content = await self._try(lambda: self._endpoint.client.files.content(file_id))
        rows = []
        for line in self._endpoint.redact(content.content.decode(errors="replace")).splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # a broken line brings nothing: its row counts as failed and is sent again
            if isinstance(row, dict):
                rows.append(row)
        return rows

    async def _try(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call that costs nothing, again after a fault; LabelError when it keeps failing."""
        for failures in range(1, _TRIES):
            try:
                return await self._endpoint.guarded(call)
            except CallError as error:
                if error.kind == "refused":
                    raise LabelError(f"the server refuses the batch: {error.detail}") from None
                await asyncio.sleep(error.wait if error.wait is not None else self._limits.backoff(failures))
        try:
            return await self._endpoint.guarded(call)
        except CallError as error:
            raise LabelError(f"no answer after {_TRIES} tries: {error.detail}; run the same command again") from None
