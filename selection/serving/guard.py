"""What stands before every route: who may ask, whether the server is ending, and that every request gets an answer."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scorer.errors import EmpathyError
from selection.serving.bodies import GoneError
from selection.serving.keys import Keys, is_own_host, is_same_origin
from selection.serving.messages.answers import encode
from selection.serving.messages.shapes import Fault, RefusedError

if TYPE_CHECKING:
    from selection.serving.app import Service

_SCORING = ("/v1/score", "/predict", "/rerank")
_OPEN = ("/health",)
_KNOWN = (*_SCORING, *_OPEN, "/info", "/metrics", "/openapi.json", "/docs", "/dashboard", "/dashboard/events")
_ROOT = Path(__file__).parents[2]


class Guard:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp, service: Service, keys: Keys, log: Callable[[str], None]) -> None:
        """Stand before ``app``."""
        self._app, self._service, self._keys, self._log = app, service, keys, log
        self.in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; what goes wrong inside is told in the log, without what the client sent."""
        if scope["type"] != "http":
            return
        route = scope["path"] if scope["path"] in _KNOWN else "other"
        begun, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                close = [(b"connection", b"close")] if self._service.draining else []
                message = {**message, "headers": [*message.get("headers", []), *close]}
            await send(message)

        scoring = route in _SCORING
        self.in_hand += scoring
        try:
            await self._answer(scope, receive, sent)
        except GoneError:
            status = status or 499  # as nginx counts them: nobody was there to answer
        except Exception as error:  # noqa: BLE001 - whatever it is, the server lives and the client is told
            self.tell(route, error)
            if not status:
                await fault_response(failure())(scope, receive, sent)
        finally:
            self.in_hand -= scoring
            self._service.metrics.requests.labels(route, str(status)).inc()
            if scoring:
                self._service.metrics.seconds.labels(route).observe(time.perf_counter() - begun)

    def tell(self, route: str, error: Exception) -> None:
        """Say in the log what failed and where, without what the client sent."""
        self._log(f"{route}: {type(error).__name__} at {_place(error)}{_line(error)}")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        refused = self._refusal(scope["path"], headers)
        if refused is None and self._service.draining and scope["path"] in _SCORING:
            refused = self._service.ending()
        if refused is None:
            await self._app(scope, receive, send)
            return
        response = fault_response(refused)
        if refused.status == HTTPStatus.UNAUTHORIZED:
            kind = "Basic" if scope["path"].startswith(("/dashboard", "/docs")) else "Bearer"
            response.headers["www-authenticate"] = f'{kind} realm="empathy"'
        await response(scope, receive, send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> RefusedError | None:
        """Return why a request is not let in, None where it is."""
        host = headers.get(b"host")
        if self._keys:
            if path not in _OPEN and not self._keys.let_in(headers.get(b"authorization")):
                text = "a key is needed: Authorization: Bearer KEY"
                return RefusedError(HTTPStatus.UNAUTHORIZED, "Unauthorized", text)
        elif not self._service.is_open and not is_own_host(host):
            return RefusedError(
                HTTPStatus.FORBIDDEN, "Unauthorized", "the Host header names no address of this machine"
            )
        if not is_same_origin(headers.get(b"origin"), host):
            return RefusedError(HTTPStatus.FORBIDDEN, "Unauthorized", "a page of another origin may not ask here")
        return None


def fault_response(error: RefusedError) -> Response:
    """Return the response that tells an error."""
    headers = {} if error.retry is None else {"retry-after": str(error.retry)}
    return Response(encode(Fault(error.text, error.kind)), error.status, headers, "application/json")


def failure() -> RefusedError:
    """Return the error of a fault of the server itself."""
    text = "the server failed on it; its log says how"
    return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "Backend", text)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(str(_ROOT))] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"


def _line(error: Exception) -> str:
    """Return what an error of this package says; what others say may quote a text."""
    return f": {error}" if isinstance(error, EmpathyError) else ""
