"""What simpler models reach on the same labels, cross-validated: every scorer should be better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.pipeline import make_pipeline

from distill.labelled import LabelledSet
from distill.training.calibrate import cross_levels
from scorer.dialogue import render
from selection.folds import folds_of
from selection.metrics import Pair, all_figures
from selection.rules import to_levels

CONSTANT = "constant"


def baseline_figures(
    labelled: LabelledSet, embeddings: str | None = None, threshold: int = 5, folds: int = 5
) -> dict[str, dict[str, float]]:
    """Return the figures of each baseline by its name; ``embeddings`` is an encoder by hub id or folder."""
    texts = np.array([render(dialogue) for dialogue in labelled.dialogues], dtype=object)  # (N, 2)
    makers: dict[str, tuple[Any, Callable[[], Any]]] = {
        CONSTANT: (np.zeros((len(labelled), 1)), Ridge),
        "TF-IDF + ridge": (texts, _tfidf_ridge),
    }
    if embeddings:
        from distill.agreement.hidden_states import hidden_states  # loads torch, which takes seconds

        features = hidden_states(labelled, embeddings)
        makers["frozen embeddings + ridge"] = (features, lambda: RidgeCV(alphas=np.logspace(-2, 4, 13)))
    fold = folds_of(labelled.conversations, folds, 0)
    found = {}
    for name, (features, make) in makers.items():
        scores = np.zeros(labelled.scores.shape)
        for k in range(folds):
            scores[fold == k] = make().fit(features[fold != k], labelled.scores[fold != k]).predict(features[fold == k])
        scores = scores.clip(0, 10)
        # No cut divides equal scores: the constant is read as the judge's score that it is.
        levels = to_levels(scores) if name == CONSTANT else cross_levels(scores, labelled.scores, fold)
        pair = Pair.of(labelled.scores, scores, levels)
        found[name] = all_figures(pair, threshold=threshold)
    return found


def _tfidf_ridge() -> Any:
    """Return ridge regression on words and pairs of words, of context and response separately."""
    words = [(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), column) for column in (0, 1)]
    return make_pipeline(make_column_transformer(*words, sparse_threshold=1), Ridge(alpha=3.0))
