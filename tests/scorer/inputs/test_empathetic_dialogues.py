"""EmpatheticDialogues: one dialogue a listener turn, fields as published, and what a lost row breaks."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.empathetic_dialogues import COLUMNS
from tests.conftest import make_dialogue
from tests.scorer.inputs.input_data import (
    COMPRESSION,
    CSV_DIALOGUES,
    CSV_ROWS,
    EXPECTED,
    TEXTS,
    arrow,
    csv_table,
    csv_text,
    outline,
    parquet,
    read_bytes,
)


def csv_quoted() -> str:
    """Return the rows as a spreadsheet would write them: a field with a comma in it is quoted."""
    out = io.StringIO()
    csv.writer(out).writerows([COLUMNS, *CSV_ROWS])
    return out.getvalue()


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
}


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
    assert outline(read_bytes(tmp_path, data)) == [EXPECTED[0].id, (5, "invalid_utf8"), make_dialogue(*TEXTS[1][:2]).id]
