# ruff: noqa: E501 - a table reads best with one case per line
"""Turns in one text: transcripts, and what chat templates make of a dialogue."""

from __future__ import annotations

import time

import pytest

from scorer.inputs.records.transcripts import transcript, without_end, without_name

TURNS = [("user", "Hi."), ("assistant", "Hello: you."), ("user", "My dog\ndied.")]
KIND = [("system", "Be kind."), *TURNS]
TEXTS = {
    "HH": ("\n\nHuman: Hi.\n\nAssistant: Hello: you.\n\nHuman: My dog\ndied.\n\nAssistant:", TURNS),
    "HH with a system prompt": ("Be kind.\n\nHuman: Hi.\n\nAssistant: Hello: you.\n\nHuman: My dog\ndied.\n\nAssistant:", KIND),
    "a line per turn": ("User: Hi.\nAssistant: Hello: you.\nUser: My dog\ndied.\nAssistant:", TURNS),
    "other names": ("Client: Hi.\nTherapist: Hello: you.\n\nClient: My dog\ndied.", TURNS),
    "Human and AI": ("Human: Hi.\nAI: Hello: you.\nHuman: My dog\ndied.\nAI:", TURNS),
    "bold names": ("**User:** Hi.\n**Assistant**: Hello: you.\n**User:** My dog\ndied.", TURNS),
    "Chinese names": ("来访者：Hi.\n咨询师：Hello: you.\n来访者：My dog\ndied.", TURNS),
    "a system line": ("System: Be kind.\nUser: Hi.\nBot: Hello: you.\nUser: My dog\ndied.", KIND),
    "a system that answers": ("USER: Hi.\nSYSTEM: Hello: you.\nUSER: My dog\ndied.", TURNS),
    "ChatML": ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello: you.<|im_end|>\n<|im_start|>user\nMy dog\ndied.<|im_end|>\n<|im_start|>assistant\n", KIND),
    "Llama 3": ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello: you.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nMy dog\ndied.<|eot_id|>", TURNS),
    "Llama 2": ("<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi. [/INST] Hello: you. </s><s>[INST] My dog\ndied. [/INST]", KIND),
    "Mistral": ("<s>[INST] Hi. [/INST]Hello: you.</s>[INST] My dog\ndied. [/INST]", TURNS),
    "Zephyr": ("<|system|>\nBe kind.</s>\n<|user|>\nHi.</s>\n<|assistant|>\nHello: you.</s>\n<|user|>\nMy dog\ndied.</s>\n<|assistant|>\n", KIND),
    "Phi": ("<|user|>\nHi.<|end|>\n<|assistant|>\nHello: you.<|end|>\n<|user|>\nMy dog\ndied.<|end|>\n<|assistant|>", TURNS),
    "Gemma": ("<bos><start_of_turn>user\nHi.<end_of_turn>\n<start_of_turn>model\nHello: you.<end_of_turn>\n<start_of_turn>user\nMy dog\ndied.<end_of_turn>", TURNS),
    "Vicuna": ("Be kind. USER: Hi. ASSISTANT: Hello: you.</s>USER: My dog\ndied. ASSISTANT:", KIND),
    "Guanaco": ("### Human: Hi.### Assistant: Hello: you.### Human: My dog\ndied.", TURNS),
    "Guanaco by lines": ("### Human: Hi.\n### Assistant: Hello: you.\n### Human: My dog\ndied.\n### Assistant:", TURNS),
    "Alpaca": ("Be kind.\n\n### Instruction:\nHi.\n\n### Response:\nHello: you.\n\n### Instruction:\nMy dog\ndied.\n\n### Response:\n", KIND),
    "ChatML of one turn": ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n", [("system", "Be kind."), ("user", "Hi.")]),
    "Gemma of one turn": ("<bos><start_of_turn>user\nHi.<end_of_turn>", [("user", "Hi.")]),
    "one name only, of who asks": ("Human: Hi.", [("user", "Hi.")]),
}  # fmt: skip
NONE = (
    *("Hi.", "", "Assistant: Hello.", "Note: this is no name.\nUser: Hi.", "I told my client: no.\nUser: no."),
    *("Doctor: is that what you want to be?", "model: A\nagent: B", "Patient: it hurts", "My boss said:\nAI: is it?"),
    *(
        "Look at this:\n\nHuman: Hi.\n\nAssistant: Hello.",
        "What does <|im_start|> mean?",
        "<|user|> means what?",
        "[INST] is a mark.",
    ),
)


@pytest.mark.parametrize("case", TEXTS)
def test_turns_of_a_text_are_those_that_its_names_say(case: str) -> None:
    text, turns = TEXTS[case]
    assert [(turn.role, turn.content) for turn in transcript(text)] == turns


@pytest.mark.parametrize("text", NONE)
def test_a_text_that_only_speaks_of_somebody_has_no_turns(text: str) -> None:
    assert transcript(text) == []


SPOKEN_OF = (
    *("Patient: male\nDoctor: Smith\nWrite a letter.", "User: root\nSystem: Ubuntu\nHow?", "USER: hi ASSISTANT: hello"),
    *("Coach: John\nClient: Mary\nWrite.", "Explain what [INST] and [/INST] do.", "<|user|> and <|assistant|>"),
    *("Convert: USER: hi ASSISTANT: hello", "### Input: x\n### Response: y"),
)


@pytest.mark.parametrize("text", SPOKEN_OF)
def test_a_prompt_that_speaks_of_a_dialogue_is_none(text: str) -> None:
    assert transcript(text, prompt=True) == []


@pytest.mark.parametrize(
    "text",
    [
        *("a <b{}x", "a [{}x", "hi:{}x\n\nHuman: a\n\nAssistant:", "[INST] a [/INST] b{}x", "### a{}x", "<|a|>{}x"),
        *("User: a{}\nAssistant: b{}", "{}User: a\nBot: b", "</s>{}x", "x{}</s>"),
    ],
)
@pytest.mark.parametrize(
    "filling", [" ", "\n", "\n ", "</s> ", "<|im_end|>", "User: ", "\nUser:", "[INST]", "###", "<|"]
)
def test_a_long_text_takes_no_longer_than_its_length(text: str, filling: str) -> None:
    long = text.replace("{}", filling * (200_000 // len(filling)))
    before = time.process_time()
    transcript(long)
    without_name(long)
    without_end(long)
    assert time.process_time() - before < 3  # quadratic ones take minutes


def test_an_answer_loses_the_name_of_who_answers_alone() -> None:
    assert without_name("Assistant: Oh no.") == without_name("Oh no.") == "Oh no."
    for other in ("User: Oh no.", "Model: T", "Note: Oh no.", "AI: one.\nUser: two."):
        assert without_name(other) == other
