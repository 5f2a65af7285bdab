"""Parquet and Arrow: a bad row is one reject, and only the columns that a dialogue has are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import Reject
from scorer.inputs.records.slices import MOST_BYTES, bounded, decoded_bytes
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


@pytest.mark.parametrize("make", [parquet, arrow])
def test_columns_are_known_in_any_case(tmp_path: Path, make: Callable[[pa.Table], bytes]) -> None:
    rows = [{"ID": f"r{number}", "Context": "hi", "Response": "hello", "Extra": 1} for number in range(2)]
    assert outline(read_bytes(tmp_path, make(pa.Table.from_pylist(rows)))) == ["r0", "r1"]


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


BIG = "x" * 900_000
FEW, MANY = 20, 2000
SHARED = pa.DictionaryArray.from_arrays(pa.array([0] * MANY, pa.int32()), [BIG])
COUNT = 100
PAIRS = pa.array(["user", "assistant"] * COUNT)
TURNS = pa.StructArray.from_arrays([PAIRS, SHARED.slice(0, 2 * COUNT)], ["role", "content"])
SPREAD: dict[str, tuple[pa.Table, list[str], int]] = {
    "a text in many rows": (pa.table({"context": ["hi"] * MANY, "response": SHARED}), ["ok", "duplicate"], MANY),
    "a text in many turns": (
        pa.table({"messages": pa.ListArray.from_arrays(pa.array(range(0, 2 * COUNT + 1, 2), pa.int32()), TURNS)}),
        ["ok"],
        COUNT,
    ),
    "a text in all the turns of one row": (
        pa.table({"messages": pa.ListArray.from_arrays(pa.array([0, 2 * COUNT], pa.int32()), TURNS)}),
        ["record_too_long"],
        1,
    ),
    "a list without end": (
        pa.table({"messages": pa.LargeListArray.from_arrays(pa.array([0, 10_000_000]), pa.nulls(10_000_000))}),
        ["record_too_long", "broken_file"],
        1,
    ),
}


@pytest.mark.parametrize("make", [parquet, arrow])
@pytest.mark.parametrize("case", SPREAD)
def test_what_is_stored_once_and_stands_in_many_rows_fills_no_memory(
    tmp_path: Path, case: str, make: Callable[[pa.Table], bytes]
) -> None:
    table, expected, count = SPREAD[case]
    data = make(table)
    before, peak, found = pa.total_allocated_bytes(), 0, 0
    (tmp_path / "in").write_bytes(data)
    for item in Corpus([str(tmp_path / "in")], unique_ids=False):
        found += 1
        assert (item.reason if isinstance(item, Reject) else "ok") in expected
        peak = max(peak, pa.total_allocated_bytes() - before)
        if found == FEW:  # enough to see
            break
    assert found == min(count, FEW)
    assert peak < 150_000_000  # decoded, these take 180 MB to 2 GB


def test_parquet_that_says_to_hold_what_no_file_of_its_size_holds_is_one_reject(tmp_path: Path) -> None:
    table = pa.table({"context": pa.nulls(30_000_000, pa.string()), "response": pa.nulls(30_000_000, pa.string())})
    assert outline(read_bytes(tmp_path, parquet(table))) == [(0, "broken_file")]


def test_arrow_texts_that_share_their_bytes_fill_no_memory() -> None:
    views = np.array([[len(BIG), 0x78787878, 0, 0]] * MANY, np.int32)
    shared = pa.Array.from_buffers(pa.string_view(), MANY, [None, *map(pa.py_buffer, (views.tobytes(), BIG.encode()))])
    for kept in (shared, shared.slice(7, 50)):
        assert decoded_bytes(kept) >= len(kept) * len(BIG)
    parts = list(bounded(pa.record_batch({"response": shared})))
    assert sum(part.num_rows for part in parts) == MANY
    assert max(part.num_rows for part in parts) <= MOST_BYTES // len(BIG)


def test_rows_stay_as_they_are_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"id": str(n), "messages": [{"role": "user", "content": f"t{n % 7}" * k} for k in range(n % 5)]}
        for n in range(99)
    ]
    batch = pa.Table.from_pylist([{**row, "n": n, "none": None} for n, row in enumerate(rows)]).to_batches()[0]
    shared = batch.set_column(0, "id", batch.column("id").dictionary_encode())
    monkeypatch.setattr("scorer.inputs.records.slices.MOST_BYTES", 2000)
    for made in (batch, shared, shared.slice(11, 60)):
        parts = list(bounded(made))
        assert len(parts) > 5
        assert [row for part in parts for row in part.to_pylist()] == made.to_pylist()


@pytest.mark.parametrize(
    ("places", "refused"),
    [((0, 5, -3, 8), [2, 3]), ((0, 5, 999, 8), [2, 3]), ((0, 5, 8, 1 << 30), [3]), ((0, 5, 3, 8), [2])],
)
def test_a_text_that_lies_elsewhere_is_one_reject(tmp_path: Path, places: tuple[int, ...], refused: list[int]) -> None:
    good = arrow(pa.table({"context": ["hello", "so", "a"], "response": ["xx", "yyyy", "zzzz"]}))
    right, wrong = (np.array(offsets, np.int32).tobytes() for offsets in ((0, 5, 7, 8), places))
    assert good.count(right) == 1
    found = outline(read_bytes(tmp_path, good.replace(right, wrong)))
    assert len(found) == 3
    assert [item for item in found if isinstance(item, tuple)] == [(line, "wrong_type") for line in refused]
