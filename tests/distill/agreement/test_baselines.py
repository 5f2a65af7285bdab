"""Baselines: trained on other folds only, each better than the one below it where there is something to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.agreement.baselines import baseline_figures, embed
from distill.labelled import LabelledSet, read_labelled
from tests.distill.tiny import labelled_file, write_backbone


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledSet:
    """Labels that words explain."""
    return read_labelled([str(labelled_file(tmp_path_factory.mktemp("labels") / "labels.jsonl", 200))])


def test_words_explain_what_a_constant_cannot(labelled: LabelledSet, tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path / "tiny")
    figures = baseline_figures(labelled, str(backbone))
    assert list(figures) == ["constant", "TF-IDF + ridge", "frozen embeddings + ridge"]
    assert figures["constant"]["paper.kappa"] == pytest.approx(0, abs=0.05) or np.isnan(
        figures["constant"]["paper.kappa"]
    )
    assert figures["TF-IDF + ridge"]["sensibility.pearson"] > 0.8
    assert figures["frozen embeddings + ridge"]["sensibility.pearson"] > 0.5
    assert figures["TF-IDF + ridge"]["sensibility.mae"] < figures["constant"]["sensibility.mae"]


def test_a_baseline_never_sees_the_fold_it_predicts(labelled: LabelledSet) -> None:
    rng = np.random.default_rng(0)
    noise = LabelledSet(
        labelled.dialogues, rng.integers(0, 11, labelled.scores.shape).astype(np.float32), labelled.judgements
    )
    assert abs(baseline_figures(noise)["TF-IDF + ridge"]["rationality.pearson"]) < 0.25


def test_embeddings_do_not_depend_on_padding(labelled: LabelledSet, tmp_path: Path) -> None:
    backbone = write_backbone(tmp_path / "tiny")
    together = embed(labelled, str(backbone))
    alone = embed(labelled.take(np.array([3])), str(backbone))
    np.testing.assert_allclose(together[3], alone[0], atol=1e-5)
