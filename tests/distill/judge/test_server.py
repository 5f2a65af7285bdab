"""One server: how it is asked, what its refusals mean, and that its key shows nowhere."""

from __future__ import annotations

import asyncio
import socket

import pytest

from distill.errors import LabelError
from distill.judge.records import OPENAI_URL
from distill.judge.server import Endpoint, clean_url, find_key
from tests.distill.conftest import Label, Serve
from tests.distill.judge.labelling import KEY


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_url_has_one_spelling() -> None:
    assert clean_url(None) == clean_url(" https://api.openai.com/v1/ ") == OPENAI_URL


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("localhost:8000", "expected http"),
        ("ftp://x/v1", "expected http"),
        ("https://", "expected http"),
        ("https://me:secret@host/v1", "which would be stored"),
        ("https://host/v1?key=secret", "which would be stored"),
    ],
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused(url: str, text: str) -> None:
    with pytest.raises(LabelError, match=text) as caught:
        clean_url(url)
    assert "secret" not in str(caught.value)


def test_only_a_server_of_ones_own_may_do_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_key(OPENAI_URL, "OPENAI_API_KEY") == KEY
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert find_key("http://localhost:1/v1", "OPENAI_API_KEY")
    with pytest.raises(LabelError, match=r"OPENAI_API_KEY is not set; put the key of api\.openai\.com into"):
        find_key(OPENAI_URL, "OPENAI_API_KEY")
    with pytest.raises(LabelError, match="MY_KEY is not set"):
        find_key("http://localhost:1/v1", "MY_KEY")


@pytest.mark.parametrize("key", ["sk-é", "sk-a\nb", "sk a", "sk-\x1b[2J"])
def test_a_key_that_no_header_can_hold_is_not_taken_nor_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(LabelError, match="OPENAI_API_KEY holds characters that no key has") as caught:
        find_key(OPENAI_URL, "OPENAI_API_KEY")
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "status", [400, pytest.param(422, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("knows", "spoken"), [(["json_object"], "json_object"), ([], "None")])
def test_structured_output_is_given_up_for_the_run_where_a_server_lacks_it(
    serve: Serve, label: Label, knows: list[str], spoken: str, status: int
) -> None:
    server = serve(knows=knows, always=["number 3."], faults=["range"], refuses_with=status)
    outcome, spending = label(server, 20, concurrency=4).run()
    counts = server.stats()
    assert outcome.scored == 19
    assert [reason for reason, _ in outcome.failed.values()] == ["out_of_range"]
    # The calls that only found out are none of the five attempts of their dialogues, and nobody asks so again.
    assert counts["forms"][spoken] == sum(counts["asked"].values()) == 19 + 5
    assert 1 <= spending.requests - 24 <= 8


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_goes_by_the_name_that_the_server_knows(serve: Serve, label: Label, name: str) -> None:
    server = serve(limit_name=name)
    assert label(server, 6).run()[0].scored == 6
    assert len(server.stats()["asked"]) == 6


def test_a_key_that_is_refused_ends_the_run_and_is_not_shown(serve: Serve, label: Label) -> None:
    with pytest.raises(LabelError) as caught:
        label(serve(key="sk-another"), 20).run()
    said = str(caught.value)
    assert said.startswith("127.0.0.1:")
    assert "the server refuses the key in OPENAI_API_KEY (HTTP 401: Incorrect API key provided: Bearer ***)" in said
    assert KEY not in said


def test_an_unknown_path_says_what_to_check(serve: Serve, label: Label) -> None:
    server = serve()
    with pytest.raises(LabelError, match=r"no such model or path; check --model and --base-url.*HTTP 404"):
        label(server, 3, base_url=server.url.removesuffix("/v1")).run()


@pytest.mark.usefixtures("impatient")
def test_nobody_at_home_is_one_line_and_not_a_rejected_corpus(serve: Serve, label: Label) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"  # bound, and nobody listens
        work = label(serve(), 40, base_url=url, concurrency=2)
        with pytest.raises(LabelError, match=r"1[01] calls in a row brought no answer, most of them: ConnectError"):
            work.run()
    assert work.store.known([question.key for question in work.questions]) == {}


@pytest.mark.parametrize("batch", [False, True])
def test_a_good_reply_that_repeats_the_key_is_kept_without_it(serve: Serve, label: Label, batch: bool) -> None:
    verdict = f"""{{"sensibility": 3, "rationality": 4, "why": "{KEY}"}}"""
    body = {"model": f"judge {KEY}", "choices": [{"message": {"content": verdict}, "finish_reason": "stop"}]}
    more = {"batch": True, "poll_seconds": 0.02} if batch else {}
    work = label(serve(answer={"body": body}, batch={"answer": body}), 3, **more)
    outcome, _ = work.run()
    assert outcome.scored == 3
    known = work.store.known([question.key for question in work.questions])
    assert [one.scores for one in known.values()] == [(3, 4)] * 3
    kept = b"".join(path.read_bytes() for path in work.store.path.parent.iterdir())
    assert kept.count(b"judge ***") >= 3
    assert KEY.encode() not in kept


def test_a_key_that_a_server_sends_back_is_struck_out(serve: Serve, label: Label) -> None:
    async def run() -> None:
        endpoint = Endpoint(label(serve(), 1).asking, "OPENAI_API_KEY", 1)
        async with endpoint.client:
            assert endpoint.redact(f"a {KEY} b") == "a *** b"

    asyncio.run(run())
