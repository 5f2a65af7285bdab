"""The scorer that ships with the package, on the examples that ship with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorer.bundle.bundle import STARTER, load_bundle
from scorer.cli.preview import examples_path
from scorer.dialogue import Dialogue
from scorer.engines.base import Scores
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from selection.golden import check_scorer, read_golden
from selection.probing.kinds import REPLIES
from selection.rules import PAPER
from selection.settings import CheckSettings
from tests.conftest import make_dialogue

MEGABYTE = 1_000_000
# Warm and plain answers to the same context, by their ids in the examples.
WARM_AND_PLAIN = {"02": "01", "09": "02", "14": "03", "18": "04", "30": "05", "07": "06", "32": "08", "11": "09"}


@pytest.fixture(scope="module")
def starter() -> Scorer:
    """The starter, loaded."""
    return Scorer.load()


@pytest.fixture(scope="module")
def examples() -> list[Dialogue]:
    """The example dialogues."""
    return [item for item in Corpus([str(examples_path())]) if isinstance(item, Dialogue)]


@pytest.fixture(scope="module")
def scores(starter: Scorer, examples: list[Dialogue]) -> Scores:
    """The starter's scores of the examples."""
    return starter.score(examples)


def test_it_is_small_verified_and_says_where_it_comes_from() -> None:
    assert sum(path.stat().st_size for path in STARTER.iterdir()) <= 30 * MEGABYTE
    bundle = load_bundle()
    assert "CC BY-NC" in bundle.info.licence
    assert len(bundle.info.training.content_hashes) > 5000
    assert "one tenth of the conversations held out, 569 labels" in bundle.info.measured["how"]
    assert bundle.info.precisions["fp32"].allowed
    flips = bundle.info.weights["int8"].flips
    assert flips is not None
    assert flips <= 0.01
    assert bundle.info.uncertainty is not None


def test_its_figures_are_no_worse_than_those_it_was_shipped_with() -> None:
    measured = load_bundle().info.measured
    assert measured["sensibility.pearson"] > 0.58
    assert measured["rationality.pearson"] > 0.68
    assert measured["paper.kappa"] > 0.49
    assert abs(measured["paper.share.sensibility"] - measured["paper.judge_share.sensibility"]) < 0.02


def test_scores_do_not_depend_on_the_batch(starter: Scorer, examples: list[Dialogue], scores: Scores) -> None:
    encoded = starter.encoder.encode(examples)
    for tokens, size in ((1, 1), (100_000, 256), (700, 5)):
        again = starter.run(encoded, batch_tokens=tokens, batch_size=size)
        np.testing.assert_allclose(again, scores, atol=1e-3)


def test_its_scores_of_the_examples_have_not_moved(starter: Scorer) -> None:
    golden = read_golden(Path(__file__).parent / "golden.jsonl")
    exact = starter.engine.precision == "fp32"  # else one dialogue of 72 lies so near a cut that it may move
    settings = CheckSettings(tolerance=1e-3 if exact else 0.5, max_flips=None if exact else 0.02)
    assert check_scorer(golden, starter, settings).passed


def test_the_examples_look_like_its_training_data(starter: Scorer, examples: list[Dialogue]) -> None:
    good = [dialogue for dialogue in examples if dialogue.id.partition("-")[0] not in REPLIES]
    outside = starter.bundle.info.domain.outside(good, starter.encoder.encode(good))
    assert outside["any"].mean() < 0.05


def test_a_warm_answer_has_more_sensibility_and_is_selected(
    starter: Scorer, examples: list[Dialogue], scores: Scores
) -> None:
    row = {dialogue.id: number for number, dialogue in enumerate(examples)}
    gaps = [scores[row[f"warm-{warm}"], 0] - scores[row[f"plain-{plain}"], 0] for warm, plain in WARM_AND_PLAIN.items()]
    assert np.mean(gaps) > 2
    kept = PAPER.apply(scores, starter.bundle.info.cuts) == 0
    warm = np.array([dialogue.id.startswith("warm") for dialogue in examples])
    assert kept[warm].mean() > 0.9


def test_no_bad_reply_is_selected_but_for_contempt(starter: Scorer, examples: list[Dialogue], scores: Scores) -> None:
    kept = PAPER.apply(scores, starter.bundle.info.cuts) == 0
    kinds = {one.id.partition("-")[0] for one, selected in zip(examples, kept, strict=True) if selected}
    assert kinds & REPLIES.keys() <= {"contempt"}, "docs/limits.md says what it still falls for"


def test_it_has_a_probe_and_no_kind_is_kept_as_often_as_real_replies() -> None:
    probe = load_bundle().info.probe
    assert probe is not None
    kept = {kind.kind: kind.share for kind in probe.kinds}
    assert all(kept[kind] < 0.3 for kind in REPLIES if kind not in ("unrelated", "language"))


def test_spelling_does_not_change_a_score(starter: Scorer) -> None:
    natural = make_dialogue("I wasn't ready, and I can't sleep!", "I'm so sorry. That's hard… what’s keeping you up?")
    tokenised = make_dialogue(
        "i was n't ready , and i can not sleep !", "i am so sorry . that is hard ... what is keeping you up ?"
    )
    first, second = starter.score([natural, tokenised])
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_dialogues_far_from_the_training_data_are_warned_of(starter: Scorer) -> None:
    foreign = [make_dialogue("SELECT * FROM kubectl WHERE sudo -x", "def __init__(self): raise ValueError(0x7f)")] * 20
    encoded = starter.encoder.encode(foreign)
    outside = {name: int(rows.sum()) for name, rows in starter.bundle.info.domain.outside(foreign, encoded).items()}
    assert starter.bundle.info.domain.warning(outside, len(foreign)) is not None
