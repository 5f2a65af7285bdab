"""What counts as a dialogue in a reply, and what is nearly one that is there."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from distill.judge.verdict import ReplyError
from distill.synthesis.near import Near, has_only_words_of, words_in_common
from distill.synthesis.parse import read_written
from distill.synthesis.prompts import WANTED
from tests.conftest import make_dialogue


def reply(*texts: str, **more: Any) -> str:
    exchanges = [{"says": said, "answers": answer} for said, answer in zip(texts[::2], texts[1::2], strict=True)]
    return json.dumps({"exchanges": exchanges, **more})


GOOD = reply("My dog died today.", "I am so sorry. 👩‍👧")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Sure! Here it is:\n```json\n{GOOD}\n```\nAnything else?",
        f"<think>First {GOOD[:20]} no</think>{GOOD}",
        f'{{"note": 1}} {GOOD}',
    ],
)
def test_one_dialogue_is_read_whatever_stands_around_it(text: str) -> None:
    assert [(turn.role, turn.content) for turn in read_written(text, False)] == [
        ("user", "My dog died today."),
        ("assistant", "I am so sorry. 👩‍👧"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("I can't write that.", "no_dialogue"),
        (GOOD[:-9], "no_dialogue"),
        (f"<think>{GOOD}", "empty"),
        (json.dumps({"dialogue": json.loads(GOOD)}), "no_dialogue"),
        (f"{GOOD}\n{GOOD}", "ambiguous"),
        (reply("My dog died.", "Sorry.", title="a"), "out_of_form"),
        (reply(), "out_of_form"),
        (reply(*["Word."] * 22), "out_of_form"),
        (reply("My dog died.", "..."), "out_of_form"),
        (reply("My dog died.", "x" * 2001), "out_of_form"),
        (reply("My dog died.", "So\x00rry."), "out_of_form"),
        ('{"exchanges": [{"says": "a"}]}', "out_of_form"),
        ('{"exchanges": [{"says": 1, "answers": "b"}]}', "out_of_form"),
        ('{"exchanges": [{"says": "a", "answers": "b", "user": "c"}]}', "out_of_form"),
        ('{"exchanges": ["a", "b"]}', "out_of_form"),
        ('{"exchanges": "none"}', "out_of_form"),
        (reply("My dog died.", "Listener: I am so sorry."), "label"),
        (reply("My dog died.", "The listener's own words: I am so sorry."), "label"),
        (reply("My [pet] died.", "So sorry."), "placeholder"),
        (reply("My dog died.", "So sorry, {{name}}."), "placeholder"),
    ],
)
def test_what_is_no_dialogue_has_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ReplyError) as error:
        read_written(text, False)
    assert error.value.reason == reason


def test_a_reply_that_was_cut_says_what_to_raise() -> None:
    with pytest.raises(ReplyError) as error:
        read_written(GOOD[:-9], True)
    assert "raise --max-tokens" in error.value.detail


@pytest.mark.parametrize("text", ["{" * 100_000, '{"exchanges": [' * 30_000, '{"a": ' * 50_000, "{ " * 100_000])
def test_no_reply_takes_long(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(ReplyError):
        read_written(text, False)
    assert time.process_time() - begin < 5


LONG = "I am so sorry to hear that your old dog died this morning, he was such a good friend to you."


def test_a_run_of_words_is_found_whatever_stands_between_them() -> None:
    told = WANTED["both_high"]
    assert words_in_common("Well: it sees what matters here.", told, 5) == "it sees what matters here"
    found = words_in_common("What matters here and asks, explains, or else", told, 6)
    assert found == "what matters here and asks explains"
    assert words_in_common("I see what matters to you, and I will help.", told, 6) is None
    assert words_in_common("it sees", told, 6) is None


@pytest.mark.parametrize(
    ("said", "label"), [("The nurse.", True), ("Nurse, a friend", True), ("I am a nurse.", False), (":)", False)]
)
def test_a_turn_without_a_word_of_its_own_is_none(said: str, label: bool) -> None:
    assert has_only_words_of(said, "The person: a nurse. The listener: an old friend.") is label


def test_near_duplicates_are_copies_with_other_words_in_few_places() -> None:
    near = Near(0.5)
    near.add(make_dialogue("My old dog died this morning and I miss him a lot already.", LONG), "first")
    copy = make_dialogue("My old dog died this evening and I miss him a lot already.", LONG.replace("good", "dear"))
    found = near.nearest(copy)
    assert found is not None
    assert (found[0], found[1] > 0.6) == ("first", True)
    answer = make_dialogue("We lost the final, and nobody said a word on the way home from the stadium.", LONG)
    assert near.nearest(answer) is not None  # the response alone
    other = make_dialogue("My cat ran away last night.", "Oh no, that must be hard. Where did you see her last?")
    assert near.nearest(other) is None
    short = make_dialogue("We won.", "I am so sorry.")
    near.add(short, "short")
    assert near.nearest(make_dialogue("My grandmother fell down the stairs in spring.", "I am so sorry.")) is None
