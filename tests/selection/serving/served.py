"""A real server of the tiny scorer on loopback, in a thread of the tests or in a process, and a plain client."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorer.model import Scorer
from selection.serving import server
from selection.serving.app import Service
from selection.serving.keys import Keys
from selection.serving.settings import ServeSettings
from selection.watching.watch import Watch
from tests import forks

JSON, LINES = "application/json", "application/x-ndjson"


@dataclass
class Answer:
    """What a request was answered with."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass
class Client:
    """Asks a server; ``log`` is what it said."""

    port: int
    service: Service | None = None
    log: list[str] = field(default_factory=list)

    def ask(self, path: str, body: Any = None, kind: str = JSON, method: str | None = None, **headers: str) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            typed = {"content-type": kind} if data is not None else {}
            connection.request(method or ("GET" if data is None else "POST"), path, data, {**typed, **given})
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()


@contextmanager
def served(scorer: Scorer, keys: str | None = None, watch: Watch | None = None, **settings: Any) -> Iterator[Client]:
    """Serve in a thread, on a free port."""
    chosen = ServeSettings(port=0, **settings)
    sock, _ = server.listen(chosen, Keys(keys), without_key=False)
    client = Client(sock.getsockname()[1])
    service = client.service = Service(scorer, chosen, Keys(keys), watch, log=client.log.append)
    loop = asyncio.new_event_loop()
    made: list[server.Server] = []

    def serve() -> None:
        asyncio.set_event_loop(loop)

        async def start() -> None:
            made.append(server.server_of(service, client.log.append))
            await made[0].serve(sockets=[sock])

        loop.run_until_complete(start())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield client
    finally:
        made[0].should_exit = True
        thread.join()
        service.close()


@contextmanager
def process(*options: str | Path, env: dict[str, str] | None = None) -> Iterator[tuple[forks.Process, Client]]:
    """Run the command on a free port until it says where it listens."""
    given = {name: value for name, value in os.environ.items() if name != "EMPATHY_SERVE_KEYS"} | (env or {})
    fixed = ("--port", "0", "--engine", "onnxruntime", "--threads", "1")
    child = forks.empathy("serve", *fixed, *options, stderr=True, env=given)
    try:
        assert child.stderr is not None
        line = child.stderr.readline()
        assert " on http://127.0.0.1:" in line, line + child.stderr.read()
        port = int(line.partition(" on http://127.0.0.1:")[2].partition(" ")[0])
        client = Client(port)
        until = time.monotonic() + 30
        while client.ask("/health").status != 200 and time.monotonic() < until:
            time.sleep(0.02)
        yield child, client
    finally:
        child.kill()
        child.wait()
        assert child.stderr is not None
        child.stderr.close()
