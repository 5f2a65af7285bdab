"""How fast, how steady and how patient is `empathy serve`? A real server process, a real client on loopback.

    python -m benchmarks.serving dialogues.jsonl [--scorer BUNDLE] [--records 8192] [--requests 200000] [--json FILE]

Throughput at 32 connections with lots of 64 against `empathy score` on the same dialogues, and whether the scores are
the same; one record at 10 a second; ten times the capacity; memory over many requests (of the tests' tiny scorer).
Client and server share the machine, so the figures are lower bounds. Needs the extra ``serve``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.about import machine, versions
from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import to_record
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.score_table import read_scores
from selection.serving.settings import ServeSettings

CONNECTIONS, LOT = 32, 64
GOALS = {"ratio": 0.8, "p50 ms": 30, "p99 ms": 100, "difference": 1e-3}


class Connection:
    """A connection that is kept open; ``ask`` returns the status and the body."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Ask once."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        reader, writer = self._streams
        method = "POST" if body else "GET"
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if b"connection: close" in answer:
            self._streams = None
        return int(answer.split(b" ", 2)[1]), await reader.readexactly(length)

    def close(self) -> None:
        """Close it."""
        if self._streams is not None:
            self._streams[1].close()


@contextmanager
def server(*options: str) -> Iterator[int]:
    """Run `empathy serve` on a free port until the end; give the port."""
    command = [sys.executable, "-c", "from scorer.cli.entry import start; start()", "serve", "--port", "0", *options]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert child.stderr is not None
    try:
        line = child.stderr.readline()
        if " on http://127.0.0.1:" not in line:
            raise SystemExit(line + child.stderr.read())
        yield int(line.partition(" on http://127.0.0.1:")[2].partition(" ")[0])
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read()
        if child.wait(60) != 128 + signal.SIGTERM or len(said.splitlines()) != 1:
            print(f"the server ended with {child.returncode}:\n{said}")
    finally:
        child.kill()
        child.wait()


async def closed_loop(port: int, lots: Sequence[bytes], connections: int) -> list[tuple[int, float, bytes]]:
    """Ask all lots, ``connections`` at once; return status, seconds and body of each, in order."""
    found: list[tuple[int, float, bytes]] = [(0, 0.0, b"")] * len(lots)
    todo = iter(range(len(lots)))

    async def work() -> None:
        connection = Connection(port)
        for number in todo:
            start = time.perf_counter()
            status, body = await connection.ask("/v1/score", lots[number])
            found[number] = status, time.perf_counter() - start, body
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return found


async def open_loop(port: int, lots: Sequence[bytes], rate: float, seconds: float) -> list[tuple[int, float]]:
    """Ask ``rate`` lots a second whatever the answers; return status (0 for none) and seconds of each."""
    idle: list[Connection] = []

    async def one(body: bytes) -> tuple[int, float]:
        connection = idle.pop() if idle else Connection(port)
        start = time.perf_counter()
        try:
            status, _ = await asyncio.wait_for(connection.ask("/v1/score", body), 120)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0, time.perf_counter() - start
        idle.append(connection)
        return status, time.perf_counter() - start

    start, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(lots[number % len(lots)])))
    found = await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return found


def throughput(source: Path, records: Sequence[dict[str, Any]], folder: Path, bundle: Path | None) -> dict[str, Any]:
    """Return rates of `empathy score` and of the server on the same dialogues, how their scores differ, latencies."""
    scorer = Scorer.load(bundle)
    scorer.score(list(islice(Corpus([str(source)]), 256)))
    summary = score_files(scorer, Corpus([str(source)]), folder / "scores.parquet")
    expected = read_scores(folder / "scores.parquet").scores
    engine = f"{scorer.engine.name} {scorer.engine.precision}, {scorer.engine.threads} threads"
    del scorer
    lots = [json.dumps(records[start : start + LOT]).encode() for start in range(0, len(records), LOT)]
    singles = [json.dumps(record).encode() for record in records[:500]]
    options = ["--watch", str(folder / "watch.db"), *(["--scorer", str(bundle)] if bundle else [])]
    with server(*options) as port:
        asyncio.run(closed_loop(port, lots[:CONNECTIONS], CONNECTIONS))
        start = time.perf_counter()
        found = asyncio.run(closed_loop(port, lots, CONNECTIONS))
        rate = len(records) / (time.perf_counter() - start)
        results = [one for _, _, body in found for one in json.loads(body)["results"]]
        scores = np.array([[one["sensibility"], one["rationality"]] for one in results], dtype=np.float32)
        alone = asyncio.run(open_loop(port, singles, 10, 30))
        capacity = rate / LOT
        crowd = asyncio.run(open_loop(port, lots, 10 * capacity, 20))
        text = asyncio.run(Connection(port).ask("/metrics"))[1].decode()
    tokens = float(text.partition("\nempathy_run_tokens_total ")[2].partition("\n")[0])
    rows = float(text.partition("\nempathy_run_rows_total ")[2].partition("\n")[0])
    answered = [seconds for status, seconds in crowd if status == 200]
    refused = [seconds for status, seconds in crowd if status == 429]
    return {
        "engine": engine,
        "dialogues": len(records),
        "score a second": summary.rate,
        "serve a second": rate,
        "ratio": rate / summary.rate,
        "difference": float(np.abs(scores - expected).max()),
        "alone": {**quantiles([seconds for _, seconds in alone]), **statuses(alone)},
        "ten times the capacity": {
            "offered a second": 10 * rate,
            **statuses(crowd),
            "without an answer": sum(status == 0 for status, _ in crowd),
            "scored": quantiles(answered),
            "refused": quantiles(refused),
            "bound by the queue, ms": 1000 * min(262_144 / (tokens / rows * rate), ServeSettings().answer_seconds / 2),
        },
    }


def memory(requests: int, folder: Path) -> list[dict[str, float]]:
    """Return the megabytes that the server holds after parts of so many requests, and the rate."""
    from tests.conftest import varied, write_tiny_bundle

    bundle = write_tiny_bundle(folder / "tiny")
    singles = [json.dumps(to_record(dialogue)).encode() for dialogue in varied(1000)]
    found = []
    options = (
        "--scorer",
        str(bundle.path),
        "--engine",
        "onnxruntime",
        "--threads",
        "1",
        "--watch",
        str(folder / "m.db"),
    )
    with server(*options) as port:
        done, start = 0, time.perf_counter()
        for share in (0.02, 0.1, 0.25, 0.5, 0.75, 1.0):
            bodies = [singles[number % len(singles)] for number in range(done, int(share * requests))]
            codes = Counter(status for status, _, _ in asyncio.run(closed_loop(port, bodies, 16)))
            assert set(codes) <= {200}, codes
            done += len(bodies)
            text = asyncio.run(Connection(port).ask("/metrics"))[1].decode()
            held = float(text.partition("\nprocess_resident_memory_bytes ")[2].partition("\n")[0]) / 1e6
            found.append({"requests": done, "MB": held, "a second": done / (time.perf_counter() - start)})
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the longest, in milliseconds."""
    if not seconds:
        return {}
    low, high, most = np.quantile(seconds, [0.5, 0.99, 1]) * 1000
    return {"p50 ms": float(low), "p99 ms": float(high), "longest ms": float(most)}


def statuses(found: Sequence[tuple[int, float]]) -> dict[str, int]:
    """Return how many answers had each status."""
    return {str(status): count for status, count in sorted(Counter(status for status, _ in found).items())}


def lines_of(figures: dict[str, Any], show: Callable[[Any], str] = lambda value: f"{value:.4g}") -> Iterator[str]:
    """Yield figures as lines."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield f"{name}:"
            yield from (f"  {line}" for line in lines_of(value))
        elif isinstance(value, list):
            yield f"{name}:"
            yield from ("  " + ", ".join(f"{key} {show(one)}" for key, one in row.items()) for row in value)
        else:
            yield f"{name:28} {value if isinstance(value, (str, int)) else show(value)}"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dialogues", type=Path)
    parser.add_argument("--scorer", type=Path)
    parser.add_argument("--records", type=int, default=8192)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "versions": versions("uvicorn", "starlette", "onnxruntime")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dialogues = [one for one in islice(Corpus([str(given.dialogues)]), given.records) if isinstance(one, Dialogue)]
        records = [to_record(dialogue) for dialogue in dialogues]
        source = folder / "in.jsonl"
        source.write_text("".join(json.dumps(record) + "\n" for record in records))
        if records:
            found["throughput"] = throughput(source, records, folder, given.scorer)
            print("\n".join(lines_of(found)), flush=True)
        if given.requests:
            found["memory"] = memory(given.requests, folder)
    print("\n".join([*lines_of({"memory": found.get("memory", [])}), f"goals: {GOALS}"]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
