"""Embeddings to choose by: without a model and with one, of length 1, and the same in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.agreement.hidden_states import hidden_states
from distill.errors import TrainError
from distill.labelled import read_labelled
from distill.sampling.embeddings import embed_dialogues
from distill.sampling.strategies import choose_rows
from distill.settings import SampleSettings
from tests.conftest import make_dialogue, varied
from tests.distill.tiny import labelled_file


def test_without_a_model_they_tell_apart_what_is_said() -> None:
    dogs = [make_dialogue(f"my dog died in {month}", "so sorry about your dog") for month in ("may", "june", "july")]
    games = [make_dialogue(f"we won the game in {month}", "what a great game") for month in ("may", "june", "july")]
    embeddings = embed_dialogues([*dogs, *games])
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    near = embeddings @ embeddings.T
    assert near[:3, :3].min() > near[:3, 3:].max()
    first, second = choose_rows([*dogs, *games], 2, SampleSettings(strategy="diverse"), embeddings=embeddings)
    assert (first < 3) != (second < 3)


def test_the_context_counts_and_not_only_the_response() -> None:
    same = [make_dialogue(text, "so sorry") for text in ("my dog died", "my dog is dead", "we won the game today")]
    near = embed_dialogues(same) @ embed_dialogues(same).T
    assert near[0, 1] > near[0, 2]


def test_the_order_of_the_input_changes_no_bit() -> None:
    dialogues = varied(300)
    shuffle = np.random.default_rng(0).permutation(300)
    shuffled = embed_dialogues([dialogues[row] for row in shuffle])
    np.testing.assert_array_equal(shuffled, embed_dialogues(dialogues)[shuffle])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_dialogues_have_embeddings_too(count: int) -> None:
    assert np.isfinite(embed_dialogues(varied(count))).all()


def test_dialogues_without_a_word_are_all_alike() -> None:
    embeddings = embed_dialogues([make_dialogue("?", "!"), make_dialogue("...", "!!"), make_dialogue(":)", ":(")])
    np.testing.assert_allclose(embeddings @ embeddings.T, 1, rtol=1e-5)


def test_a_context_without_a_word_among_others_is_near_none() -> None:
    contexts = [replace(one, turns=one.context) for one in (*varied(6), make_dialogue("?", "hello"))]
    lengths = np.linalg.norm(embed_dialogues(contexts), axis=1)
    np.testing.assert_allclose(lengths, [1] * 6 + [0], atol=1e-5)


def test_with_an_encoder_they_are_its_hidden_states(backbone: Path, tmp_path: Path) -> None:
    labelled = read_labelled([str(labelled_file(tmp_path / "labels.jsonl", 60))])
    expected = hidden_states(labelled, str(backbone))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_dialogues(labelled.dialogues, str(backbone)), expected, atol=1e-5)


def test_what_is_no_encoder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="cannot be loaded"):
        embed_dialogues(varied(3), str(tmp_path))
