"""Inputs whose records are counted without parsing: compressed lines, rows of tables, and both beside each other."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer.errors import OutputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.model import Scorer
from scorer.reading.counted import found_windows, is_counted
from scorer.reading.read_ahead import ReadJob
from scorer.reading.windows import WHOLE, Share
from tests.conftest import record
from tests.scorer.inputs.input_data import arrow, csv_table, parquet
from tests.scorer.reading.test_lines import SAID, every, messy_lines, reread, summary
from tests.scorer.run.test_joined import parts, rejects, same, score

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GROUP = 25


def rows(seed: int, count: int = 200) -> list[dict[str, Any]]:
    """Return rows that repeat ids and texts; some are no dialogue."""
    rng = random.Random(seed)
    columns = ("id", "score", "messages")
    found = []
    for _ in range(count):
        row = dict.fromkeys(columns) | record(rng.choice(["i am sad", "Help"]), rng.choice(SAID))
        row["id"] = str(rng.randrange(60)) if rng.random() < 0.3 else None
        row["score"] = rng.random() if rng.random() < 0.5 else None
        found.append(row if rng.random() > 0.1 else row | {"messages": None})
    return found


def lines(seed: int) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows(seed)).encode()


def write_parquet(path: Path, made: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(made), path, row_group_size=GROUP)


def write_feather(path: Path, made: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(made)
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=GROUP)


def csv_text(seed: int) -> str:
    """Return CSV whose fields hold separators, marks and line breaks, whose ids repeat; some rows are broken."""
    rng, file = random.Random(seed), io.StringIO()
    table = csv.writer(file, lineterminator=rng.choice(["\n", "\r\n"]))
    table.writerow(["id", "context", "response", "score"])
    for _ in range(200):
        id_ = str(rng.randrange(60)) if rng.random() < 0.3 else ""
        said = rng.choice(["i am sad", 'he said "no"\nand, then', "5' tall", "a\n\nb"])
        table.writerow([id_, said, rng.choice(SAID), rng.choice(["", "1"])])
        if rng.random() < 0.1:
            file.write(rng.choice(['"', '"1,2\n', "\n", "a,b\n", ',"open,sorry,\n', ',5" long,yes,\n']))
    return file.getvalue()


def make(folder: Path, kind: str) -> Path:
    """Make files of one kind, or of all."""
    folder.mkdir()
    if kind in ("gz", "mixed"):
        (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(1)) + gzip.compress(lines(2)))
        (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(3)[:-1]))
    if kind in ("zst", "mixed"):
        (folder / "c.jsonl.zst").write_bytes(zstd.compress(lines(4)))
    if kind in ("parquet", "mixed"):
        write_parquet(folder / "d.parquet", rows(5))
        write_parquet(folder / "e.parquet", rows(6, 30))
    if kind in ("arrow", "mixed"):
        (folder / "f.arrow").write_bytes(arrow(pa.Table.from_pylist(rows(7)), max_chunksize=GROUP))
        write_feather(folder / "g.feather", rows(8, 60))
    if kind in ("csv", "mixed"):
        (folder / "i.csv").write_text(csv_text(9), newline="")
        (folder / "j.csv").write_text("\ufeff" + csv_text(10).rstrip("\r\n"), newline="")
    if kind == "mixed":
        (folder / "h").mkdir()
        messy_lines(folder / "h", 3)
    return folder


ALONE = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("gz", "zst", "parquet", "arrow", "csv")]


@pytest.fixture(params=["mixed", *ALONE])
def inputs(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return make(tmp_path / "in", request.param)


def test_windows_are_the_same_whoever_reads_them_and_wherever_it_begins(scorer: Scorer, inputs: Path) -> None:
    corpus = Corpus([str(inputs)], keep_records=True)
    assert is_counted(corpus)
    plain = [(one.source, one.line, one.id) for one in Corpus([str(inputs)], unique_ids=False)]
    assert [(one.source, one.line, one.id) for found in every(corpus, 30) for one in found.records()] == plain
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, 30, (), WHOLE, ("score",), counted=True)
    whole = reread(job, 0)
    assert any(reject.reason == "duplicate_id" for window in whole for reject in window.rejects)
    for processes in (1, 4):
        assert summary(iter(reread(job, processes))) == summary(iter(whole))
    for last in whole[:-1:3]:
        assert last.place is not None
        known = [id_ for window in whole[: last.number + 1] for id_ in window.ids]
        rest = replace(job, after=(last.number, last.place), known=known)
        assert summary(iter(reread(rest, 0))) == summary(iter(whole[last.number + 1 :]))


def test_shares_are_one_run_and_go_on_behind_a_kill(scorer: Scorer, inputs: Path, tmp_path: Path) -> None:
    score(scorer, inputs, tmp_path / "whole", readers=4)
    for count in (2, 3):
        output = tmp_path / str(count)
        for index in range(count):
            score(scorer, inputs, output, Share(index, count))
            if index == 0:
                manifest = output / f"_manifest-1-of-{count}.jsonl"
                manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:3]))
        assert score(scorer, inputs, output, Share(0, count), existing="resume").resumed > 0
        same(output, tmp_path / "whole")
        assert score(scorer, inputs, output, Share(1, count), existing="resume").complete_before


def test_a_changed_input_is_refused(scorer: Scorer, inputs: Path, tmp_path: Path) -> None:
    """In one value of a window that is finished; also where a row of a table takes as many bytes as before."""
    score(scorer, inputs, tmp_path / "out", Share(0, 2), window=10)
    manifest = tmp_path / "out" / "_manifest-1-of-2.jsonl"
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    made = rows(5)
    assert made[GROUP]["messages"]
    made[GROUP]["messages"][0]["content"] = made[GROUP]["messages"][0]["content"][::-1]
    for path in (path for path in sorted(inputs.glob("*")) if path.is_file()):
        before = path.read_bytes()
        if path.suffix == ".parquet":
            write_parquet(path, made[: pq.read_metadata(path).num_rows])
        elif path.suffix == ".gz":
            path.write_bytes(gzip.compress(gzip.decompress(before).replace(b"sad", b"mad", 1)))
        elif path.suffix == ".zst":
            path.write_bytes(zstd.compress(zstd.decompress(before).replace(b"sad", b"mad", 1)))
        else:
            path.write_bytes(before.replace(b"i am sad", b"i am mad"))
        with pytest.raises(OutputError, match=r"window \d+ of the input is not what was scored before"):
            score(scorer, inputs, tmp_path / "out", Share(0, 2), window=10, existing="resume")
        path.write_bytes(before)
    assert score(scorer, inputs, tmp_path / "out", Share(0, 2), window=10, existing="resume").resumed > 0


def test_a_row_group_outside_of_its_windows_is_not_read(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "in.parquet", rows(1, 8 * GROUP))
    read: list[int] = []
    real = pq.ParquetFile.iter_batches

    def noted(self: Any, *given: Any, row_groups: list[int], **more: Any) -> Any:
        read.extend(row_groups)
        return real(self, *given, row_groups=row_groups, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noted)
    corpus = Corpus([str(tmp_path / "in.parquet")])
    job = ReadJob(corpus, scorer.encoder, scorer.bundle.info.domain, GROUP, (), Share(1, 4), counted=True)
    assert [window.number for window in reread(job, 0)] == [1, 5]
    assert sorted(set(read)) == [1, 5]
    read.clear()
    (last,) = [found for found in found_windows(corpus, GROUP, lambda _: False) if found.number == 5]
    rest = replace(job, share=WHOLE, after=(5, last.place))
    assert [window.number for window in reread(rest, 0)] == [6, 7]
    assert sorted(set(read)) == [6, 7]


def test_data_that_end_early_are_one_reject_behind_all_before_it(tmp_path: Path) -> None:
    rng = random.Random(0)
    made = [record("i am sad", f"so {rng.random()}") for _ in range(9000)]
    text = "".join(f"{json.dumps(row)}\n" for row in made).encode()
    tables = arrow(pa.Table.from_pylist(made), max_chunksize=1000)
    ends = {"in.gz": gzip.compress(text)[:-40], "in.zst": zstd.compress(text)[:-40], "in.arrow": tables[:-300]}
    for name, data in ends.items():
        (tmp_path / name).write_bytes(data)
        corpus = Corpus([str(tmp_path / name)])
        assert is_counted(corpus)
        plain = [(one.line, getattr(one, "reason", "")) for one in corpus]
        assert plain[-1][1] in ("truncated_input", "broken_file")
        assert len(plain) > 3000
        read = [one for found in every(corpus, 999) for one in found.records()]
        assert [(one.line, getattr(one, "reason", "")) for one in read] == plain


def test_a_page_that_is_broken_costs_no_more_than_its_windows(scorer: Scorer, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    made = [record("i am sad", f"sorry {number}") for number in range(4 * GROUP)]
    pq.write_table(pa.Table.from_pylist(made), path, row_group_size=GROUP, compression="zstd")
    column = pq.read_metadata(path).row_group(1).column(1)
    data = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset + 30
    data[begin : begin + 40] = bytes(40)
    path.write_bytes(data)
    found = [one for window in every(Corpus([str(path)]), 10) for one in window.records()]
    good = [one.line for one in found if not isinstance(one, Reject)]
    assert good == [*range(1, GROUP + 1), *range(2 * GROUP + 1, 4 * GROUP + 1)]
    broken = [(one.line, one.reason) for one in found if isinstance(one, Reject)]
    assert broken == [(26, "broken_file"), (31, "broken_file"), (41, "broken_file")]
    for index in (0, 1):
        score(scorer, path, tmp_path / "out", Share(index, 2), window=10)
    score(scorer, path, tmp_path / "whole", window=10)
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    assert rejects(tmp_path / "out") == rejects(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.json", b'[{"messages": []}]'),
        ("in.csv", b"conv_id,utterance_idx,speaker_idx,utterance\n1,1,0,hi\n1,2,1,you\n"),
        ("in.csv", b"context,response\n\n"),
        ("in.csv", b"question,answer of nobody\nhi,you\n"),
        ("in.csv.gz", gzip.compress(b"context,response\nhi,you\n")),
        ("in.jsonl", b'{"conv_id": "1", "utterance_idx": 1, "speaker_idx": 0, "utterance": "hi"}\n'),
        ("in.parquet", parquet(csv_table(pa.int64()))),
        ("in.parquet", parquet(pa.table({"text": ["hi"]}))),
        ("in.parquet", parquet(pa.Table.from_pylist(rows(1)).slice(0, 0))),
        ("in.parquet", b"PAR1" + bytes(20)),
        ("in.parquet.gz", gzip.compress(parquet(pa.Table.from_pylist(rows(1))))),
        ("in.jsonl.gz", gzip.compress(b"\n\n")),
    ],
    ids=[
        "array",
        "csv of turns",
        "csv of a header alone",
        "csv of no dialogues",
        "packed csv",
        "rows of a conversation",
        "ids of numbers",
        "no turns",
        "no rows",
        "broken",
        "packed",
        "blank",
    ],
)
def test_what_only_parsing_can_count_is_not_counted(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert not is_counted(Corpus([str(tmp_path / name)]))
