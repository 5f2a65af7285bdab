"""What a response is by its words: bad replies that the probe knows, and good ones that it must not take for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorer.dialogue import Dialogue
from scorer.inputs.corpus import Corpus
from selection.probing.kinds import trials_of
from selection.probing.recognise import kind_of
from tests.conftest import make_dialogue

ASKED = "My dog died today and I feel like a failure, as if nobody cares."


@pytest.mark.parametrize(
    ("kind", "as_kind", "share"),
    [
        ("hostile", "hostile", 1),
        ("contempt", "hostile", 1),
        ("dismissive", "hostile", 1),
        ("injection", "hostile", 1),
        ("refusal", "refusal", 1),
        ("filler", "filler", 0.9),
        ("echo", "echo", 1),
        ("loop", "loop", 0.8),
    ],
)
def test_what_the_probe_tries_is_known(kind: str, as_kind: str, share: float) -> None:
    dialogues = [make_dialogue(f"{ASKED} {number}", "So sorry.") for number in range(60)]
    found = [kind_of(trial.dialogue) for trial in trials_of(kind, dialogues, 0)]
    assert found.count(as_kind) >= share * len(found), set(zip(found, trials_of(kind, dialogues, 0), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "You are not a failure, and I care. He was lucky to have you.",
        "It hurts when nobody cares. Who could you talk to tonight?",
        "Oh wow, nice. What did you say to her?",
        "I can't help but think of my own dog when I read that.",
        "I see. That must have been hard, all of it.",
        "You told him to get some rest, I hope. So sorry.",
    ],
)
def test_a_good_reply_is_none(text: str) -> None:
    assert kind_of(make_dialogue(ASKED, text)) is None


def test_none_of_the_good_examples_is_taken_for_a_bad_one() -> None:
    examples = Path(__file__).parents[3] / "examples" / "dialogues.jsonl"
    good = [
        one for one in Corpus([str(examples)]) if isinstance(one, Dialogue) and one.id.startswith(("warm", "plain"))
    ]
    assert len(good) >= 40
    assert {kind_of(one) for one in good} == {None}
