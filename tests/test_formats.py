"""Every format gives the same dialogues, and every bad record of every format is one reject with its reason."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scorer import textfiles
from scorer.bundle import Bundle
from scorer.corpus import Corpus
from scorer.dialogue import Dialogue, Labels
from scorer.empathetic import COLUMNS
from scorer.records import LabelUse, Reject
from tests.conftest import Run, make_dialogue, record, write_lines

TEXTS = (
    ("my dog died today", "so sorry"),
    ("we won", "that is great", "it's été", "tell me, what happened? 😭"),
    ("a , b", "c"),
)
EXPECTED = [make_dialogue(*texts) for texts in TEXTS]
RECORDS = [record(*texts) for texts in TEXTS]
SHAREGPT = [
    {
        "conversations": [
            {"from": "human" if t["role"] == "user" else "gpt", "value": t["content"]} for t in r["messages"]
        ]
    }
    for r in RECORDS
]
RELEASE = [{"context": " </s> ".join(texts[:-1]), "response": texts[-1]} for texts in TEXTS]

# EmpatheticDialogues gives a dialogue for each listener turn.
CSV_ROWS = [
    ["c1", "1", "sad", "my dog", "7", "my dog died today"],
    ["c1", "2", "sad", "my dog", "8", "so sorry"],
    ["c2", "1", "proud", "we won", "8", "we won"],
    ["c2", "2", "proud", "we won", "3", "that is great"],
    ["c2", "3", "proud", "we won", "8", "it's été"],
    ["c2", "4", "proud", "we won", "3", "tell me, what happened? 😭"],
]
CSV_DIALOGUES = [TEXTS[0], TEXTS[1][:2], TEXTS[1]]


def csv_text(rows: Sequence[Sequence[str]] = CSV_ROWS, columns: Sequence[str] = COLUMNS, end: str = "\n") -> str:
    """Return rows as the published files have them: a comma in a field is "_comma_" and nothing is quoted."""
    lines = [",".join(field.replace(",", "_comma_") for field in row) for row in [columns, *rows]]
    return end.join(lines) + end


def lines(records: Sequence[object], end: str = "\n") -> bytes:
    return "".join(json.dumps(item) + end for item in records).encode()


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def arrow(table: pa.Table, writer: Callable[..., Any] = pa.ipc.new_stream) -> bytes:
    sink = pa.BufferOutputStream()
    with writer(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def read(path: Path, labels: LabelUse = "ignore") -> list[Dialogue | Reject]:
    return list(Corpus([str(path)], labels=labels))


def read_bytes(folder: Path, data: bytes, labels: LabelUse = "ignore") -> list[Dialogue | Reject]:
    path = folder / "in"
    path.write_bytes(data)
    return read(path, labels)


def outline(found: Sequence[Dialogue | Reject]) -> list[Any]:
    """Return ids of dialogues, and (line, reason) of rejects."""
    return [(item.line, item.reason) if isinstance(item, Reject) else item.id for item in found]


def struct_of_lists(records: Sequence[dict[str, Any]], key: str) -> pa.Table:
    """Return what `datasets` makes of a Sequence of a struct: a struct of lists."""
    names = list(records[0][key][0])
    return pa.table({key: [{name: [turn[name] for turn in item[key]] for name in names} for item in records]})


TABLES = {
    "messages": pa.Table.from_pylist(RECORDS),
    "conversations": pa.Table.from_pylist(SHAREGPT),
    "release": pa.Table.from_pylist(RELEASE),
    "messages as struct of lists": struct_of_lists(RECORDS, "messages"),
    "conversations as struct of lists": struct_of_lists(SHAREGPT, "conversations"),
}
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
    "mixed forms": lines([RECORDS[0], SHAREGPT[1], RELEASE[2]]),
    **{f"Parquet, {name}": parquet(table) for name, table in TABLES.items()},
    **{f"Arrow stream, {name}": arrow(table) for name, table in TABLES.items()},
    "Arrow file": arrow(TABLES["messages"], pa.ipc.new_file),
}  # fmt: skip
COMPRESSION: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gz": gz, "zst": zst}


@pytest.mark.parametrize("compression", COMPRESSION)
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", ["in", "misnamed.csv"])
def test_every_format_gives_the_same_dialogues_whatever_its_name(
    tmp_path: Path, format_: str, compression: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(COMPRESSION[compression](FORMATS[format_]))
    assert read(path) == EXPECTED


def test_one_pretty_printed_object_is_one_dialogue(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, json.dumps(RECORDS[0], indent=2).encode()) == EXPECTED[:1]


def csv_quoted() -> str:
    """Return the rows as a spreadsheet would write them: a field with a comma in it is quoted."""
    out = io.StringIO()
    csv.writer(out).writerows([COLUMNS, *CSV_ROWS])
    return out.getvalue()


def csv_table(index_type: pa.DataType) -> pa.Table:
    columns = {name: list(values) for name, values in zip(COLUMNS, zip(*CSV_ROWS, strict=True), strict=True)}
    numbers = ("utterance_idx", "speaker_idx")
    return pa.table(
        {n: pa.array([int(v) for v in vs], index_type) if n in numbers else vs for n, vs in columns.items()}
    )


ALL_COLUMNS = (*COLUMNS, "selfeval", "tags")
CSV_FORMATS: dict[str, bytes] = {
    "published": csv_text().encode(),
    "CRLF and byte order mark": b"\xef\xbb\xbf" + csv_text(end="\r\n").encode(),
    "quoted fields": csv_quoted().encode(),
    "all fields quoted": "\n".join('"' + '","'.join(row) + '"' for row in [COLUMNS, *CSV_ROWS]).encode(),
    "optional columns filled": csv_text([[*row, "5|5", ""] for row in CSV_ROWS], ALL_COLUMNS).encode(),
    "optional columns left out of rows": csv_text(CSV_ROWS, ALL_COLUMNS).encode(),
    "other order of columns": csv_text([r[::-1] for r in CSV_ROWS], COLUMNS[::-1]).encode(),
    "Parquet": parquet(csv_table(pa.int64())),
    "Arrow": arrow(csv_table(pa.int32())),
}  # fmt: skip


@pytest.mark.parametrize("compression", COMPRESSION)
@pytest.mark.parametrize("format_", CSV_FORMATS)
def test_empathetic_dialogues_give_one_dialogue_a_listener_turn(tmp_path: Path, format_: str, compression: str) -> None:
    found = read_bytes(tmp_path, COMPRESSION[compression](CSV_FORMATS[format_]))
    assert [item.turns for item in found if isinstance(item, Dialogue)] == [
        make_dialogue(*t).turns for t in CSV_DIALOGUES
    ]
    assert [(item.category, item.conversation) for item in found if isinstance(item, Dialogue)] == [
        ("sad", "c1"),
        ("proud", "c2"),
        ("proud", "c2"),
    ]
    assert len(found) == 3


def test_emotion_is_optional_in_the_csv(tmp_path: Path) -> None:
    columns = [name for name in COLUMNS if name not in ("context", "prompt")]
    rows = [[row[0], row[1], row[4], row[5]] for row in CSV_ROWS]
    found = read_bytes(tmp_path, csv_text(rows, columns).encode())
    assert [item.category for item in found if isinstance(item, Dialogue)] == [None, None, None]


@pytest.mark.parametrize(
    "text", ['he said "yes', '"', 'a "b" c', '"so" he said', 'yes"', 'it\'s 5" long_comma_ "ok"', '"", he']
)
def test_quotation_marks_in_an_utterance_are_taken_as_they_are(tmp_path: Path, text: str) -> None:
    rows = [["c1", "1", "sad", 'a "b', "0", text], ["c1", "2", "sad", 'a "b', "1", text], *CSV_ROWS[2:4]]
    expected = text.replace("_comma_", ",")
    found = read_bytes(tmp_path, csv_text(rows).encode())
    assert [item.turns for item in found if isinstance(item, Dialogue)] == [
        make_dialogue(expected, expected).turns,
        make_dialogue("we won", "that is great").turns,
    ]


def test_csv_field_wholly_in_quotation_marks_is_a_quoted_field(tmp_path: Path) -> None:
    rows = [*CSV_ROWS[:1], [*CSV_ROWS[1][:5], '"so ""very"" sorry"']]
    (dialogue,) = read_bytes(tmp_path, csv_text(rows).encode())
    assert isinstance(dialogue, Dialogue)
    assert dialogue.response == 'so "very" sorry'


def test_quotation_marks_in_several_csv_fields_do_not_join_them(tmp_path: Path) -> None:
    rows = [[*CSV_ROWS[0][:3], '"so', "7", 'she said "no', "5|5", '""'], [*CSV_ROWS[1], "5|5", '""']]
    (dialogue,) = read_bytes(tmp_path, csv_text(rows, ALL_COLUMNS).encode())
    assert isinstance(dialogue, Dialogue)
    assert [turn.content for turn in dialogue.turns] == ['she said "no', "so sorry"]


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


GOOD = json.dumps(record("hi", "hello", id="good")).encode()
LAST = json.dumps(record("so", "sorry", id="last")).encode()
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"messages": [', "broken_json"),
    "no JSON": (b"so sorry", "broken_json"),
    "two objects": (b"{} {}", "broken_json"),
    "a text": (b'"text"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "an array": (b"[%s]" % GOOD, "not_an_object"),
    "no turns": (b"{}", "no_messages"),
    "a wrong type": (b'{"messages": {"role": 1}}', "wrong_type"),
    "an unknown role": (json.dumps({"messages": [{"role": "x", "content": "hi"}]}).encode(), "unknown_role"),
    "an empty turn": (json.dumps(record("hi", "")).encode(), "empty_turn"),
    "an invisible turn": (json.dumps(record("\u200b\ufeff", "hi")).encode(), "empty_turn"),
    "no response": (json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode(), "no_response"),
    "one speaker": (json.dumps(record("hi")).encode(), "one_speaker"),
    "bytes that are no UTF-8": (GOOD.replace(b"hi", b"h\xff"), "invalid_utf8"),
    "Latin-1": (GOOD.replace(b"hi", b"\xe9t\xe9"), "invalid_utf8"),
    "a surrogate in UTF-8": (GOOD.replace(b"hi", b"\xed\xa0\x80"), "invalid_utf8"),
    "a NUL byte": (GOOD.replace(b"hi", b"h\x00"), "broken_json"),
    "an escaped NUL": (GOOD.replace(b"hi", b"h\\u0000"), "nul_byte"),
    "half a pair in a turn": (GOOD.replace(b"hi", b"h\\ud800"), "lone_surrogate"),
    "half a pair in the id": (GOOD.replace(b"good", b"\\udc00"), "lone_surrogate"),
    "half a pair in the category": (GOOD.replace(b"{", b'{"category": "\\ud83d", ', 1), "lone_surrogate"),
    "a turn of 5 MB": (GOOD.replace(b"hi", b"x" * 5_000_000), "turn_too_long"),
    "deep nesting": (b'{"messages": ' + b"[" * 100_000, "broken_json"),
    "a huge number": (b'{"id": ' + b"9" * 5000 + b"}", "broken_json"),
    "NaN": (b"NaN", "not_an_object"),
    "an id used before": (GOOD, "duplicate_id"),
    "a label out of range": (GOOD.replace(b"{", b'{"sensibility": 11, "rationality": 1, ', 1), "bad_label"),
    "a label that is a flag": (GOOD.replace(b"{", b'{"sensibility": 1, "rationality": true, ', 1), "bad_label"),
    "a label that is NaN": (GOOD.replace(b"{", b'{"sensibility": NaN, "rationality": 1, ', 1), "bad_label"),
    "a huge label": (GOOD.replace(b"{", b'{"sensibility": 1%s, "rationality": 1, ' % (b"0" * 400), 1), "bad_label"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line_is_one_reject_and_its_neighbours_are_read(tmp_path: Path, case: str) -> None:
    data, reason = BAD_LINES[case]
    found = read_bytes(tmp_path, b"\n".join([GOOD, b"", data, LAST]) + b"\n", "optional")
    assert outline(found) == ["good", (3, reason), "last"]
    reject = found[1]
    assert isinstance(reject, Reject)
    assert reject.source == str(tmp_path / "in")
    assert len(reject.record) <= 500
    json.dumps(reject.record).encode()


# Brackets and missing commas between the elements of an array are no fault.
@pytest.mark.parametrize("case", sorted(BAD_LINES.keys() - {"an array", "deep nesting", "two objects"}))
def test_bad_element_of_an_array_is_one_reject_and_its_neighbours_are_read(tmp_path: Path, case: str) -> None:
    data, reason = BAD_LINES[case]
    found = read_bytes(tmp_path, b"[%s, %s, %s]" % (GOOD, data, LAST), "optional")
    assert outline(found) == ["good", (2, reason), "last"]


@pytest.mark.parametrize("make", [parquet, arrow])
def test_bad_row_is_one_reject_and_its_neighbours_are_read(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    rows = [
        record("hi", "hello", id="good"),
        record("hi", "", id="a"),
        {"id": "b", "messages": None},
        {"id": "c", "messages": [None]},
        {"id": "d", "messages": [{"role": "x", "content": "hi"}]},
        record("hi", "hello", id="good"),
        record("so", "sorry", id="last"),
    ]
    assert outline(read_bytes(tmp_path, make(pa.Table.from_pylist(rows)))) == [
        "good",
        (2, "empty_turn"),
        (3, "no_messages"),
        (4, "wrong_type"),
        (5, "unknown_role"),
        (6, "duplicate_id"),
        "last",
    ]


def strings(*values: bytes) -> pa.Array:
    """Return an Arrow array of text whose bytes nobody has checked."""
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value))
    buffers = [None, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


@pytest.mark.parametrize("make", [parquet, arrow])
def test_row_with_bytes_that_are_no_utf8_is_one_reject(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    table = pa.table(
        {"id": ["good", "b", "last"], "context": strings(b"hi", b"h\xff", b"so"), "response": ["x", "y", "z"]}
    )
    assert outline(read_bytes(tmp_path, make(table))) == ["good", (2, "invalid_utf8"), "last"]


def test_lost_row_of_a_parquet_file_breaks_its_conversation(tmp_path: Path) -> None:
    utterances = [row[5].encode() for row in CSV_ROWS]
    utterances[3] = b"\xff"
    table = csv_table(pa.int64())
    table = table.set_column(table.column_names.index("utterance"), "utterance", strings(*utterances))
    assert outline(read_bytes(tmp_path, parquet(table)))[1:] == [(4, "invalid_utf8"), (6, "broken_conversation")]


@pytest.mark.parametrize("make", [parquet, arrow])
def test_columns_that_no_dialogue_has_are_not_read(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    # Python has no such date.
    when = pa.array([2**62] * 3, pa.timestamp("us"))
    assert read_bytes(tmp_path, make(TABLES["release"].append_column("when", when))) == EXPECTED


@pytest.mark.parametrize("make", [parquet, arrow])
def test_table_without_a_column_of_turns_is_one_reject(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    assert outline(read_bytes(tmp_path, make(pa.table({"text": ["hi"]})))) == [(0, "wrong_columns")]


@pytest.mark.parametrize("make", [parquet, arrow])
def test_table_without_rows_is_one_reject(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    assert outline(read_bytes(tmp_path, make(TABLES["messages"].slice(0, 0)))) == [(0, "empty_file")]


def test_arrow_stream_that_ends_early_gives_what_came_before(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist(RELEASE)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=1)
    found = read_bytes(tmp_path, bytes(sink.getvalue())[:-100])
    assert outline(found) == [EXPECTED[0].id, EXPECTED[1].id, (3, "broken_file")]


def test_dialogue_of_two_thousand_turns_is_read(tmp_path: Path) -> None:
    long = record(*(f"turn {number}" for number in range(2000)))
    (dialogue,) = read_bytes(tmp_path, lines([long]))
    assert isinstance(dialogue, Dialogue)
    assert len(dialogue.turns) == 2000


WHOLE_FILES: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    "empty": (b"", [(0, "empty_file")]),
    "white space": (b" \n\t\r\n ", [(0, "empty_file")]),
    "a byte order mark": (b"\xef\xbb\xbf", [(0, "empty_file")]),
    "an empty array": (b"[]", [(0, "empty_file")]),
    "an empty array in gzip": (gz(b"[ ]\n"), [(0, "empty_file")]),
    "nothing in gzip": (gz(b""), [(0, "empty_file")]),
    "nothing in zstandard": (zst(b""), [(0, "empty_file")]),
    "a CSV header": (csv_text([]).encode(), [(0, "empty_file")]),
    "a CSV without columns that are needed": (b"conv_id,text\nc1,hi\nc1,ho\n", [(0, "wrong_columns")]),
    "a CSV of something else": (b"a,b\n1,2\n", [(1, "broken_json"), (2, "broken_json")]),
    "UTF-16": ('{"a": 1}\n'.encode("utf-16"), [(0, "invalid_utf8")]),
    "UTF-16, big-endian": (b"\xfe\xff" + "[1]".encode("utf-16-be"), [(0, "invalid_utf8")]),
    "UTF-32": ("[1]".encode("utf-32"), [(0, "invalid_utf8")]),
    "UTF-32, big-endian": (b"\x00\x00\xfe\xff" + "[1]".encode("utf-32-be"), [(0, "invalid_utf8")]),
    "text": (b"dear diary\nI am sad\n", [(1, "broken_json"), (2, "broken_json")]),
    "binary": (bytes(range(128, 256)) + b"\n" + bytes(range(200, 256)), [(1, "invalid_utf8"), (2, "invalid_utf8")]),
    "opening brackets": (b"[" * 100_000, [(1, "truncated_input")]),
    "a Parquet file without its end": (FORMATS["Parquet, messages"][:-30], [(1, "broken_file")]),
    "the beginning of a Parquet file": (b"PAR1", [(1, "broken_file")]),
    "an Arrow file without its end": (FORMATS["Arrow file"][:-30], [(1, "broken_file")]),
    "the beginning of an Arrow stream": (FORMATS["Arrow stream, messages"][:20], [(1, "broken_file")]),
    "the beginning of gzip": (b"\x1f\x8b", [(1, "truncated_input")]),
    "the beginning of zstandard": (b"\x28\xb5\x2f\xfd", [(1, "truncated_input")]),
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


@pytest.mark.parametrize("pack", [gz, zst])
def test_garbage_behind_compressed_data_is_told_and_costs_nothing(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    for garbage in (b"xx", b"garbage" * 10):
        assert outline(read_bytes(tmp_path, pack(lines(RECORDS)) + garbage)) == [
            *(item.id for item in EXPECTED),
            (4, "truncated_input"),
        ]


@pytest.mark.parametrize("pack", [gz, zst])
def test_compressed_files_one_behind_the_other_are_read_as_one(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    assert read_bytes(tmp_path, pack(lines(RECORDS[:1])) + pack(lines(RECORDS[1:]))) == EXPECTED


def test_lost_csv_row_breaks_the_rest_of_its_conversation_and_not_the_next(tmp_path: Path) -> None:
    text = csv_text(
        [*CSV_ROWS[2:4], ["c2", "3", "proud"], CSV_ROWS[5], ["c1", *CSV_ROWS[0][1:]], ["c1", *CSV_ROWS[1][1:]]]
    )
    assert outline(read_bytes(tmp_path, text.encode())) == [
        make_dialogue(*TEXTS[1][:2]).id,
        (4, "wrong_columns"),
        (5, "broken_conversation"),
        EXPECTED[0].id,
    ]


@pytest.mark.parametrize("bad", [b"c3,1,sad", b"c3,1,sad,x,0,h\xff", b"c3,1,sad,x,0,h\x00"])
def test_lost_first_row_of_a_csv_conversation_breaks_that_conversation(tmp_path: Path, bad: bytes) -> None:
    rows = (
        csv_text().encode()
        + bad
        + b"\nc3,2,sad,x,1,oh\nc3,3,sad,x,0,yes\nc3,4,sad,x,1,no\nc4,1,sad,x,0,hi\nc4,2,sad,x,1,ho\n"
    )
    found = outline(read_bytes(tmp_path, rows))
    assert [reason for _, reason in found[3:-1]][1:] == ["broken_conversation"] * (len(found) - 5)
    assert found[3][0] == 8
    assert found[-1] == make_dialogue("hi", "ho").id


@pytest.mark.parametrize("empty", ["", " ", "\u200b"])
def test_empty_csv_utterance_is_rejected_at_its_own_row(tmp_path: Path, empty: str) -> None:
    rows = [list(row) for row in CSV_ROWS]
    rows[4][5] = empty
    assert outline(read_bytes(tmp_path, csv_text(rows).encode()))[2:] == [(6, "empty_turn"), (7, "broken_conversation")]


def test_broken_line_among_csv_rows_has_its_own_number(tmp_path: Path) -> None:
    data = csv_text(CSV_ROWS[:2]).encode() + b"\n\xff\xfe\n" + csv_text(CSV_ROWS[2:4]).split("\n", 1)[1].encode()
    assert outline(read_bytes(tmp_path, data)) == [
        EXPECTED[0].id,
        (5, "invalid_utf8"),
        make_dialogue(*TEXTS[1][:2]).id,
    ]


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfiles, "MAX_RECORD_BYTES", 300)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("length", [301, 600, 601, 900, 5000])
def test_line_over_the_limit_is_one_reject(tmp_path: Path, length: int) -> None:
    long = b"x" * (length - 1) + b"\n"
    found = read_bytes(tmp_path, GOOD + b"\n" + long + LAST + b"\n" + b"y" * length)
    assert outline(found) == ["good", (2, "record_too_long"), "last", (4, "record_too_long")]


@pytest.mark.usefixtures("small_limit")
def test_line_of_the_limit_is_read(tmp_path: Path) -> None:
    assert outline(read_bytes(tmp_path, GOOD.ljust(299) + b"\n" + LAST)) == ["good", "last"]


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
from scorer.corpus import Corpus
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
