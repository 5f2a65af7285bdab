"""What comes in over HTTP: no key is kept however it is spelled, and no other server gets the dialogues."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from distill.errors import LabelError
from distill.wire import same_server, striking
from tests.distill.conftest import Label, Serve

KEY = "sk-very/secret-7391"
_ESCAPED = "".join(f"\\u00{ord(sign):02X}" for sign in KEY)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        _ESCAPED,
        KEY.replace("/", "\\/"),
        _ESCAPED.lower().replace("\\", "\\\\"),  # escaped twice: JSON in JSON
        "sk-\\u0076ery\\/secret-7391",
        KEY.replace("/", "%2F"),
        KEY.replace("s", "\\\\\\u0073").replace("/", "\\\\\\/"),
        KEY.replace("/", "%252f"),
        KEY.replace("/", "&#47;").replace("-", "&#x2D;"),
        KEY.replace("s", "\\x73"),
        KEY.encode().hex().upper(),
    ],
)
def test_a_key_is_struck_in_every_spelling(echo: str) -> None:
    assert striking(KEY)(f'{{"a": "b {echo} c"}}') == '{"a": "b *** c"}'


@pytest.mark.parametrize("before", ["", ":", "Bearer ", "user:"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_in_base64_is_struck(before: str, encode: Callable[[bytes], bytes]) -> None:
    struck = striking(KEY)(encode(f"{before}{KEY} and more".encode()).decode())
    assert "***" in struck
    assert len(struck) < 8 + 4 * len(f"{before} and more") / 3 + 4  # at most a sign at each end is left of it


def test_other_texts_stay_as_they_are() -> None:
    strike = striking(KEY)
    for text in ("sk-very\\u0073 100 % \\/ sure", "\\" * 2_000_000 + "u00", json.dumps('naïve \\ " é')):
        assert strike(text) == text
    assert striking("EMPTY")("an EMPTY place") == "an EMPTY place"


@pytest.mark.parametrize("echo", [_ESCAPED, KEY.replace("/", "\\/")])
@pytest.mark.parametrize("content", ['"{\\"sensibility\\": 3, \\"rationality\\": 4} ECHO"', '"I got ECHO"'])
def test_an_escaped_key_reaches_neither_the_store_nor_the_rejects(
    serve: Serve, label: Label, echo: str, content: str
) -> None:
    body = f'{{"model": "ECHO", "choices": [{{"message": {{"content": {content}}}}}]}}'.replace("ECHO", echo)
    work = label(serve(answer={"body": body}), 2)
    outcome, _ = work.run()
    known = work.store.known([question.key for question in work.questions])
    assert len(known) == 2
    work.store.sync()
    kept = b"".join(path.read_bytes() for path in work.store.path.parent.glob("store.sqlite*"))
    assert b"***" in kept
    for spelled in (KEY, echo):
        assert spelled.encode() not in kept
        assert spelled not in repr((known, outcome.failed))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_refused_and_that_one_asked_nothing(
    serve: Serve, label: Label, status: int
) -> None:
    other = serve()
    answer = {"status": status, "body": {}, "headers": {"location": f"{other.url}/chat/completions"}}
    work = label(serve(answer=answer), 4)
    with pytest.raises(
        LabelError, match=r"^127\.0\.0\.1:\d+: redirects to 127\.0\.0\.1:\d+, another server, which would"
    ):
        work.run()
    assert other.stats()["requests"] == 0


def test_a_redirect_within_the_server_is_followed(serve: Serve, label: Label) -> None:
    answer = {"status": 307, "body": {}, "headers": {"location": "/v1/chat/completions"}, "until": 2}
    assert label(serve(answer=answer), 3, concurrency=1).run()[0].scored == 3


@pytest.mark.parametrize(
    ("there", "same"),
    [
        ("http://judge.org/v2", True),
        ("https://JUDGE.org./v1", True),
        ("http://judge.org:80/", True),
        ("http://judge.org:8080/v1", False),
        ("http://judge.org.evil.net/v1", False),
        ("http://judge.org@evil.net/v1", False),
        ("ftp://judge.org/v1", False),
        ("http://judge.org:x/v1", False),
    ],
)
def test_which_servers_are_one(there: str, same: bool) -> None:
    assert same_server("http://judge.org/v1", there) is same
    assert not same_server("https://judge.org/v1", "http://judge.org/v1")
