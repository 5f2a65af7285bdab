"""The scorer as an object: what `score` gives for what, and that a dialogue's score is its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import numpy_helper

from scorer.bundle.bundle import Bundle, write_bundle
from scorer.dialogue import Dialogue
from scorer.engines.base import PAD_MULTIPLE
from scorer.errors import BundleError, EngineError, RejectedError
from scorer.model import Scorer, plan_batches
from tests.conftest import bundle_info, make_dialogue, make_model, make_tokenizer, record, varied


@pytest.fixture(scope="module")
def dialogues() -> list[Dialogue]:
    return varied(300)


@pytest.fixture(scope="module")
def scores(scorer: Scorer, dialogues: list[Dialogue]) -> npt.NDArray[np.float32]:
    return scorer.score(dialogues)


def load_with(folder: Path, row: Sequence[float], word: str | None = None) -> Scorer:
    """Return a scorer that gives a word's tokens, or all tokens, this pair of scores."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer.get_vocab_size())
    table, types = (numpy_helper.to_array(tensor).copy() for tensor in model.graph.initializer[:2])
    table[slice(None) if word is None else tokenizer.token_to_id(word)] = row
    for place, array in enumerate((table, types * 0)):
        name = model.graph.initializer[place].name
        model.graph.initializer[place].CopyFrom(numpy_helper.from_array(array, name))
    files = {"model.onnx": model.SerializeToString(), "tokenizer.json": tokenizer.to_str().encode()}
    return Scorer.load(write_bundle(folder / "b", bundle_info(tokenizer), files).path, engine="onnxruntime", threads=1)


# What is scored, and what comes back.


def test_scores_are_a_pair_of_float32_for_each_dialogue(
    scores: npt.NDArray[np.float32], dialogues: list[Dialogue]
) -> None:
    assert scores.shape == (len(dialogues), 2)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 10)).all()
    assert len(np.unique(scores, axis=0)) > 200


def test_nothing_gives_no_scores_of_the_same_shape(scorer: Scorer) -> None:
    for found in (scorer.score([]), scorer.score(iter(()))):
        assert found.shape == (0, 2)
        assert found.dtype == np.float32


def test_dialogues_and_the_records_of_a_file_score_alike(scorer: Scorer) -> None:
    texts = [("i am sad", "so sorry"), ("we won the game", "great", "what happened", "that is so sad")]
    as_dialogues = scorer.score(make_dialogue(*item) for item in texts)
    as_records = scorer.score([record(*item) for item in texts])
    mixed = scorer.score([make_dialogue(*texts[0]), record(*texts[1])])
    np.testing.assert_array_equal(as_dialogues, as_records)
    np.testing.assert_array_equal(as_dialogues, mixed)


def test_order_is_kept_over_several_chunks(scorer: Scorer, dialogues: list[Dialogue]) -> None:
    few = dialogues[:9]
    found = scorer.score(dialogue for _ in range(500) for dialogue in few)
    np.testing.assert_allclose(found, np.tile(scorer.score(few), (500, 1)), atol=1e-5)


@pytest.mark.parametrize(
    "bad", [{}, {"messages": []}, {"messages": [{"role": "user", "content": "hi"}]}, "text", None, 1, record("hi", " ")]
)
def test_the_first_record_that_is_no_dialogue_is_named_by_its_number(scorer: Scorer, bad: Any) -> None:
    with pytest.raises(RejectedError) as caught:
        scorer.score([record("i am sad", "so sorry"), make_dialogue("i am", "great"), bad, {}])
    assert str(caught.value).startswith("dialogue 2: ")
    assert str(caught.value).isprintable()


def test_scores_outside_the_range_are_clipped_to_it(tmp_path: Path) -> None:
    found = load_with(tmp_path, [-3, 14]).score([record("i am sad", "so sorry")] * 3)
    assert found.tolist() == [[0, 10]] * 3


def test_scores_inside_the_range_are_not_touched(tmp_path: Path) -> None:
    found = load_with(tmp_path, [2.5, 7.25]).score([record("i am sad", "so sorry")])
    np.testing.assert_allclose(found, [[2.5, 7.25]], atol=1e-5)


@pytest.mark.parametrize("row", [[float("nan"), 5], [5, float("inf")], [float("-inf"), float("nan")]])
def test_what_is_no_number_is_an_error_and_never_a_score(tmp_path: Path, row: list[float]) -> None:
    scorer = load_with(tmp_path, row, "died")
    good, bad = record("i am sad", "so sorry"), record("my dog died", "so sorry")
    assert np.isfinite(scorer.score([good])).all()
    with pytest.raises(EngineError) as caught:
        scorer.score([good, good, bad, good])
    assert "for a dialogue of 10 tokens, expected numbers" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_bundle_that_is_none_is_refused_at_load(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        Scorer.load(tmp_path / "nowhere")
    with pytest.raises(EngineError, match="engine 'tpu' is not known"):
        Scorer.load(load_with(tmp_path, [1, 2]).bundle.path, engine="tpu")


def test_a_bundle_folder_may_be_given_as_text(scorer: Scorer, bundle: Bundle) -> None:
    again = Scorer.load(str(bundle.path), engine="onnxruntime", threads=1)
    item = record("i am sad", "so sorry")
    np.testing.assert_array_equal(again.score([item]), scorer.score([item]))


# A score does not depend on its neighbours.


@pytest.mark.parametrize(("tokens", "size"), [(4096, 1), (4096, 7), (4096, 256), (1, 256), (200, 256), (100_000, 1000)])
def test_scores_do_not_depend_on_the_batches(
    scorer: Scorer, scores: npt.NDArray[np.float32], dialogues: list[Dialogue], tokens: int, size: int
) -> None:
    found = scorer.run(scorer.encoder.encode(dialogues), batch_tokens=tokens, batch_size=size)
    np.testing.assert_allclose(found, scores, atol=1e-5)


def test_scores_do_not_depend_on_the_order(
    scorer: Scorer, scores: npt.NDArray[np.float32], dialogues: list[Dialogue]
) -> None:
    order = np.random.default_rng(0).permutation(len(dialogues))
    np.testing.assert_allclose(scorer.score([dialogues[row] for row in order]), scores[order], atol=1e-5)


def test_scores_do_not_depend_on_a_longer_neighbour(scorer: Scorer, dialogues: list[Dialogue]) -> None:
    long = make_dialogue("i am " * 40, "so sorry " * 40)
    together = scorer.score([dialogues[0], long])
    np.testing.assert_allclose(together[:1], scorer.score(dialogues[:1]), atol=1e-5)


def test_progress_hears_of_every_row_and_token(scorer: Scorer, dialogues: list[Dialogue]) -> None:
    encoded = scorer.encoder.encode(dialogues)
    heard: list[tuple[int, int]] = []
    scorer.run(encoded, batch_size=64, batch_tokens=100_000, on_batch=lambda rows, tokens: heard.append((rows, tokens)))
    assert max(rows for rows, _ in heard) == 64
    assert np.sum(heard, axis=0).tolist() == [len(encoded), sum(map(len, encoded))]


# Batches.


@pytest.mark.parametrize("seed", range(40))
def test_a_plan_holds_every_row_once_longest_first_within_its_budget(seed: int) -> None:
    rng = random.Random(seed)
    lengths = np.array([rng.randint(1, rng.choice([20, 512])) for _ in range(rng.randint(0, 300))], dtype=np.int64)
    tokens, size = rng.choice([1, 64, 500, 4096]), rng.choice([1, 3, 32, 256])
    plan = list(plan_batches(lengths, tokens, size))
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *plan])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[rows]) <= 0).all()
    for batch in plan:
        padded = -(-int(lengths[batch].max()) // PAD_MULTIPLE) * PAD_MULTIPLE
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or padded * len(batch) <= tokens


def test_a_plan_fills_its_batches() -> None:
    lengths = np.full(100, 16, dtype=np.int64)
    assert [len(rows) for rows in plan_batches(lengths, 160, 256)] == [10] * 10
    assert [len(rows) for rows in plan_batches(lengths, 4096, 64)] == [64, 36]


def test_rows_of_one_length_stay_in_order() -> None:
    (rows,) = plan_batches(np.array([3, 5, 3, 5, 3], dtype=np.int64), 4096, 256)
    assert rows.tolist() == [1, 3, 0, 2, 4]
