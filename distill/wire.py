"""What comes in over HTTP: from the server that was named and no other, and without the key."""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from distill.errors import LabelError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

MAX_ANSWER_BYTES = 1 << 24
"""Some 100 times what the answer to one question holds with all its log-probabilities (16 MiB)."""
MAX_FILE_BYTES = 1 << 30
"""The results of a batch: 50,000 answers, or 10,000 with log-probabilities."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

_MIN_SECRET = 8
"""A shorter "key" is the placeholder of a local server; striking it out would mutilate texts."""

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}


def striking(key: str) -> Callable[[str], str]:
    r"""Return what strikes a key out of a text in every spelling: \u0041, \/, %41 (also twice), &#65;, hex, base64."""
    if len(key) < _MIN_SECRET:
        return lambda text: text
    spelled = re.compile("".join(_spellings(sign) for sign in key))
    coded = re.compile("|".join([re.escape(core) for core in _base64s(key)] + [f"(?i:{key.encode().hex()})"]))

    def strike(text: str) -> str:
        text = text.replace(key, "***")
        text = spelled.sub("***", text) if any(sign in text for sign in _ESCAPES) else text
        return coded.sub("***", text)

    return strike


_ESCAPES = ("\\u00", "\\x", "\\/", "%", "&", '\\"', "\\\\")


def _spellings(sign: str) -> str:
    code = f"(?i:{ord(sign):02x})"
    escaped = rf"\\{{1,8}}+(?:u00|x){code}|%(?:25){{0,3}}{code}|&#0{{0,8}}+{ord(sign)};|&#[xX]0{{0,8}}+{code};"
    many = r"\\{0,8}" if sign == "\\" else r"\\{0,8}+"
    named = f"|{escape(sign)}" if escape(sign) != sign else ""
    return rf"(?:{many}{re.escape(sign)}|{escaped}{named})"  # bounded: backslashes without end are no key


def _base64s(key: str) -> set[str]:
    """Return what base64 makes of a key wherever it stands in a text ("Bearer KEY"), but for signs at its ends."""
    found = set()
    for before in range(3):
        whole = b64encode(b"\0" * before + key.encode()).decode()
        core = whole[-(-before * 8 // 6) : (before + len(key.encode())) * 8 // 6]
        found |= {core, core.replace("+", "-").replace("/", "_")}
    return found


class TooMuchError(Exception):
    """An answer is longer than any that could be meant, or in an encoding that is not read."""


def client_for(timeout: float) -> Any:
    """Return the HTTP client of the openai package; every answer is checked and bounded before it is read."""
    from openai import DefaultAsyncHttpxClient

    # Only what is decoded here, within bounds, is asked for.
    headers = {"accept-encoding": "gzip"}
    return DefaultAsyncHttpxClient(timeout=timeout, headers=headers, event_hooks={"response": [_check, _bound]})


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


async def _bound(answer: Any) -> None:
    """Read no more of an answer than could be meant, and decode no more of it; else TooMuchError while it is read."""
    most = MAX_FILE_BYTES if answer.request.url.path.endswith("/content") else MAX_ANSWER_BYTES
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    answer.headers.pop("content-encoding", None)
    inner = answer.stream
    answer.stream = _bounded_stream(inner, most, encoding)


def _bounded_stream(inner: Any, most: int, encoding: str) -> Any:
    """Return a stream like ``inner`` that ends in TooMuchError beyond so many bytes, before or after decoding."""
    base: Any = next(
        kind for kind in type(inner).__mro__ if kind.__name__ == "AsyncByteStream"
    )  # of openai's own httpx

    class Bounded(base):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for part in _parts(inner, most, encoding):
                yield part

        async def aclose(self) -> None:
            await inner.aclose()

    return Bounded()


async def _parts(inner: Any, most: int, encoding: str) -> AsyncIterator[bytes]:
    if encoding not in {"", "identity", *_WINDOW_BITS}:
        raise TooMuchError(f"an answer in the encoding {encoding[:40]!a}, expected gzip, deflate or none")
    decoder = zlib.decompressobj(_WINDOW_BITS[encoding]) if encoding in _WINDOW_BITS else None
    came = given = 0
    async for raw in inner:
        came += len(raw)
        try:
            part = raw if decoder is None else decoder.decompress(raw, most - given + 1)
        except zlib.error as error:
            raise TooMuchError(f"an answer that cannot be decompressed: {error}") from None
        given += len(part)
        if came > most or given > most:
            raise TooMuchError(f"an answer of more than {most >> 20} MiB")
        yield part


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
