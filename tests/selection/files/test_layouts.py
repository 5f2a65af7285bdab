"""Each layout holds every text, once and in order, whoever speaks when, or counts what it has no place for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from scorer.dialogue import Dialogue, Turn
from scorer.inputs.parse import parse_record, to_record
from selection.files.layouts import LAYOUTS, convert, to_line
from selection.settings import FORMATS
from tests.selection.selection_data import dialogues

NAMES = {"s": "system", "u": "user", "a": "assistant"}

# Every order of up to four turns before the response that has a user in it.
ORDERS = ["".join(order) for length in range(1, 5) for order in product(NAMES, repeat=length) if "u" in order]

HOSTILE_TEXTS = [
    "two\nlines, carriage\r\nreturn, tab\there, vertical\x0btab, form\x0cfeed",
    "line\u2028separator, paragraph\u2029separator, next\u0085line",
    'quo"tes, back\\slash, \\n is no line feed',
    "emoji 😢 and 中文",
    '{"messages": []}',
]


def dialogue(order: str, texts: Sequence[str] = ()) -> Dialogue:
    """Return a dialogue of speakers ``order`` and a response, each turn with its own text."""
    known = [*texts] or [f"{letter}{number}" for number, letter in enumerate(order, start=1)]
    turns = [Turn(NAMES[letter], text) for letter, text in zip(order, known, strict=True)]
    return Dialogue(id="id-1", turns=(*turns, Turn("assistant", "response")), conversation="c-1", category="sad")


def converted(one: Dialogue, layout: str) -> tuple[bytes, Counter[str]]:
    """Return the line of a dialogue in a layout, and what it has no place for."""
    lost: Counter[str] = Counter()
    line = convert(to_line(to_record(one)), layout, lost)
    return line, +lost


def laid_out(order: str, layout: str, expected_loss: int = 0) -> dict[str, Any]:
    line, lost = converted(dialogue(order), layout)
    assert lost == ({"turns_between": expected_loss} if expected_loss else {})
    value: dict[str, Any] = json.loads(line)
    assert [value.pop(name) for name in ("id", "conversation", "category")] == ["id-1", "c-1", "sad"]
    return value


def test_the_formats_that_may_be_asked_for_are_those_that_there_are() -> None:
    assert tuple(LAYOUTS) == FORMATS


def test_openai_is_the_form_of_the_contract() -> None:
    said = [("system", "s1"), ("user", "u2"), ("assistant", "a3"), ("assistant", "response")]
    assert laid_out("sua", "openai") == {"messages": [{"role": role, "content": text} for role, text in said]}
    bare = Dialogue(id="x", turns=(Turn("user", "hi"), Turn("assistant", "yes")), conversation="c")
    assert set(to_record(bare)) == {"id", "conversation", "messages"}


def test_sharegpt_names_the_speakers_its_way() -> None:
    said = [("system", "s1"), ("human", "u2"), ("gpt", "a3"), ("human", "u4"), ("gpt", "response")]
    assert laid_out("suau", "sharegpt") == {"conversations": [{"from": name, "value": text} for name, text in said]}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("u", {"instruction": "u1"}),
        ("uau", {"instruction": "u3", "history": [["u1", "a2"]]}),
        ("uauau", {"instruction": "u5", "history": [["u1", "a2"], ["u3", "a4"]]}),
        ("su", {"instruction": "u2", "system": "s1"}),
        ("usus", {"instruction": "u1\nu3", "system": "s2\ns4"}),
        ("uasu", {"instruction": "u4", "system": "s3", "history": [["u1", "a2"]]}),
        ("uuu", {"instruction": "u1\nu2\nu3"}),
        ("uaau", {"instruction": "u4", "history": [["u1", "a2\na3"]]}),
        ("au", {"instruction": "u2", "history": [["", "a1"]]}),
        ("aau", {"instruction": "u3", "history": [["", "a1\na2"]]}),
        ("ua", {"instruction": "u1"}),
        ("uaua", {"instruction": "u3", "history": [["u1", "a2"]]}),
        ("uasa", {"instruction": "u1", "system": "s3"}),
    ],
)
def test_alpaca_takes_the_last_question_and_pairs_what_was_before(order: str, expected: dict[str, Any]) -> None:
    value = laid_out(order, "alpaca", unanswered(order))
    assert value == {"input": "", "output": "response", **expected}


def unanswered(order: str) -> int:
    """Return how many assistant turns stand between the last question and the answer, where Alpaca has no place."""
    return order[order.rindex("u") :].count("a")


def test_alpaca_holds_every_text_once_and_in_order() -> None:
    for order in ORDERS:
        value = laid_out(order, "alpaca", unanswered(order))
        pairs = value.get("history", [])
        said = [text for pair in pairs for text in pair] + [value["instruction"], value["output"]]
        texts = [f"{letter}{number}" for number, letter in enumerate(order, start=1)]
        told = [text for place, text in enumerate(texts) if text[0] == "u" or (text[0] == "a" and "u" in order[place:])]
        assert "\n".join(filter(None, said)).split("\n") == [*told, "response"], order
        assert value.get("system", "").split("\n") == ([text for text in texts if text[0] == "s"] or [""]), order
        # A pair is one question and its answer: only the first question may be missing.
        assert all(answer and (question or not place) for place, (question, answer) in enumerate(pairs)), order


@pytest.mark.parametrize("layout", ["openai", "sharegpt"])
def test_what_is_written_is_read_again_as_the_same_dialogue(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    written = [
        replace(dialogue(order), id=f"d{number}", conversation=f"c{number % 7}") for number, order in enumerate(ORDERS)
    ]
    path.write_bytes(b"".join(converted(one, layout)[0] for one in written))
    assert dialogues(path) == written


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_a_text_of_any_characters_is_one_line_and_comes_back(layout: str, text: str, tmp_path: Path) -> None:
    one = dialogue("uu", [text, "second"])
    line, _ = converted(one, layout)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    if layout == "alpaca":
        assert json.loads(line)["instruction"] == f"{text}\nsecond"
    else:
        (tmp_path / "set.jsonl").write_bytes(line)
        assert dialogues(tmp_path / "set.jsonl") == [one]


def test_text_is_written_as_it_is_and_not_as_escapes() -> None:
    line = to_line(to_record(dialogue("u", ["grüße 😢 中文"])))
    assert "grüße 😢 中文".encode() in line
    assert convert(line, "openai", Counter()) == line


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ORDERS)
def test_every_layout_is_read_as_the_same_scored_turn(order: str, layout: str) -> None:
    given = dialogue(order)
    line, lost = converted(given, layout)
    found = parse_record(json.loads(line))
    names = ("id", "conversation", "category", "response")
    assert [getattr(found, name) for name in names] == [getattr(given, name) for name in names]
    first, second = (sorted(" ".join(turn.content for turn in one.turns).split()) for one in (given, found))
    assert len(first) - len(second) == lost.total()
    assert set(second) <= set(first)
