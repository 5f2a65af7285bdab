"""What comes in over HTTP: from the server that was named and no other, and without the key."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from distill.errors import LabelError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_MIN_SECRET = 8
"""A shorter "key" is the placeholder of a local server; striking it out would mutilate texts."""

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}


def striking(key: str) -> Callable[[str], str]:
    r"""Return what strikes a key out of a text in every spelling of it: \u0041, \/ or %41, once or twice."""
    if len(key) < _MIN_SECRET:
        return lambda text: text
    spelled = re.compile("".join(_spellings(sign) for sign in key))

    def strike(text: str) -> str:
        text = text.replace(key, "***")
        return spelled.sub("***", text) if any(sign in text for sign in _ESCAPES) else text

    return strike


_ESCAPES = ("\\u00", "\\/", "%", '\\"', "\\\\")


def _spellings(sign: str) -> str:
    code = f"(?i:{ord(sign):02x})"
    return rf"(?:\\{{0,8}}{re.escape(sign)}|\\{{1,8}}u00{code}|%{code})"  # bounded: backslashes without end are no key


def client_for(timeout: float) -> Any:
    """Return the HTTP client of the openai package; every answer is checked before it is read."""
    from openai import DefaultAsyncHttpxClient

    return DefaultAsyncHttpxClient(timeout=timeout, event_hooks={"response": [_check]})


async def _check(answer: Any) -> None:
    """Refuse a redirect to another server; LabelError, for every further dialogue would follow it."""
    place = answer.headers.get("location")
    if answer.status_code not in _REDIRECTS or place is None:
        return
    here = str(answer.request.url)
    if not same_server(here, urljoin(here, place)):
        raise LabelError(
            f"{urlsplit(here).netloc}: redirects to {_shown(urljoin(here, place))}, another server, which would get "
            "every dialogue; name that one in --base-url if you trust it"
        )


def same_server(here: str, there: str) -> bool:
    """Whether two URLs name one server: scheme, host and port, or the https of what was http at the usual ports."""
    try:
        one, two = _place(urlsplit(here)), _place(urlsplit(there))
    except ValueError:  # a port that is no number
        return False
    return one == two or (one[1] == two[1] and (one[0], one[2], two[0], two[2]) == ("http", 80, "https", 443))


def _place(url: SplitResult) -> tuple[str, str, int | None]:
    return url.scheme, (url.hostname or "").rstrip("."), url.port or _PORTS.get(url.scheme)


def _shown(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or "nowhere"
    except ValueError:
        host = "nowhere"
    return ascii(host)[1:-1][:100]
