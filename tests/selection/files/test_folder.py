"""The folder of a selection: whole or not there, replaced only when told, whatever ends a run."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scorer.errors import OutputError, RejectedError
from selection.errors import SelectionError
from selection.files.manifest import check_selection_folder
from selection.settings import Limits
from tests import forks
from tests.conftest import Run, write_lines
from tests.scorer.run.score_data import BY_HAND, write_scores
from tests.selection.selection_data import FILES, fine, names, one_line, read_selection, records, refusal, select_from

GIVEN = ("in.jsonl", "--scores", "s.jsonl", "-o", "out")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def nothing_beside(folder: Path) -> bool:
    """Whether no work of a selection lies beside its folder ``out``."""
    return not [name for name in names(folder) if "out." in name]


def test_a_pipe_is_read_once_and_gives_the_same(place: Path, empathy: Run) -> None:
    text = (place / "in.jsonl").read_text()
    result = empathy("select", "-", "--scores", "s.jsonl", "-o", "piped", "-q", stdin=text)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    fine(*GIVEN)
    piped, out = contents(place / "piped"), contents(place / "out")
    assert piped.pop("selection.json") != out.pop("selection.json")
    assert piped == out
    found = read_selection(place / "piped")
    assert found.sets == {id_: by_cuts for id_, (_, by_cuts, _) in BY_HAND.items()}
    assert found.info["corpus"] == read_selection(place / "out").info["corpus"] | {"inputs": ["-"]}
    result = empathy("select", "-", "--scores", "s.jsonl", "-o", "empty", stdin="")
    assert "no dialogue has a score" in one_line(result.returncode, result.stderr)
    assert "empty" not in names(place)


def test_an_earlier_selection_is_kept_unless_told(place: Path) -> None:
    fine(*GIVEN, "--abstain", "1", "--rule", "release")
    before = contents(place / "out")
    assert "out: exists already; name another output or say --overwrite" in refusal(*GIVEN)
    assert "is empty" in refusal(*GIVEN, "--overwrite", "--threshold", "9")
    assert contents(place / "out") == before
    fine(*GIVEN, "--overwrite")
    assert names(place / "out") == FILES
    assert nothing_beside(place)


def test_a_folder_of_other_things_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "x" / "out").mkdir(parents=True)
    select_from(tmp_path / "x", records())  # an empty folder is nobody's
    thesis = put(tmp_path / "y" / "out" / "thesis.txt")
    with pytest.raises(OutputError, match=r"out: holds no selection.json, so `empathy select` did not make it"):
        select_from(tmp_path / "y", records(), overwrite=True)
    assert thesis.read_text() == "mine"
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "no" / "such" / "out"):
        with pytest.raises(OutputError):
            check_selection_folder(place, overwrite=True)


def test_overwrite_removes_only_what_a_selection_wrote(tmp_path: Path) -> None:
    out = tmp_path / "x" / "out"
    select_from(tmp_path / "x", records(), abstain=2)
    mine = [put(out / "labels.jsonl"), put(out / "runs" / "model.bin")]
    select_from(tmp_path / "x", records(), overwrite=True)
    assert [path.read_text() for path in mine] == ["mine"] * 2
    assert not (out / "abstain.jsonl").exists()
    put(out / "neutral.jsonl")
    with pytest.raises(OutputError, match=r"neutral.jsonl: was not written by the earlier run"):
        select_from(tmp_path / "x", records(), overwrite=True, rule="release")
    assert (out / "neutral.jsonl").read_text() == "mine"
    assert (out / "discard.jsonl").exists()


@pytest.mark.parametrize("new", [False, True])
def test_a_kill_in_the_middle_of_an_exchange_loses_nothing(tmp_path: Path, *, new: bool) -> None:
    select_from(tmp_path / "x", records())
    out = tmp_path / "x" / "out"
    put(out / "labels.jsonl")
    out.rename(out.with_name(".out.old"))  # the earlier one is set aside, and the new one is there, or not yet
    if new:
        out.mkdir()
        for name in FILES:
            (out / name).write_bytes((out.with_name(".out.old") / name).read_bytes())
    select_from(tmp_path / "x", records(), overwrite=True)
    assert (out / "labels.jsonl").read_text() == "mine"
    assert names(tmp_path / "x") == ["in.jsonl", "out", "scores"]


def test_a_neighbour_that_is_no_unfinished_selection_is_kept(tmp_path: Path) -> None:
    mine = [put(tmp_path / "x" / name / "thesis.txt") for name in ("out.partial", ".out.old")]
    with pytest.raises(OutputError, match=r"\.out\.old: holds other files"):
        select_from(tmp_path / "x", records())
    assert [path.read_text() for path in mine] == ["mine"] * 2


@pytest.mark.parametrize("broken", [{"threshold": (9.0, 1.0)}, {"strict": True}, {"limits": Limits(cap=1)}])
def test_a_failing_run_leaves_the_earlier_selection_and_nothing_else(broken: dict[str, Any], tmp_path: Path) -> None:
    select_from(tmp_path / "x", records())
    before = contents(tmp_path / "x" / "out")
    with pytest.raises((SelectionError, RejectedError)):
        select_from(tmp_path / "x", [*records(), {"messages": []}], overwrite=True, **broken)
    assert contents(tmp_path / "x" / "out") == before
    assert names(tmp_path / "x") == ["in.jsonl", "out", "scores"]


def test_the_folder_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "disk" / "selection").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "out").symlink_to(tmp_path / "disk" / "selection")
    for overwrite in (False, True, True):
        select_from(tmp_path / "x", records(), overwrite=overwrite)
        assert (tmp_path / "x" / "out").is_symlink()
        assert (tmp_path / "disk" / "selection" / "selection.json").exists()
        assert names(tmp_path / "x") == ["in.jsonl", "out", "scores"]


def test_a_full_disk_is_one_line_and_leaves_the_earlier_selection(place: Path, empathy: Run) -> None:
    fine(*GIVEN)
    before = contents(place / "out")
    ids = [f"d{i}" for i in range(400)]
    write_lines(place / "many.jsonl", records(ids))
    write_scores(place / "s.csv", dict.fromkeys(ids, (9.0, 1.0)))
    arguments = ("select", "many.jsonl", "--scores", "s.csv", "-o", "out", "--overwrite")
    result = empathy(*arguments, largest_file=30_000)
    assert one_line(result.returncode, result.stderr).startswith("out: cannot be written: ")
    assert contents(place / "out") == before
    assert nothing_beside(place)
    fine(*arguments[1:])
    assert read_selection(place / "out").info["dialogues"] == 400


@contextmanager
def in_the_middle(place: Path) -> Iterator[forks.Process]:
    """A run that has read half of its input from a pipe, and waits for the rest."""
    command = ("select", "-", "--scores", "s.jsonl", "-o", "out", "--overwrite")
    with forks.empathy(*command, cwd=place, stdin=True, stderr=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(records()[0]) + "\n")
        process.stdin.flush()
        end = time.monotonic() + 30
        while not (place / ".out.unfinished" / "rejects.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.01)
        try:
            yield process
        finally:
            process.kill()


def test_a_killed_run_leaves_the_earlier_selection_and_the_next_one_is_whole(place: Path) -> None:
    fine(*GIVEN, "--rule", "release")
    before = contents(place / "out")
    with in_the_middle(place) as process:
        process.kill()
        process.wait()
    assert contents(place / "out") == before
    assert ".out.unfinished" in names(place)
    fine(*GIVEN, "--overwrite")
    assert names(place / "out") == FILES
    assert read_selection(place / "out").sets == {id_: by_cuts for id_, (_, by_cuts, _) in BY_HAND.items()}
    assert nothing_beside(place)


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupted_run_says_so_and_leaves_nothing(place: Path, number: int, code: int, word: str) -> None:
    with in_the_middle(place) as process:
        os.kill(process.pid, number)
        assert process.wait(30) == code
        assert process.stderr is not None
        (line,) = process.stderr.read().strip().splitlines()
    assert word in line
    assert "--resume" not in line  # it has none
    assert not [name for name in names(place) if "out" in name]
