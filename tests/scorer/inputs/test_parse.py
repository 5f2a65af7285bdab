"""From a decoded record to a dialogue, or to the reason why it is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from scorer.dialogue import Dialogue, Labels
from scorer.inputs.parse import (
    MAX_TURN_CHARACTERS,
    LabelUse,
    RecordError,
    Reject,
    clean_text,
    holds_dialogue,
    parse_json,
    parse_record,
    to_record,
)
from tests.conftest import make_dialogue, record

PLAIN = record("Hi.", "Hello!")
RELEASE = {"context": "Hi.", "response": "Hello!"}


def reason_of(value: Any, labels: LabelUse = "ignore") -> str:
    """Return the reason for which a record is rejected; its message is one line of ASCII, fit for any terminal."""
    with pytest.raises(RecordError) as caught:
        parse_record(value, labels=labels)
    assert caught.value.detail.isascii()
    assert "\n" not in caught.value.detail
    return caught.value.reason


def messages(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns)}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


EMPTY: tuple[Any, ...] = ("", " ", "\n\t", "\u200b", "\u00ad\ufeff", "\u00a0", [])
FORMS: dict[str, dict[str, Any]] = {
    "messages": PLAIN,
    "ShareGPT": {"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello!"}]},
    "ShareGPT with role and content": {"conversations": PLAIN["messages"]},
    "release": RELEASE,
    "record of lists": {"messages": {"role": ["user", "assistant"], "content": ["Hi.", "Hello!"]}},
    "content parts": messages(user([{"type": "text", "text": "Hi."}]), assistant(["Hello!"])),
    "other names of roles": messages({"role": "Prompter", "content": "Hi."}, {"role": " BOT ", "content": "Hello!"}),
    "null beside the form that is filled": {"messages": None, "context": "Hi.", "response": "Hello!"},
    "columns of every form": {
        "messages": [{"role": "user", "content": "Hi.", "from": None, "value": None}, assistant("Hello!")],
        "conversations": None,
        "context": None,
        "response": None,
    },
    "Alpaca": {"instruction": "Hi.", "input": "", "output": "Hello!"},
    "Alpaca with what may be missing": {"instruction": " ", "input": "Hi.", "output": "Hello!", "history": None},
    "space around": messages(user("  Hi.\n"), assistant("\tHello! ")),
    "turns after the response": messages(user("Hi."), assistant("Hello!"), user("Bye.")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dialogue(form: str) -> None:
    assert parse_record(FORMS[form]) == make_dialogue("Hi.", "Hello!")


def test_release_form_gives_the_speakers_turns_up_to_the_response() -> None:
    value = {"context": "Hi. </s> Hello! </s>My dog died.", "response": "I'm so sorry."}
    assert parse_record(value) == make_dialogue("Hi.", "Hello!", "My dog died.", "I'm so sorry.")


def test_release_form_where_the_listener_began_has_no_user_turn_out_of_order() -> None:
    turns = parse_record({"context": "Hello! </s> My dog died.", "response": "I'm sorry."}).turns
    assert [turn.role for turn in turns] == ["assistant", "user", "assistant"]


def test_alpaca_form_gives_system_and_history_before_the_question() -> None:
    value = {"system": "s", "history": [["", "a"], ["b", "c"]], "instruction": "d", "input": "e", "output": "f"}
    turns = parse_record({**value, "id": "1", "category": "sad", "conversation": "k"}).turns
    assert [turn.content for turn in turns] == ["s", "a", "b", "c", "d\ne", "f"]
    assert [turn.role[0] for turn in turns] == ["s", "a", "u", "a", "u", "a"]


@pytest.mark.parametrize("short", [False, True])
def test_a_dialogue_survives_being_written_as_a_record(short: bool) -> None:
    for dialogue in (make_dialogue("a", "b"), replace(make_dialogue("a", "b", category="sad"), conversation="k")):
        value = to_record(dialogue, short=short)
        assert parse_record(json.loads(json.dumps(value))) == dialogue
        assert ("conversation" in value) is (not short or dialogue.conversation == "k")


def test_system_turns_are_context_and_tool_turns_are_left_out_and_counted() -> None:
    value = messages({"role": "developer", "content": "Be kind."}, user("Hi."), {"role": "function", "content": "7"})
    value["messages"].append(assistant("Hello!"))
    dialogue = parse_record(value)
    assert [turn.role for turn in dialogue.turns] == ["system", "user", "assistant"]
    assert dialogue.notes.tool_turns == 1


@pytest.mark.parametrize(
    ("id_", "expected"),
    [("a", "a"), (" a ", "a"), (7, "7"), (0, "0"), (2.0, "2"), (1.5, "1.5"), (10**300, str(10**300))],
)
def test_id_is_taken_as_text(id_: Any, expected: str) -> None:
    assert parse_record({**PLAIN, "id": id_}).id == expected


@pytest.mark.parametrize("more", [{}, {"id": None}, {"id": ""}, {"id": "  "}])
def test_id_missing_is_the_hash_of_the_content(more: dict[str, Any]) -> None:
    assert parse_record({**PLAIN, **more}).id == make_dialogue("Hi.", "Hello!").id


def test_optional_keys_are_taken() -> None:
    dialogue = parse_record({**PLAIN, "category": "sad", "conversation": 12}, source="a.jsonl", line=3)
    assert (dialogue.category, dialogue.conversation, dialogue.source, dialogue.line) == ("sad", "12", "a.jsonl", 3)


def test_unknown_keys_are_no_fault() -> None:
    assert parse_record({**PLAIN, "model": [1], "": {"deep": None}}) == make_dialogue("Hi.", "Hello!")


ALPACA = {"instruction": "Hi.", "output": "Hello!"}
REJECTED: dict[str, list[Any]] = {
    "not_an_object": [None, True, 1, 1.5, "text", [], [PLAIN]],
    "no_messages": [
        *({}, {"text": "Hi."}, {"messages": None}, {"context": "Hi."}, {"response": "Hello!"}, {"instruction": "Hi."}),
        *({"context": "Hi.", "response": None}, {"instruction": "Hi.", "output": None}),
        {str(number): number for number in range(1000)},
    ],
    "wrong_type": [
        *({"messages": "Hi."}, {"messages": 1}, {"conversations": True}),
        *(messages("Hi.", "Hello!"), messages(user("Hi."), None), messages(["narrator", "Hi."])),
        *(messages({"role": "user"}, assistant("Hello!")), messages(user(None), assistant("Hello!"))),
        *(messages(user("Hi."), assistant(1)), messages(user({"mood": "sad"}), assistant("Hello!"))),
        messages(user([["Hi."]]), assistant("Hello!")),
        *({**PLAIN, "id": value} for value in (True, ["a"])),
        *({"context": ["Hi.", 1], "response": "Hello!"}, {"context": "Hi.", "response": 1}),
        *({**ALPACA, "history": value} for value in ("ab", ["ab", 1], [["a", "b", "c"]], [[1, "b"]])),
        *({**ALPACA, "instruction": ["Hi."]}, {**ALPACA, "output": True}),
        {"messages": {"role": ["user"], "content": ["Hi.", "Hello!"]}},
    ],
    "unknown_role": [
        messages({"role": role, "content": "Hi."}, assistant("Hello!"))
        for role in ("narrator", "", None, 1, ["user"], "us er", "\u200buser", "usér")
    ],
    "empty_turn": [
        *(messages(user(text), assistant("Hello!")) for text in EMPTY),
        *(messages(user("Hi."), assistant(text)) for text in EMPTY),
        *({"context": "", "response": "Hi."}, {"context": "Hi.", "response": " "}, {**ALPACA, "output": ""}),
        *({"context": "a</s></s>b", "response": "c"}, {**ALPACA, "history": [["a", None]]}),
    ],
    "no_response": [messages(), messages(user("Hi."), user("Anyone?")), {"messages": {}}, {"messages": user("Hi.")}],
    "one_speaker": [
        messages(*turns)
        for turns in (
            [assistant("Hello!")],
            [assistant("Hello!"), user("Hi.")],
            [{"role": "system", "content": "Be kind."}, assistant("Hello!")],
        )
    ],
}


@pytest.mark.parametrize(
    ("reason", "number"), [(reason, n) for reason in REJECTED for n in range(len(REJECTED[reason]))]
)
def test_what_is_no_dialogue_is_rejected_with_its_reason(reason: str, number: int) -> None:
    assert reason_of(REJECTED[reason][number]) == reason


@pytest.mark.parametrize("more", [{"id": "\ud800"}, {"category": "a\udfffb"}, {"conversation": "\udc80"}])
def test_half_a_surrogate_pair_in_a_key_is_rejected(more: dict[str, Any]) -> None:
    assert reason_of({**PLAIN, **more}) == "lone_surrogate"


@pytest.mark.parametrize(
    ("bad", "reason"), [("\ud800", "lone_surrogate"), ("a\udc00", "lone_surrogate"), ("a\0", "nul_byte")]
)
def test_text_that_no_file_can_hold_is_rejected_in_every_form(bad: str, reason: str) -> None:
    assert reason_of(messages(user(bad), assistant("Hello!"))) == reason
    assert reason_of(messages(user("Hi."), assistant(bad))) == reason
    assert reason_of({"context": bad, "response": "Hello!"}) == reason
    assert reason_of(messages(user([{"text": bad}]), assistant("Hello!"))) == reason


def test_whole_surrogate_pair_is_a_character() -> None:
    assert parse_record(parse_json(json.dumps(record("😭", "Hello!")))).turns[0].content == "😭"


def test_turn_longer_than_the_limit_is_rejected_and_one_of_the_limit_is_not() -> None:
    assert parse_record(record("x" * MAX_TURN_CHARACTERS, "Hello!")).turns[0].content[-1] == "x"
    assert reason_of(record("x" * (MAX_TURN_CHARACTERS + 1), "Hello!")) == "turn_too_long"


def test_dialogue_of_two_thousand_turns_is_read() -> None:
    assert len(parse_record(record(*(f"turn {number}" for number in range(2000)))).turns) == 2000


LABELLED: dict[str, dict[str, Any]] = {
    "numbers": {**PLAIN, "sensibility": 8, "rationality": 2.5},
    "evaluation": {**RELEASE, "evaluation": "Evaluation Form (scores ONLY):\n- Rationality: 2.5\n- Sensibility: 8"},
    "both, numbers first": {**PLAIN, "sensibility": 8, "rationality": 2.5, "evaluation": "nonsense"},
}


@pytest.mark.parametrize("labels", ["optional", "required"])
@pytest.mark.parametrize("form", LABELLED)
def test_labels_are_taken_from_every_form(form: str, labels: LabelUse) -> None:
    assert parse_record(LABELLED[form], labels=labels).labels == Labels(sensibility=8.0, rationality=2.5)


def test_what_is_said_of_the_judge_is_kept() -> None:
    value = {**LABELLED["numbers"], "judge": {"model": "m"}}
    labels = parse_record(value, labels="required").labels
    assert labels is not None
    assert labels.judge == {"model": "m"}


@pytest.mark.parametrize("value", [{**PLAIN, "sensibility": "eight"}, {**RELEASE, "evaluation": 7}])
def test_labels_are_not_looked_at_unless_asked_for(value: dict[str, Any]) -> None:
    assert parse_record(value).labels is None


def test_record_without_labels_is_rejected_only_where_they_are_required() -> None:
    assert parse_record(PLAIN, labels="optional").labels is None
    assert reason_of(PLAIN, "required") == "no_label"
    assert reason_of({**PLAIN, "sensibility": None, "rationality": None}, "required") == "no_label"


@pytest.mark.parametrize("head", ["sensibility", "rationality"])
def test_label_that_is_no_number_from_0_to_10_is_rejected(head: str) -> None:
    others: list[Any] = [None, True, False, "8", [8], {}]
    for bad in [*others, -0.1, 10.01, 11, float("nan"), float("inf"), -float("inf"), 10**400, -(10**400)]:
        assert reason_of({**PLAIN, "sensibility": 5, "rationality": 5, head: bad}, "optional") == "bad_label"


@pytest.mark.parametrize("number", [0, 10, 0.0, 10.0, 1e-9])
def test_ends_of_the_range_are_labels(number: float) -> None:
    labels = parse_record({**PLAIN, "sensibility": number, "rationality": 5}, labels="required").labels
    assert labels == Labels(float(number), 5.0)


@pytest.mark.parametrize(
    "text",
    [
        "- Rationality: 2\n- Sensibility: 8",
        "Sensibility: 8, Rationality: 2",
        "**Rationality:** 2/10 **Sensibility:** 8/10",
        "RATIONALITY = 2; sensibility = 8",
        "Rationality - 2 - Sensibility - 8",
        "Rationality: 2 Sensibility: 8 (so Rationality: 2)",
        "Rationality: 2.0 Sensibility: 8.0",
    ],
)
def test_evaluation_is_read_in_many_spellings(text: str) -> None:
    assert parse_record({**RELEASE, "evaluation": text}, labels="required").labels == Labels(8.0, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Rationality: 2",
        "Sensibility: 8",
        "Rationality: high Sensibility: low",
        "Rationality: 2 Sensibility: 8 Rationality: 3",
        "Irrationality: 2 Sensibility: 8",
        "Rationality: 2-3 Sensibility: 8",
        "Rationality: 2/5 Sensibility: 8",
        "Rationality -2 Sensibility: 8",
        "Rationality: -2 Sensibility: 8",
        "Rationality: 2 Sensibility: 11",
    ],
)
def test_evaluation_without_one_value_of_each_is_rejected(text: str) -> None:
    assert reason_of({**RELEASE, "evaluation": text}, "optional") == "bad_label"


def test_evaluation_that_is_no_text_is_rejected() -> None:
    assert reason_of({**RELEASE, "evaluation": [1]}, "optional") == "wrong_type"


@pytest.mark.parametrize(
    "text",
    ["", "{", "{'a': 1}", '{"a": 1,}', '{"a": 1} {"b": 2}', "\ufeff{}", "[" * 100_000, '{"a": ' + "1" * 5000 + "}"],
)
def test_broken_json_is_said_to_be_so(text: str) -> None:
    with pytest.raises(RecordError) as caught:
        parse_json(text)
    assert caught.value.reason == "broken_json"
    assert "expected one JSON object" in caught.value.detail


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "make", [lambda deep: deep, lambda deep: {"messages": deep}, lambda deep: {**PLAIN, "id": deep}]
)
def test_value_of_any_depth_is_rejected_and_shown(make: Callable[[Any], Any]) -> None:
    # The deepest values that Python's JSON reader gives are too deep for its repr(); about the recursion limit.
    for depth in (*range(900, 1000), 5000):
        assert reason_of(make(nested(depth))) in ("not_an_object", "wrong_type")


def test_record_is_known_by_its_keys() -> None:
    assert all(map(holds_dialogue, (PLAIN, {"conversations": 1}, RELEASE, {"instruction": "", "output": ""})))
    assert not any(map(holds_dialogue, ({"context": ""}, {"instruction": ""}, [], "messages")))


def test_clean_text_takes_off_space_around_and_nothing_else() -> None:
    assert clean_text(" It 's\n OK.\n", "content") == "It 's\n OK."


def test_reject_reads_as_one_line() -> None:
    assert str(Reject("a.jsonl", 3, "empty_turn", "turn 1 is empty")) == "a.jsonl:3: empty_turn: turn 1 is empty"


def test_record_is_not_changed_by_reading_it() -> None:
    value = {**RELEASE, "evaluation": "Rationality: 2 Sensibility: 8", "id": " a "}
    before = json.dumps(value)
    assert isinstance(parse_record(value, labels="optional"), Dialogue)
    assert json.dumps(value) == before
