"""Every format is recognised by its content and gives the same dialogues, plain, compressed or through a pipe."""

from __future__ import annotations

import bz2
import json
import lzma
import os
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scorer.bundle.bundle import Bundle
from scorer.dialogue import Dialogue, Labels
from scorer.inputs.parse import LabelUse
from tests.conftest import Run, make_dialogue, record, write_lines
from tests.scorer.inputs.input_data import (
    ALPACA,
    COMPRESSION,
    CSV_DIALOGUES,
    EXPECTED,
    PACKED,
    RECORDS,
    RELEASE,
    SHAREGPT,
    TABLES,
    TEXTS,
    arrow,
    csv_text,
    gz,
    lines,
    outline,
    parquet,
    read,
    read_bytes,
    zst,
)

FORMATS: dict[str, bytes] = {
    "JSON lines": lines(RECORDS),
    "JSON lines without the last line end": lines(RECORDS).rstrip(b"\n"),
    "JSON lines with CRLF": lines(RECORDS, "\r\n"),
    "JSON lines with blank lines": b"\n" + lines(RECORDS, "\n \n\n"),
    "JSON lines with byte order mark": b"\xef\xbb\xbf" + lines(RECORDS),
    "JSON lines in UTF-8": "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in RECORDS).encode(),
    "JSON array": json.dumps(RECORDS).encode(),
    "JSON array, one element a line": ("[\n" + ",\n".join(map(json.dumps, RECORDS)) + "\n]\n").encode(),
    "JSON array, pretty-printed": json.dumps(RECORDS, indent=2).encode(),
    "JSON array with CRLF and byte order mark": b"\xef\xbb\xbf[\r\n" + lines(RECORDS, ",\r\n") + b"]\r\n",
    "objects, pretty-printed": "\n".join(json.dumps(item, indent=4) for item in RECORDS).encode(),
    "ShareGPT lines": lines(SHAREGPT),
    "ShareGPT array": json.dumps(SHAREGPT).encode(),
    "ShareGPT with role and content": lines([{"conversations": item["messages"]} for item in RECORDS]),
    "release lines": lines(RELEASE),
    "release array": json.dumps(RELEASE, indent=4).encode(),
    "Alpaca lines": lines(ALPACA),
    "Alpaca array": json.dumps(ALPACA).encode(),
    "mixed forms": lines([ALPACA[0], SHAREGPT[1], RELEASE[2]]),
    **{f"Parquet, {name}": parquet(table) for name, table in TABLES.items()},
    **{f"Arrow stream, {name}": arrow(table) for name, table in TABLES.items()},
    "Arrow file": arrow(TABLES["messages"], pa.ipc.new_file),
}


@pytest.mark.parametrize("compression", COMPRESSION)
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", ["in", "misnamed.csv"])
def test_every_format_gives_the_same_dialogues_whatever_its_name(
    tmp_path: Path, format_: str, compression: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(COMPRESSION[compression](FORMATS[format_]))
    assert read(path) == EXPECTED


LABELLED = [{**item, "sensibility": 8, "rationality": 2.5} for item in RECORDS]
EVALUATED = [{**item, "evaluation": "Evaluation Form:\n- Rationality: 2.5\n- Sensibility: 8"} for item in RELEASE]


@pytest.mark.parametrize("labels", ["optional", "required"])
@pytest.mark.parametrize(
    "data",
    [
        lines(LABELLED),
        json.dumps(EVALUATED).encode(),
        parquet(pa.Table.from_pylist(LABELLED)),
        arrow(pa.Table.from_pylist(EVALUATED)),
    ],
    ids=["lines", "array with evaluation", "Parquet", "Arrow with evaluation"],
)
def test_labels_are_read_from_every_format(tmp_path: Path, data: bytes, labels: LabelUse) -> None:
    found = read_bytes(tmp_path, data, labels)
    assert [item.labels for item in found if isinstance(item, Dialogue)] == [Labels(8.0, 2.5)] * 3
    assert all(item.labels is None for item in read_bytes(tmp_path, data) if isinstance(item, Dialogue))


def test_unlabelled_formats_are_rejected_where_labels_are_required(tmp_path: Path) -> None:
    assert outline(read_bytes(tmp_path, lines(RECORDS), "required")) == [(n, "no_label") for n in (1, 2, 3)]
    assert outline(read_bytes(tmp_path, csv_text().encode(), "required")) == [(n, "no_label") for n in (3, 5, 7)]


def test_two_values_of_one_head_in_an_evaluation_are_a_reject(tmp_path: Path) -> None:
    twice = {**RELEASE[0], "evaluation": "Rationality: 2 Sensibility: 8, or rather Rationality: 7"}
    found = read_bytes(tmp_path, lines([twice, EVALUATED[1]]), "optional")
    assert outline(found) == [(1, "bad_label"), EXPECTED[1].id]


WHOLE_FILES: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "empty": (b"", [(0, "empty_file")]),
    "white space": (b" \n\t\r\n ", [(0, "empty_file")]),
    "a byte order mark": (b"\xef\xbb\xbf", [(0, "empty_file")]),
    "an empty array": (b"[]", [(0, "empty_file")]),
    "an empty array in gzip": (gz(b"[ ]\n"), [(0, "empty_file")]),
    "nothing in gzip": (gz(b""), [(0, "empty_file")]),
    "nothing in xz": (lzma.compress(b""), [(0, "empty_file")]),
    "nothing in bzip2": (bz2.compress(b""), [(0, "empty_file")]),
    "nothing in zstandard": (zst(b""), [(0, "empty_file")]),
    "a CSV header": (csv_text([]).encode(), [(0, "empty_file")]),
    "a CSV without columns that are needed": (b"conv_id,text\nc1,hi\nc1,ho\n", [(0, "wrong_columns")]),
    "a CSV of something else": (b"a,b\n1,2\n", [(0, "wrong_columns")]),
    "a CSV of something else with another separator": (b"frage;antwort\n1;2\n3;4\n", [(0, "wrong_columns")]),
    "UTF-16": ('{"a": 1}\n'.encode("utf-16"), [(0, "invalid_utf8")]),
    "UTF-16, big-endian": (b"\xfe\xff" + "[1]".encode("utf-16-be"), [(0, "invalid_utf8")]),
    "UTF-32": ("[1]".encode("utf-32"), [(0, "invalid_utf8")]),
    "UTF-32, big-endian": (b"\x00\x00\xfe\xff" + "[1]".encode("utf-32-be"), [(0, "invalid_utf8")]),
    "text": (b"dear diary\nI am sad\n", [(1, "broken_json"), (2, "broken_json")]),
    "binary": (bytes(range(128, 256)) + b"\n" + bytes(range(200, 256)), [(1, "invalid_utf8"), (2, "invalid_utf8")]),
    "opening brackets": (b"[" * 100_000, [(1, "broken_json"), (2, "truncated_input")]),
    "a Parquet file without its end": (FORMATS["Parquet, messages"][:-30], [(1, "broken_file")]),
    "the beginning of a Parquet file": (b"PAR1", [(1, "broken_file")]),
    "an Arrow file without its end": (FORMATS["Arrow file"][:-30], [(1, "broken_file")]),
    "the beginning of an Arrow stream": (FORMATS["Arrow stream, messages"][:20], [(1, "broken_file")]),
    "the beginning of gzip": (b"\x1f\x8b", [(1, "truncated_input")]),
    "the beginning of zstandard": (b"\x28\xb5\x2f\xfd", [(1, "truncated_input")]),
    "the beginning of xz": (b"\xfd7zXZ\0", [(1, "truncated_input")]),
    "the beginning of bzip2": (b"BZh91AY&SY", [(1, "truncated_input")]),
    "no gzip": (b"\x1f\x8bso sorry", [(1, "truncated_input")]),
    "no zstandard": (b"\x28\xb5\x2f\xfdso sorry, this is nothing", [(1, "truncated_input")]),
}


@pytest.mark.parametrize("case", WHOLE_FILES)
def test_file_without_a_dialogue_is_rejects_alone(tmp_path: Path, case: str) -> None:
    data, expected = WHOLE_FILES[case]
    assert outline(read_bytes(tmp_path, data)) == expected


def many(count: int) -> list[dict[str, Any]]:
    return [record(f"turn {number} " + os.urandom(100).hex(), "hello", id=str(number)) for number in range(count)]


@pytest.mark.parametrize("form", ["lines", "array"])
def test_gzip_that_ends_early_keeps_every_record_before(tmp_path: Path, form: str) -> None:
    records = many(1000)
    data = lines(records) if form == "lines" else json.dumps(records).encode()
    packed = gz(data)
    packed = packed[: len(packed) * 2 // 3]
    whole = zlib.decompressobj(31).decompress(packed).count(b'"hello"}]')
    found = read_bytes(tmp_path, packed)
    assert len(found) - 1 in (whole, whole - 1)  # the last one's line may be cut behind the text counted
    assert outline(found[-1:]) == [(len(found), "truncated_input")]
    assert 600 < len(found) < 750
    assert all(isinstance(item, Dialogue) for item in found[:-1])


@pytest.mark.parametrize("form", ["lines", "array"])
def test_zstandard_that_ends_early_keeps_the_blocks_before(tmp_path: Path, form: str) -> None:
    records = many(3000)
    packed = zst(lines(records) if form == "lines" else json.dumps(records).encode())
    found = read_bytes(tmp_path, packed[: len(packed) * 2 // 3])
    assert outline(found[-1:]) == [(len(found), "truncated_input")]
    assert all(isinstance(item, Dialogue) for item in found[:-1])
    # A block has at most 128 KiB, here about 400 records.
    assert len(found) > 3000 * 2 // 3 - 450


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_garbage_behind_compressed_data_is_told_and_costs_nothing(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    for garbage in (b"xx", b"garbage" * 10):
        assert outline(read_bytes(tmp_path, pack(lines(RECORDS)) + garbage)) == [
            *(item.id for item in EXPECTED),
            (4, "truncated_input"),
        ]


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_compressed_files_one_behind_the_other_are_read_as_one(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert read_bytes(tmp_path, pack(lines(RECORDS[:1])) + pack(lines(RECORDS[1:]))) == EXPECTED


# Standard input, in a process of its own.


def score_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    "data",
    [
        FORMATS["JSON lines"],
        gz(FORMATS["JSON array, pretty-printed"]),
        zst(FORMATS["ShareGPT lines"]),
        FORMATS["Parquet, messages"],
        gz(FORMATS["Arrow stream, release"]),
    ],
    ids=["lines", "array.gz", "lines.zst", "Parquet", "Arrow.gz"],
)
def test_standard_input_takes_every_format(empathy: Run, bundle: Bundle, data: bytes) -> None:
    result = empathy("score", "-", "--scorer", bundle.path, stdin=data)
    assert score_lines(result) == [item.id for item in EXPECTED]


READ_STDIN = """
from scorer.inputs.corpus import Corpus
for item in Corpus(["-"]):
    print(item.id, flush=True)
"""


@pytest.mark.parametrize("format_", ["JSON lines", "Parquet, messages", "gz", "CSV"])
def test_pipe_that_gives_a_byte_at_a_time_is_recognised(format_: str) -> None:
    data = {**FORMATS, "gz": gz(lines(RECORDS)), "CSV": csv_text().encode()}[format_]
    process = subprocess.Popen([sys.executable, "-c", READ_STDIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    for index in range(10):
        process.stdin.write(data[index : index + 1])
        process.stdin.flush()
        time.sleep(0.01 if index else 0.5)  # the first byte finds the reader waiting
    out, _ = process.communicate(data[10:], timeout=60)
    expected = [make_dialogue(*texts).id for texts in (CSV_DIALOGUES if format_ == "CSV" else TEXTS)]
    assert out.decode().split() == expected


def test_pipe_gives_a_dialogue_as_soon_as_its_line_has_come() -> None:
    process = subprocess.Popen([sys.executable, "-c", READ_STDIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        for item, expected in zip(RECORDS, EXPECTED, strict=True):
            process.stdin.write(lines([item]))
            process.stdin.flush()
            assert process.stdout.readline().decode().strip() == expected.id
        process.stdin.close()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("format_", ["JSON lines", "Parquet, messages", "Arrow file"])
def test_named_pipe_is_read_once(tmp_path: Path, format_: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = tmp_path / "in"
    source.write_bytes(FORMATS[format_])
    with subprocess.Popen(["sh", "-c", f"cat {source} > {pipe}"]):
        assert read(pipe) == EXPECTED


def test_rejects_of_a_run_are_written_with_source_line_and_reason(empathy: Run, bundle: Bundle, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "in.jsonl", [RECORDS[0], {"text": "hi"}, RECORDS[1]])
    result = empathy("score", source, "-o", tmp_path / "out.jsonl", "--scorer", bundle.path)
    assert result.returncode == 0
    (reject,) = map(json.loads, (tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines())
    assert (reject["source"], reject["line"], reject["reason"]) == (str(source), 2, "no_messages")
    assert Counter(type(item).__name__ for item in read(source)) == {"Dialogue": 2, "Reject": 1}


def test_a_row_has_the_number_of_its_first_line(tmp_path: Path) -> None:
    data = b'context,response\n"two\nlines",yes\n\nhi,you\nno row\n'
    assert [one.line for one in read_bytes(tmp_path, data)] == [2, 5, 6]
