"""Alerts to a URL: JSON by POST, tried again, and remembered until somebody took it."""

from __future__ import annotations

import http.client
import json
import threading
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from scorer.errors import reason_of
from selection.errors import WatchError
from selection.watching.alerts import Alert, plain_alert
from selection.watching.watch import Watch

_TIMEOUT_SECONDS = 10.0
_PAUSES = (1.0, 4.0)
"""Seconds before the second and the third try."""

_AGAIN_SECONDS = 60.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: a POST would become a GET, to who knows whom."""


class Webhook:
    """A URL that is told when alerts begin and end. Its path, which may be a secret, is never printed."""

    def __init__(self, url: str, watch: Watch, *, pauses: tuple[float, ...] = _PAUSES) -> None:
        """Check the URL; WatchError unless it is one of HTTP."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise WatchError("--webhook: is no URL, expected https://host/path") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
            raise WatchError(f"--webhook: begins with {parts.scheme or url[:8]!a}, expected https://host/path")
        self.host = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port else "")
        self._url, self._watch, self._pauses = url, watch, pauses
        self._wake, self._ended = threading.Event(), threading.Event()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Tell what is to be told from a thread of its own, from now on."""
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    def wake(self, _: Alert | None = None) -> None:
        """Say that there may be something to tell."""
        self._wake.set()

    def close(self) -> None:
        """End the thread; what is untold is told when the state is opened again."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._ended.is_set():
            failed = self.tell()
            self._wake.wait(_AGAIN_SECONDS if failed else None)
            self._wake.clear()

    def tell(self) -> str | None:
        """Tell all that is untold, and return why that failed, None where it did not."""
        for alert in list(self._watch.alerts.entries):
            while alert.untold and not self._ended.is_set():
                event = "begin" if alert.told == 0 else "end"
                if failure := self._post(self._body(alert, event)):
                    self._watch.problem("webhook", f"{self.host} was not told of an alert: {failure}")
                    return failure
                alert = self._watch.mark_told(alert.number, alert.told + 1)
        return None

    def _body(self, alert: Alert, event: str) -> bytes:
        text = f"{'Alert' if event == 'begin' else 'Over'}: {alert.text}"
        title = self._watch.title
        found = {"event": event, "text": f"{title}: {text}" if title else text, "title": title}
        return json.dumps(found | {"alert": plain_alert(alert)}).encode()

    def _post(self, body: bytes) -> str | None:
        headers = {"content-type": "application/json", "user-agent": "empathy-scorer"}
        failure = ""
        for pause in (*self._pauses, None):
            try:
                request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 - http(s) alone
                with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                    answer.read(1024)
                    return None
            except urllib.error.HTTPError as error:
                failure = f"it answered {error.code}"
                error.close()
                if error.code < 500 and error.code not in (408, 429):
                    return failure
            except urllib.error.URLError as error:
                failure = reason_of(error.reason) if isinstance(error.reason, Exception) else "no connection"
            except (OSError, http.client.HTTPException, ValueError) as error:
                failure = reason_of(error) if isinstance(error, OSError) else type(error).__name__
            if pause is not None and self._ended.wait(pause):
                break
        return failure
