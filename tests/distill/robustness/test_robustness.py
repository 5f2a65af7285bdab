"""Counter-examples and edits: what is made, with which targets, and that a training learns them."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.labelled import LabelledSet
from distill.robustness.counterexamples import counterexamples, wordings
from distill.robustness.edits import edit
from distill.robustness.kinds import CEILINGS
from distill.training.network import predict
from distill.training.train import train_scorer
from scorer.dialogue import Dialogue, Turn
from tests.conftest import make_dialogue, read
from tests.distill.tiny import labelled_records, tiny_settings

DIALOGUES = [make_dialogue(f"my dog number {n} died today", f"i am so sorry for you, {n}") for n in range(40)]
WRITTEN = ("hostile", "contempt", "dismissive", "filler", "refusal", "injection", "salad", "loop")


def test_no_kind_may_score_what_a_set_takes() -> None:
    assert all(0 <= score <= 4 for ceiling in CEILINGS.values() for score in ceiling)


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_wordings_are_many_and_distinct(kind: str) -> None:
    lines = wordings(kind)
    assert len(lines) >= 120
    assert len({line.casefold() for line in lines}) == len(lines)
    assert all(line == line.strip() and line for line in lines)


def test_counter_examples_are_bad_replies_to_real_contexts() -> None:
    made, targets = counterexamples(DIALOGUES, 2000, seed=3)
    assert targets.shape == (2000, 2)
    contexts, responses = {d.context for d in DIALOGUES}, {d.response for d in DIALOGUES}
    assert {d.context for d in made} == contexts
    assert all(d.response.strip() and d.labels is None for d in made)
    found = Counter(tuple(map(float, target)) for target in targets)
    assert set(found) == {tuple(map(float, target)) for target in CEILINGS.values()}
    unrelated, _ = counterexamples(DIALOGUES, 100, seed=3, without=[kind for kind in CEILINGS if kind != "unrelated"])
    assert {d.response for d in unrelated} <= responses
    quoted = [d for d in made if "{quote}" in d.response]
    assert not quoted
    again, _ = counterexamples(DIALOGUES, 2000, seed=3)
    assert again == made
    without, _ = counterexamples(DIALOGUES, 500, seed=3, without=("unrelated", "hostile"))
    assert len(without) == 500
    assert not {*responses, *wordings("hostile")} & {d.response for d in without}


def test_edits_change_the_text_and_keep_its_turns() -> None:
    draw, changed = random.Random(5), 0
    for dialogue in DIALOGUES * 10:
        edited = edit(dialogue, draw)
        assert [turn.role for turn in edited.turns] == [turn.role for turn in dialogue.turns]
        assert all(turn.content.strip() for turn in edited.turns)
        assert edited.conversation == dialogue.conversation
        changed += edited.turns != dialogue.turns
    assert changed > 0.8 * 400
    for odd in ("a", "...", "😀", "x " * 300):
        edit(replace(DIALOGUES[0], turns=(Turn("user", odd), Turn("assistant", odd))), draw)


def hostile(dialogues: tuple[Dialogue, ...], words: str) -> list[Dialogue]:
    return [replace(d, turns=(*d.context, Turn("assistant", words))) for d in dialogues[:40]]


@pytest.mark.slow
def test_a_training_learns_what_no_label_says(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No label holds the word "played"; a training with counter-examples made of it scores it low."""
    from distill.robustness import counterexamples as module

    labelled: LabelledSet = read(tmp_path / "labels.jsonl", labelled_records(160))
    monkeypatch.setattr(module, "wordings", lambda kind: ("played they them yesterday",))
    monkeypatch.setattr("distill.training.train.COUNTEREXAMPLE_WEIGHT", 6)  # so few steps would teach too little
    mean = {}
    for share in (0.0, 0.5):
        settings = tiny_settings(backbone, counterexamples=share, edits=share / 2, epochs=8, seed=1)
        checkpoint = train_scorer(labelled, settings, tmp_path / f"c{share}")
        assert ("said by the rubric" in (checkpoint.path / "README.md").read_text()) == (share > 0)
        bad = checkpoint.encoder.encode(hostile(labelled.dialogues, "played they them yesterday"))
        mean[share] = float(np.mean(predict(checkpoint.load_model(), bad)))
    assert mean[0.5] < mean[0.0] - 1
