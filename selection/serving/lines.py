"""NDJSON: lines in, lines out in the same order, while more come; what waits is bounded by not reading further."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from selection.serving import bodies
from selection.serving.batching import Job
from selection.serving.guard import failure
from selection.serving.messages import answers
from selection.serving.messages.shapes import Fault, RefusedError
from selection.serving.reading import Lot
from selection.serving.room import BYTES_PER_TOKEN, Held

if TYPE_CHECKING:
    from selection.serving.app import Service

_AHEAD = 4
"""Groups of lines of one connection that are read before the first of them is answered."""


class _Group(NamedTuple):
    lot: Lot
    job: Job | None
    held: Held


_Item = _Group | Exception | None


class LinesResponse(Response):
    """Answers a request of NDJSON: it reads the body itself, while it answers. Its status says nothing of a record.

    What ends it early is a last line with ``error``.
    """

    def __init__(self, service: Service, request: Request) -> None:
        """Answer ``request``."""
        super().__init__(media_type=bodies.NDJSON[0])
        self._service, self._request = service, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, score and answer until the body ends."""
        waiting: asyncio.Queue[_Item] = asyncio.Queue(_AHEAD)
        reading = asyncio.create_task(self._read(waiting))
        headers = [(b"content-type", bodies.NDJSON[0].encode())]
        try:
            first = item = await waiting.get()  # before the head is sent: a client may wait until its body is wanted
            if isinstance(first, RefusedError):
                raise first
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
            while item is not None:
                if isinstance(item, bodies.GoneError):
                    raise item
                body = self._fault_line(item) if isinstance(item, Exception) else await self._answer(item)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                if isinstance(item, Exception) or body.startswith(b'{"error"'):
                    break
                item = await waiting.get()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            while not waiting.empty():
                _let_go(waiting.get_nowait())

    async def _answer(self, group: _Group) -> bytes:
        service = self._service
        try:
            columns = None
            if group.job is not None:
                async with asyncio.timeout(service.settings.answer_seconds):
                    columns = await group.job.done
        except TimeoutError:
            return self._fault_line(service.too_late())
        except Exception as error:  # noqa: BLE001 - of the engine or the watch: this request ends with it
            return self._fault_line(error)
        finally:
            _let_go(group)
        results = answers.results_of(group.lot, columns, service.cuts)
        service.metrics.results(results)
        return b"".join(answers.encode(one) + b"\n" for one in results)

    def _fault_line(self, error: Exception) -> bytes:
        """Return the last line of a request that ends with an error; one of the server itself is in the log too."""
        if not isinstance(error, RefusedError):
            self._service.guard.tell(self._request.url.path, error)
            error = failure()
        return answers.encode(Fault(error.text, error.kind)) + b"\n"

    async def _read(self, waiting: asyncio.Queue[_Item]) -> None:
        service = self._service
        try:
            async for first, data in bodies.read_lines(self._request, service.settings):
                held = await service.room.wait(len(data or b"") // BYTES_PER_TOKEN)
                group = None
                try:
                    if data is None:
                        lot = service.reader.too_long(first)
                    else:
                        lot = await service.in_thread(service.reader.lines, data, first)
                    held.hold(lot.tokens)
                    group = _Group(lot, service.batcher.submit(lot) if lot.dialogues else None, held)
                    await waiting.put(group)
                except BaseException:
                    held.hold(0)
                    _let_go(group)
                    raise
            await waiting.put(None)
        except Exception as error:  # noqa: BLE001 - handed on to what answers
            await waiting.put(error)


def _let_go(item: _Item) -> None:
    if isinstance(item, _Group):
        item.held.hold(0)
        if item.job is not None:
            item.job.done.cancel()
