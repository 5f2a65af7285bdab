"""JSON lines and arrays: a bad line or element is one reject with its reason, and its neighbours are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scorer.inputs import json_lines
from scorer.inputs.parse import Reject
from tests.conftest import record
from tests.scorer.inputs.input_data import EXPECTED, RECORDS, outline, read_bytes


def test_one_pretty_printed_object_is_one_dialogue(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, json.dumps(RECORDS[0], indent=2).encode()) == EXPECTED[:1]


GOOD = json.dumps(record("hi", "hello", id="good")).encode()
LAST = json.dumps(record("so", "sorry", id="last")).encode()
BAD_LINES: dict[str, tuple[bytes, str]] = {
    "broken JSON": (b'{"messages": [', "broken_json"),
    "no JSON": (b"so sorry", "broken_json"),
    "two objects": (b"{} {}", "broken_json"),
    "a text": (b'"text"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "an array": (b"[%s]" % GOOD, "duplicate_id"),
    "no turns": (b"{}", "no_messages"),
    "an unknown role": (json.dumps({"messages": [{"role": "x", "content": "hi"}]}).encode(), "unknown_role"),
    "an empty turn": (json.dumps(record("hi", "")).encode(), "empty_turn"),
    "an invisible turn": (json.dumps(record("\u200b\ufeff", "hi")).encode(), "empty_turn"),
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


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_RECORD_BYTES", 300)


@pytest.mark.usefixtures("small_limit")
@pytest.mark.parametrize("length", [301, 600, 601, 900, 5000])
def test_line_over_the_limit_is_one_reject(tmp_path: Path, length: int) -> None:
    long = b"x" * (length - 1) + b"\n"
    found = read_bytes(tmp_path, GOOD + b"\n" + long + LAST + b"\n" + b"y" * length)
    assert outline(found) == ["good", (2, "record_too_long"), "last", (4, "record_too_long")]


@pytest.mark.usefixtures("small_limit")
def test_line_of_the_limit_is_read(tmp_path: Path) -> None:
    assert outline(read_bytes(tmp_path, GOOD.ljust(299) + b"\n" + LAST)) == ["good", "last"]
