"""The folder of a selection: whole or not there, replaced only when told, whatever ends a run."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from scorer.errors import OutputError, RejectedError
from selection.deciding.ranking import Limits
from selection.errors import SelectionError
from selection.files.folder import check_output
from tests.conftest import INTERRUPTIBLE, Run, write_lines
from tests.scorer.run.score_data import BY_HAND, write_scores
from tests.selection.selection_data import (
    FILES,
    fine,
    invoke,
    names,
    one_line,
    prepare,
    read_selection,
    records,
    select_from,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return prepare(tmp_path)


def test_a_pipe_is_read_once_and_gives_the_same(place: Path, empathy: Run) -> None:
    text = (place / "in.jsonl").read_text()
    result = empathy("select", "-", "--scores", "s.jsonl", "-o", "piped", "-q", stdin=text)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    fine("in.jsonl", "--scores", "s.jsonl", "-o", "out")
    for name in FILES:
        if name != "selection.json":
            assert (place / "piped" / name).read_bytes() == (place / "out" / name).read_bytes()
    found = read_selection(place / "piped")
    assert found.sets == {id_: by_cuts for id_, (_, by_cuts, _) in BY_HAND.items()}
    assert found.info["corpus"] == read_selection(place / "out").info["corpus"] | {"inputs": ["-"]}
    result = empathy("select", "-", "--scores", "s.jsonl", "-o", "empty", stdin="")
    assert "no dialogue has a score" in one_line(result.returncode, result.stderr)
    assert "empty" not in names(place)


def test_nothing_is_overwritten_unless_told_and_only_a_selection_is(tmp_path: Path) -> None:
    select_from(tmp_path / "x", records())
    out = tmp_path / "x" / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(OutputError, match=r"out: exists already; name another folder or say --overwrite"):
        select_from(tmp_path / "x", records())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    select_from(tmp_path / "x", records(), rule="release", overwrite=True)
    assert (out / "neutral.jsonl").exists()
    assert not (out / "discard.jsonl").exists()
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["in.jsonl", "out", "scores"]


def test_a_folder_of_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "x" / "out").mkdir(parents=True)
    select_from(tmp_path / "x", records())  # an empty folder is nobody's
    thesis = tmp_path / "y" / "out" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("mine")
    with pytest.raises(OutputError, match=r"out: holds no selection.json, so it is no selection to replace"):
        select_from(tmp_path / "y", records(), overwrite=True)
    assert thesis.read_text() == "mine"
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "no" / "such" / "out"):
        with pytest.raises(OutputError):
            check_output(place, overwrite=True)


def test_overwrite_removes_only_what_a_selection_wrote(tmp_path: Path) -> None:
    out = tmp_path / "x" / "out"
    select_from(tmp_path / "x", records(), abstain=2)
    (out / "labels.jsonl").write_text("what a judge was paid for")
    (out / "runs").mkdir()
    (out / "runs" / "model.bin").write_text("a week of training")
    select_from(tmp_path / "x", records(), overwrite=True)
    assert (out / "labels.jsonl").read_text() == "what a judge was paid for"
    assert (out / "runs" / "model.bin").read_text() == "a week of training"
    assert not (out / "abstain.jsonl").exists()


def test_a_kill_in_the_middle_of_an_exchange_loses_nothing(tmp_path: Path) -> None:
    select_from(tmp_path / "x", records())
    out = tmp_path / "x" / "out"
    (out / "labels.jsonl").write_text("what a judge was paid for")
    out.rename(out.with_name(".out.old"))  # the earlier one is set aside, the new one is not there yet
    select_from(tmp_path / "x", records(), overwrite=True)
    assert (out / "labels.jsonl").read_text() == "what a judge was paid for"
    assert names(tmp_path / "x") == ["in.jsonl", "out", "scores"]


def test_a_neighbour_that_is_no_unfinished_selection_is_kept(tmp_path: Path) -> None:
    for name in ("out.partial", ".out.old"):
        neighbour = tmp_path / "x" / name / "thesis.txt"
        neighbour.parent.mkdir(parents=True)
        neighbour.write_text("mine")
    with suppress(OutputError):  # either is fine, as long as nothing is lost
        select_from(tmp_path / "x", records())
    for name in ("out.partial", ".out.old"):
        assert (tmp_path / "x" / name / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("broken", [{"threshold": (9.0, 1.0)}, {"strict": True}, {"limits": Limits(cap=1)}])
def test_a_failing_run_leaves_the_earlier_selection_and_nothing_else(broken: dict[str, Any], tmp_path: Path) -> None:
    select_from(tmp_path / "x", records())
    out = tmp_path / "x" / "out"
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises((SelectionError, RejectedError)):
        select_from(tmp_path / "x", [*records(), {"messages": []}], overwrite=True, **broken)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["in.jsonl", "out", "scores"]


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    work = tmp_path / "x" / "out.partial"
    work.mkdir(parents=True)
    for name in ("spool.jsonl", "rows.arrow", "rejects.jsonl", "sensibility.jsonl", ".discard.jsonl.123.tmp"):
        (work / name).write_text("half")
    select_from(tmp_path / "x", records())
    assert sorted(path.name for path in (tmp_path / "x" / "out").iterdir()) == [
        "discard.jsonl",
        "rationality.jsonl",
        "selection.json",
        "selection.parquet",
        "sensibility.jsonl",
    ]
    assert not work.exists()


def test_the_folder_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk" / "selection").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "out").symlink_to(tmp_path / "disk" / "selection")
    for overwrite in (False, True, True):
        select_from(tmp_path / "x", records(), overwrite=overwrite)
        assert (tmp_path / "x" / "out").is_symlink()
        assert (tmp_path / "disk" / "selection" / "selection.json").exists()
        assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["in.jsonl", "out", "scores"]


def test_an_earlier_selection_is_kept_unless_told(place: Path) -> None:
    given = ("in.jsonl", "--scores", "s.jsonl", "-o", "out")
    fine(*given, "--abstain", "1")
    before = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    result = invoke(*given)
    assert "out: exists already; name another folder or say --overwrite" in one_line(result.exit_code, result.stderr)
    result = invoke(*given, "--overwrite", "--threshold", "9")
    assert "is empty" in one_line(result.exit_code, result.stderr)
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == before
    fine(*given, "--overwrite")
    assert names(place / "out") == FILES
    assert not [name for name in names(place) if "out." in name]


def test_a_full_disk_is_one_line_and_leaves_the_earlier_selection(place: Path, empathy: Run) -> None:
    given = ("--scores", "s.jsonl", "-o", "out")
    fine("in.jsonl", *given)
    before = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    ids = [f"d{i}" for i in range(400)]
    write_lines(place / "many.jsonl", records(ids))
    (place / "s.jsonl").unlink()
    write_scores(place / "s.csv", dict.fromkeys(ids, (9.0, 1.0)))
    arguments = ("select", "many.jsonl", "--scores", "s.csv", "-o", "out", "--overwrite")
    # No file may grow beyond 30 kB: to a program that is what a full disk is.
    result = empathy(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
    line = one_line(result.returncode, result.stderr)
    assert line.startswith("out: cannot be written: ")
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == before
    assert not [name for name in names(place) if "out." in name]
    fine(*arguments[1:])
    assert read_selection(place / "out").info["dialogues"] == 400


@contextmanager
def in_the_middle(place: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has read half of its input from a pipe, and waits for the rest."""
    command = [*INTERRUPTIBLE, "select", "-", "--scores", "s.jsonl", "-o", "out"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--overwrite"], cwd=place, stdin=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(records()[0]) + "\n")
        process.stdin.flush()
        end = time.monotonic() + 30
        while not (place / "out.partial" / "rejects.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_run_leaves_the_earlier_selection_and_the_next_one_is_whole(place: Path) -> None:
    fine("in.jsonl", "--scores", "s.jsonl", "-o", "out", "--rule", "release")
    before = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    with in_the_middle(place) as process:
        process.kill()
        process.wait()
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == before
    assert "out.partial" in names(place)
    fine("in.jsonl", "--scores", "s.jsonl", "-o", "out", "--overwrite")
    assert names(place / "out") == FILES
    assert read_selection(place / "out").sets == {id_: by_cuts for id_, (_, by_cuts, _) in BY_HAND.items()}
    assert not [name for name in names(place) if "out." in name]


def test_an_interrupted_run_says_so_and_leaves_nothing(place: Path) -> None:
    with in_the_middle(place) as process:
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        (line,) = process.stderr.read().strip().splitlines()
    assert "interrupted" in line
    assert "--resume" not in line  # it has none
    assert not [name for name in names(place) if name.startswith("out")]
