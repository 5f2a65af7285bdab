"""The live page as routes of a Starlette application: the page, its state as JSON, and what changes as events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from selection.watching.page import page_and_policy
from selection.watching.snapshot import changes
from selection.watching.watch import Watch

_PAUSE_SECONDS, _BEAT_SECONDS = 0.5, 15.0
_STREAMS = 64
"""Pages that may be open at once."""

_PLAIN = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def dashboard_routes(watch: Watch) -> list[Route]:
    """Return /dashboard (one page that loads nothing else), /dashboard/state (JSON) and /dashboard/events.

    The stream of events sends the whole state once, as ``state``, and then what changed, as ``change``, at most twice a
    second. It ends when ``watch.stop_streams`` is called: do so before a server waits for its connections.
    """
    page, policy = page_and_policy()
    streams = [0]

    async def dashboard(_: Request) -> Response:
        return HTMLResponse(page, headers=_PLAIN | {"content-security-policy": policy, "x-frame-options": "DENY"})

    async def state(_: Request) -> Response:
        return JSONResponse(await anyio.to_thread.run_sync(watch.snapshot), headers=_PLAIN)

    async def events(_: Request) -> Response:
        if streams[0] >= _STREAMS:
            return JSONResponse({"error": f"{_STREAMS} pages are open already"}, 503, {"retry-after": "10"})
        headers = _PLAIN | {"x-accel-buffering": "no"}
        return StreamingResponse(_counted(streams, _events(watch)), media_type="text/event-stream", headers=headers)

    return [Route("/dashboard", dashboard), Route("/dashboard/state", state), Route("/dashboard/events", events)]


async def _counted(streams: list[int], events: AsyncIterator[str]) -> AsyncIterator[str]:
    streams[0] += 1
    try:
        async for event in events:
            yield event
    finally:
        streams[0] -= 1


async def _events(watch: Watch) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    sent: dict[str, Any] = await anyio.to_thread.run_sync(watch.snapshot)
    yield "retry: 2000\n" + _event("state", sent)
    told = loop.time()
    while not watch.closing.is_set():
        await asyncio.sleep(_PAUSE_SECONDS)
        late = loop.time() - told > _BEAT_SECONDS
        if watch.version == sent["version"] and not late:
            continue
        now = await anyio.to_thread.run_sync(watch.snapshot)
        yield _event("change", changes(sent, now))
        sent, told = now, loop.time()


def _event(name: str, value: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(value, allow_nan=False)}\n\n"
