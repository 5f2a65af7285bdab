"""`empathy watch` as a user runs it: exit codes, what it prints, its webhook, and what a kill leaves."""

from __future__ import annotations

import http.server
import json
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from scorer.run.score_file import score_line
from selection.errors import WatchError
from selection.watching.alerts import Alert
from selection.watching.watch import Watch
from selection.watching.webhook import Webhook
from tests.scorer.run.score_data import write_scores
from tests.selection.selection_data import invoke
from tests.selection.watching.watch_data import growing, line, live, stream


def watch(*arguments: str) -> Result:
    """Run the command in this process."""
    return invoke(*arguments, command="watch")


def lines_of(count: int, seed: int, shift: float = 0.0) -> str:
    return "".join(line(one.id, one.sensibility, one.rationality) for one in stream(count, seed, shift))


def test_once_prints_figures_and_ends_with_3_while_an_alert_is_open(tmp_path: Path) -> None:
    path, state, json_path = growing(tmp_path), tmp_path / "w.sqlite", tmp_path / "out.json"
    command = (str(path), "--once", "--state", str(state))
    path.write_text(lines_of(1500, 1))
    result = watch(*command)
    assert result.exit_code == 0, result.output
    assert "1,500 dialogues" in result.output
    assert "ALERT" not in result.output
    with path.open("a") as file:
        file.write(lines_of(600, 2, 1.5))
    result = watch(*command, "--json", str(json_path))
    assert result.exit_code == 3
    assert "2,100 dialogues" in result.output
    assert "ALERT: rationality of the latest 500" in result.output
    assert "    empathy report SCORES_FROM_BEFORE" in result.output
    found = json.loads(json_path.read_text())
    assert (found["total"], len(found["alerts"])) == (
        2100,
        len([one for one in found["alerts"] if one["ended"] is None]),
    )
    assert watch(*command).exit_code == 3  # nothing new, and it is still open
    with path.open("a") as file:
        file.write(lines_of(1500, 3))
    assert watch(*command).exit_code == 0


def test_once_with_a_reference(tmp_path: Path) -> None:
    before = write_scores(
        tmp_path / "before.parquet", {one.id: (one.sensibility, one.rationality) for one in stream(800, 1)}
    )
    after = write_scores(
        tmp_path / "after.parquet", {one.id: (one.sensibility, one.rationality) for one in stream(600, 2, 1.5)}
    )
    result = watch(str(after), "--once", "--reference", str(before))
    assert result.exit_code == 3
    assert f"empathy report {before} {after} -o drift.html" in result.output
    assert watch(str(before), "--once", "--reference", str(before), "-q").output == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no.jsonl", "--once"), "no.jsonl: no such file or folder"),
        (("scores.txt",), "scores.txt: expected scores as .parquet, .jsonl, .csv, a folder of them, or -"),
        (("s.jsonl", "--json", "o.json"), "--json is about --once"),
        (("s.jsonl", "--once", "--raw-cuts", "--scorer", "x/y"), "give one of them"),
        (("s.jsonl", "--once", "--recent", "3"), "recent is 3, expected 50 to 100000"),
        (("s.jsonl", "--once", "--webhook", "ftp://host/x"), "begins with ftp, expected https://host/path"),
        (("s.jsonl", "--once", "--webhook", "file:///etc/passwd"), "begins with file, expected https://host/path"),
        (("s.jsonl", "--once", "--state", "no/w.sqlite"), "the folder no does not exist"),
        (("bad.jsonl", "--once"), "no scores could be read"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    growing(tmp_path)
    growing(tmp_path, "bad.jsonl").write_text("{}\n")
    result = watch(*arguments)
    assert result.exit_code == 2
    assert says in result.output.strip().splitlines()[-1]


def test_standard_input_is_counted_as_it_comes() -> None:
    with live("-", "--recent", "50") as (process, address):
        assert process.stdin is not None
        for text in (score_line("a", 6, 3), score_line("b", 6, 3)[:20], score_line("b", 6, 3)[20:] + "{\n"):
            process.stdin.write(text)
            process.stdin.flush()
        found = until(address, lambda state: state["total"] == 2 and "could not be read" in str(state["problems"]))
        assert [one["source"] for one in found["problems"]] == ["standard input"]
        assert "those of starter, the included scorer; a line could not be read: row 2" in found["problems"][0]["text"]


def state_of(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/state", timeout=10) as answer:
        return json.load(answer)  # type: ignore[no-any-return]


def until(address: str, fine: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    for _ in range(150):
        if fine(state := state_of(address)):
            return state
        time.sleep(0.1)
    raise AssertionError(state)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_ends_is_taken_up(number: int, tmp_path: Path) -> None:
    """Also while a page is open, and whatever it was doing: no row is lost, and none is counted twice."""
    path, state = growing(tmp_path), tmp_path / "w.sqlite"
    written = 0
    for round_ in range(2):
        with live(path, "--state", state) as (process, address):
            with path.open("a") as file:
                file.write(lines_of(900, 10 + round_))
            written += 900
            stream_of = urllib.request.urlopen(f"{address}/events", timeout=10)
            assert stream_of.readline() == b"retry: 2000\n"
            if round_:
                until(address, lambda found: found["total"] == 1800)
            process.send_signal(number)
            assert process.wait(15) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
            stream_of.close()
    result = watch(str(path), "--once", "--state", str(state))
    assert f"{written:,} dialogues" in result.output


def test_a_port_that_is_taken_and_a_name_that_leads_here(tmp_path: Path) -> None:
    path = growing(tmp_path)
    with live(path) as (_, address):
        port = address.split(":")[2].split("/")[0]
        result = watch(str(path), "--port", port)
        assert (result.exit_code, "another program listens there" in result.output) == (2, True)
        for host, code in (("evil.example", 400), (f"localhost:{port}", 200)):
            request = urllib.request.Request(f"{address}/state", headers={"host": host})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    found = answer.status
            except urllib.error.HTTPError as error:
                found = error.code
                error.close()
            assert found == code


class Hook(http.server.BaseHTTPRequestHandler):
    """Answers what its server was told to, and keeps what it was sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        server: Any = self.server
        code = server.answers.pop(0) if server.answers else 204
        server.seen.append((code, json.loads(body)))
        self.send_response(code)
        if code == 302:
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.answers, server.seen = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_webhook_is_told_once_of_each_beginning_and_end(hook: Any, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/secret"
    path = tmp_path / "w.sqlite"
    with Watch(path, title="chat") as watch:
        watch.record(stream(1500, 1) + stream(600, 2, 1.5))
        begun = len(watch.alerts.open)
        hook.answers = [500, 429]
        client = Webhook(url, watch, pauses=(0.01, 0.01))
        assert client.tell() is None
        assert [code for code, _ in hook.seen] == [500, 429] + [204] * begun
        assert hook.seen[-1][1]["event"] == "begin"
        assert hook.seen[-1][1]["text"].startswith("chat: Alert: ")
        assert client.tell() is None
        assert len(hook.seen) == begun + 2
        watch.record(stream(1500, 3))
        for answers, says in (([500] * 3, "it answered 500"), ([302], "it answered 302"), ([404], "it answered 404")):
            hook.answers = list(answers)
            assert client.tell() == says
        assert "secret" not in json.dumps(watch.snapshot())
    hook.seen.clear()
    with Watch(path) as watch:  # what was untold is told later
        assert Webhook(url, watch).tell() is None
        assert [body["event"] for _, body in hook.seen] == ["end"] * begun
        hook.server_close()
        assert Webhook(url, watch, pauses=()).tell() is None  # nothing is left


def test_a_webhook_that_is_not_there_stops_nothing(tmp_path: Path) -> None:
    path = growing(tmp_path)
    path.write_text(lines_of(1500, 1) + lines_of(600, 2, 1.5))
    with Watch(None) as watch:
        watch.record(stream(1500, 1) + stream(600, 2, 1.5))
        assert "onnection refused" in str(Webhook("http://127.0.0.1:9/x", watch, pauses=(0.01,)).tell())
        assert {alert.told for alert in watch.alerts.entries} == {0}
        for url in ("http://", "https:///x", "javascript:1", "http://a b/", "http://h:99999/"):
            with pytest.raises(WatchError, match="--webhook"):
                Webhook(url, watch)
        assert isinstance(watch.alerts.entries[0], Alert)
