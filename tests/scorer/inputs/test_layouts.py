# ruff: noqa: E501 - a table reads best with one case per line
"""Which answer of a record is judged: the one that is meant, or none."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from scorer.dialogue import Dialogue, conversation_key
from scorer.inputs.parse import parse_record, parse_records
from scorer.inputs.records.faults import RecordError
from tests.scorer.inputs.input_data import AGAIN, CALL, FIT, GOOD, OPEN, A, Meant, U, check_meant, said

MEANT: dict[str, Meant] = {
    "generation beside messages": ({"messages": OPEN, "generation": "NEW"}, "NEW"),
    "completion beside messages": ({"messages": OPEN, "completion": "NEW"}, "NEW"),
    "response beside messages": ({"messages": OPEN, "response": "NEW"}, "NEW"),
    "output beside conversations": ({"conversations": OPEN, "output": "NEW"}, "NEW"),
    "answer beside messages": ({"messages": OPEN, "answer": "NEW"}, "NEW"),
    "a message as answer": ({"messages": OPEN, "response": GOOD}, "NEW"),
    "a list of one answer": ({"messages": OPEN, "responses": ["NEW"]}, "NEW"),
    "choices of an API": ({"messages": OPEN, "choices": [{"message": GOOD}]}, "NEW"),
    "a response of an API": ({"messages": OPEN, "response": {"choices": [{"message": GOOD}]}}, "NEW"),
    "an answer of several": ({"messages": OPEN, "responses": ["NEW", "other"]}, FIT),
    "two answers that differ": ({"messages": OPEN, "response": "NEW", "output": "other"}, FIT),
    "two answers that agree": ({"messages": OPEN, "response": "NEW", "output": "NEW"}, "NEW"),
    "an answer and the turns' own": ({"messages": [U, A], "generation": "NEW"}, FIT),
    "the turns' own answer again": ({"messages": [U, GOOD], "response": "NEW"}, "NEW"),
    "an answer under a name of its own": ({"messages": OPEN, "model_answer_text": "NEW"}, FIT),
    "an answer's model is no answer": ({"messages": OPEN, "response_model": "gpt-4"}, "OLD"),
    "a gold answer beside the turns' own": ({"messages": [U, GOOD], "answer": "42"}, "NEW"),
    "a number is no answer": ({"messages": [U, GOOD], "output": 3}, "NEW"),
    "turns that end in a user": ({"messages": OPEN}, "OLD"),
    "two lists that differ": ({"messages": [U, A], "conversations": [U, GOOD]}, FIT),
    "two lists that agree": ({"messages": [U, GOOD], "conversations": [U, GOOD]}, "NEW"),
    "an empty list beside a filled one": ({"messages": [], "conversations": [U, GOOD]}, "NEW"),
    "an empty list beside question and answer": ({"messages": [], "prompt": "Hi.", "response": "NEW"}, "NEW"),
    "conversation, a list": ({"conversation": [U, GOOD]}, "NEW"),
    "dialog": ({"dialog": [U, GOOD]}, "NEW"),
    "dialogue": ({"dialogue": [{"speaker": "user", "text": "Hi."}, {"speaker": "bot", "text": "NEW"}]}, "NEW"),
    "chat": ({"chat": [U, GOOD]}, "NEW"),
    "prompt, response": ({"prompt": "Hi.", "response": "NEW"}, "NEW"),
    "prompt, completion": ({"prompt": "Hi.", "completion": "NEW", "label": True}, "NEW"),
    "prompt and completion as messages": ({"prompt": [U], "completion": [GOOD]}, "NEW"),
    "question, answer": ({"question": "Hi.", "answer": "NEW"}, "NEW"),
    "question, response, answer": ({"question": "Hi.", "answer": "gold", "response": "NEW"}, "NEW"),
    "input, output": ({"input": "Hi.", "output": "NEW"}, "NEW"),
    "a thought in an answer": ({"prompt": "Hi.", "response": "<thinking>Hm.</thinking> NEW"}, "NEW"),
    "a chosen answer alone": ({"prompt": "Hi.", "chosen": "NEW"}, "NEW"),
    "an answer of a batch": ({"custom_id": "1", "messages": [U], "response": {"body": {"choices": [{"message": GOOD}]}}}, "NEW"),
    "a request of Anthropic": ({"messages": OPEN, "response": {"role": "assistant", "content": [{"type": "text", "text": "NEW"}]}}, "NEW"),
    "an answer as an object": ({"messages": OPEN, "generation": {"text": "NEW"}}, "NEW"),
    "an answer under a plain name": ({"messages": OPEN, "text": "NEW"}, FIT),
    "the turns again as text": ({"messages": OPEN, "text": "<user>Hi.<bot>OLD<user>And you?"}, "OLD"),
    "a final answer": ({"messages": OPEN, "final": "NEW"}, FIT),
    "two models' answers": ({"prompt": "Hi.", "response_a": "x", "response_b": "y"}, "no_messages"),
    "a list of models' answers": ({"prompt": "Hi.", "responses": [{"response": "x"}, {"response": "y"}]}, FIT),
    "messages and candidates": ({"context": [U, A], "responses": ["x", "y"]}, FIT),
    "an API's answer as JSON": ({"prompt": "Hi.", "response": '{"choices": [{"message": {"role": "assistant", "content": "NEW"}}]}'}, ("Hi.", "NEW")),
    "JSON that is the answer": ({"prompt": "Hi.", "response": '{"mood": "sad"}'}, ("Hi.", '{"mood": "sad"}')),
    "Gemini's answer": ({"messages": [U], "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "NEW"}]}}]}}, ("Hi.", "NEW")),
    "OpenAI's responses": ({"input": "Hi.", "output": [{"type": "reasoning", "summary": []}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "NEW"}]}]}, ("Hi.", "NEW")),
    "an object with content": ({"messages": [U], "response": {"content": "NEW"}}, ("Hi.", "NEW")),
    "a pipeline's answer": ({"prompt": "Hi, I lost my dog.", "generated_text": "Hi, I lost my dog. NEW"}, ("Hi, I lost my dog.", "NEW")),
    "a pipeline's list": ({"messages": [U], "output": [{"generated_text": "NEW"}]}, ("Hi.", "NEW")),
    "Ollama's answer": ({"model": "m", "messages": [U], "message": GOOD, "done": True}, ("Hi.", "NEW")),
    "a gold answer": ({"messages": OPEN, "ideal": "NEW"}, FIT),
    "a traced call": ({"inputs": {"question": "Hi."}, "outputs": {"answer": "NEW"}}, ("Hi.", "NEW")),
    "a traced call of messages": ({"input": {"messages": [U]}, "output": {"role": "assistant", "content": "NEW"}}, ("Hi.", "NEW")),
    "a traced call of Bedrock": ({"input": {"messages": [U]}, "output": {"message": {"role": "assistant", "content": [{"text": "NEW"}]}}}, ("Hi.", "NEW")),
    "a traced call whose answer is unknown": ({"input": {"messages": OPEN}, "output": {"frage": "x"}}, "wrong_type"),
    "candidates beside the turns' own answer": ({"messages": [U, GOOD], "candidates": ["x", "y"]}, "NEW"),
    "Gemini's log": ({"contents": [{"role": "user", "parts": [{"text": "Hi."}]}], "candidates": [{"content": {"parts": [{"text": "NEW"}]}}]}, ("Hi.", "NEW")),
    "an answer that begins as the prompt": ({"prompt": "Hello", "generated_text": "Hello! How are you?"}, ("Hello", "Hello! How are you?")),
    "JSON with an author": ({"prompt": "Quote.", "response": '{"author": "Orwell", "text": "NEW"}'}, ("Quote.", '{"author": "Orwell", "text": "NEW"}')),
    "candidates beside the answer": ({"query": "Hi.", "answer": "NEW", "candidates": ["NEW", "x"]}, ("Hi.", "NEW")),
    "a mood beside turns": ({"messages": OPEN, "gold_emotion": "sad"}, "OLD"),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANT)
def test_the_answer_that_is_meant_is_judged_or_none_is(case: str) -> None:
    check_meant(*MEANT[case])


PAIRS: dict[str, dict[str, Any]] = {
    "prompt and texts": {"prompt": "Hi.", "chosen": "NEW", "rejected": "bad"},
    "prompt and messages": {"prompt": [U], "chosen": [GOOD], "rejected": [said("bad")]},
    "whole dialogues": {"chosen": [U, GOOD], "rejected": [U, said("bad")]},
    "whole dialogues beside the prompt": {"prompt": "Hi.", "messages": [U, GOOD], "chosen": [U, GOOD], "rejected": [U, said("bad")]},
    "transcripts": {"chosen": "\n\nHuman: Hi.\n\nAssistant: NEW", "rejected": "\n\nHuman: Hi.\n\nAssistant: bad"},
    "ShareGPT": {"conversations": [{"from": "human", "value": "Hi."}], "chosen": {"from": "gpt", "value": "NEW"}, "rejected": {"from": "gpt", "value": "bad"}},
    "instruction": {"instruction": "Hi.", "input": "", "chosen": "NEW", "rejected": "bad"},
    "OpenAI's": {"input": {"messages": [U]}, "preferred_output": [GOOD], "non_preferred_output": [said("bad")]},
    "messages that end in the chosen one": {"messages": [U, GOOD], "chosen": "NEW", "rejected": "bad"},
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_preference_pair_gives_two_dialogues(case: str) -> None:
    found = parse_records({**PAIRS[case], "id": 7})
    assert [(item.id, item.response) for item in found if isinstance(item, Dialogue)] == [
        ("7#chosen", "NEW"),
        ("7#rejected", "bad"),
    ]
    assert {item.context[-1].content for item in found if isinstance(item, Dialogue)} == {"Hi."}


def test_fault_of_one_of_a_pair_costs_not_the_other() -> None:
    chosen, rejected = parse_records({"prompt": "Hi.", "chosen": "NEW", "rejected": " "})
    assert isinstance(chosen, Dialogue)
    assert isinstance(rejected, RecordError)


def test_text_is_read_as_a_record_only_where_it_is_one() -> None:
    inner = '{"dialog": [{"speaker": "usr", "text": "Hi."}, {"speaker": "sys", "text": "NEW"}]}'
    assert [parse_record({"id": "a", key: f" {inner}"}).response for key in ("text", "Text")] == ["NEW", "NEW"]
    for text in ("{no JSON", '{"dialog": 1}', '{"lyrics": "la"}', "Hi.", "[1]"):
        with pytest.raises(RecordError, match="no_messages: keys text"):
            parse_record({"text": text})


def test_sys_is_who_answers_only_beside_usr() -> None:
    assert (
        parse_record(
            {
                "dialog": [
                    {"speaker": "sys", "text": "Hi."},
                    {"speaker": "usr", "text": "Hm."},
                    *[{"speaker": "sys", "text": "NEW"}],
                ]
            }
        ).response
        == "NEW"
    )
    with pytest.raises(RecordError, match="unknown_role: turn 1 has role str 'sys'"):  # a system prompt, perhaps
        parse_record({"messages": [{"role": "sys", "content": "Be kind."}, U, A]})


@pytest.mark.parametrize("context", [["Hi.", ""], [], ["Hi.", 1], [None]])
def test_list_that_is_no_list_of_texts_is_a_reject(context: list[Any]) -> None:
    with pytest.raises(RecordError, match=r"empty_turn|wrong_type"):
        parse_record({"context": context, "response": "NEW"})


def test_question_is_in_the_context_with_what_it_is_about() -> None:
    value = {"instruction": "When was it built?", "context": "Built in 1852.", "response": "In 1852."}
    assert [turn.content for turn in parse_record(value).turns] == ["When was it built?\nBuilt in 1852.", "In 1852."]


def test_system_prompt_beside_the_turns_counts_as_one_among_them() -> None:
    inline = {"messages": [said("Be kind.", "system"), U, GOOD]}
    for beside in (
        {"messages": [U, GOOD]},
        {"prompt": "Hi.", "response": "NEW"},
        {"context": "Hi.", "response": "NEW"},
    ):
        for system in (
            "Be kind.",
            ["Be kind."],
            [{"type": "text", "text": "Be kind."}],
            {"parts": [{"text": "Be kind."}]},
        ):
            dialogue = parse_record({**beside, "system": system})
            assert dialogue == parse_record(inline)
            assert dialogue.notes.top_system


@pytest.mark.parametrize(
    ("more", "id_", "category"),
    [
        ({"id": 2.0}, "2", None),
        ({"id": uuid.UUID(int=5).bytes}, str(uuid.UUID(int=5)), None),
        ({"id": {"$oid": "5f"}}, "5f", None),
        ({"id": "a", "category": ["sad", "angry", 3]}, "a", "sad, angry, 3"),
        ({"id": "a", "category": 4}, "a", "4"),
        ({"id": "a", "category": float("nan")}, "a", None),
        ({"id": "a", "category": {"x": 1}, "conversation": {}}, "a", None),
    ],
)
def test_odd_key_costs_no_dialogue(more: dict[str, Any], id_: str, category: str | None) -> None:
    dialogue = parse_record({"messages": [U, GOOD], **more})
    assert (dialogue.id, dialogue.category) == (id_, category)


def test_notes_tell_what_was_left_out() -> None:
    turns = [
        U,
        CALL,
        said("7", "tool"),
        said([{"type": "text", "text": "<think>x</think>NEW"}, {"type": "image"}]),
        AGAIN,
    ]
    notes = parse_record({"messages": turns, "id": "1", "model": "m", "category": "c"}).notes
    assert (notes.layout, notes.used, notes.aside) == ("messages", ("messages", "id", "category"), ("model",))
    assert (notes.tool_turns, notes.parts, notes.thoughts, notes.later_turns, notes.ends_in_user) == (2, 1, 1, 1, True)


@pytest.mark.parametrize("first", ["😢", "???", "Hi."])
def test_conversations_that_share_a_system_prompt_or_an_emoji_are_different(first: str) -> None:
    def key(*texts: tuple[str, str]) -> str:
        return parse_record({"messages": [said(text, role) for role, text in texts]}).conversation

    def whole(user: str) -> str:
        return key(("system", "Be kind."), ("user", user), ("assistant", "Oh."))

    assert whole(first) != whole("My dog died.")
    assert key(("user", first), ("assistant", "a")) != key(("user", "😭"), ("assistant", "a"))
    longer = key(("user", first), ("assistant", "a"), ("user", "b"), ("assistant", "c"))
    assert longer == key(("user", first), ("assistant", "a"))


def test_conversation_that_the_listener_began_has_one_key() -> None:
    long = parse_record({"messages": [A, U, A, AGAIN, GOOD]})
    assert long.conversation == parse_record({"messages": [A, U, A]}).conversation
    assert long.conversation != conversation_key((long.turns[0],))


def test_error_names_the_keys_and_the_nearest_layout() -> None:
    with pytest.raises(
        RecordError, match=r"keys completoin, k0, k1, .*nearest layout prompt, completion: completion lack"
    ):
        parse_record({"completoin": "x", "prompt": "Hi.", **{f"k{number}": 1 for number in range(12)}})


@pytest.mark.parametrize(
    "value", [{"Context": "Hi.", "Response": "NEW", "ID": 7}, {"prompt": "Hi.", "Output ": "NEW", "Id": "7"}]
)
def test_names_of_columns_are_known_in_any_case_where_none_is_known_as_it_stands(value: dict[str, Any]) -> None:
    dialogue = parse_record(value)
    assert (dialogue.id, *(turn.content for turn in dialogue.turns)) == ("7", "Hi.", "NEW")
    assert parse_record({"prompt": "Hi.", "response": "NEW", "Response": "OLD"}).response == "NEW"
    with pytest.raises(RecordError, match="keys Completoin, prompt, "):  # as the record has them
        parse_record({"prompt": "Hi.", "Completoin": "NEW"})
    with pytest.raises(RecordError, match="keys RESPONSE, Response, prompt"):  # which one is meant?
        parse_record({"Response": "OLD", "prompt": "Hi.", "RESPONSE": "NEW"})


FIELDS: list[tuple[dict[str, str], dict[str, Any], tuple[str, ...]]] = [
    ({"response": "a", "context": "q"}, {"a": "NEW", "q": "Hi."}, ("Hi.", "NEW")),
    ({"response": "a", "context": "q"}, {"a": "NEW", "q": "x</s>y</s>z", "response": "OLD"}, ("x", "y", "z", "NEW")),
    ({"messages": "log.turns"}, {"log": {"turns": [U, GOOD]}}, ("Hi.", "NEW")),
    ({"messages": "m", "response": "a"}, {"m": OPEN, "a": "NEW", "output": "x"}, ("Hi.", "OLD", "And you?", "NEW")),
    ({"response": "a"}, {"prompt": "Hi.", "a": "NEW", "completion": "OLD"}, ("Hi.", "NEW")),
    (
        {"context": "c"},
        {"c": "User: Hi.\nBot: OLD\nUser: Bye?", "prompt": "Go.", "response": "NEW"},
        ("Hi.", "OLD", "Bye?", "NEW"),
    ),
    ({"response": "a", "context": "q"}, {"user": "Anna Smith", "q": "Hi.", "a": "NEW"}, ("Hi.", "NEW")),
    (
        {"response": "outputs.a", "context": "inputs.q"},
        {"inputs": {"q": "Hi."}, "outputs": {"a": "NEW"}},
        ("Hi.", "NEW"),
    ),
]


@pytest.mark.parametrize(("fields", "value", "expected"), FIELDS)
def test_columns_are_what_they_are_said_to_be(
    fields: dict[str, str], value: dict[str, Any], expected: tuple[str, ...]
) -> None:
    (dialogue,) = parse_records({**value, "uid": "u1"}, fields={**fields, "id": "uid"})
    assert isinstance(dialogue, Dialogue)
    assert (dialogue.id, *(turn.content for turn in dialogue.turns)) == ("u1", *expected)


def test_texts_without_roles_are_turns_only_where_they_are_said_to_be() -> None:
    said = ["Hi.", "Hello.", "And you?", "NEW"]
    record = {"dialog": said, "act": [1, 1, 2, 1]}
    with pytest.raises(
        RecordError, match=r"wrong_type: turn 1 is str 'Hi.*--map messages=COLUMN takes the last for the answer"
    ):
        parse_record(record)
    for texts in (said, said[1:]):
        (dialogue,) = parse_records({**record, "dialog": texts}, fields={"messages": "dialog"})
        assert isinstance(dialogue, Dialogue)
        assert [turn.content for turn in dialogue.turns] == texts
        assert [turn.role for turn in dialogue.turns] == ["user", "assistant", "user", "assistant"][-len(texts) :]
    (fault,) = parse_records({"dialog": ["Hi."]}, fields={"messages": "dialog"})
    assert isinstance(fault, RecordError)
    assert fault.reason == "one_speaker"


def test_column_that_is_not_there_is_a_reject() -> None:
    with pytest.raises(RecordError, match="no column 'nope' for response; keys q"):
        parse_records({"q": "Hi."}, fields={"response": "nope"})
