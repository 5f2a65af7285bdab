"""A dialogue or a reject knows the source and line it came from; a reject keeps what a person needs to find it."""

from __future__ import annotations

from typing import Any

import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.cursor import EXCERPT, Place
from scorer.inputs.files.sources import Source
from scorer.inputs.parse import Reject
from tests.conftest import record


@pytest.fixture
def place() -> Place:
    """Line 3 of a source."""
    place = Place(Source("in.jsonl"), "ignore")
    place.line = 3
    return place


def test_reject_has_what_it_was_given_and_where_it_stood(place: Place) -> None:
    found = place.reject("empty_turn", "turn 1 is empty", record="{}", id_="a")
    assert found == Reject("in.jsonl", 3, "empty_turn", "turn 1 is empty", "a", "{}")
    assert place.reject("empty_turn", "turn 1 is empty", line=9) == Reject(
        "in.jsonl", 9, "empty_turn", "turn 1 is empty"
    )
    assert place.line == 3


@pytest.mark.parametrize("length", [0, 1, EXCERPT - 1, EXCERPT, EXCERPT + 1, 10 * EXCERPT])
def test_reject_keeps_the_beginning_of_its_record(place: Place, length: int) -> None:
    text = ("it's été 😭 " * EXCERPT)[:length]
    assert place.reject("broken_json", "it is cut", record=text).record == text[:EXCERPT]


def test_surrogates_in_a_record_are_escaped_so_that_it_can_be_written(place: Place) -> None:
    found = place.reject("broken_json", "it is cut", record="h\ud83d \udc00é")
    assert found.record == "h\\ud83d \\udc00é"
    assert found.record.encode()


def test_dialogue_has_the_source_and_line(place: Place) -> None:
    (found,) = place.parse(record("i am sad", "so sorry", id="a"), "its text")
    assert isinstance(found, Dialogue)
    assert (found.id, found.source, found.line) == ("a", "in.jsonl", 3)
    place.line += 1
    (again,) = place.parse(record("i am sad", "so sorry"))
    assert isinstance(again, Dialogue)
    assert again.line == 4


def test_what_is_no_dialogue_has_the_source_and_line_and_its_text(place: Place) -> None:
    (found,) = place.parse({"id": "a"}, '{"id": "a"}  ')
    assert isinstance(found, Reject)
    assert (found.source, found.line, found.reason) == ("in.jsonl", 3, "no_messages")
    assert (found.id, found.record) == ("a", '{"id": "a"}  ')


@pytest.mark.parametrize(("text", "shown"), [(None, "{'id': '\\xe9'}"), ("", ""), ("raw", "raw")])
def test_value_is_shown_where_there_is_no_text(place: Place, text: str | None, shown: str) -> None:
    (found,) = place.parse({"id": "é"}, text)
    assert isinstance(found, Reject)
    assert found.record == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *(({"id": "a-1"}, "a-1"), ({"id": ""}, ""), ({"id": "é\n\ud800"}, "\\xe9\\n\\ud800")),
        *((value, None) for value in ({"id": 7}, {"id": None}, {"id": ["a"]}, {}, ["id"], "id", None)),
    ],
    ids=range(10),
)
def test_id_of_a_reject_is_shown_if_it_is_text_alone(place: Place, value: Any, shown: str | None) -> None:
    (found,) = place.parse(value)
    assert isinstance(found, Reject)
    assert found.id == shown
    assert shown is None or shown.isprintable()
