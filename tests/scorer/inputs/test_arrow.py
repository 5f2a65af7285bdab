"""Parquet and Arrow: a bad row is one reject, and only the columns that a dialogue has are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import record
from tests.scorer.inputs.input_data import (
    CSV_ROWS,
    EXPECTED,
    RELEASE,
    TABLES,
    arrow,
    csv_table,
    outline,
    parquet,
    read_bytes,
)


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
def test_table_without_turns_is_one_reject(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    assert outline(read_bytes(tmp_path, make(pa.table({"text": ["hi"]})))) == [(0, "wrong_columns")]
    assert outline(read_bytes(tmp_path, make(TABLES["messages"].slice(0, 0)))) == [(0, "empty_file")]


def test_arrow_stream_that_ends_early_gives_what_came_before(tmp_path: Path) -> None:
    data = arrow(pa.Table.from_pylist(RELEASE), max_chunksize=1)
    found = read_bytes(tmp_path, data[:-100])
    assert outline(found) == [EXPECTED[0].id, EXPECTED[1].id, (3, "broken_file")]
