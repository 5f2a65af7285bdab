"""Nothing that a client does, or leaves undone, costs more than its limit."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from scorer.model import Scorer
from scorer.run.backend import score_columns
from selection.errors import ServeError
from selection.serving import batching, reading, server
from selection.serving.keys import Keys
from selection.serving.messages.shapes import RefusedError
from selection.serving.room import Room
from selection.serving.settings import ServeSettings
from tests.conftest import record
from tests.selection.serving.served import LINES, Client, served

GOOD = record("my dog died today", "so sorry")
KEY = "a-key-of-some-length"
SECRET = "sensitive words"


def raw(client: Client, data: bytes, *, wait: float = 10) -> bytes:
    """Send bytes, and return all that comes until the server closes, or 0.3 seconds pass."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=wait) as sock:
        sock.sendall(data)
        found = b""
        try:
            while part := sock.recv(65536):
                found += part
                sock.settimeout(0.3)
        except TimeoutError:
            pass
        return found


def head(length: int | str, kind: str = "application/json") -> bytes:
    fields = f"host: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    return b"POST /v1/score HTTP/1.1\r\n" + fields.encode()


def test_what_is_too_large_or_nothing_is_refused_with_its_reason(scorer: Scorer) -> None:
    with served(scorer, body_bytes=2000, records=3, tokens=40, queue_tokens=1024) as client:
        for body, kind, status, word in (
            (b"x" * 3000, "application/json", 413, "bytes"),
            ([GOOD] * 4, "application/json", 413, "records"),
            (b"{", "application/json", 400, "broken_json"),
            (b"\xff", "application/json", 400, "UTF-8"),
            (b"[" * 1900, "application/json", 400, "nested"),
            (b"", "application/json", 400, "broken_json"),
            ([], "application/json", 422, "empty"),
            (GOOD, "text/plain", 415, "content-type"),
            (record("i am sad", "so " * 60), "application/json", 422, "too_many_tokens"),
            (record("i am sad", "so" * 350), "application/json", 422, "too_many_tokens"),
        ):
            answer = client.ask("/v1/score", body, kind)
            assert (answer.status, word in answer.body.decode()) == (status, True), answer
            assert answer.json["error"]
        assert client.ask("/v1/score", GOOD, content_encoding="gzip").status == 415
        assert client.ask("/v1/score").status == 405
        assert client.ask("/nothing").status == 404
        assert client.ask("/v1/score", GOOD).status == 200
        assert client.log == []


def test_slow_clients_are_let_go(scorer: Scorer) -> None:
    with served(scorer, header_seconds=0.2, body_seconds=0.2, idle_seconds=0.2) as client:
        assert b" 408 " in raw(client, b"")
        assert b" 408 " in raw(client, b"POST /v1/score HT")
        assert b" 408 " in raw(client, head(100) + b'{"a')
        assert b"did not come" in raw(client, head(1000, LINES) + json.dumps(GOOD).encode() + b"\n")
        assert b" 413 " in raw(client, head(10**9))
        assert b" 400 " in raw(client, head("x"))
        assert client.ask("/v1/score", GOOD).status == 200
        until = time.monotonic() + 5
        while client.ask("/metrics").body.find(b"empathy_requests_in_hand 0.0") < 0:
            assert time.monotonic() < until
        assert client.log == []


def test_a_client_that_takes_no_answer_is_let_go(scorer: Scorer) -> None:
    with served(scorer, send_seconds=0.3, answer_seconds=20) as client:
        line = json.dumps(GOOD).encode() + b"\n"
        with socket.create_connection(("127.0.0.1", client.port), timeout=60) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(head(10**9, LINES))
            with pytest.raises(OSError, match=r"reset|roken pipe"):
                sock.sendall(line * 200_000)
        assert client.service is not None
        until = time.monotonic() + 10
        while client.service.room.tokens or client.service.in_hand:
            assert time.monotonic() < until, (client.service.room.tokens, client.service.in_hand)
            time.sleep(0.02)


def test_back_pressure(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, slow = score_columns, threading.Event()

    def waiting(*given: Any) -> Any:
        assert slow.wait(20)
        return real(*given)

    monkeypatch.setattr(batching, "score_columns", waiting)
    lot = [record("i am sad and my dog died", "so sorry, that is great", id=str(i)) for i in range(20)]
    with served(scorer, queue_tokens=1024) as client:
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(client.ask("/v1/score", lot))) for _ in range(30)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 20
        while not answers and time.monotonic() < until:
            time.sleep(0.01)
        assert client.service is not None
        assert client.service.room.tokens <= 2 * 1024
        time.sleep(0.3)
        slow.set()
        for thread in threads:
            thread.join()
        codes = [answer.status for answer in answers]
        assert len(codes) == 30
        assert set(codes) == {200, 429}
        refused = next(answer for answer in answers if answer.status == 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json["error_type"] == "Overloaded"
        assert client.ask("/v1/score", lot).status == 200
        assert client.service.room.tokens == 0
        assert client.service.room.bytes == 0


def test_what_the_engine_fails_on_is_answered_and_the_others_are_scored(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = score_columns

    def failing(scorer: Scorer, tokens: Any, settings: Any) -> Any:
        if max(tokens.lengths) > 40:
            raise ValueError(SECRET)
        return real(scorer, tokens, settings)

    monkeypatch.setattr(batching, "score_columns", failing)
    with served(scorer, wait_ms=300) as client:
        answers: dict[str, Any] = {}
        bodies = {"good": GOOD, "bad": record("i am sad", "so " * 50)}
        threads = [
            threading.Thread(target=lambda n=name: answers.update({n: client.ask("/v1/score", bodies[n])}))
            for name in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers["good"].status == 200
        assert answers["bad"].status == 500
        assert answers["bad"].json["error_type"] == "Backend"
        until = time.monotonic() + 10
        while not client.log:  # it is written after the client is told
            assert time.monotonic() < until
            time.sleep(0.01)
        assert SECRET not in str(client.log) + answers["bad"].body.decode()
        assert len(client.log) == 1
        lines = client.ask("/v1/score", b"".join(json.dumps(bodies[name]).encode() + b"\n" for name in bodies), LINES)
        assert lines.lines[-1]["error_type"] == "Backend"
        assert len(client.log) == 2
        assert SECRET not in str(client.log) + lines.body.decode()
        assert client.ask("/v1/score", GOOD).status == 200


def test_what_fails_together_alone_is_in_the_log(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = score_columns

    def failing(scorer: Scorer, tokens: Any, settings: Any) -> Any:
        if len(tokens.lengths) > 1:
            raise MemoryError(SECRET)
        return real(scorer, tokens, settings)

    monkeypatch.setattr(batching, "score_columns", failing)
    with served(scorer, wait_ms=300) as client, ThreadPoolExecutor(2) as pool:
        bodies = [GOOD, record("i am sad", "so sorry")]
        answers = list(pool.map(lambda body: client.ask("/v1/score", body), bodies))
        assert [answer.status for answer in answers] == [200, 200]
        assert len(client.log) == 1
        assert "together" in client.log[0]
        assert "MemoryError" in client.log[0]
        assert SECRET not in client.log[0]


def test_what_nobody_waits_for_is_not_scored(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, slow = score_columns, threading.Event()
    rows: list[int] = []

    def waiting(scorer: Scorer, tokens: Any, settings: Any) -> Any:
        rows.append(len(tokens))
        assert slow.wait(20)
        return real(scorer, tokens, settings)

    monkeypatch.setattr(batching, "score_columns", waiting)
    with served(scorer) as client:
        first = threading.Thread(target=client.ask, args=("/v1/score", GOOD))
        first.start()
        while not rows:
            time.sleep(0.01)
        body = json.dumps([GOOD] * 7).encode()
        assert raw(client, head(len(body)) + body, wait=0.5) == b""
        assert client.service is not None
        until = time.monotonic() + 10
        while client.service.in_hand > 1:
            assert time.monotonic() < until
            time.sleep(0.01)
        slow.set()
        first.join()
        assert client.ask("/v1/score", GOOD).status == 200
    assert rows == [1, 1]


def test_keys(scorer: Scorer) -> None:
    with served(scorer, keys=f"{KEY}1, {KEY}2") as client:
        for path, body in (("/v1/score", GOOD), ("/metrics", None), ("/info", None), ("/docs", None)):
            for wrong in ("", "Bearer", f"Bearer {KEY}", f"Bearer {KEY}3", f"Basic {KEY}1", "Basic !!", "Bearer \xe4"):
                answer = client.ask(path, body, authorization=wrong)
                assert answer.status == 401, (path, wrong)
                assert KEY not in answer.body.decode()
            assert client.ask(path, body, authorization=f"Bearer {KEY}2").status == 200
        basic = "Basic dXNlcjphLWtleS1vZi1zb21lLWxlbmd0aDE="  # user:KEY1
        assert client.ask("/docs", authorization=basic).status == 200
        assert client.ask("/docs").headers["www-authenticate"].startswith("Basic")
        assert client.ask("/health").status == 200
        assert client.log == []


@pytest.mark.parametrize("given", ["", " , ", "short", f"{KEY},short", "schlüssel-aus-umlauten"])
def test_keys_that_are_none(given: str) -> None:
    with pytest.raises(ServeError, match="EMPATHY_SERVE_KEYS"):
        Keys(given)


def test_without_a_key_only_this_machine_asks(scorer: Scorer) -> None:
    for host in ("0.0.0.0", "::"):
        with pytest.raises(ServeError, match="--without-key"):
            server.listen(ServeSettings(host=host, port=0), Keys(None), without_key=False)
    sock, is_open = server.listen(ServeSettings(host="0.0.0.0", port=0), Keys(KEY), without_key=False)
    with sock:
        assert is_open
        with pytest.raises(ServeError, match="cannot listen"):
            server.listen(ServeSettings(port=sock.getsockname()[1]), Keys(None), without_key=False)
    with pytest.raises(ServeError, match="no such address"):
        server.listen(ServeSettings(host="a..b"), Keys(None), without_key=False)
    with served(scorer) as client:  # a page of another host, whose name leads here
        assert client.ask("/v1/score", GOOD, host="evil.example").status == 403
        assert client.ask("/v1/score", GOOD, origin="https://evil.example").status == 403
        assert client.ask("/v1/score", GOOD, origin=f"http://127.0.0.1:{client.port}").status == 200


@pytest.mark.parametrize("wrong", [{"port": 70_000}, {"tokens": 1}, {"body_seconds": 0}, {"depth": 1000}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ServeError, match=next(iter(wrong)).replace("_", " ")):
        ServeSettings(**wrong)


def test_large_requests_do_not_hold_up_small_ones(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = score_columns
    runs: list[int] = []

    def noted(scorer: Scorer, tokens: Any, settings: Any) -> Any:
        runs.append(len(tokens))
        time.sleep(0.02)
        return real(scorer, tokens, settings)

    monkeypatch.setattr(batching, "score_columns", noted)
    rng = np.random.default_rng(0)
    large = [record("i am sad " * 10, " ".join(rng.choice(["so", "great"], 40)), id=str(i)) for i in range(1000)]
    with served(scorer) as client:
        assert client.service is not None
        client.service.batcher._enough, client.service.batcher._most = 640, 1280
        thread = threading.Thread(target=client.ask, args=("/v1/score", large))
        thread.start()
        while not runs:
            time.sleep(0.01)
        assert client.ask("/v1/score", GOOD).status == 200
        before = len(runs)
        thread.join()
    assert before < len(runs) / 2


def test_what_is_scored_after_the_end_is_told_to_nobody(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    real, begun, slow = score_columns, threading.Event(), threading.Event()

    def waiting(scorer: Scorer, tokens: Any, settings: Any) -> Any:
        begun.set()
        assert slow.wait(20)
        return real(scorer, tokens, settings)

    async def submit() -> None:
        batcher.submit(reading.Reader(scorer, ServeSettings()).json(json.dumps(GOOD).encode()))

    monkeypatch.setattr(batching, "score_columns", waiting)
    finished: list[int] = []
    faults: list[Exception] = []
    batcher = batching.Batcher(
        scorer, 0, lambda jobs: finished.append(len(jobs)), lambda _rows, _tokens: None, faults.append
    )
    asyncio.run(submit())
    assert begun.wait(20)
    slow.set()
    batcher.close()
    assert (finished, faults) == ([1], [])


def test_a_slow_machine_lets_less_wait() -> None:
    """What waits is scored within the seconds given, whatever the rate; a request that is alone always may."""
    rate = 50.0
    room = Room(1000, 10, 1 << 20, lambda: rate)
    with (
        room.held(450),
        pytest.raises(RefusedError, match="450 tokens wait already, expected at most 500"),
        room.held(60),
    ):
        pass
    with room.held(5000):
        assert room.retry_after == 50
    rate = 1e6
    with room.held(450), room.held(550):
        pass
    assert (room.most, room.tokens) == (1000, 0)
