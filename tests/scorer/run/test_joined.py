"""Processes that share a run: together they write what one does, whatever ids repeat, whenever one is killed."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.outputs import JOINED
from scorer.reading.counted import read_window
from scorer.reading.windows import WHOLE, Share
from scorer.run import joined
from scorer.run.manifest import finished_windows, missing_from
from scorer.run.score import Summary, score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import record, write_lines
from tests.scorer.reading.test_lines import messy_lines


class Killed(BaseException):
    """What a test raises in place of a kill."""


def score(scorer: Scorer, inputs: Path | str, output: Path, share: Share = WHOLE, **more: Any) -> Summary:
    settings = ScoreSettings(**{"window": 20, "readers": 0, "keep": ("score",), "share": share, **more})
    return score_files(scorer, Corpus([str(inputs)], keep_records=True), output, settings)


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def rejects(folder: Path) -> list[str]:
    lines = [line for path in folder.glob("*rejects.jsonl") for line in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: (json.loads(line)["source"], json.loads(line)["line"], line))


def windows(folder: Path) -> list[Any]:
    """Return what the manifests say of windows, but for the ids that waited."""
    found = sorted(finished_windows(folder), key=lambda window: window.number)
    return [(w.number, w.tally, w.shard, w.rejected, w.place, w.bytes) for w in found]


def same(folder: Path, whole: Path) -> None:
    assert missing_from(folder) is None
    assert parts(folder) == parts(whole)
    assert rejects(folder) == rejects(whole)
    assert windows(folder) == windows(whole)
    left = {path.name for path in folder.iterdir()} - parts(folder).keys()
    assert all(name.startswith(("_manifest-", "shard-")) or name == JOINED for name in left if name[0] != ".")


@pytest.fixture(params=[1, 4, 8])
def inputs(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    (tmp_path / "in").mkdir()
    messy_lines(tmp_path / "in", request.param)
    return tmp_path / "in"


def test_shares_in_any_order_are_one_run(scorer: Scorer, inputs: Path, tmp_path: Path) -> None:
    score(scorer, inputs, tmp_path / "whole")
    assert any("duplicate_id" in line for line in rejects(tmp_path / "whole"))
    for order in [*permutations(range(3))][::2]:
        output = tmp_path / "".join(map(str, order))
        for index in order[:-1]:
            score(scorer, inputs, output, Share(index, 3))
            assert "not finished" in str(missing_from(output))
        score(scorer, inputs, output, Share(order[-1], 3), readers=2 * (order[0] == 0))
        same(output, tmp_path / "whole")
        again = score(scorer, inputs, output, Share(0, 3), existing="resume")
        assert again.complete_before
        same(output, tmp_path / "whole")


class Mortal:
    """Counts changes, and dies before the one after ``last``."""

    def __init__(self, last: int) -> None:
        self.left = last

    def watch(self, patch: pytest.MonkeyPatch, place: Any, *names: str) -> None:
        """Count the calls of some functions of a module or class."""
        for name in names:
            patch.setattr(place, name, self.counted(getattr(place, name)))

    def counted(self, real: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return real(*given, **more)

        return call


@pytest.mark.slow
def test_a_kill_at_any_step_of_the_join_loses_nothing(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    messy_lines(inputs, 4)
    score(scorer, inputs, tmp_path / "whole")
    with monkeypatch.context() as patch:  # both shares have ended, and nobody has joined them
        patch.setattr("scorer.run.score.join_shares", lambda *_: None)
        score(scorer, inputs, tmp_path / "begun", Share(0, 2))
        score(scorer, inputs, tmp_path / "begun", Share(1, 2))
    steps, died = 0, True
    while died:
        output = tmp_path / f"out-{steps}"
        shutil.copytree(tmp_path / "begun", output)
        real = joined.join_shares

        def dies(*given: Any, steps: int = steps, real: Any = real) -> None:
            with monkeypatch.context() as inner:
                mortal = Mortal(steps)
                mortal.watch(inner, joined, "write_window", "write_json", "join_rejects")
                mortal.watch(inner, Path, "replace", "unlink")
                real(*given)

        with monkeypatch.context() as patch:
            patch.setattr("scorer.run.score.join_shares", dies)
            try:
                score(scorer, inputs, output, Share(steps % 2, 2), existing="resume")
                died = False
            except Killed:
                assert "not joined" in str(missing_from(output)) or missing_from(output) is None
        if died:
            score(scorer, inputs, output, Share(1, 2), existing="resume")
        same(output, tmp_path / "whole")
        shutil.rmtree(output)
        steps += 1 + steps // 5
    assert steps > 10


def test_a_killed_share_goes_on_behind_what_it_finished(
    scorer: Scorer, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(scorer, inputs, tmp_path / "whole")
    score(scorer, inputs, tmp_path / "out", Share(0, 2))
    manifest = tmp_path / "out" / "_manifest-1-of-2.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:3]))
    read: list[int] = []
    real = read_window

    def noted(*given: Any) -> Any:
        read.append(given[0].number)
        return real(*given)

    monkeypatch.setattr("scorer.reading.read_ahead.read_window", noted)
    summary = score(scorer, inputs, tmp_path / "out", Share(0, 2), existing="resume")
    assert read == list(range(4, 2 * len(lines) - 4, 2))  # not one that was finished
    assert summary.resumed == sum(window[1].records for window in windows(tmp_path / "whole")[:3:2])
    score(scorer, inputs, tmp_path / "out", Share(1, 2))
    same(tmp_path / "out", tmp_path / "whole")


def test_shares_of_different_inputs_are_not_joined(scorer: Scorer, tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "in.jsonl", [record("i am sad", f"so {number}", id=str(number)) for number in range(90)]
    )
    score(scorer, path, tmp_path / "out", Share(0, 2))
    text = path.read_text()
    path.write_text(text.replace("so 15", "so sorry 15"))
    with pytest.raises(OutputError, match=r"window 1 does not begin where window 0 ends.*changed between its shards"):
        score(scorer, path, tmp_path / "out", Share(1, 2))
    assert "not joined" in str(missing_from(tmp_path / "out"))
    path.write_text(text)
    with pytest.raises(OutputError, match=r"window 1 does not begin where window 0 ends"):
        score(scorer, path, tmp_path / "out", Share(1, 2), existing="resume")


def test_a_share_is_not_resumed_of_an_array(scorer: Scorer, tmp_path: Path) -> None:
    """Of this every process reads all, so that it knows the ids of all: not what the first one did."""
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", f"so {number}") for number in range(90)])
    score(scorer, path, tmp_path / "out", Share(0, 2))
    (tmp_path / "in.json").write_text(f"[{','.join(path.read_text().splitlines())}]")
    with pytest.raises(OutputError, match="begun with counted True and this run has False"):
        score(scorer, tmp_path / "in.json", tmp_path / "out", Share(1, 2))


def test_ids_that_are_lost_are_missed(scorer: Scorer, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [record("i am sad", f"so {number}") for number in range(90)])
    score(scorer, path, tmp_path / "out", Share(0, 2))
    (tmp_path / "out" / "_ids-000002.npy").unlink()
    with pytest.raises(OutputError, match=r"_ids-000002.npy: is missing or not what was written here"):
        score(scorer, path, tmp_path / "out", Share(1, 2))


@pytest.mark.parametrize("share", [WHOLE, Share(0, 2)])
def test_lines_that_were_appended_are_another_input(scorer: Scorer, tmp_path: Path, share: Share) -> None:
    """Behind a last window that was not full a run would go on with a window that no other run has."""
    rows = [record("i am sad", f"so {number}") for number in range(50)]
    path = write_lines(tmp_path / "in.jsonl", rows)
    score(scorer, path, tmp_path / "out", share)
    manifest = next((tmp_path / "out").glob("_manifest*"))
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))  # killed before it ended
    write_lines(path, [*rows, record("i am sad", "one more")])
    with pytest.raises(OutputError, match=r"window 2 of the input is not what was scored before"):
        score(scorer, path, tmp_path / "out", share, existing="resume")
    write_lines(path, rows)
    assert score(scorer, path, tmp_path / "out", share, existing="resume").resumed == (50 if share == WHOLE else 30)
