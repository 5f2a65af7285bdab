"""Baselines: trained on other folds only, each better than the one below it where there is something to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.agreement.baselines import baseline_figures
from distill.agreement.hidden_states import hidden_states
from distill.labelled import LabelledSet, read_labelled
from tests.distill.tiny import labelled_file


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """Labels that words explain."""
    return read_labelled([str(labelled_file(tmp_path_factory.mktemp("labels") / "labels.jsonl", 200))])


def test_words_explain_what_a_constant_cannot(labelled: LabelledSet, backbone: Path) -> None:
    figures = baseline_figures(labelled, str(backbone))
    assert list(figures) == ["constant", "TF-IDF + ridge", "frozen embeddings + ridge"]
    constant, words, frozen = figures.values()
    assert constant["paper.kappa"] == pytest.approx(0, abs=0.05) or np.isnan(constant["paper.kappa"])
    assert words["sensibility.pearson"] > 0.8
    assert frozen["sensibility.pearson"] > 0.5
    assert words["sensibility.mae"] < constant["sensibility.mae"]


def test_a_baseline_never_sees_the_fold_it_predicts(labelled: LabelledSet) -> None:
    scores = np.random.default_rng(0).integers(0, 11, labelled.scores.shape).astype(np.float32)
    noise = LabelledSet(labelled.dialogues, scores, labelled.judgements)
    assert abs(baseline_figures(noise)["TF-IDF + ridge"]["rationality.pearson"]) < 0.25


def test_embeddings_do_not_depend_on_padding(labelled: LabelledSet, backbone: Path) -> None:
    together = hidden_states(labelled, str(backbone))
    alone = hidden_states(labelled.take(np.array([3])), str(backbone))
    np.testing.assert_allclose(together[3], alone[0], atol=1e-5)
