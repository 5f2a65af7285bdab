"""The parts of what comes in over HTTP, to the byte: bounds, encodings, redirects, names of servers, keys."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from distill import wire
from distill.errors import LabelError
from distill.wire import TooMuchError, client_for, same_server, striking


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def read(most: int, encoding: str, *parts: bytes) -> bytes:
    async def run() -> bytes:
        return b"".join([part async for part in wire._parts(stream(*parts), most, encoding)])

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_an_answer_may_be_as_long_as_the_bound_and_no_byte_longer(encoding: str, pack: Any) -> None:
    text = bytes(range(200)) * 5
    packed = pack(text)
    assert read(1000, encoding, packed) == text
    assert read(1000, encoding, packed[:7], packed[7:50], packed[50:]) == text
    with pytest.raises(TooMuchError, match="an answer of more than 0 MiB"):
        read(999, encoding, packed)
    for damaged in (b"x" + packed, text):
        with pytest.raises(TooMuchError, match="an answer that cannot be decompressed"):
            read(1000, encoding, damaged)


def test_an_encoding_is_that_which_is_said() -> None:
    for encoding, packed in (("gzip", zlib.compress(b"a")), ("deflate", gzip.compress(b"a"))):
        with pytest.raises(TooMuchError, match="cannot be decompressed"):
            read(1000, encoding, packed)
    with pytest.raises(TooMuchError, match="in the encoding 'br', expected gzip, deflate or none"):
        read(1000, "br", b"a")


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_what_is_not_packed_is_counted_as_it_comes(encoding: str) -> None:
    assert read(10, encoding, b"12345", b"67890") == b"1234567890"
    assert read(0, encoding) == b""
    with pytest.raises(TooMuchError, match="an answer of more than 0 MiB"):
        read(9, encoding, b"12345", b"67890")
    with pytest.raises(TooMuchError, match="an answer of more than 3 MiB"):
        read(3 << 20, encoding, bytes(4 << 20))


def test_packed_bytes_are_bounded_too() -> None:
    empty = gzip.compress(b"")
    with pytest.raises(TooMuchError, match="an answer of more than"):
        read(30, "gzip", empty, *[empty] * 5)


class Inner(httpx.AsyncByteStream):
    """A stream that knows whether it was closed."""

    def __init__(self, *parts: bytes) -> None:
        self.parts, self.closed = parts, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part

    async def aclose(self) -> None:
        self.closed = True


def answer(path: str, inner: Inner, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, headers=named, stream=inner, request=httpx.Request("GET", f"https://judge.org{path}"))


@pytest.mark.parametrize(
    ("path", "size", "passes"),
    [
        ("/v1/chat/completions", 40, True),
        ("/v1/chat/completions", 41, False),
        ("/v1/files/f/content", 80, True),
        ("/v1/files/f/content", 81, False),
        ("/content/v1/chat", 41, False),
    ],
)
@pytest.mark.parametrize("encoding", [None, " Identity ", "GZIP"])
def test_a_file_may_be_longer_than_an_answer(
    path: str, size: int, passes: bool, encoding: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_ANSWER_BYTES", 40)
    monkeypatch.setattr(wire, "MAX_FILE_BYTES", 80)
    text = b"x" * size
    inner = Inner(gzip.compress(text) if encoding == "GZIP" else text)
    given = answer(path, inner, **({} if encoding is None else {"content_encoding": encoding}))

    async def run() -> bytes:
        await wire._bound(given)
        assert "content-encoding" not in given.headers
        try:
            return await given.aread()
        finally:
            await given.aclose()

    if passes:
        assert asyncio.run(run()) == text
    else:
        with pytest.raises(TooMuchError):
            asyncio.run(run())
    assert inner.closed


def test_the_bounds_are_sixteen_mebibytes_and_a_gibibyte() -> None:
    assert (wire.MAX_ANSWER_BYTES, wire.MAX_FILE_BYTES) == (16 * 1024**2, 1024**3)


def test_every_answer_of_the_client_is_checked_and_bounded() -> None:
    client = client_for(7.5)
    assert (client.timeout.connect, client.timeout.read, client.timeout.write, client.timeout.pool) == (7.5,) * 4
    assert client.headers["accept-encoding"] == "gzip"
    assert client.event_hooks["response"] == [wire._check, wire._bound]
    asyncio.run(client.aclose())


def checked(status: int, place: str | None, here: str = "http://judge.org/v1/x") -> None:
    headers = {} if place is None else {"location": place}
    asyncio.run(wire._check(httpx.Response(status, headers=headers, request=httpx.Request("POST", here))))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_goes_nowhere_else(status: int) -> None:
    for place in (None, "/v2", "?a", "http://judge.org/v2", "https://judge.org/v1/x", "//judge.org/y"):
        checked(status, place)
    for place in ("http://evil.net/v1", "//evil.net", "https://judge.org:8443/", "http://judge.org:81/"):
        with pytest.raises(
            LabelError, match=r"^judge.org: redirects to [\w.:]+, another server, which would get every"
        ):
            checked(status, place)


@pytest.mark.parametrize("status", [200, 201, 300, 304, 309, 404])
def test_what_is_no_redirect_may_name_any_place(status: int) -> None:
    checked(status, "http://evil.net/v1")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://evil.net/v1?key=secret", "evil.net"),
        ("http://user:secret@evil.net:81/", "evil.net:81"),
        ("http:///v1", "nowhere"),
        ("http://evil.net:x/", "nowhere"),
        ("http://évil.net/", "\\xe9vil.net"),
        (f"http://{'a' * 200}.net/", "a" * 100),
    ],
)
def test_a_server_is_shown_without_secrets_or_control_characters(url: str, shown: str) -> None:
    assert wire._shown(url) == shown


@pytest.mark.parametrize(
    ("here", "there", "same"),
    [
        ("https://a", "https://a:443", True),
        ("http://a", "http://a:80", True),
        ("http://a:80", "https://a:443", True),
        ("http://a:8080", "https://a", False),
        ("http://a", "https://a:8443", False),
        ("https://a:80", "https://a", False),
        ("https://a", "http://a", False),
        ("https://a:80", "https://a:443", False),
        ("http://a", "https://b", False),
        ("http://a..", "http://a", True),
        ("http:///x", "http:///y", True),
        ("http://a:81", "http://a:82", False),
        ("ws://a", "ws://a", True),
        ("http://a", "http://a:x", False),
    ],
)
def test_a_server_is_scheme_host_and_port(here: str, there: str, same: bool) -> None:
    assert same_server(here, there) is same


def test_a_key_of_eight_signs_is_one_and_a_shorter_one_a_placeholder() -> None:
    assert striking("12345678")("a 12345678 b 12345678") == "a *** b ***"
    assert striking("1234567")("a 1234567 b") == "a 1234567 b"


@pytest.mark.parametrize("sign", ['"', "\\", "/", "%"])
def test_a_key_is_struck_whatever_sign_of_it_is_escaped(sign: str) -> None:
    strike = striking(f"abcd{sign}efgh")
    spelled = [f"\\{sign}", f"\\\\{sign}", f"\\u00{ord(sign):02x}", f"%{ord(sign):02X}", f"\\\\u00{ord(sign):02X}"]
    for one in [sign, *spelled]:
        assert strike(f"x abcd{one}efgh y") == "x *** y"


def test_a_text_with_every_kind_of_escape_is_searched() -> None:
    every = '\\u00e9 \\/ 100% \\" \\\\ '
    assert striking("abcd/efgh")(f"{every}abcd\\/efgh") == f"{every}***"
