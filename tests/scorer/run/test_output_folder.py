"""A run's folder: what of an earlier run is put aside, kept or refused, and what a process may not touch."""

from __future__ import annotations

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
from scorer.run.manifest import Identity
from scorer.run.output import EARLIER, Run, work_folder
from scorer.run.settings import ScoreSettings

META: dict[str, Any] = {"sha256": "abc", "name": "tiny", "cuts": {}}
IDENTITY = Identity(scorer="abc", engine="onnxruntime", precision="fp32", window=2, uncertainty=False, shards=1)


def begin(output: Path, existing: Existing = "error", share: Share = WHOLE, **meta: Any) -> Run:
    identity = replace(IDENTITY, shards=share.count, keep=tuple(meta.get("keep", ())))
    return Run(output, identity, {**META, **meta}, ScoreSettings(existing=existing, share=share))


def add(run: Run, number: int, *, rejects: int = 0, rows: int = 1, **kept: list[str | None]) -> None:
    scores = np.full((rows, 2), number, dtype=np.float32)
    bad = [Reject("in", i + 1, "broken_json", "because") for i in range(rejects)]
    run.add(Window(number, "h", Tally(scored=rows)), [f"{number}-{i}" for i in range(rows)], scores, bad, kept)


def made(output: Path, existing: Existing = "error", share: Share = WHOLE, **meta: Any) -> None:
    """Make a finished output of one row and one reject."""
    with begin(output, existing, share, **meta) as run:
        assert not run.complete
        add(run, share.index, rejects=1)
        run.finish()
        assert run.complete


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


SHARD, MANIFEST, REJECTS = "part-000000.parquet", "_manifest.jsonl", "rejects.jsonl"


def test_the_names_of_its_files_are_what_other_programs_read() -> None:
    assert EARLIER == ".earlier"
    assert [work_folder(Path(name)).name for name in ("a", "a.csv", "a.jsonl", "a.parquet", "a.txt")] == [
        "a",
        "a.csv.partial",
        "a.jsonl.partial",
        "a.parquet.partial",
        "a.txt",
    ]


def test_the_earlier_run_stays_in_whole_until_the_new_one_is(tmp_path: Path) -> None:
    output = tmp_path / "out"
    made(output)
    assert names(output) == {SHARD, MANIFEST, REJECTS}
    earlier = {name: (output / name).read_bytes() for name in names(output)}
    (output / "thesis").touch()
    for _ in range(3):  # the second and third find what is aside, and an unfinished run, which is dropped
        with begin(output, "overwrite") as run:
            assert run.done == {}
            assert {path.name: path.read_bytes() for path in (output / EARLIER).iterdir()} == earlier
            assert names(output) == {EARLIER, MANIFEST, "thesis"}
            add(run, 0, rejects=1)
            assert names(output) == {EARLIER, MANIFEST, "thesis", SHARD, f"part-000000.{REJECTS}"}
    with begin(output, "resume") as run:
        assert list(run.done) == [0]
        run.finish()
    assert names(output) == {SHARD, MANIFEST, REJECTS, "thesis"}


def test_the_rest_of_a_shared_run_is_put_aside_too(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for index in range(2):
        made(output, "resume", Share(index, 2))
    assert {"shard-1-of-2.rejects.jsonl", "shard-2-of-2.rejects.jsonl"} < names(output)
    with begin(output, "overwrite") as run:
        assert names(output) == {EARLIER, MANIFEST}
        add(run, 0)
        run.finish()
    assert names(output) == {SHARD, MANIFEST}


def test_a_folder_that_only_holds_what_is_aside_is_a_begun_one(tmp_path: Path) -> None:
    output = tmp_path / "out"
    made(output)
    begin(output, "overwrite").close()
    (output / MANIFEST).unlink()  # killed in between
    with begin(output, "resume") as run:
        add(run, 0)
        run.finish()
    assert names(output) == {SHARD, MANIFEST}
    (output / EARLIER).mkdir()
    (output / MANIFEST).unlink()
    with pytest.raises(OutputError, match="holds other files and no manifest"):
        begin(output, "resume")


def test_a_run_without_scores_is_dropped_at_once(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with begin(output) as run:
        run.finish()
    with begin(output, "overwrite") as run:
        assert names(output) == {MANIFEST}
        assert not run.complete


def test_after_a_refusal_the_lock_is_free(tmp_path: Path) -> None:
    output = tmp_path / "out"
    made(output)
    (output / SHARD).rename(tmp_path / "kept")
    with pytest.raises(OutputError, match=r"part-000000.parquet: is missing; start afresh with --overwrite"):
        begin(output, "resume")
    (tmp_path / "kept").rename(output / SHARD)
    with begin(output, "resume") as run:
        assert run.complete
        with pytest.raises(OutputError, match="another process is writing it"):
            begin(output, "resume")
    begin(output, "resume").close()


def test_a_window_without_rows_needs_no_shard(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        add(run, 0, rows=0, rejects=2)
    with begin(tmp_path / "out", "resume") as run:
        assert list(run.done) == [0]
        run.finish()
    assert names(tmp_path / "out") == {MANIFEST, REJECTS}


def test_only_the_temporary_files_of_a_share_are_its_own(tmp_path: Path) -> None:
    output = tmp_path / "out"
    begin(output, "error", Share(1, 3)).close()
    mine, others = (
        (".part-000001.parquet.7.tmp", ".part-000004.rejects.jsonl.7.tmp"),
        (
            ".part-000000.parquet.7.tmp",
            ".part-000002.parquet.7.tmp",
            ".shard-1-of-3.rejects.jsonl.7.tmp",
            ".thesis.tmp",
        ),
    )
    for name in (*mine, *others):
        (output / name).touch()
    begin(output, "resume", Share(1, 3)).close()
    assert names(output) == {"_manifest-2-of-3.jsonl", *others}


def test_what_lies_there_is_refused_by_what_it_is(tmp_path: Path) -> None:
    made(tmp_path / "whole.csv")
    begin(tmp_path / "begun.csv").close()
    begin(tmp_path / "shares", "error", Share(0, 2)).close()
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, share, message in (
        ("whole.csv", WHOLE, "whole.csv: exists already; name another output or say --overwrite"),
        ("begun.csv", WHOLE, "begun.csv.partial: an earlier run's; continue with --resume or start afresh with --over"),
        ("shares", WHOLE, "shares: an earlier run's; continue with --resume"),
        ("shares", Share(0, 2), "shares: an earlier run's; continue with --resume"),
        ("file", WHOLE, "file: is a file without .parquet, .jsonl, .csv and so no folder for shards; rename it"),
        ("folder.csv", WHOLE, "folder.csv: is a folder, expected a file; name another output"),
        ("no/out", WHOLE, "no does not exist; create it first"),
        ("out.csv", Share(0, 2), "out.csv: is one file; several processes share a folder, so name one for --shard"),
    ):
        with pytest.raises(OutputError, match=message):
            begin(tmp_path / name, "error", share)
    begin(tmp_path / "shares", "error", Share(1, 2)).close()
    with pytest.raises(OutputError, match="shares: may hold other processes' shards; remove the folder"):
        begin(tmp_path / "shares", "overwrite", Share(1, 2))
    begin(tmp_path / "new", "overwrite").close()
    begin(tmp_path / "newer", "resume").close()


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({}, {}, None),
        ({"uncertainty": False}, {}, None),
        ({}, {"uncertainty": False}, None),
        ({"keep": ["a"]}, {"keep": ["a"]}, None),
        ({}, {"sha256": "other"}, r"is finished, by another scorer \(tiny abc\); name another output or say"),
        (
            {},
            {"uncertainty": True},
            "made with uncertainty False and this run has True; use the same, or name another output or say --ov",
        ),
        (
            {"uncertainty": True},
            {"uncertainty": False},
            "made with uncertainty True and this run has False; use the same, or name another output or say --ov",
        ),
        (
            {"keep": ["a"]},
            {},
            "keep a and this run has nothing; use the same, or name another output or say --overwrite",
        ),
        (
            {},
            {"keep": ["a"]},
            "keep nothing and this run has a; use the same, or name another output or say --overwrite",
        ),
    ],
)
def test_a_finished_file_is_that_of_the_same_run_or_refused(
    tmp_path: Path, name: str, first: dict[str, Any], second: dict[str, Any], message: str | None
) -> None:
    with begin(tmp_path / name, **first) as run:
        kept: dict[str, Any] = {column: ['"x"'] for column in first.get("keep", ())}
        add(run, 0, **kept)
        run.finish()
    assert not (tmp_path / f"{name}.partial").exists()
    if message is None:
        with begin(tmp_path / name, "resume", **second) as run:
            assert run.complete
            assert run.done == {}
        return
    with pytest.raises(OutputError, match=message):
        begin(tmp_path / name, "resume", **second)


@pytest.mark.parametrize(("name", "text"), [("out", "x"), ("out.jsonl", '"x"')])
def test_kept_columns_are_text_in_shards_and_values_in_one_file(tmp_path: Path, name: str, text: str) -> None:
    with begin(tmp_path / name, keep=["a"]) as run:
        add(run, 0, a=['"x"'])
        shard = pq.read_table(run.folder / SHARD)
        assert shard.column_names == ["id", "sensibility", "rationality", "a"]
        assert shard["a"].to_pylist() == [text]
        assert shard["id"].to_pylist() == ["0-0"]
        with pytest.raises(ValueError, match="zip"):
            run.add(Window(1, "h", Tally(scored=1)), ["b"], np.zeros((1, 5), dtype=np.float32), [])


def test_a_fault_at_the_end_says_how_to_go_on(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        add(run, 0, rejects=1)
        (tmp_path / "out" / REJECTS).mkdir()
        with pytest.raises(OutputError, match=r"cannot be written: .*; fix that and continue with --resume"):
            run.finish()
        assert not run.complete
        (tmp_path / "out" / REJECTS).rmdir()
        run.finish()
    assert names(tmp_path / "out") == {SHARD, MANIFEST, REJECTS}


def test_rejects_come_in_the_order_of_the_input(tmp_path: Path) -> None:
    with begin(tmp_path / "out.csv") as run:
        for number, rejects in ((2, 1), (0, 2), (1, 0)):
            add(run, number, rejects=rejects, rows=number)
        run.finish()
    assert len((tmp_path / "out.csv.rejects.jsonl").read_text().splitlines()) == 3
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()] == [
        "id",
        "1-0",
        "2-0",
        "2-1",
    ]


def test_a_finished_file_keeps_no_manifest_open(tmp_path: Path) -> None:
    files = Path("/proc/self/fd")
    if not files.exists():
        pytest.skip("needs Linux")
    with begin(tmp_path / "out.csv") as run:
        add(run, 0)
        before = sum(1 for _ in files.iterdir())
        run.finish()
        assert sum(1 for _ in files.iterdir()) == before - 1
    made(tmp_path / "out")
    before = sum(1 for _ in files.iterdir())
    begin(tmp_path / "out", "overwrite").close()
    assert sum(1 for _ in files.iterdir()) == before
