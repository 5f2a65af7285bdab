"""Streams that are closed, full or gone, texts that would steer a terminal, names that are no UTF-8, early signals."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle
from scorer.text import plain
from tests.conftest import WORDS, record, write_lines

ROOT = Path(__file__).parents[3]
START = [sys.executable, "-c", "from scorer.cli.entry import start; start()"]
COMMANDS = sorted({point.name for point in entry_points(group="empathy.commands")})
EVIL = "\x1b]0;owned\x07\x9b31m\u202egnp\u2066\r\nempathy: error: x\udcff"
SEEN = "\\x1b]0;owned\\x07\\x9b31m\\u202egnp\\u2066"


def shell(line: str, *arguments: str | Path) -> tuple[int, str, str]:
    """Run a shell's line, in which "$@" is `empathy` with arguments; its exit code, and what came out."""
    found = subprocess.run(
        ["bash", "-c", line, "-", *START, *map(str, arguments)], capture_output=True, timeout=120, check=False
    )
    out, err = found.stdout.decode(), found.stderr.decode()
    assert "Traceback" not in err, err
    assert "Exception ignored" not in err, err
    return found.returncode, out, err


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write some records."""
    return write_lines(tmp_path / "in.jsonl", [record(word, "so sorry", id=word) for word in WORDS])


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_a_closed_or_full_output_is_one_line_and_exit_code_2(command: str) -> None:
    called = (*([command] if command else []), "--help")
    assert shell('"$@" >&-', *called)[::2] == (2, "empathy: error: standard output: is closed\n")
    full = shell('"$@" >/dev/full', *called)
    assert full[::2] == (2, "empathy: error: standard output: cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_error_keeps_its_exit_code_where_nobody_can_read_it(command: str) -> None:
    for closed in ("2>&-", "2>/dev/full", ">&- 2>&- <&-"):
        assert shell(f'"$@" {closed}', command, "--no-such-option") == (2, "", "")


def test_the_version_and_a_reader_that_has_enough() -> None:
    assert shell('"$@" >&-', "--version")[0] == 2
    assert shell('"$@" | head -1; exit ${PIPESTATUS[0]}', "--help")[::2] == (0, "")


def test_what_a_command_writes_is_whole_where_no_stream_is_open(source: Path, bundle: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    assert shell('"$@" >&- 2>&- <&-', "score", source, "-o", output, "--scorer", bundle.path)[0] == 0
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == WORDS
    # What it wrote is there, what it was to say is not.
    found = tmp_path / "look.json"
    code, _, err = shell('"$@" >/dev/full', "look", source, "--scorer", bundle.path, "--json", found)
    assert code == 2
    assert err.splitlines()[-1].endswith("No space left on device")
    assert json.loads(found.read_text())["all"]["dialogues"] == len(WORDS)


def test_scores_that_nobody_can_take_end_the_work(source: Path, bundle: Bundle) -> None:
    scoring = ("score", source, "--scorer", bundle.path)
    assert shell('"$@" >&-', *scoring)[::2] == (2, "empathy: error: standard output: is closed\n")
    assert shell('"$@" >/dev/full', *scoring)[0] == 2
    assert shell('"$@" | head -1 >/dev/null; exit ${PIPESTATUS[0]}', *scoring)[0] == 0
    code, out, err = shell('"$@" <&-', "score", "-", "--scorer", bundle.path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_rejects_that_nobody_can_read_cost_no_score(source: Path, bundle: Bundle) -> None:
    source.write_text(source.read_text() + "{}\n")
    code, out, _ = shell('"$@" 2>/dev/full', "score", source, "--scorer", bundle.path)
    assert (code, len(out.splitlines())) == (0, len(WORDS))


def test_foreign_text_steers_no_terminal(bundle: Bundle, tmp_path: Path) -> None:
    name = EVIL.replace("/", "").replace("\udcff", "")
    source = write_lines(
        tmp_path / f"{name}.jsonl", [record(EVIL[:-1], EVIL[:-1], id=name), {name: name}, {"id": EVIL, "messages": 3}]
    )
    for arguments in (
        ("look", source, "--scorer", bundle.path),
        ("score", source, "-o", tmp_path / f"{name}.csv", "--scorer", bundle.path),
        ("score", tmp_path / f"{name}.nothing", "-o", tmp_path / "out.csv"),
        ("score", source, "--engine", name),
        ("inspect", tmp_path / name),
        (name,),
        ("look", f"--{name}"),
    ):
        _, out, err = shell('"$@"', *arguments)
        for line in (*out.split("\n"), *err.split("\n")):
            assert line.isprintable(), line
            assert not line.startswith("empathy: error: x")
        assert SEEN in out + err, arguments


def test_plain_text_stays_as_it_is() -> None:
    for text in ("naïve – 日本語 👩‍👩‍👧 مرحبا", "a\u00a0b\u3000c", "می\u200cخواهم"):
        assert plain(text) == text
    assert plain("a\tb\nc\u2028d\ufeff\u200f\udcff\ud800") == "a\\tb\\nc\\u2028d\\ufeff\\u200f\\xff\\ud800"


def test_every_line_is_printed_by_the_one_function() -> None:
    for path in (
        path for package in ("scorer", "selection", "distill", "moe") for path in (ROOT / package).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            assert name not in {"echo", "secho", "print"} or path.name in {"streams.py", "preview.py", "table.py"}, path


def test_names_that_are_no_utf8_are_read_and_never_written(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "in\udcff\udcfe.jsonl"
    source.write_text(json.dumps(record("hi", "so sorry", id="a")) + "\n{}\n")
    output, found = tmp_path / "out.jsonl", tmp_path / "look.json"
    assert shell('"$@"', "score", source, "-o", output, "--scorer", bundle.path)[0] == 0
    reject = json.loads(Path(f"{output}.rejects.jsonl").read_text())
    assert reject["source"] == f"{tmp_path}/in\\xff\\xfe.jsonl"
    assert shell('"$@"', "look", source, "--json", found, "--scorer", bundle.path)[0] < 2
    assert f"{tmp_path}/in\\xff\\xfe.jsonl" in json.loads(found.read_bytes())["sources"]
    before = set(tmp_path.iterdir())
    for arguments in (
        ("score", source, "-o", tmp_path / "o\udcff.parquet"),
        ("score", source, "-o", tmp_path / "\udcff" / "out.csv"),
        ("demo", "-o", tmp_path / "\udcff"),
        ("look", source, "--json", tmp_path / "\udcff.json"),
        ("inspect", tmp_path / "\udcff"),
    ):
        code, out, err = shell('"$@"', *arguments)
        assert (code, out) == (2, "")
        assert err.endswith("the name is no UTF-8; choose another, or rename the file\n")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_modules_are_loaded_ends_it_in_silence(number: int, code: int, tmp_path: Path) -> None:
    # Each module that a command loads, its own and others', tells that it is there and waits.
    for module, arguments in (("click", ("--help",)), ("cloup", ("look",)), ("numpy", ("inspect",))):
        waits = "import os, time\nos.write(1, b'x')\ntry: time.sleep(60)\nexcept BaseException: raise ImportError\n"
        (tmp_path / f"{module}.py").write_text(waits)
        environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        code_line = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + START[2]
        command = [sys.executable, "-c", code_line, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.read(1) == b"x", module
            time.sleep(0.05)
            process.send_signal(number)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (code, b""), module
        (tmp_path / f"{module}.py").unlink()
