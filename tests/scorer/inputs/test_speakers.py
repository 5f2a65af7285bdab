"""Messages of speakers whose names no data set has: a user says who is who."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scorer.dialogue import Dialogue
from scorer.errors import InputError
from scorer.inputs.corpus import Corpus
from scorer.inputs.parse import parse_records
from scorer.inputs.records.faults import RecordError
from selection.files.whole import whole_record
from tests.conftest import write_lines

NAMES = {"user_name": "Anna", "assistant_name": "Dr. Bo"}
LOST, SORRY = "I lost my job.\nAnna: that is me", "So sorry."
MEANT = [("user", LOST), ("assistant", SORRY)]


def of(key: str, text: str, *, anna: Any = "Anna", bo: Any = "Dr. Bo") -> list[dict[str, Any]]:
    return [{key: anna, text: LOST}, {key: bo, text: SORRY}]


@pytest.mark.parametrize(
    "value",
    [
        {"messages": of("role", "content"), "about": "Anna: a\nDr. Bo: b"},
        {"messages": of("from", "text", anna=" anna ", bo="DR. BO"), "name": "Anna", "type": "personal_chat"},
        {"messages": of("author", "content", anna={"id": "1", "name": "Anna"}, bo={"id": "2", "name": "Dr. Bo"})},
        {"conversation": {"turns": of("speaker", "utterance")}},
        {"turns": {"speaker": ["Anna", "Dr. Bo"], "utterance": [LOST, SORRY]}},
        {"conversations": json.dumps(of("from", "value"))},
        {"conversations": str(of("from", "value"))},
        {"history": [["Anna", LOST]], "response": SORRY},
        {"messages": [{"role": "user", "content": LOST}, {"role": "Dr. Bo", "content": SORRY}]},
    ],
)
def test_a_speaker_has_the_role_that_a_user_says(value: dict[str, Any]) -> None:
    """Whatever holds the turns; no text and no other column is changed, and a selection keeps the names."""
    (dialogue,) = parse_records(value, fields=NAMES, keep=True)
    assert isinstance(dialogue, Dialogue)
    assert [(turn.role, turn.content) for turn in dialogue.turns] == MEANT
    whole = whole_record(dialogue, NAMES)
    assert [(message["role"], message["content"]) for message in whole["messages"]] == MEANT
    assert whole.get("about") == value.get("about")
    named = {name for message in whole["messages"] for key, name in message.items() if key in ("from", "speaker")}
    assert named <= {"Anna", " anna ", "Dr. Bo", "DR. BO"}


def test_a_transcript_of_them_is_one_of_its_speakers() -> None:
    (dialogue,) = parse_records({"dialogue": "Anna: I lost my job.\nDr. Bo: So sorry."}, fields=NAMES)
    assert isinstance(dialogue, Dialogue)
    assert [turn.content for turn in dialogue.turns] == ["I lost my job.", SORRY]
    (dialogue,) = parse_records({"prompt": "Anna: why?", "response": "Dr. Bo: So sorry."}, fields=NAMES)
    assert isinstance(dialogue, Dialogue)
    assert [turn.content for turn in dialogue.turns] == ["Anna: why?", "Dr. Bo: So sorry."]  # one name: a text
    (dialogue,) = parse_records({"prompt": "[1, 2]", "response": '{"Anna": 1}'}, fields=NAMES)
    assert isinstance(dialogue, Dialogue)
    assert [turn.content for turn in dialogue.turns] == ["[1, 2]", '{"Anna": 1}']
    assert parse_records({"prompt": "Hi.\nMaſ: a\nmas: b", "response": "c"}, fields={"user_name": "mas"})


def test_numbers_and_several_names_are_names() -> None:
    turns = [{"speaker": number, "text": f"{number}"} for number in (0, 2, 1)]
    (dialogue,) = parse_records({"turns": turns}, fields={"user_name": "0,,2", "assistant_name": "1"})
    assert isinstance(dialogue, Dialogue)
    assert [turn.role for turn in dialogue.turns] == ["user", "user", "assistant"]
    both = {"messages": of("from", "text", anna="Miller, Anna")}
    (dialogue,) = parse_records(both, fields={**NAMES, "user_name": "Miller, Anna"})
    assert isinstance(dialogue, Dialogue)


def test_a_name_that_nobody_said_is_a_reject_that_says_how() -> None:
    with pytest.raises(RecordError, match=r"str 'Anna', expected user, .*; name the speakers: --map user_name=NAME, "):
        parse_records({"messages": of("role", "content")})
    with pytest.raises(RecordError, match=r"unknown_role: turn 2 has role str 'Dr\. Bo'"):
        parse_records({"messages": of("role", "content")}, fields={"user_name": "Anna"})


def test_names_leave_the_columns_of_a_file_as_they_are(tmp_path: Path) -> None:
    """They name no column: tables and rows of EmpatheticDialogues are known as without them."""
    write_lines(tmp_path / "a.jsonl", [{"id": "1", "chat": of("role", "content")}])
    columns = {"messages": "chat"}
    (dialogue,) = Corpus([str(tmp_path / "a.jsonl")], fields={**columns, **NAMES})
    assert isinstance(dialogue, Dialogue)
    table = tmp_path / "b.csv"
    table.write_text("prompt,response\nHi.,Hello.\n")
    assert [*Corpus([str(table)], fields=NAMES)] == [*Corpus([str(table)])]
    (tmp_path / "c.csv").write_text("a,b\nHi.,Hello.\n")
    (reject,) = Corpus([str(tmp_path / "c.csv")], fields=NAMES)
    assert reject.reason == "wrong_columns"  # type: ignore[union-attr]
    with pytest.raises(InputError, match="'anna' is the name of user and assistant, expected one of them"):
        Corpus([str(table)], fields={"user_name": "Anna", "assistant_name": "anna"})
