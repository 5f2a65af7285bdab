"""The application: routes, and what happens to a request from its first byte to its last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from scorer.model import Scorer
from selection.serving import bodies
from selection.serving.batching import Batcher, Job
from selection.serving.guard import Guard, failure, fault_response
from selection.serving.keys import Keys
from selection.serving.lines import LinesResponse
from selection.serving.messages import answers
from selection.serving.messages.openapi import document, page
from selection.serving.messages.shapes import PredictRequest, RefusedError, RerankRequest, invalid
from selection.serving.metrics import Metrics
from selection.serving.reading import Lot, Reader
from selection.serving.room import BYTES_PER_TOKEN, Room
from selection.serving.settings import ServeSettings

if TYPE_CHECKING:
    from selection.watching.watch import Watch

T = TypeVar("T")

_READERS = 2
"""Threads that read and tokenise, so that a large request does not hold up all others."""

_WHAT = "scores of the empathy in replies"


class Service:
    """Scores requests with one scorer; ``app`` is the ASGI application. Make it in the thread that loads the scorer.

    ``watch`` is told of every dialogue that is scored, before it is answered. ``is_open`` says that others than this
    machine may ask, whatever name they know it by.
    """

    def __init__(
        self,
        scorer: Scorer,
        settings: ServeSettings,
        keys: Keys,
        watch: Watch | None = None,
        *,
        is_open: bool = False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start the threads; ``log`` is given a line for each fault of the server itself."""
        self.scorer, self.settings, self.watch = scorer, settings, watch
        self.metrics = Metrics(scorer)
        self.batcher = Batcher(scorer, settings.wait_ms, self._record, self.metrics.ran, self._tell_together)
        patience = settings.answer_seconds / 2
        self.room = Room(settings.queue_tokens, patience, settings.body_bytes, lambda: self.batcher.rate)
        self.reader = Reader(scorer, settings)
        self.draining = False
        self.is_open = is_open
        self._threads = ThreadPoolExecutor(_READERS, "read")
        self.guard = Guard(Starlette(routes=self._routes(), exception_handlers=_HANDLERS), self, keys, log)

    @property
    def cuts(self) -> Any:
        """The scorer's cuts."""
        return self.scorer.bundle.info.cuts

    @property
    def in_hand(self) -> int:
        """Requests that are not answered yet, open pages left out."""
        return self.guard.in_hand

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
        self.batcher.close()

    def _routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            Route("/v1/score", self._score, methods=["POST"]),
            Route("/predict", self._predict, methods=["POST"]),
            Route("/rerank", self._rerank, methods=["POST"]),
            Route("/health", self._health),
            Route("/info", self._info),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._document),
            Route("/docs", self._page),
        ]
        if self.watch is not None:
            from selection.watching.routes import dashboard_routes

            routes += dashboard_routes(self.watch)
        return routes

    def _tell_together(self, error: Exception) -> None:
        self.guard.tell("scored one by one, since together they failed", error)

    async def in_thread(self, call: Callable[..., T], *given: Any) -> T:
        """Return what a call gives that may take long."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *given)

    async def scored(self, request: Request, lot: Lot) -> Scores | None:
        """Return the columns of a lot, None of one without dialogues; GoneError where the client went meanwhile."""
        if not lot.dialogues:
            return None
        job = self.batcher.submit(lot)
        gone = asyncio.create_task(bodies.until_gone(request))
        try:
            either: set[asyncio.Future[Any]] = {job.done, gone}
            done, _ = await asyncio.wait(
                either, timeout=self.settings.answer_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if job.done in done:
                return job.done.result()
            if gone in done:
                raise bodies.GoneError
            raise self.too_late()
        finally:
            gone.cancel()
            job.done.cancel()

    def too_late(self) -> RefusedError:
        """Return the error of a request that waited too long."""
        text = f"not scored within {self.settings.answer_seconds:g} seconds"
        return RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "Overloaded", text, self.room.retry_after)

    def _record(self, jobs: Sequence[Job]) -> None:
        """Tell the watch of jobs, in one transaction, before they are answered."""
        if self.watch is None or not jobs:
            return
        texts = self.watch.settings.keep_texts
        columns = [(job.lot, job.columns) for job in jobs if job.columns is not None]
        self.watch.record(
            [one for lot, rows in columns for one in answers.observed_of(lot, rows, self.cuts, texts=texts)]
        )

    @asynccontextmanager
    async def _asked(
        self, request: Request, read: Callable[[bytes], tuple[T, Lot]]
    ) -> AsyncIterator[tuple[T, Lot, Scores | None]]:
        """Read a JSON body in a thread, score its lot, and give both."""
        if bodies.is_lines(request):
            raise invalid(f"{bodies.NDJSON[0]} is for /v1/score", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        self.room.check()
        body = await bodies.read_body(request, self.settings, self.room)
        size = len(body)
        try:
            with self.room.held(size // BYTES_PER_TOKEN) as held:
                asked, lot = await self.in_thread(read, body)
                del body
                if lot.tokens > self.settings.queue_tokens:
                    most = f"{lot.tokens} tokens, expected at most {self.settings.queue_tokens}"
                    raise invalid(f"{most}; send several requests, or NDJSON", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                held.hold(lot.tokens)
                yield asked, lot, await self.scored(request, lot)
        finally:
            self.room.bytes -= size

    async def _score(self, request: Request) -> Response:
        if bodies.is_lines(request):
            self.room.check()
            return LinesResponse(self, request)
        async with self._asked(request, lambda body: (None, self.reader.json(body))) as (_, lot, columns):
            results = answers.results_of(lot, columns, self.cuts)
            self.metrics.results(results)
            status, body = answers.score_answer(results)
            return Response(body, status, media_type="application/json")

    async def _predict(self, request: Request) -> Response:
        def read(body: bytes) -> tuple[tuple[PredictRequest, bool], Lot]:
            asked = _typed(body, PredictRequest)
            records, one = answers.predict_records(asked)
            return (asked, one), answers.whole(self.reader.records(records))

        async with self._asked(request, read) as ((asked, one), lot, columns):
            assert columns is not None
            self.metrics.results(answers.results_of(lot, columns, self.cuts))
            body = answers.predictions(columns, raw=asked.raw_scores, one=one)
            return Response(body, media_type="application/json")

    async def _rerank(self, request: Request) -> Response:
        def read(body: bytes) -> tuple[RerankRequest, Lot]:
            asked = _typed(body, RerankRequest)
            return asked, answers.whole(self.reader.records(answers.rerank_records(asked)))

        async with self._asked(request, read) as (asked, lot, columns):
            assert columns is not None
            self.metrics.results(answers.results_of(lot, columns, self.cuts))
            return Response(answers.ranks(columns, asked), media_type="application/json")

    async def _health(self, _: Request) -> Response:
        if self.draining:
            return fault_response(self.ending())
        return Response(answers.encode({"status": "ok"}), media_type="application/json")

    def ending(self) -> RefusedError:
        """Return the error of what comes while the server ends."""
        return RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "Unhealthy", "the server is ending", 5)

    async def _info(self, _: Request) -> Response:
        bundle, engine, settings = self.scorer.bundle, self.scorer.engine, self.settings
        labels = {str(i): head for i, head in enumerate(HEADS)}
        known = bundle.provenance()
        info = {
            "model_id": bundle.info.name,
            "model_sha": bundle.sha256,
            "model_dtype": engine.precision,
            "model_type": {"classifier": {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}},
            "max_input_length": bundle.info.max_length,
            "max_batch_tokens": engine.batch_tokens,
            "max_client_batch_size": settings.records,
            "max_concurrent_requests": settings.connections,
            "auto_truncate": True,
            "version": version("empathy-scorer"),
            "engine": engine.name,
            "threads": engine.threads,
            "licence": bundle.info.licence,
            **{name: known[name] for name in ("backbone", "created", "cuts", "half_widths", "judge")},
            "limits": {
                name: getattr(settings, name) for name in ("body_bytes", "turns", "tokens", "depth", "queue_tokens")
            },
        }
        return Response(answers.encode(info), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        self.metrics.waiting.set(self.room.tokens)
        self.metrics.in_hand.set(self.in_hand)
        body, content_type = self.metrics.text(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def _document(self, _: Request) -> Response:
        return Response(answers.encode(document()), media_type="application/json")

    async def _page(self, _: Request) -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        return HTMLResponse(page(document()), headers={"content-security-policy": policy})


def _typed(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        status = (
            HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, msgspec.ValidationError) else HTTPStatus.BAD_REQUEST
        )
        text = "nested too deeply" if isinstance(error, RecursionError) else ascii(str(error))[1:-1][:300]
        raise invalid(text, status) from None


async def _http_fault(_: Request, error: Exception) -> Response:
    status = HTTPStatus(getattr(error, "status_code", 404))
    text = {404: "no such page; see /docs", 405: "this method is not allowed here; see /docs"}.get(
        status, status.phrase
    )
    return fault_response(RefusedError(status, "NotFound" if status == HTTPStatus.NOT_FOUND else "Validation", text))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return fault_response(error)


async def _failed(_: Request, __: Exception) -> Response:
    return fault_response(failure())


_HANDLERS: dict[Any, Any] = {Exception: _failed, 404: _http_fault, 405: _http_fault, RefusedError: _refused}
