"""A server of OpenAI's shape on loopback that fails on demand, as a process of its own.

`python -m tests.distill.judge.judge_server '{"latency": 0.5, ...}'` prints its port and serves until it is killed. It
scores by a hash of the question (``expected``), counts what it answered, and serves the counts at /stats.
"""

from __future__ import annotations

import asyncio
import json
import os
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
from tests.distill.judge.judge_replies import completion, scripted
from tests.forks import FORKS, Process

FAULTS = (
    *("429", "429_after", "500", "503", "hang", "reset", "drip", "half"),
    *("truncated", "prose", "range", "refusal", "no_choices", "duplicate", "broken_body"),
)
"""Faults of a call; after "prose" its answer is usable all the same."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What a server does: seconds before an answer, the share of calls that fail and how, what it knows.

    ``always`` are texts: a question that holds one of them always fails in the first way of ``faults``.
    ``answer`` is what every question gets: a ``body`` of text or JSON with its ``status``, or a ``message`` with its
    ``finish``; ``after`` and ``until`` are the numbers of the calls that get it. ``lacks`` says by part of the request
    ("schema", "temperature", "max_tokens", "system", "logprobs", or a text of the question) with which status and words
    it is refused. ``logprobs`` is the shape in which they are given to who asks for them, after "split " with 10 as two
    tokens; "" gives none. ``noise`` says by a text of the system message or of the model's name how far its scores may
    lie from the others', ``snapshot`` what the name of the model that answers has behind it.
    ``usage`` is whether tokens are counted; a number n: the first n answers count 0 and 0.
    """

    latency: float = 0.0
    share: float = 0.0
    faults: tuple[str, ...] = FAULTS
    seed: int = 0
    key: str | None = None
    knows: tuple[str, ...] = ("json_schema", "json_object")
    refuses_with: int = 400
    limit_name: str | None = None
    usage: bool | int = True
    always: tuple[str, ...] = ()
    retry_after: float = 0.05
    batch: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    lacks: dict[str, Any] = field(default_factory=dict)
    logprobs: str = ""
    knows_models: tuple[str, ...] = ()
    noise: dict[str, int] = field(default_factory=dict)
    snapshot: str = ""


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
                first, *lines = head.decode().split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines if line)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                method, path = first.split(" ")[:2]
                if path == "/v1/chat/completions" and self._allowed(headers):
                    await self._call(reader, writer, json.loads(body))
                elif (answer := self._answer(method, path, headers, body)) is None:
                    writer.transport.abort()
                else:
                    send(writer, *answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _allowed(self, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "")
        self.keys.add(given)
        return self.behaviour.key is None or given == f"Bearer {self.behaviour.key}"

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any] | None:
        """Return the answer to anything but a question; None to break the connection off."""
        if path == "/stats":
            return 200, self.stats()
        if not self._allowed(headers):
            return 401, error(f"Incorrect API key provided: {headers.get('authorization')}", "invalid_api_key")
        if path.startswith(("/v1/files", "/v1/batches")):
            return self.desk.handle(method, path, headers, body)
        return 404, error(f"no such path: {path}", "not_found")

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        self.requests += 1
        self.unfinished += 1
        self.peak = max(self.peak, self.unfinished)
        try:
            await self._chat(reader, writer, request)
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
        if (refusal := self._refusal(request)) is not None:
            return refusal
        user, fault = self._asked(request)
        if fault == "hang":
            return None
        if fault in _WIRE:
            return 500, error("the row failed", "server_error")
        self.scored[user] += fault in {None, "prose"}
        return 200, completion(request, fault, expected(user), self.behaviour.logprobs)

    async def _chat(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: dict[str, Any]) -> None:
        if (refusal := self._refusal(request)) is not None:
            send(writer, *refusal)
            return
        number = self.requests  # others come while this one waits
        user, fault = self._asked(request)
        await asyncio.sleep(self.behaviour.latency)
        given = self.behaviour.answer
        if given and given.get("after", 0) < number <= given.get("until", 10**9):
            send(writer, given.get("status", 200), scripted(request, given), **given.get("headers", {}))
        elif fault == "hang":
            while not reader.at_eof():  # a caller that gave up is no call in flight any more
                await asyncio.sleep(0.05)
            writer.close()
        elif fault in _WIRE:
            await _break(writer, fault, self.behaviour.retry_after)
        else:
            usage = self.behaviour.usage
            payload = completion(request, fault, self._scores(request), self.behaviour.logprobs, usage=bool(usage))
            payload["model"] += self.behaviour.snapshot
            if usage is not True and number <= usage:
                payload["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
            self.prompt_tokens += payload.get("usage", {}).get("prompt_tokens", 0)
            self.completion_tokens += payload.get("usage", {}).get("completion_tokens", 0)
            self.scored[user] += fault in {None, "prose"}
            send(writer, 200, payload)

    def _scores(self, request: dict[str, Any]) -> tuple[int, int]:
        """Return the scores of a question, with this rubric's and model's noise."""
        model, system, user = request["model"], request["messages"][0]["content"], request["messages"][-1]["content"]
        first, second = expected(user)
        for text, most in self.behaviour.noise.items():
            if text in f"{model}\n{system}":
                chance = random.Random(f"{text}:{user}")
                first, second = (min(10, max(0, one + chance.randint(-most, most))) for one in (first, second))
        return first, second

    def _refusal(self, request: dict[str, Any]) -> tuple[int, Any] | None:
        wanted = self.behaviour
        if wanted.knows_models and request["model"] not in wanted.knows_models:
            return 404, error(f"no model {request['model']}", "model_not_found")
        kind = request.get("response_format", {}).get("type")
        self.forms[str(kind)] += 1
        if kind is not None and kind not in wanted.knows:
            return wanted.refuses_with, error(f"response_format {kind} is not supported", "invalid_request_error")
        parts = {
            "schema": kind is not None,
            "temperature": "temperature" in request,
            "max_tokens": "max_tokens" in request,
            "system": request["messages"][0]["role"] == "system",
            "logprobs": "logprobs" in request,
            "20 logprobs": request.get("top_logprobs", 0) > 5,
        }
        for part, (status, words) in wanted.lacks.items():
            if parts.get(part, part in request["messages"][-1]["content"]):
                return status, error(words, "bad_request")
        for name in {"max_tokens", "max_completion_tokens"} & set(request):
            if wanted.limit_name not in {None, name}:
                return 400, error(f"Unsupported parameter: '{name}', use '{wanted.limit_name}'", "unsupported")
        return None

    def _asked(self, request: dict[str, Any]) -> tuple[str, str | None]:
        """Count a question; return its text and the fault of this call."""
        user = request["messages"][-1]["content"]
        self.asked[user] += 1
        fault = self._fault(user)
        self.outcomes[fault or "fine"] += 1
        return user, fault

    def _fault(self, user: str) -> str | None:
        wanted = self.behaviour
        if any(text in user for text in wanted.always):
            return wanted.faults[0]
        chance = random.Random(f"{wanted.seed}:{user}:{self.asked[user]}")
        return chance.choice(wanted.faults) if chance.random() < wanted.share else None


def error(message: str, code: str) -> dict[str, Any]:
    """Return an error's body."""
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def send(writer: asyncio.StreamWriter, status: int, payload: Any, **headers: str) -> None:
    """Write one answer, of JSON unless it is bytes."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


_WIRE = {"429", "429_after", "500", "503", "reset", "drip", "half", "broken_body"}
_UNFINISHED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"


async def _break(writer: asyncio.StreamWriter, fault: str | None, retry_after: float) -> None:
    """Answer with one of the faults ``_WIRE``."""
    if fault == "reset":
        writer.transport.abort()
    elif fault == "drip":
        writer.write(_UNFINISHED)
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.1)
    elif fault == "half":
        writer.write(_UNFINISHED + b'{"choices": [')
        await writer.drain()
        writer.close()
    elif fault == "broken_body":
        send(writer, 200, b'{"choices": [{"message": {"content": "')
    else:
        wait = {"retry_after": f"{retry_after:g}"} if fault == "429_after" else {}
        status = int(str(fault)[:3])
        send(writer, status, error(f"status {status}", "fault"), **wait)


@dataclass(frozen=True)
class Running:
    """A server that runs in another process."""

    url: str

    def stats(self) -> dict[str, Any]:
        """Return the server's counts."""
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats", timeout=30) as answer:
            return dict(json.load(answer))

    def wait_for(self, **counts: int) -> None:
        """Wait until some counts are that high; whoever should have asked may have died."""
        end = time.monotonic() + 120
        while any(self.stats()[name] < count for name, count in counts.items()):
            assert time.monotonic() < end, f"{counts} never came: {self.stats()}"
            time.sleep(0.02)


@contextmanager
def judge_server(**behaviour: Any) -> Iterator[Running]:
    """Run a server of this behaviour in a process of its own."""
    if FORKS.takes(os.environ):
        process: Process = FORKS.start(f"{__name__}:serve", [json.dumps(behaviour)], stdout=True, text=True)
    else:
        command = [sys.executable, "-m", __name__, json.dumps(behaviour)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            yield Running(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.kill()


def serve() -> None:
    """Serve as the command line says."""
    asyncio.run(main())


async def main() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    server = Server(Behaviour(**given))
    listening = await asyncio.start_server(server.connection, "127.0.0.1", 0, limit=2**26, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await listening.serve_forever()


if __name__ == "__main__":
    serve()
