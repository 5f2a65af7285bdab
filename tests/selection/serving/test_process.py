"""The process: it ends gracefully, and what was answered is counted even if it is killed."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from scorer.bundle.bundle import Bundle
from selection.watching.watch import Watch
from tests.conftest import Run, record
from tests.fuzz.requests import fuzz
from tests.selection.serving.served import Client, process

SECRET = "my dog died today"


class Load:
    """Clients that ask until they are told to stop or nobody answers; ``answered`` are ids that were scored."""

    def __init__(self, client: Client, threads: int = 6) -> None:
        self.answered: list[str] = []
        self.codes: list[int] = []
        self.cut = 0
        self._stop = threading.Event()
        self._client = client
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            ids = [f"{number}-{count}-{i}" for i in range(1 + count % 5)]
            count += 1
            try:
                answer = self._client.ask("/v1/score", [record(SECRET, "so sorry", id=id_) for id_ in ids])
            except ConnectionRefusedError:
                return
            except (OSError, HTTPException):  # a connection that was cut
                self.cut += 1
                return
            self.codes.append(answer.status)
            if answer.status == 503:
                return
            if answer.status == 200:
                self.answered += [one["id"] for one in answer.json["results"]]

    def wait(self, count: int) -> None:
        until = time.monotonic() + 60
        while len(self.answered) < count and time.monotonic() < until:
            time.sleep(0.01)

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_sigterm_finishes_what_is_in_hand(bundle: Bundle, tmp_path: Path) -> None:
    with process("--scorer", bundle.path, "--watch", tmp_path / "w.db", "--wait-ms", "300") as (child, client):
        load = Load(client)
        load.wait(20)
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 143
        load.end()
        assert child.stderr is not None
        said = child.stderr.read()
    assert load.cut == 0  # every request that was taken was answered
    assert set(load.codes) <= {200, 503}
    assert said.splitlines() == ["empathy: terminated; what was in hand is answered"]
    with Watch(tmp_path / "w.db") as watch:
        assert watch.snapshot()["total"] == len(load.answered)


def test_interrupt(bundle: Bundle) -> None:
    with process("--scorer", bundle.path) as (child, _):
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130


@pytest.mark.parametrize("answers", [30, pytest.param(100, marks=pytest.mark.slow)])
def test_kill_under_load_loses_nothing_that_was_answered(bundle: Bundle, tmp_path: Path, answers: int) -> None:
    file = tmp_path / "w.db"
    with process("--scorer", bundle.path, "--watch", file) as (child, client):
        load = Load(client)
        load.wait(answers)
        child.kill()
        child.wait()
        load.end()
    assert len(load.answered) >= answers
    with process("--scorer", bundle.path, "--watch", file) as (child, client):
        state: dict[str, Any] = client.ask("/dashboard/state").json
        lost = len(load.answered) - state["total"]
        assert lost <= 0
        assert -lost <= 6 * 5  # what was scored and counted, and whose answer the kill cut off
        client.ask("/v1/score", record(SECRET, "so sorry"))
        assert client.ask("/dashboard/state").json["total"] == state["total"] + 1
        child.send_signal(signal.SIGTERM)
        child.wait(20)
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in stored
    with sqlite3.connect(file) as base:
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)


def test_neither_texts_nor_keys_are_logged(bundle: Bundle) -> None:
    key = "a-key-of-some-length"
    with process("--scorer", bundle.path, env={"EMPATHY_SERVE_KEYS": key}) as (child, client):
        for header in ("", f"Bearer {key}", f"Bearer {key}x"):
            client.ask("/v1/score", record(SECRET, "so sorry"), authorization=header)
            client.ask(f"/{SECRET.replace(' ', '%20')}?key={key}", authorization=header)
        client.ask("/v1/score", b'{"' + SECRET.encode(), authorization=f"Bearer {key}")
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 143
        assert child.stderr is not None
        said = child.stderr.read()
    assert SECRET not in said
    assert key not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--host", "0.0.0.0"], "--without-key"), (["--port", "99999"], "65535"), (["--watch", "no/such/w.db"], "no")],
)
def test_usage_errors(empathy: Run, bundle: Bundle, options: list[str], word: str) -> None:
    done = empathy("serve", "--scorer", bundle.path, "--port", "0", *options)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert word in done.stderr


def test_some_hundred_mutated_requests() -> None:
    found = fuzz(range(300))
    assert found.faults == [], "\n".join(found.lines())
    assert found.counts["200"] > 10
    assert found.counts["400"] + found.counts["422"] > 50


@pytest.mark.slow
def test_ten_thousand_mutated_requests() -> None:
    found = fuzz(range(10_000))
    assert found.faults == [], "\n".join(found.lines())
