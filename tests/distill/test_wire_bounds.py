"""An answer without end, or one that unpacks to more than could be meant, costs bounded memory and one attempt."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from distill.judge.server import CallError, Endpoint
from distill.wire import MAX_ANSWER_BYTES
from tests.distill.conftest import Label
from tests.distill.judge.judge_replies import completion
from tests.distill.judge.judge_server import Running

_ZEROS = bytes(1 << 20)


def _packed(window_bits: int, mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, window_bits)
    return b"".join([*(packer.compress(_ZEROS) for _ in range(mebibytes)), packer.flush()])


_GOOD = json.dumps(completion({"model": "m", "messages": []}, None, (3, 4))).encode()
BODIES = {  # status, encoding, body; None is an answer without end
    "good": (200, "gzip", gzip.compress(_GOOD)),
    "deflated": (200, "deflate", zlib.compress(_GOOD)),
    "endless": (200, "", None),
    "endless_error": (500, "", None),
    "bomb": (200, "gzip", _packed(31, 300)),
    "deflate_bomb": (200, "Deflate", _packed(15, 300)),
    "bomb_of_an_error": (429, "x-gzip", _packed(31, 300)),
    "twice": (200, "gzip, gzip", gzip.compress(gzip.compress(_GOOD))),
    "unasked": (200, "br", b"\x0b"),
    "no_gzip": (200, "gzip", b"no gzip"),
}


class _Hostile(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        status, encoding, body = BODIES[self.path.split("/")[1]]
        self.send_response(status)
        if encoding:
            self.send_header("content-encoding", encoding)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body or b"")
            while body is None:
                self.wfile.write(_ZEROS)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-7391")


@pytest.fixture
def hostile() -> Iterator[str]:
    """Serve the bodies on loopback, each under its name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def ask(label: Label, url: str) -> str:
    """Ask one question there."""

    async def run() -> str:
        endpoint = Endpoint(label(Running(url), 1).asking, "OPENAI_API_KEY", 30)
        async with endpoint.client:
            return await endpoint.ask([{"role": "user", "content": "hi"}])

    return asyncio.run(run())


@pytest.mark.parametrize("name", ["good", "deflated"])
def test_a_compressed_answer_is_read(label: Label, hostile: str, name: str) -> None:
    assert ask(label, f"{hostile}/{name}").encode() == _GOOD


@pytest.mark.parametrize("name", [name for name in BODIES if name not in {"good", "deflated"}])
def test_what_no_answer_is_costs_bounded_memory(label: Label, hostile: str, name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CallError, match="too_much") as caught:
            ask(label, f"{hostile}/{name}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.kind == "lost"
    assert peak < 4 * MAX_ANSWER_BYTES


@pytest.mark.usefixtures("impatient")
def test_the_line_says_what_came(label: Label, hostile: str) -> None:
    with pytest.raises(Exception, match=r"brought no answer, most of them: .*more than 16 MiB"):
        label(Running(f"{hostile}/bomb"), 12, concurrency=2).run()
