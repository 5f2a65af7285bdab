"""The live page of `empathy watch` on loopback, until a signal ends it."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from scorer.cli.entry import signals_to
from scorer.errors import reason_of
from selection.errors import WatchError
from selection.watching.routes import dashboard_routes
from selection.watching.watch import Watch

LOOPBACK = "127.0.0.1"
_GRACE_SECONDS = 3


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self.signal: signal.Signals | None = None
        self._watch = watch

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Answer signals while it serves: uvicorn would raise them again in its loop, where they may be lost."""
        with signals_to(self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams of events, or the server would wait for them."""
        self.signal = signal.Signals(sig)
        self._watch.stop_streams()
        super().handle_exit(sig, frame)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback, 0 for any free port; WatchError if the port cannot be had."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((LOOPBACK, port))
        found.listen(128)
    except OSError as error:
        found.close()
        what = "another program listens there" if error.errno == errno.EADDRINUSE else reason_of(error)
        raise WatchError(f"port {port}: {what}; name another with --port") from None
    return found


def serve_page(watch: Watch, listening: socket.socket) -> signal.Signals | None:
    """Serve the page until SIGINT or SIGTERM, and return the signal."""
    app = Starlette(
        routes=[Route("/", _to_page), *dashboard_routes(watch)],
        # A page of another host whose name leads here (DNS rebinding) is refused.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"], www_redirect=False)],
    )
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, watch)
    server.run(sockets=[listening])
    return server.signal


def _to_page(_: Request) -> Response:
    return RedirectResponse("dashboard")
