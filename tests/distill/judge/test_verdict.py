"""The text of a reply: what is said behind all thinking, in every form that models write, and where it ends."""

from __future__ import annotations

import json
import warnings

import pytest

from distill.judge.verdict import EMPTY, MAX_REPLY_CHARACTERS, MORE_TOKENS, ReplyError, read_judgement, spoken

GOOD = '{"sensibility": 5, "rationality": 8}'
DRAFT = '{"sensibility": 1, "rationality": 1}'
FINAL = "<|channel|>final<|message|>"
ANALYSIS = "<|channel|>analysis<|message|>"


@pytest.mark.parametrize(
    "reply",
    [
        "{'sensibility': 5, 'rationality': 8}",
        "{'sensibility': 5, 'rationality': 8, 'why': None}",
        "Here: {'rationality': 8.0, 'Sensibility ': '5'} as asked",
        "{'sensibility': 5, 'rationality': 8, 'path': 'C:\\d'}",
        f"{ANALYSIS}{DRAFT}<|end|>{FINAL}{GOOD}",
        f"{ANALYSIS}{DRAFT}<|end|><|start|>assistant{FINAL}{GOOD}<|return|>{DRAFT}",
        f"{FINAL}{GOOD}<|end|>{DRAFT}<|end|>{DRAFT}",
        f"{FINAL}{DRAFT}<|end|>{FINAL}{GOOD}",
        f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{GOOD}",
        f"◁think▷{DRAFT}◁/think▷{GOOD}",
        f"<thinking>{DRAFT}</thinking><think>{DRAFT}</think>{GOOD}",
        f"<Reasoning id='1'>{DRAFT}</ Reasoning >{GOOD}",
        f'"{GOOD}"',  # in quotes that are no JSON
        f"{GOOD}\nSensibility: 5",
        f"On scales of 0 to 10: {GOOD} (rationality 0-10)",
        f"{{}} {{x}} {GOOD} {{y}}",
        f"{{'a': 1}} and {{b: {GOOD}}}",
        "{" + GOOD,
        json.dumps("Verdict: " + GOOD),
        '{\\"sensibility\\": 5, \\"rationality\\": 8}',
        '{"sensibility": "5/10", "rationality": "8 out of 10"}',
        f"{GOOD}{GOOD}",
        " " * 30_000 + GOOD,
        GOOD + "x" * (MAX_REPLY_CHARACTERS - len(GOOD)),
    ],
)
def test_a_verdict_is_found(reply: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_judgement(reply) == (5, 8)


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        (f"{FINAL}{GOOD}{ANALYSIS}hm", EMPTY, "a thought without an end"),
        (f"<|begin_of_thought|>{GOOD}", EMPTY, "a thought without an end"),
        (" ", EMPTY, "nothing but white space"),
        (GOOD + "x" * (MAX_REPLY_CHARACTERS - len(GOOD) + 1), "too_long", "20001 characters"),
        (f"{GOOD} {DRAFT}", "ambiguous", "2 different judgements"),
        (f"{GOOD}\nSensibility: 6", "ambiguous", "2 different judgements"),
        (f"{GOOD}\nRationality: 9", "ambiguous", "2 different judgements"),
        ("Sensibility: 0-10, rationality: 3", "ambiguous", ""),
        ("{'sensibility': 5, 'rationality': 8, 'sensibility': 5}", "ambiguous", "an object names a key twice"),
        ("{'sensibility': 5, 'rationality': f()}", "no_scores", "broken or breaks off"),
        ("{**a, 'sensibility': 5, 'rationality': 8}", "no_scores", "broken or breaks off"),
        ("{'sensibility', 5}", "no_scores", "broken or breaks off"),
        ("{'sensibility': 5, 'rationality': 8", "no_scores", "broken or breaks off"),
        ("{ 'sensibility': 5 'rationality': 8 }", "no_scores", "broken or breaks off"),
        ("{'sensibility': 5}", "no_scores", "rationality is None, expected a whole number from 0 to 10"),
        ('{"sensibility": 1e9, "rationality": 8}', "no_scores", "sensibility is 1000000000.0, expected"),
        ('{"sensibility": 999999999, "rationality": 8}', "out_of_range", "expected a number from 0 to 10"),
        ('{"sensibility": "-5", "rationality": 8}', "out_of_range", "sensibility is -5, expected a number from 0"),
        ('{"sensibility": 5, "rationality": 0.5}', "out_of_range", "rationality is 0.5, expected a whole number"),
        ('{"sensibility": 5, "rationality": 9.5}', "out_of_range", "rationality is 9.5, expected a whole number"),
        ('{"sensibility": 5, "rationality": 10.5}', "out_of_range", "rationality is 10.5, expected a number"),
        ('{"sensibility": 5, "rationality": -0.5}', "out_of_range", "rationality is -0.5, expected a number"),
        ("{'warm': 5}", "no_scores", "no JSON object with both scores"),
        ("I'd say {maybe}", "no_scores", "no JSON object with both scores"),
        (f'{GOOD} {{"sensibility": 5, "rati', "no_scores", "broken or breaks off"),
        (f'{GOOD} {{"RATIONALITY": ', "no_scores", "broken or breaks off"),
        ('{"sensibility": "' + "é" * 90 + '", "rationality": 8}', "no_scores", "sensibility is '" + "\\xe9" * 9),
    ],
)
def test_no_verdict_says_why(reply: str, reason: str, detail: str) -> None:
    with pytest.raises(ReplyError) as caught:
        read_judgement(reply)
    assert caught.value.reason == reason
    assert detail in caught.value.detail
    assert len(caught.value.detail) < 120


def test_a_form_in_the_prompts_words_is_neither_a_verdict_nor_a_broken_one() -> None:
    form = '{"sensibility": N, "rationality": N}'
    assert read_judgement(f"{form} {GOOD} {form}") == (5, 8)
    with pytest.raises(ReplyError, match="no_scores"):
        read_judgement(form)


def test_what_is_cut_says_to_raise_the_limit() -> None:
    for reply in ("<think>and so", f"{ANALYSIS}and so"):
        with pytest.raises(ReplyError) as caught:
            read_judgement(reply, cut=True)
        assert caught.value.detail == f"a thought without an end; {MORE_TOKENS}"
        with pytest.raises(ReplyError) as caught:
            spoken(reply)
        assert caught.value.detail == "a thought without an end"
    assert read_judgement(f"<think>well</think>{GOOD}", cut=True) == (5, 8)
    with pytest.raises(ReplyError, match="cut off"):
        read_judgement("no object at all", cut=True)


def test_what_is_said_stands_behind_the_last_thought() -> None:
    assert spoken("plain") == "plain"
    assert spoken("<think>a</think>b<think>c</think>d") == "d"
    assert spoken(f"{ANALYSIS}a<|end|>{FINAL}b<|return|>c<|end|>d") == "b"
    assert spoken("analysisWe thinkassistantfinal: b") == ": b"
    assert spoken("analysis of it") == "analysis of it"  # a word, no mark
