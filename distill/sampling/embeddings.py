"""Embeddings of dialogues, by which ``diverse`` spreads its choice: without any model, or with an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.extmath import randomized_svd

from scorer.dialogue import Dialogue, render

_HASHED_WORDS = 1 << 15
_DIMENSIONS = 128
_NOTHING = 1e-6  # a length that only rounding makes


def embed_dialogues(dialogues: Sequence[Dialogue], encoder: str | None = None) -> npt.NDArray[np.float32]:
    """Return embeddings of dialogues for ``choose_rows``, (N, D), each of length 1; 0 where there is no word.

    Without ``encoder`` they need no model and no download, so that they go with any scorer (a bundle's network gives
    two scores and no hidden states): TF-IDF of the hashed words of context and response, each side counting the same,
    in the up to 128 directions in which these dialogues differ most (truncated SVD). With it, by hub id or folder,
    they are the mean of that encoder's last hidden states, which know synonyms and take some milliseconds each.
    """
    # In the order of ids, so that no rounding depends on the order of the input.
    order = sorted(range(len(dialogues)), key=lambda row: dialogues[row].id)
    ordered = [dialogues[row] for row in order]
    found = _hashed_tfidf(ordered) if encoder is None else _hidden_states(ordered, encoder)
    embeddings = np.zeros(found.shape, dtype=np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    embeddings[order] = found / np.where(lengths > _NOTHING, lengths, np.inf)
    return embeddings


def _hashed_tfidf(dialogues: Sequence[Dialogue]) -> npt.NDArray[Any]:
    sides = [
        make_pipeline(
            FunctionTransformer(lambda texts, side=side: [pair[side] for pair in texts]),
            HashingVectorizer(n_features=_HASHED_WORDS, alternate_sign=False, norm=None),
            TfidfTransformer(sublinear_tf=True),
        )
        for side in (0, 1)
    ]
    found = make_union(*sides).fit_transform([render(dialogue) for dialogue in dialogues]).tocsc()
    found = found[:, found.getnnz(axis=0) > 0]  # the decomposition's time grows with the columns
    left, strengths, _ = randomized_svd(found, min(_DIMENSIONS, *found.shape), random_state=0)
    return np.asarray(left * strengths)


def _hidden_states(dialogues: Sequence[Dialogue], encoder: str) -> npt.NDArray[Any]:
    from distill.agreement.hidden_states import hidden_states  # loads torch
    from distill.labelled import LabelledSet

    unlabelled = LabelledSet(tuple(dialogues), np.zeros((len(dialogues), 2), dtype=np.float32), ())
    return np.asarray(hidden_states(unlabelled, encoder))
