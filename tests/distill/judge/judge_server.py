"""A server of OpenAI's shape on loopback that fails on demand, as a process of its own.

`python -m tests.distill.judge.judge_server '{"latency": 0.5, ...}'` prints its port and serves until it is killed. It
scores by a hash of the question (``expected``), counts what it answered, and serves the counts at /stats.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any

from tests.distill.judge.judge_batch import BatchDesk

FAULTS = (
    "429",
    "429_after",
    "500",
    "503",
    "hang",
    "reset",
    "drip",
    "half",
    "truncated",
    "prose",
    "range",
    "refusal",
    "no_choices",
    "duplicate",
    "broken_body",
)
"""Faults of a call; after "prose" its answer is usable all the same."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a server does: seconds before an answer, the share of calls that fail and how, what it knows.

    ``always`` are texts: a question that holds one of them always fails in the first way of ``faults``.
    """

    latency: float = 0.0
    share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    seed: int = 0
    key: str | None = None
    knows: tuple[str, ...] = ("json_schema", "json_object")
    refuses_with: int = 400
    limit_name: str | None = None
    usage: bool = True
    always: tuple[str, ...] = ()
    retry_after: float = 0.05
    batch: dict[str, Any] = field(default_factory=dict)


def expected(user: str) -> tuple[int, int]:
    """Return the (sensibility, rationality) of a question, from its user message."""
    digest = blake2b(user.encode(), digest_size=2).digest()
    return digest[0] % 11, digest[1] % 11


@dataclass(slots=True)
class Server:
    """The state of one server. ``scored`` counts usable answers, written whole, by question."""

    behaviour: Behaviour
    requests: int = 0
    unfinished: int = 0
    peak: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    scored: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    keys: set[str] = field(default_factory=set)
    desk: BatchDesk = field(init=False)

    def __post_init__(self) -> None:
        self.desk = BatchDesk(self, self.behaviour.batch)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path = lines[0].split(" ")[:2]
                await self._serve(reader, writer, method, path, headers, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        if path == "/stats":
            send(writer, 200, self.stats())
            return
        given = headers.get("authorization", "")
        self.keys.add(given)
        if self.behaviour.key is not None and given != f"Bearer {self.behaviour.key}":
            send(writer, 401, error(f"Incorrect API key provided: {given}", "invalid_api_key"))
        elif path.startswith(("/v1/files", "/v1/batches")):
            answer = self.desk.handle(method, path, headers, body)
            if answer is None:
                writer.transport.abort()
            else:
                write_body(writer, *answer)
        elif path != "/v1/chat/completions":
            send(writer, 404, error(f"no such path: {path}", "not_found"))
        else:
            self.requests += 1
            self.unfinished += 1
            self.peak = max(self.peak, self.unfinished)
            try:
                await self._chat(reader, writer, json.loads(body))
                await writer.drain()
            finally:
                self.unfinished -= 1

    def stats(self) -> dict[str, Any]:
        """Return every count."""
        inner = {"behaviour", "desk"}
        counts = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in inner}
        return {**counts, "keys": sorted(self.keys), "batches": len(self.desk.batches)}

    def answer_row(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Answer a row of a batch; a fault of the wire is an error row, a "hang" no row at all."""
        user = request["messages"][-1]["content"]
        self.asked[user] += 1
        fault = self._fault(user)
        self.outcomes[fault or "fine"] += 1
        if fault == "hang":
            return None
        if fault in _WIRE:
            return 500, error("the row failed", "server_error")
        self.scored[user] += fault in {None, "prose"}
        return 200, completion(request, fault, expected(user))

    async def _chat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        wanted = self.behaviour
        kind = request.get("response_format", {}).get("type")
        self.forms[str(kind)] += 1
        if kind is not None and kind not in wanted.knows:
            send(
                writer, wanted.refuses_with, error(f"response_format {kind} is not supported", "invalid_request_error")
            )
            return
        for name in {"max_tokens", "max_completion_tokens"} & set(request):
            if wanted.limit_name not in {None, name}:
                send(writer, 400, error(f"Unsupported parameter: '{name}', use '{wanted.limit_name}'", "unsupported"))
                return
        user = request["messages"][-1]["content"]
        self.asked[user] += 1
        fault = self._fault(user)
        self.outcomes[fault or "fine"] += 1
        await asyncio.sleep(wanted.latency)
        if fault == "hang":
            while not reader.at_eof():  # a caller that gave up is no call in flight any more
                await asyncio.sleep(0.05)
            writer.close()
            return
        if fault in _WIRE:
            await _WIRE[fault](writer, wanted)
            return
        scores = expected(user)
        payload = completion(request, fault, scores, usage=wanted.usage)
        self.prompt_tokens += payload.get("usage", {}).get("prompt_tokens", 0)
        self.completion_tokens += payload.get("usage", {}).get("completion_tokens", 0)
        if fault in {None, "prose"}:
            self.scored[user] += 1
        send(writer, 200, payload)

    def _fault(self, user: str) -> str | None:
        wanted = self.behaviour
        if any(text in user for text in wanted.always):
            return wanted.faults[0]
        chance = random.Random(f"{wanted.seed}:{user}:{self.asked[user]}")
        return chance.choice(wanted.faults) if chance.random() < wanted.share else None


def completion(
    request: dict[str, Any], fault: str | None, scores: tuple[int, int], *, usage: bool = True
) -> dict[str, Any]:
    """Return a chat completion whose content is an answer, usable or not."""
    good = json.dumps({"sensibility": scores[0], "rationality": scores[1]})
    other = json.dumps({"sensibility": (scores[0] + 1) % 11, "rationality": scores[1]})
    content: dict[str | None, str | None] = {
        "truncated": good[:-9],
        "prose": f"Sure! Here it is:\n```json\n{good}\n```\nAnything else?",
        "range": '{"sensibility": 11, "rationality": 3}',
        "refusal": None,
        "duplicate": f"{good}\n{other}",
    }
    message: dict[str, Any] = {"role": "assistant", "content": content.get(fault, good)}
    if fault == "refusal":
        message["refusal"] = "I can't judge that."
    choice = {"index": 0, "message": message, "finish_reason": "length" if fault == "truncated" else "stop"}
    payload: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": request["model"],
        "choices": [] if fault == "no_choices" else [choice],
    }
    if usage:
        size = sum(len(message["content"].encode()) for message in request["messages"])
        payload["usage"] = {"prompt_tokens": size // 4, "completion_tokens": 12, "total_tokens": size // 4 + 12}
    return payload


def error(message: str, code: str) -> dict[str, Any]:
    """Return an error's body."""
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def send(writer: asyncio.StreamWriter, status: int, payload: dict[str, Any], **headers: str) -> None:
    """Write one answer."""
    write_body(writer, status, json.dumps(payload).encode(), **headers)


def write_body(writer: asyncio.StreamWriter, status: int, body: bytes, **headers: str) -> None:
    """Write one answer of any content."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def _status(writer: asyncio.StreamWriter, status: int, **headers: str) -> None:
    send(writer, status, error(f"status {status}", "fault"), **headers)


async def _limited(writer: asyncio.StreamWriter, wanted: Behaviour) -> None:
    await _status(writer, 429, retry_after=f"{wanted.retry_after:g}")


async def _reset(writer: asyncio.StreamWriter, _: Behaviour) -> None:
    writer.transport.abort()


async def _drip(writer: asyncio.StreamWriter, _: Behaviour) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.1)


async def _half(writer: asyncio.StreamWriter, _: Behaviour) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"choices": [')
    await writer.drain()
    writer.close()


async def _broken(writer: asyncio.StreamWriter, _: Behaviour) -> None:
    write_body(writer, 200, b'{"choices": [{"message": {"content": "')


_WIRE: dict[str | None, Any] = {
    "429": lambda writer, _: _status(writer, 429),
    "429_after": _limited,
    "500": lambda writer, _: _status(writer, 500),
    "503": lambda writer, _: _status(writer, 503),
    "reset": _reset,
    "drip": _drip,
    "half": _half,
    "broken_body": _broken,
}


@dataclass(frozen=True)
class Running:
    """A server that runs in another process."""

    url: str

    def stats(self) -> dict[str, Any]:
        """Return the server's counts."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats", timeout=30) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts

    def wait_for(self, **counts: int) -> None:
        """Wait until some counts are that high."""
        while any(self.stats()[name] < count for name, count in counts.items()):
            time.sleep(0.02)


@contextmanager
def judge_server(**behaviour: Any) -> Iterator[Running]:
    """Run a server of this behaviour in a process of its own."""
    command = [sys.executable, "-m", "tests.distill.judge.judge_server", json.dumps(behaviour)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Running(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.kill()


async def main() -> None:
    """Serve as the command line says."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    server = Server(Behaviour(**given))
    listening = await asyncio.start_server(server.connection, "127.0.0.1", 0, limit=2**26, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
