"""The reader of replies guesses nothing; a rubric is known by its hash."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from distill.errors import RubricError
from distill.judge.rubric import MAX_REPLY_CHARACTERS, RUBRIC, ReplyError, Rubric, parse, read_rubric
from tests.conftest import make_dialogue

GOOD = '{"sensibility": 5, "rationality": 8}'

VALID = {
    "JSON": GOOD,
    "another order": '{"rationality": 8, "sensibility": 5}',
    "white space": f"\n  {GOOD}\n",
    "whole numbers written as decimals": '{"sensibility": 5.0, "rationality": 8.0}',
    "numbers as text": '{"sensibility": "5", "rationality": " 8 "}',
    "capitals": '{"Sensibility": 5, "Rationality": 8}',
    "more keys": '{"reason": "warm", "sensibility": 5, "rationality": 8}',
    "a code fence": f"```json\n{GOOD}\n```",
    "prose around": f"Here is my judgement: {GOOD}. I hope that it helps {{you}}!",
    "an object around": f'{{"scores": {GOOD}}}',
    "a list around": f"[{GOOD}]",
    "the same twice": f"{GOOD}\n{GOOD}",
    "thought aloud": f'<think>maybe {{"sensibility": 1, "rationality": 1}}?</think>{GOOD}',
    "published": "- Rationality: 8\n- Sensibility: 5",
    "published, one line": "Evaluation Form (scores ONLY): - Rationality: 8 - Sensibility: 5",
    "published, bold": "**Rationality**: 8\n**Sensibility:** 5",
    "published, with its scale": "Rationality (0-10): 8/10\nSensibility (0-10): 5 / 10.",
    "published, as scores": "Rationality score = 8\nSensibility score = 5",
}

INVALID = {
    "nothing": ("", "empty"),
    "white space": (" \n", "empty"),
    "only thought": ("<think>well", "empty"),
    "prose": ("I think it is rather warm.", "no_scores"),
    "refused": ("I'm sorry, but I can't help with that.", "no_scores"),
    "one of two": ('{"sensibility": 5}', "no_scores"),
    "one of two, published": ("Rationality: 8", "no_scores"),
    "cut off": ('{"sensibility": 5, "rationality": 8', "no_scores"),
    "cut off in a word": ('{"sensibility": 5, "ration', "no_scores"),
    "null": ('{"sensibility": 5, "rationality": null}', "no_scores"),
    "a truth value": ('{"sensibility": true, "rationality": 8}', "no_scores"),
    "a word": ('{"sensibility": "high", "rationality": 8}', "no_scores"),
    "a list": ('{"sensibility": [5], "rationality": 8}', "no_scores"),
    "huge": ('{"sensibility": 1' + "0" * 400 + ', "rationality": 8}', "no_scores"),
    "too high": ('{"sensibility": 11, "rationality": 8}', "out_of_range"),
    "negative": ('{"sensibility": 5, "rationality": -1}', "out_of_range"),
    "between": ('{"sensibility": 5.5, "rationality": 8}', "out_of_range"),
    "not a number": ('{"sensibility": NaN, "rationality": 8}', "no_scores"),
    "too high, published": ("Rationality: 80\nSensibility: 5", "out_of_range"),
    "between, published": ("Rationality: 7.5\nSensibility: 5", "out_of_range"),
    "two judgements": (f'{GOOD} or {{"sensibility": 6, "rationality": 8}}', "ambiguous"),
    "a key twice": ('{"sensibility": 5, "sensibility": 9, "rationality": 8}', "ambiguous"),
    "a key twice but for capitals": ('{"sensibility": 5, "Sensibility": 9, "rationality": 8}', "ambiguous"),
    "two values, published": ("Rationality: 8\nSensibility: 5\nSensibility: 6", "ambiguous"),
    "a range": ("Rationality: 7-8\nSensibility: 5", "ambiguous"),
    "a range in words": ("Rationality: 7 to 8\nSensibility: 5", "ambiguous"),
    "another scale": ("Rationality: 4/5\nSensibility: 3/5", "ambiguous"),
    "a percentage": ("Rationality: 80%\nSensibility: 5", "ambiguous"),
    "the rubric's own words": ("Rationality: 0 to 10\nSensibility: 0 to 10", "ambiguous"),
    "far too long": (GOOD + " " * MAX_REPLY_CHARACTERS, "too_long"),
}


@pytest.mark.parametrize("case", VALID)
def test_a_clear_reply_is_read(case: str) -> None:
    assert parse(VALID[case]) == (5, 8)


@pytest.mark.parametrize("case", INVALID)
def test_anything_else_is_refused_with_its_reason(case: str) -> None:
    reply, reason = INVALID[case]
    with pytest.raises(ReplyError) as caught:
        parse(reply)
    assert caught.value.reason == reason


@pytest.mark.parametrize("score", range(11))
def test_every_score_is_read(score: int) -> None:
    assert parse(json.dumps({"sensibility": score, "rationality": 10 - score})) == (score, 10 - score)
    assert parse(f"- Rationality: {10 - score}\n- Sensibility: {score}") == (score, 10 - score)


def test_a_number_at_the_end_of_a_cut_reply_may_lack_a_digit() -> None:
    assert parse("Rationality: 8\nSensibility: 1") == (1, 8)
    with pytest.raises(ReplyError, match="cut off"):
        parse("Rationality: 8\nSensibility: 1", cut=True)
    assert parse("Rationality: 8\nSensibility: 1\nThe resp", cut=True) == (1, 8)
    assert parse(f"{GOOD} The resp", cut=True) == (5, 8)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 20_000,
        '{"a":' * 4_000,
        "[" * 20_000,
        "rationality" + " " * 19_000,
        "rationality: " * 1_500,
        'rationality"*_`' * 1_300,
        "rationality(" * 1_600,
        "<think>" * 2_800,
        '{"sensibility": 1,' * 1_100,
    ],
)
def test_no_reply_is_slow_to_read(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ReplyError):
        parse(text[:MAX_REPLY_CHARACTERS])
    assert time.perf_counter() - start < 2


def test_the_hash_is_of_the_rubric_and_its_frame() -> None:
    assert Rubric().hash == Rubric().hash
    assert Rubric(RUBRIC + "More.").hash != Rubric().hash
    assert "0 to 10" in Rubric("My own.").system
    assert Rubric().messages(make_dialogue("a", "b"))[0] == Rubric().messages(make_dialogue("c", "d"))[0]


def test_the_default_rubric_is_pinned() -> None:
    # A change of what is asked makes every label in every store another question. If it is meant, pin the new one.
    assert Rubric().hash == "4bc0f5f90f4115f615f6e191"


def test_a_rubric_of_ones_own_is_read(tmp_path: Path) -> None:
    assert read_rubric(None) == Rubric()
    path = tmp_path / "mine.txt"
    path.write_text("Sensibility: ...\nRationality: ...\n", encoding="utf-8")
    assert read_rubric(path).system.startswith("Sensibility: ...\nRationality: ...\n\nThe dialogue comes as")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read: No such file"),
        (b"", "0 characters, expected a rubric"),
        (b" \n", "0 characters"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"x" * 100_001, "100001 characters, expected a rubric of 1 to 100000"),
    ],
)
def test_a_file_that_is_no_rubric_is_one_line(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RubricError, match=text) as caught:
        read_rubric(path)
    assert str(caught.value).isprintable()
