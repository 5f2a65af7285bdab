"""`python -m tests.fuzz.requests [MUTANTS [SEED]]`: so many damaged requests to a real server, and what came of them.

A request is damaged in its JSON, its bytes, its head or its manners (slow, cut, silent). A fault is an answer of 500, a
line in the server's log, a request that is neither answered nor closed, and a server that does not answer afterwards.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scorer.model import Scorer
from selection.watching.watch import Watch
from tests.conftest import record, write_tiny_bundle
from tests.fuzz.mutants import bytes_of, json_of
from tests.selection.serving.served import Client, served

AT_ONCE = 32
SECONDS = 30
"""Longer than any patience of the server: a request that takes longer hangs."""

_BODY_BYTES = 200_000
_PATHS = (
    "/v1/score",
    "/v1/score",
    "/v1/score",
    "/predict",
    "/rerank",
    "/metrics",
    "/dashboard/state",
    "/%00",
    "/..//x",
)
_TYPES = (
    ("application/json",) * 6
    + ("application/x-ndjson",) * 3
    + ("text/plain", "", "a" * 300, "application/json; x=\xe4")
)
_HEADS = (
    "expect: 100-continue", "transfer-encoding: chunked", "x: " + "y" * 90_000, "content-encoding: gzip",
    "origin: null", "authorization: Basic x", "upgrade: websocket\r\nconnection: upgrade", "connection: close",
    "host: b", "x:\x00",
)  # fmt: skip
_GOOD = record("my dog died today", "so sorry that is great", id="a", category="grief")
_BODIES: tuple[Any, ...] = (
    _GOOD, [_GOOD, _GOOD],
    {"conversations": [{"from": "human", "value": "i am sad"}, {"from": "gpt", "value": "so sorry"}]},
    {"context": "i am sad</s>so sorry", "response": "great"},
    {"inputs": [["i am sad", "so sorry"]], "raw_scores": True},
    {"query": "i am sad", "texts": ["so sorry", "great"], "return_text": True},
    {"prompt": "i am sad", "chosen": "so sorry", "rejected": "great"},
)  # fmt: skip


@dataclass(slots=True)
class Outcomes:
    """What came of the mutants: counts by status ("closed" where there was none), and the faults."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return them as text."""
        return [f"{status:>8} {count:6}" for status, count in sorted(self.counts.items())] + self.faults[:20]


def fuzz(numbers: range, seed: int = 0) -> Outcomes:
    """Send the mutants of these numbers to a server of the tiny scorer; the same numbers are the same mutants."""
    found = Outcomes()
    with _server() as client:
        asyncio.run(_all(client, numbers, seed, found))
        answer = client.ask("/v1/score", [_GOOD] * 3)
        if (answer.status, answer.json["scored"]) != (200, 3):
            found.faults.append(f"afterwards a good request is answered with {answer.status}")
        assert client.service is not None
        room = client.service.room
        until = time.monotonic() + 5
        while (room.tokens or room.bytes or client.service.in_hand) and time.monotonic() < until:
            time.sleep(0.05)
        if (room.tokens, room.bytes, client.service.in_hand) != (0, 0, 0):
            held = f"{room.tokens} tokens, {room.bytes} bytes, {client.service.in_hand} requests"
            found.faults.append(f"afterwards {held} are held")
        found.faults += [f"log: {line}" for line in client.log]
    return found


@contextmanager
def _server() -> Iterator[Client]:
    quick = {"header_seconds": 1, "body_seconds": 1, "send_seconds": 2, "idle_seconds": 2, "answer_seconds": 20}
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "tiny")
        scorer = Scorer.load(bundle.path, engine="onnxruntime", threads=1)
        with Watch(None) as watch, served(scorer, watch=watch, body_bytes=_BODY_BYTES, **quick) as client:
            yield client


async def _all(client: Client, numbers: range, seed: int, found: Outcomes) -> None:
    todo = iter(numbers)

    async def work() -> None:
        for number in todo:
            try:
                async with asyncio.timeout(SECONDS):
                    status = await _one(client.port, np.random.default_rng([seed, number]))
            except TimeoutError:
                status = "hangs"
            found.counts[status] += 1
            if (status.startswith("5") and status != "503") or status == "hangs":
                found.faults.append(f"mutant {number}: {status}")

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _one(port: int, rng: np.random.Generator) -> str:
    """Send one mutant; return the status of its answer, or "closed"."""
    data, manner = request(rng)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if manner == "slow":
            for start in range(0, min(len(data), 400), 40):
                writer.write(data[start : start + 40])
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(data[400:])
        else:
            writer.write(data[: int(rng.integers(len(data) + 1))] if manner in ("cut", "silent") else data)
        await writer.drain()
        if manner == "cut":
            return "cut"
        if manner == "reset":
            writer.transport.abort()
            return "reset"
        line = await reader.readline()
        if manner == "leave":
            return "left"
        status = line.split(b" ")[1].decode() if line.startswith(b"HTTP/1.1 ") else "closed"
        await reader.read(1 << 22)
        return status
    except OSError:
        return "closed"
    finally:
        writer.close()


def request(rng: np.random.Generator) -> tuple[bytes, str]:
    """Return the bytes of a damaged request, and how they are sent."""
    path, kind = (str(choices[int(rng.integers(len(choices)))]) for choices in (_PATHS, _TYPES))
    good = json.dumps(_BODIES[int(rng.integers(len(_BODIES)))]).encode()
    body = _body(good, rng)
    if kind == "application/x-ndjson":
        body = b"\n".join(_body(good, rng) for _ in range(int(rng.integers(1, 100))))[: 2 * _BODY_BYTES]
    length = str(len(body))
    if rng.random() < 0.1:
        length = str(rng.choice(["0", "-1", "x", "999999999999", str(len(body) + 50), str(max(0, len(body) - 5))]))
    method = "POST" if rng.random() < 0.9 else str(rng.choice(["GET", "PUT", "HEAD", "OPTIONS", "\x00", "TRACE"]))
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n"
    if rng.random() < 0.1:
        head += _HEADS[int(rng.integers(len(_HEADS)))] + "\r\n"
    whole = head.encode("latin-1") + b"\r\n" + body
    if rng.random() < 0.15:
        whole = bytes_of(whole, rng)
    manner = "plain" if rng.random() < 0.85 else str(rng.choice(["slow", "cut", "silent", "reset", "leave"]))
    return whole, manner


def _body(good: bytes, rng: np.random.Generator) -> bytes:
    draw = rng.random()
    if draw < 0.1:
        return good
    if draw < 0.6:
        return json_of(good, rng)
    if draw < 0.8:
        return bytes_of(good, rng)
    huge = int(rng.choice([1000, 100_000, _BODY_BYTES + 1]))
    return (
        b"[" * huge,
        b'{"messages":' * (huge // 12),
        b'{"messages":[{"role":"user","content":"' + b"a " * (huge // 2) + b'"},{"role":"assistant","content":"b"}]}',
        b"[" + b",".join([good] * (huge // len(good) + 1)) + b"]",
        b"[" + b"1," * (huge // 2) + b"1]",
        b'{"id":' + b"9" * huge + b"}",
        b"\xff" * huge,
        b'"\\ud800' + b"\\u0000" * (huge // 6) + b'"',
    )[int(rng.integers(8))]


if __name__ == "__main__":
    count, start = [*map(int, sys.argv[1:]), *(10_000, 0)[len(sys.argv) - 1 :]]
    outcomes = fuzz(range(count), start)
    sys.stdout.write("\n".join([*outcomes.lines(), f"{count} mutants, {len(outcomes.faults)} faults", ""]))
    sys.exit(bool(outcomes.faults))
