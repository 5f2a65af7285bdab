"""The process: a socket, uvicorn, connections that may not dawdle, and an end that lets what is in hand finish."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from scorer.cli.entry import signals_to
from scorer.errors import reason_of
from selection.errors import ServeError
from selection.serving.app import Service
from selection.serving.keys import VARIABLE, Keys, is_local
from selection.serving.settings import ServeSettings

_LAST_SECONDS = 3
"""Seconds for connections to close once all is answered."""

_REFUSING_SECONDS = 0.3
"""Seconds that new requests are told at least that it ends, so that those on their way are not simply cut."""

_BACKLOG = 1024


def listen(settings: ServeSettings, keys: Keys, *, without_key: bool) -> tuple[socket.socket, bool]:
    """Return a socket that listens, and whether others than this machine reach it.

    ServeError where it cannot, or where it would without a key and nobody said that it may.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServeError(f"{where}: no such address: {reason_of(error)}") from None
    family, _, _, _, address = found[0]
    is_open = not is_local([str(address[0])])
    if is_open and not keys and not without_key:
        raise ServeError(
            f"{where}: others than this machine would reach it without a key; set {VARIABLE}, or say --without-key"
        )
    try:
        sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ServeError(f"{where}: cannot listen there: {reason_of(error)}; choose another --port") from None
    return sock, is_open


def run(service: Service, sock: socket.socket, log: Callable[[str], None]) -> signal.Signals:
    """Serve until a signal comes; finish what is in hand, refuse what is new, and return the signal."""
    return asyncio.run(_run(service, sock, log))


async def _run(service: Service, sock: socket.socket, log: Callable[[str], None]) -> signal.Signals:
    server = server_of(service, log)
    await server.serve(sockets=[sock])
    return server.signal


def server_of(service: Service, log: Callable[[str], None]) -> Server:
    """Return uvicorn's server for a service, made in the loop that is to run it."""
    settings = service.settings
    _quieten(log)
    config = uvicorn.Config(
        service.guard,
        http=type("Protocol", (_Protocol,), {"settings": settings}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]
        limit_concurrency=settings.connections,
        timeout_graceful_shutdown=_LAST_SECONDS,
        backlog=_BACKLOG,
    )
    return Server(config, service, log)


class Server(uvicorn.Server):
    """Uvicorn, but a signal first lets what is in hand finish, while new requests are told that it ends."""

    def __init__(self, config: uvicorn.Config, service: Service, log: Callable[[str], None]) -> None:
        """Serve what ``config`` says; ``log`` is told of requests that were not finished."""
        super().__init__(config)
        self.signal = signal.SIGTERM
        self._service, self._log = service, log
        self._loop = asyncio.get_running_loop()
        self._draining: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Answer signals while it serves."""
        with signals_to(self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End gracefully at the first signal, at once at the second."""
        if self._service.draining:
            self.force_exit = self.should_exit = True
            return
        self.signal = signal.Signals(sig)
        self._service.draining = True
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._draining = self._loop.create_task(self._drained())

    async def _drained(self) -> None:
        now = self._loop.time()
        least, until = now + _REFUSING_SECONDS, now + self._service.settings.drain_seconds
        while (now < least or self._service.in_hand) and (now := self._loop.time()) < until:
            await asyncio.sleep(0.02)
        if self._service.in_hand:
            self._log(
                f"{self._service.in_hand} requests were not finished within {self._service.settings.drain_seconds:g} s"
            )
        if self._service.watch is not None:
            self._service.watch.stop_streams()
        self.should_exit = True


class _Protocol(H11Protocol):
    """A connection whose client sends the head of a request in time, and takes its answer."""

    settings = ServeSettings()
    _asked = False
    _head: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Read on; where no request is being answered, its head must come in time."""
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        for timer in (self._head, self._stuck):
            if timer is not None:
                timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless an answer has begun: then end it. Nobody is to be answered any more."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Give a client that takes nothing its last seconds."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self.settings.send_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also where its client does not take the end of its answer."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(_LAST_SECONDS, self.transport.abort)

    def _look(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        self._asked |= answering
        if answering and self._head is not None:
            self._head.cancel()
            self._head = None
        elif not answering and self._head is None:
            self._head = self.loop.call_later(self.settings.header_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._head = None
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.transport.is_closing():
            return
        if not self._asked:
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
        self.loop.call_later(_LAST_SECONDS, self.transport.abort)


class _Told(logging.Handler):
    """Tells of uvicorn's errors in a line each, without what a client sent."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the kind of an error."""
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else record.levelname.lower()
        self._log(f"connection: {kind} ({record.module}:{record.lineno})")


def _quieten(log: Callable[[str], None]) -> None:
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_Told(log)], False
