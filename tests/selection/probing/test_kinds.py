"""The replies and edits of a probe, against what they are meant to be."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from scorer.text import fingerprint, normalise
from selection.errors import ProbeError
from selection.probing.edits import misspelt, recased
from selection.probing.kinds import KINDS, REPLIES, trials_of, wordings
from tests.conftest import varied

DIALOGUES = varied(90)
WRITTEN = ("hostile", "contempt", "dismissive", "gibberish", "filler", "refusal", "loop", "language", "injection")


@pytest.mark.parametrize("kind", [*WRITTEN, "emoji", "names", "thanks"])
def test_no_wording_is_there_twice(kind: str) -> None:
    texts = wordings(kind)
    assert len({normalise(text) for text in texts}) >= len(texts) - (kind == "thanks") * 3
    assert len(texts) >= (36 if kind in WRITTEN else 10)
    assert all(text == text.strip() for text in texts)


@pytest.mark.parametrize("kind", WRITTEN[:3])
def test_wordings_are_no_templates_of_one_pattern(kind: str) -> None:
    openings = Counter(normalise(text).split()[0] for text in wordings(kind))
    assert max(openings.values()) <= len(wordings(kind)) / 4
    lengths = [len(text.split()) for text in wordings(kind)]
    assert min(lengths) <= 3
    assert max(lengths) >= 12


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_changes_the_response_alone_and_the_same_way_every_time(kind: str) -> None:
    made = trials_of(kind, DIALOGUES, 0)
    assert made == trials_of(kind, DIALOGUES, 0)
    assert len(made) == len(DIALOGUES)
    for one, trial in zip(DIALOGUES, made, strict=True):
        assert trial.dialogue.context == one.context
        assert trial.dialogue.response
    if kind not in ("casing", "unrelated"):
        changed = [trial.dialogue.response != one.response for one, trial in zip(DIALOGUES, made, strict=True)]
        assert sum(changed) > 80
    if kind not in ("echo", "unrelated", "casing"):
        assert made != trials_of(kind, DIALOGUES, 1)


@pytest.mark.parametrize("kind", ["hostile", "loop", "thanks"])
def test_every_wording_is_used_as_often_as_any_other(kind: str) -> None:
    used = Counter(trial.wording for trial in trials_of(kind, DIALOGUES, 3))
    assert max(used.values()) - min(used.values() if len(used) == len(wordings(kind)) else [0]) <= 1


def test_replies_are_what_their_kind_says() -> None:
    for one, echo, loop in zip(DIALOGUES, *(trials_of(kind, DIALOGUES, 0) for kind in ("echo", "loop")), strict=True):
        assert echo.dialogue.response == one.context[-1].content
        assert loop.dialogue.response.count(loop.wording) >= 4
    others = [trial.dialogue.response for trial in trials_of("unrelated", DIALOGUES, 0)]
    assert sorted(others) == sorted(one.response for one in DIALOGUES)
    same = [text == one.response for one, text in zip(DIALOGUES, others, strict=True)]
    assert not any(same)
    assert trials_of("unrelated", DIALOGUES[:1], 0) == []


def test_a_name_is_held_against_another_name() -> None:
    for one, trial in zip(DIALOGUES, trials_of("names", DIALOGUES, 0), strict=True):
        assert trial.against is not None
        texts = trial.dialogue.response, trial.against.response
        assert texts[0] != texts[1]
        assert all(text.endswith(f", {one.response}") for text in texts)


def test_slips_are_few_and_spare_short_words() -> None:
    text = "I am so sorry to hear that, you must have been terrified when the lights went out in the middle of it"
    for seed in range(50):
        found = misspelt(text, Random(seed))
        differing = [pair for pair in zip(text.split(), found.split(), strict=True) if pair[0] != pair[1]]
        assert 1 <= len(differing) <= 2
        assert all(len(before) >= 4 and after[0] == before[0] for before, after in differing)
    assert misspelt("oh no ok", Random(0)) == "oh no ok"


def test_capitals_leave_the_letters_as_they_are() -> None:
    text = "Oh no, that isn't fair!"
    assert {recased(text, Random(seed)) for seed in range(20)} == {text.upper(), text.lower(), text.title()}
    assert fingerprint([text.upper()]) == fingerprint([text])


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ProbeError, match="'rude' is no kind of a probe, expected one of hostile, contempt"):
        trials_of("rude", DIALOGUES, 0)
    assert list(KINDS)[: len(REPLIES)] == list(REPLIES)
