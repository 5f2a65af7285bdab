"""Several files as one stream: unique ids, progress in bytes, memory that does not grow with the files."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from scorer.dialogue import Dialogue
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from tests.conftest import make_dialogue, record, write_lines
from tests.scorer.inputs.input_data import arrow, gz, lines, outline, parquet, zst

HASH = make_dialogue("hi", "hello").id


def corpus_of(folder: Path, *records: object) -> Corpus:
    return Corpus([str(write_lines(folder / "in.jsonl", records))])


def test_identical_records_without_ids_are_numbered(tmp_path: Path) -> None:
    same, other = record("hi", "hello"), make_dialogue("so", "sorry").id
    found = outline(corpus_of(tmp_path, same, same, record("so", "sorry"), same))
    assert found == [HASH, f"{HASH}-2", other, f"{HASH}-3"]


def test_second_record_with_an_explicit_id_is_rejected_whatever_it_says(tmp_path: Path) -> None:
    records = [record("hi", "hello", id="a"), record("so", "sorry", id="a"), record("hi", "hello", id="b")]
    corpus = corpus_of(tmp_path, *records)
    assert outline(corpus) == ["a", (2, "duplicate_id"), "b"]
    (reject,) = [item for item in corpus if isinstance(item, Reject)]
    assert reject.id == "a"
    assert "'a'" in reject.detail


def test_numbered_id_that_is_taken_already_is_stepped_over(tmp_path: Path) -> None:
    same = record("hi", "hello")
    records = [record("so", "sorry", id=f"{HASH}-2"), same, same, same]
    assert outline(corpus_of(tmp_path, *records)) == [f"{HASH}-2", HASH, f"{HASH}-3", f"{HASH}-4"]


def test_ids_are_unique_over_all_files(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a", [record("hi", "hello", id="x"), record("hi", "hello")])
    second = write_lines(tmp_path / "b", [record("so", "sorry", id="x"), record("hi", "hello")])
    assert outline(Corpus([str(first), str(second)])) == ["x", HASH, (1, "duplicate_id"), f"{HASH}-2"]


def test_rejected_record_does_not_use_up_its_id(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, record("hi", "", id="x"), record("hi", "hello", id="x"))
    assert outline(corpus) == [(1, "empty_turn"), "x"]


def test_second_pass_gives_the_same(tmp_path: Path) -> None:
    same = record("hi", "hello")
    corpus = corpus_of(tmp_path, same, same, {"bad": 1}, record("so", "sorry", id="x"))
    assert list(corpus) == list(corpus)


def test_ids_do_not_depend_on_the_format(tmp_path: Path) -> None:
    records = [record("hi", "hello"), record("so", "sorry")]
    table = pa.Table.from_pylist(records)
    for name, data in {"a": lines(records), "b": json.dumps(records).encode(), "c": parquet(table)}.items():
        (tmp_path / name).write_bytes(data)
    first, *others = (outline(Corpus([str(tmp_path / name)])) for name in "abc")
    assert first == others[0] == others[1]


def test_every_record_knows_its_source_and_line(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a", [record("hi", "hello"), {"bad": 1}])
    second = write_lines(tmp_path / "b", [record("so", "sorry")])
    found = [(item.source, item.line) for item in Corpus([str(first), str(second)])]
    assert found == [(str(first), 1), (str(first), 2), (str(second), 1)]


def test_empty_file_among_others_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    write_lines(tmp_path / "b.jsonl", [record("hi", "hello")])
    assert outline(Corpus([str(tmp_path)])) == [(0, "empty_file"), HASH]


RECORDS = [record(f"hi {number}", random.Random(number).randbytes(100).hex()) for number in range(1500)]


TABLE = pa.Table.from_pylist(RECORDS)
LINES, PARQUET = lines(RECORDS), parquet(TABLE, row_group_size=500)
KINDS = {
    "lines": LINES,
    "array": json.dumps(RECORDS, indent=1).encode(),
    "lines.gz": gz(LINES),
    "lines.zst": zst(LINES),
    "Parquet": PARQUET,
    "Parquet.gz": gz(PARQUET),
    "Arrow": arrow(TABLE, max_chunksize=250),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_read_grow_and_reach_the_total(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").write_bytes(KINDS[kind])
    corpus = Corpus([str(tmp_path / "in")])
    for _ in range(2):
        positions = [corpus.bytes_read for item in corpus if isinstance(item, Dialogue)]
        assert len(positions) == len(RECORDS)
        assert positions == sorted(positions)
        assert 0 < positions[0] < positions[-1] or kind.endswith(("gz", "zst"))
        assert corpus.bytes_read == corpus.total_bytes == (tmp_path / "in").stat().st_size


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"\xff\xfeU\x00", b"conv_id,x\n1,2\n3,4\n", b"[1, "])
def test_bytes_read_reach_the_total_of_a_file_that_holds_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").write_bytes(content)
    corpus = Corpus([str(tmp_path / "in")])
    assert all(isinstance(item, Reject) for item in corpus)
    assert corpus.bytes_read == corpus.total_bytes == len(content)


def test_total_of_standard_input_is_unknown() -> None:
    assert Corpus(["-"]).total_bytes is None


def test_no_input_at_all_gives_nothing_or_an_error(tmp_path: Path) -> None:
    assert list(Corpus([])) == []
    with pytest.raises(InputError):
        Corpus([str(tmp_path)])


@pytest.mark.slow
@pytest.mark.parametrize(("form", "count"), [("lines", 3000), ("array", 800), ("lines.gz", 800)])  # 60 and 16 MB
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str, count: int) -> None:
    path = tmp_path / "in"
    template = json.dumps(record("hi", "x" * 20_000, id="ID")) + "\n"
    with gzip.open(path, "wb", 1) if form.endswith("gz") else open(path, "wb") as file:
        for number in range(count):
            file.write(b"" if form != "array" else b"[" if number == 0 else b",")
            file.write(template.replace("ID", str(number)).encode())
        file.write(b"]" if form == "array" else b"")
    corpus = Corpus([str(path)])
    tracemalloc.start()
    try:
        found = sum(isinstance(item, Dialogue) for item in corpus)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == count
    assert peak < 4_000_000
