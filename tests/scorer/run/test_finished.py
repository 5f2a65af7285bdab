"""Finished scores: complete only for the same input, scorer and settings; shards are what was written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import Summary, score_files
from scorer.run.settings import ScoreSettings
from tests.conftest import Killed, Run, kill_after, record, varied, write_lines, write_tiny_bundle

NAMES = ["out.parquet", "out.jsonl", "out.csv", "out"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    records: list[object] = [record(*(t.content for t in d.turns), id=f"d{i}") for i, d in enumerate(varied(40))]
    return write_lines(tmp_path / "in.jsonl", [*records, {"messages": []}])


def run(scorer: Scorer, source: Path, output: Path, **settings: object) -> Summary:
    values = {"window": 8, "existing": "resume", **settings}
    keep = values.get("keep", ())
    corpus = Corpus([str(source)], keep_records=keep if isinstance(keep, tuple) else ())
    progress = values.pop("progress", None)
    return score_files(scorer, corpus, output, ScoreSettings(**values), progress)  # type: ignore[arg-type]


def edited(source: Path) -> None:
    text = source.read_text()
    assert "sad" in text
    source.write_text(text.replace("sad", "mad", 1))


def swapped(source: Path) -> None:
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([lines[1], lines[0], *lines[2:]]))


def cut(source: Path) -> None:
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:32]))


def longer(source: Path) -> None:
    with open(source, "a") as file:
        file.write(json.dumps(record("i am sad", "so sorry", id="new")) + "\n")


def another_reject(source: Path) -> None:
    source.write_text(source.read_text().replace('{"messages": []}', '{"messages": 1}'))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [edited, swapped, cut, longer, another_reject])
def test_another_input_is_not_complete(
    scorer: Scorer, source: Path, tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    output = tmp_path / name
    run(scorer, source, output)
    assert run(scorer, source, output).complete_before
    change(source)
    with pytest.raises(OutputError, match=r"is finished and was made from another input; .* --overwrite"):
        run(scorer, source, output)


def test_the_same_records_are_the_same_input_wherever_they_lie(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    run(scorer, source, tmp_path / "out.jsonl")
    (tmp_path / "other").mkdir()
    packed = tmp_path / "other" / "named.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    assert run(scorer, packed, tmp_path / "out.jsonl", window=100).complete_before  # windows decide no score


def test_other_settings_are_not_complete(scorer: Scorer, source: Path, tmp_path: Path) -> None:
    for name in NAMES:
        run(scorer, source, tmp_path / name)
        with pytest.raises(OutputError, match=r"(made|begun) with keep nothing and this run has category"):
            run(scorer, source, tmp_path / name, keep=("category",))
        other = Scorer.load(write_tiny_bundle(tmp_path / f"bundle-{name}", seed=9).path, engine="onnxruntime")
        with pytest.raises(OutputError, match=r"another scorer|begun with scorer"):
            run(other, source, tmp_path / name)


@pytest.mark.parametrize(("key", "value"), [("engine", "openvino"), ("precision", "bf16"), ("input", None)])
def test_a_file_of_another_engine_or_of_no_known_input_is_not_complete(
    scorer: Scorer, source: Path, tmp_path: Path, key: str, value: str | None
) -> None:
    output, meta = tmp_path / "out.jsonl", tmp_path / "out.jsonl.meta.json"
    run(scorer, source, output)
    known = json.loads(meta.read_text())
    assert known["input"]["windows"] == 6
    meta.write_text(json.dumps({**known, key: value}))
    with pytest.raises(OutputError, match=rf"made with {key} {value}|does not say of which input"):
        run(scorer, source, output)


def test_the_command_says_so_in_one_line(empathy: Run, scorer: Scorer, source: Path, tmp_path: Path) -> None:
    options = ["score", source, "-o", tmp_path / "out.parquet", "--scorer", scorer.bundle.path, "--resume"]
    assert empathy(*options).returncode == 0
    assert "complete already" in empathy(*options).stderr
    before = (tmp_path / "out.parquet").read_bytes()
    edited(source)
    again = empathy(*options)
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1), again.stderr
    assert "out.parquet: is finished and was made from another input" in again.stderr
    assert (tmp_path / "out.parquet").read_bytes() == before


@pytest.mark.parametrize("name", [name for name in NAMES if "." in name])
def test_a_finished_file_that_was_edited_is_not_complete(
    scorer: Scorer, source: Path, tmp_path: Path, name: str
) -> None:
    output = tmp_path / name
    run(scorer, source, output)
    if output.suffix == ".parquet":
        rewritten(output)  # it keeps what the file says of its scorer and its input
    else:
        text = output.read_text()
        place = text.rindex(".") + 1
        output.write_text(text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :])
    with pytest.raises(OutputError, match=rf"{name}: was changed since it was made; .* --overwrite"):
        run(scorer, source, output)


# Shards.


def rewritten(shard: Path) -> None:
    table = pq.read_table(shard)
    scores = table["sensibility"].to_numpy().copy()
    scores[0] = np.float32(9.75)
    pq.write_table(table.set_column(1, "sensibility", pa.array(scores, pa.float32())), shard)


def truncated(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])


def exchanged(shard: Path) -> None:
    other = shard.with_name("part-000001.parquet")
    first, second = shard.read_bytes(), other.read_bytes()
    shard.write_bytes(second)
    other.write_bytes(first)


def copied(shard: Path) -> None:
    shard.write_bytes(shard.with_name("part-000001.parquet").read_bytes())


@pytest.mark.parametrize("name", ["out.parquet", "out"])
@pytest.mark.parametrize("damage", [rewritten, truncated, exchanged, copied])
def test_a_shard_that_is_not_what_was_written_is_found_before_anything_is_scored(
    scorer: Scorer, source: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    output = tmp_path / name
    with pytest.raises(Killed):
        run(scorer, source, output, progress=kill_after(3))
    folder = output if name == "out" else tmp_path / f"{name}.partial"
    before = (folder / "_manifest.jsonl").read_bytes()
    damage(folder / "part-000000.parquet")
    with pytest.raises(OutputError, match=r"part-000000.parquet: is not what was written here; .*--overwrite"):
        run(scorer, source, output)
    assert (folder / "_manifest.jsonl").read_bytes() == before
    assert not output.is_file()


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_a_shard_that_is_changed_while_others_are_scored_is_not_joined(
    scorer: Scorer, source: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / name
    folder = output if name == "out" else tmp_path / f"{name}.partial"
    from scorer.run.output import Run as Opened

    finish = Opened.finish

    def late(self: Opened) -> None:
        rewritten(folder / "part-000002.parquet")
        finish(self)

    monkeypatch.setattr(Opened, "finish", late)
    with pytest.raises(OutputError, match=r"part-000002.parquet: is not what was written"):
        run(scorer, source, output)
    assert not output.is_file()
    assert b'"complete"' not in (folder / "_manifest.jsonl").read_bytes()


def test_a_finished_folder_and_the_rejects_of_a_begun_one_are_looked_at(
    scorer: Scorer, source: Path, tmp_path: Path
) -> None:
    run(scorer, source, tmp_path / "out")
    rewritten(tmp_path / "out" / "part-000004.parquet")
    with pytest.raises(OutputError, match=r"part-000004.parquet: is not what was written"):
        run(scorer, source, tmp_path / "out")
    lines = source.read_text().splitlines(keepends=True)
    source.write_text("".join([lines[-1], *lines[:-1]]))
    with pytest.raises(Killed):
        run(scorer, source, tmp_path / "two", progress=kill_after(3))
    rejects = tmp_path / "two" / "part-000000.rejects.jsonl"
    rejects.write_text(rejects.read_text().replace("messages", "massages"))
    with pytest.raises(OutputError, match=r"part-000000.rejects.jsonl: is not what was written"):
        run(scorer, source, tmp_path / "two")
