"""A run on disk: whole or absent, resumable, never mixed with another."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from scorer.errors import OutputError
from scorer.inputs.parse import Reject
from scorer.outputs import Existing
from scorer.reading.windows import WHOLE, Share, Tally, Window
from scorer.run.manifest import Identity, begun_with, missing_from
from scorer.run.output import Run, work_folder
from scorer.run.settings import ScoreSettings
from tests.conftest import read_scores

META = {"sha256": "abc", "name": "tiny", "cuts": {}}
IDENTITY = Identity(scorer="abc", engine="onnxruntime", precision="fp32", window=2, uncertainty=False, shards=1)

_OPENED: list[Run] = []


def begin(output: Path, existing: Existing = "error", share: Share = WHOLE, **other: Any) -> Run:
    """Open a run, of another identity or other metadata where ``other`` says so."""
    meta = {**META, **other.pop("meta", {})}
    identity = replace(IDENTITY, **{"shards": share.count, **other})
    return Run(output, identity, meta, ScoreSettings(existing=existing, share=share))


def open_run(output: Path, existing: Existing = "error", **other: Any) -> Run:
    """Open a run after the ends of all processes before it."""
    while _OPENED:
        _OPENED.pop().close()
    _OPENED.append(begin(output, existing, **other))
    return _OPENED[-1]


def add(run: Run, number: int, rows: int = 2, rejects: int = 0) -> None:
    tally = Tally(scored=rows, rejected={"broken_json": rejects} if rejects else {})
    scores = np.full((rows, 2), number, dtype=np.float32)
    bad = [Reject("in", i + 1, "broken_json", "because") for i in range(rejects)]
    run.add(Window(number, f"hash{number}", tally), [f"{number}-{i}" for i in range(rows)], scores, bad)


def begun(output: Path, rejects: int = 0) -> Run:
    """Open a run and finish its first window."""
    run = open_run(output)
    add(run, 0, rejects=rejects)
    return run


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv", "out"])
def test_an_unfinished_run_leaves_no_output(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    begun(output)
    if output.suffix:
        assert not output.exists()
    else:
        assert "complete" not in (output / "_manifest.jsonl").read_text()


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out.csv"])
def test_a_finished_file_holds_every_row_in_order_and_nothing_lies_beside_it(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    run = begun(output)
    add(run, 1, rejects=1)
    run.finish()
    run.close()
    if output.suffix == ".parquet":
        ids = pq.read_table(output)["id"].to_pylist()
    elif output.suffix == ".jsonl":
        ids = [json.loads(line)["id"] for line in output.read_text().splitlines()]
    else:
        ids = [line.split(",")[0] for line in output.read_text().splitlines()[1:]]
    assert ids == ["0-0", "0-1", "1-0", "1-1"]
    meta = {f"{name}.meta.json"} if output.suffix != ".parquet" else set()
    assert names(tmp_path) == {name, f"{name}.rejects.jsonl"} | meta
    assert json.loads((tmp_path / f"{name}.rejects.jsonl").read_text())["reason"] == "broken_json"


def test_a_folder_holds_shards_manifest_and_rejects(tmp_path: Path) -> None:
    run = begun(tmp_path / "out", rejects=2)
    add(run, 1)
    run.finish()
    shards = {"part-000000.parquet", "part-000001.parquet"}
    assert names(tmp_path / "out") == shards | {"_manifest.jsonl", "rejects.jsonl"}
    assert len((tmp_path / "out" / "rejects.jsonl").read_text().splitlines()) == 2
    assert pq.read_table(tmp_path / "out" / "part-000001.parquet").num_rows == 2


def test_a_run_that_scored_nothing_writes_rejects_only(tmp_path: Path) -> None:
    run = open_run(tmp_path / "out.parquet")
    add(run, 0, rows=0, rejects=3)
    run.finish()
    run.close()
    assert names(tmp_path) == {"out.parquet.rejects.jsonl"}


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_resume_knows_what_was_done_even_after_a_torn_manifest_line(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    run = begun(output)
    add(run, 1, rejects=1)
    with (run.folder / "_manifest.jsonl").open("a") as file:
        file.write('{"number": 2, "rec')
    resumed = open_run(output, "resume")
    assert list(resumed.done) == [0, 1]
    assert resumed.done[1].tally.rejected == {"broken_json": 1}
    add(resumed, 2)
    resumed.finish()
    done = read_scores(output)["id"].to_pylist()
    assert done == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]


def test_resume_begins_where_there_is_nothing(tmp_path: Path) -> None:
    assert open_run(tmp_path / "out.jsonl", "resume").done == {}


def test_a_shard_without_its_manifest_line_is_written_again(tmp_path: Path) -> None:
    begun(tmp_path / "out")
    lines = (tmp_path / "out" / "_manifest.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "out" / "_manifest.jsonl").write_text(lines[0])
    resumed = open_run(tmp_path / "out", "resume")
    assert resumed.done == {}
    add(resumed, 0)
    resumed.finish()
    assert pq.read_table(tmp_path / "out" / "part-000000.parquet").num_rows == 2


def test_another_scorer_or_setting_is_refused(tmp_path: Path) -> None:
    add(open_run(tmp_path / "out"), 0)
    with pytest.raises(OutputError, match=r"begun with window 2 and this run has 3.*--overwrite"):
        open_run(tmp_path / "out", "resume", window=3)


def test_a_changed_input_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "out")
    run.check_same(run.done[0], "hash0")
    with pytest.raises(OutputError, match="changed or reordered"):
        run.check_same(run.done[0], "other")


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_an_existing_output_is_kept_unless_told(tmp_path: Path, name: str) -> None:
    run = begun(tmp_path / name)
    with pytest.raises(OutputError, match="--resume"):
        open_run(tmp_path / name)
    run.finish()
    with pytest.raises(OutputError, match="--overwrite"):
        open_run(tmp_path / name)
    assert open_run(tmp_path / name, "resume").complete
    assert open_run(tmp_path / name, "overwrite").done == {}


def test_overwriting_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    first = begun(output, rejects=1)
    first.finish()
    before = output.read_bytes()
    second = open_run(output, "overwrite")
    add(second, 7)
    assert output.read_bytes() == before
    second.finish()
    assert "7-1" in output.read_text()
    assert not (tmp_path / "out.csv.rejects.jsonl").exists()


def test_what_a_killed_run_was_writing_is_cleared_away(tmp_path: Path) -> None:
    begun(tmp_path / "out")
    (tmp_path / "out" / ".part-000001.parquet.123.tmp").write_bytes(b"half")
    open_run(tmp_path / "out", "resume").finish()
    assert not list((tmp_path / "out").glob(".*"))


def test_what_a_kill_at_the_very_end_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(tmp_path / "out", rejects=2)
    with monkeypatch.context() as patched:
        patched.setattr(Run, "_tidy", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.finish()
    assert "part-000000.rejects.jsonl" in names(tmp_path / "out")
    assert open_run(tmp_path / "out", "resume").complete
    assert names(tmp_path / "out") == {"_manifest.jsonl", "part-000000.parquet", "rejects.jsonl"}


def test_overwrite_removes_only_what_a_run_wrote(tmp_path: Path) -> None:
    run = begun(tmp_path / "out", rejects=1)
    run.finish()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    again = open_run(tmp_path / "out", "overwrite")
    add(again, 0)
    again.finish()
    assert names(tmp_path / "out") == {"_manifest.jsonl", "part-000000.parquet", "notes.txt"}


@pytest.mark.parametrize("existing", ["error", "resume", "overwrite"])
def test_a_folder_of_other_things_is_refused(tmp_path: Path, existing: Existing) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        open_run(tmp_path / "out", existing)


def test_a_missing_parent_a_folder_in_place_of_a_file_and_the_reverse_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").mkdir()
    (tmp_path / "b").write_text("x")
    for name, message in (("no/out.parquet", "does not exist"), ("a.parquet", "is a folder"), ("b", "is a file")):
        with pytest.raises(OutputError, match=message):
            open_run(tmp_path / name)


def test_a_damaged_manifest_and_a_missing_shard_are_refused(tmp_path: Path) -> None:
    begun(tmp_path / "out")
    (tmp_path / "out" / "part-000000.parquet").unlink()
    with pytest.raises(OutputError, match=r"part-000000.parquet: is missing"):
        open_run(tmp_path / "out", "resume")
    (tmp_path / "out" / "_manifest.jsonl").write_text("nonsense\n")
    with pytest.raises(OutputError, match="damaged"):
        open_run(tmp_path / "out", "resume")


def test_resuming_a_finished_file_of_another_scorer_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "out.jsonl")
    run.finish()
    with pytest.raises(OutputError, match="by another scorer"):
        begin(tmp_path / "out.jsonl", "resume", meta={"sha256": "other"})


def test_a_full_disk_is_one_line_and_leaves_a_resumable_run(tmp_path: Path) -> None:
    run = begun(tmp_path / "out")
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "out" / "_manifest.jsonl").rename(tmp_path / "kept")
    (tmp_path / "out" / "_manifest.jsonl").symlink_to(full)
    with pytest.raises(OutputError, match=r"No space left.*--resume"):
        add(run, 1)
    (tmp_path / "out" / "_manifest.jsonl").unlink()
    (tmp_path / "kept").rename(tmp_path / "out" / "_manifest.jsonl")
    assert list(open_run(tmp_path / "out", "resume").done) == [0]


# Several processes.


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    first = begun(tmp_path / "out")
    for existing in ("resume", "overwrite"):
        with pytest.raises(OutputError, match="another process is writing it"):
            begin(tmp_path / "out", existing)
    first.close()
    with begin(tmp_path / "out", "resume") as second:
        assert list(second.done) == [0]


def test_processes_with_shares_fill_one_folder(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with begin(output, "error", Share(0, 2)) as first, begin(output, "error", Share(1, 2)) as second:
        add(first, 0, rejects=1)
        add(second, 1)
        (output / ".part-000003.parquet.77.tmp").write_bytes(b"the second's, which it is writing now")
        add(first, 2)
        assert missing_from(output) == "shards 1, 2 of 2 are not finished"
        first.finish()
        assert missing_from(output) == "shards 2 of 2 are not finished"
    with begin(output, "resume", Share(0, 2)) as again:
        assert again.complete
        assert (output / ".part-000003.parquet.77.tmp").exists()
    with begin(output, "resume", Share(1, 2)) as second:
        assert not list(output.glob(".*"))
        assert list(second.done) == [1]
        second.finish()
    assert missing_from(output) is None
    assert read_scores(output)["id"].to_pylist() == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert sorted(path.name for path in output.iterdir() if path.suffix == ".jsonl") == [
        "_manifest-1-of-2.jsonl",
        "_manifest-2-of-2.jsonl",
        "shard-1-of-2.rejects.jsonl",
    ]


def test_a_share_that_has_not_begun_is_unfinished(tmp_path: Path) -> None:
    with begin(tmp_path / "out", "error", Share(2, 3)) as last:
        last.finish()
    assert missing_from(tmp_path / "out") == "shards 1, 2 of 3 are not finished"


@pytest.mark.parametrize(
    ("share", "other", "message"),
    [
        (Share(1, 3), {}, "begun with shards 2 and this run has 3"),
        (WHOLE, {}, "begun with shards 2 and this run has 1"),
        (Share(1, 2), {"scorer": "other"}, "begun with scorer abc and this run has other"),
    ],
)
def test_a_share_of_another_run_is_refused(tmp_path: Path, share: Share, other: dict[str, Any], message: str) -> None:
    with begin(tmp_path / "out", share=Share(0, 2)) as first:
        add(first, 0)
    with pytest.raises(OutputError, match=message):
        begin(tmp_path / "out", "resume", share, **other)


def test_shares_need_a_folder_and_none_may_overwrite_the_others(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is one file; several processes share a folder"):
        begin(tmp_path / "out.parquet", "error", Share(0, 2))
    with begin(tmp_path / "out", "error", Share(0, 2)) as run:
        add(run, 0)
    with pytest.raises(OutputError, match="may hold other processes' shards"):
        begin(tmp_path / "out", "overwrite", Share(1, 2))
    assert (tmp_path / "out" / "part-000000.parquet").exists()


def test_windows_may_be_finished_in_any_order(tmp_path: Path) -> None:
    run = open_run(tmp_path / "out.jsonl")
    for number in (2, 0, 1):
        add(run, number, rows=1)
    run.finish()
    rows = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == ["0-0", "1-0", "2-0"]


def test_an_output_that_vanishes_is_one_line(tmp_path: Path) -> None:
    with begun(tmp_path / "out") as run:
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(OutputError, match=r"cannot be written: No such file"):
            add(run, 1)
        (tmp_path / "out").mkdir()  # emptied and made again: no line may go to a manifest without a beginning
        with pytest.raises(OutputError, match=r"_manifest.jsonl: cannot be written: No such file"):
            add(run, 1)


def test_the_engine_that_a_run_was_begun_with_is_known(tmp_path: Path) -> None:
    assert begun_with(tmp_path) is None
    for name in ("out", "out.csv"):
        with begin(tmp_path / name, engine="openvino"):
            found = begun_with(work_folder(tmp_path / name))
            assert found is not None
            assert found.engine == "openvino"
