"""Measure how fast `empathy label` asks: answers per second from a slow server.

    python -m benchmarks.labelling [--latency 0.5] [--concurrency 64] [--count 2000] [--json out.json]

The server runs in its own process on loopback and answers each call after the latency, so that no client can get
more than concurrency / latency answers per second. The rate is read from the store: all answers over the time from the
first call to the last answer.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from tests.distill.judge.judge_server import judge_server
from tests.distill.judge.labelling import dialogues_file, options

EMPATHY = str(Path(sys.executable).with_name("empathy"))


def measure(count: int, latency: float, concurrency: int, folder: Path) -> dict[str, Any]:
    """Return the figures of one run of the command."""
    source = dialogues_file(folder / "in.jsonl", count)
    with judge_server(latency=latency) as server:
        given = options(server, folder, concurrency=concurrency, timeout=60, price_in=1, price_out=2, quiet=True)
        begun = time.monotonic()
        process = subprocess.Popen([EMPATHY, "label", str(source), "-o", str(folder / "labels.jsonl"), *given])
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begun
    if status:
        raise click.ClickException(f"exit status {status}")
    with closing(sqlite3.connect(folder / "store.sqlite")) as database:
        rows = database.execute("SELECT received, seconds FROM replies ORDER BY number").fetchall()
    times = [datetime.fromisoformat(received).timestamp() for received, _ in rows]
    rate = len(rows) / (times[-1] - times[0] + rows[0][1])
    return {
        "count": len(rows),
        "concurrency": concurrency,
        "latency": latency,
        "answers_a_second": round(rate, 1),
        "share_of_possible": round(rate * latency / concurrency, 3),
        "wall_seconds": round(wall, 1),
        "client_ms_a_call": round((usage.ru_utime + usage.ru_stime) / len(rows) * 1000, 2),
    }


@click.command()
@click.option("--count", default=2000, show_default=True)
@click.option("--latency", default=0.5, show_default=True, help="Seconds.")
@click.option("--concurrency", default=64, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def main(count: int, latency: float, concurrency: int, json_path: Path | None) -> None:
    """Print one row, and write it with the machine and the versions."""
    with tempfile.TemporaryDirectory() as folder:
        row = measure(count, latency, concurrency, Path(folder))
    for name, value in row.items():
        print(f"{name:20}{value}")
    if json_path:
        about = {"python": platform.python_version(), "openai": version("openai"), "cores": os.cpu_count()}
        json_path.write_text(json.dumps({**row, **about}, indent=1) + "\n")


if __name__ == "__main__":
    main()
