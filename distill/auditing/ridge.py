"""A ridge regression whose penalty is chosen by folds, and which may choose to predict nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.training.calibrate import other_folds
from scorer.arrays import Floats, Ints

_PENALTIES = np.geomspace(1.0, 1e4, 9)
"""For embeddings of unit variance per dimension; 200 labels of 384 dimensions want some hundreds."""


@dataclass(frozen=True, slots=True, eq=False)
class Ridge:
    """What is added to a score: ``weight`` (D,) times the embedding, and ``bias``."""

    weight: Floats
    bias: float

    def of(self, embedding: Floats) -> Floats:
        """Return what is added to each score, (N,)."""
        return np.asarray(embedding @ self.weight + self.bias)


def fit_ridge(embedding: Floats, values: Floats, folds: Ints) -> Ridge | None:
    """Return the ridge from embeddings (N, D) to values (N,); None if no penalty beats predicting nothing in folds."""
    errors, nothing = np.zeros(len(_PENALTIES)), 0.0
    for others, fold in other_folds(folds):
        if not others.any():
            return None
        predicted = np.stack([ridge.of(embedding[fold]) for ridge in _path(embedding[others], values[others])])
        errors += ((predicted - values[fold]) ** 2).sum(axis=1)
        nothing += float(((values[fold] - values[others].mean()) ** 2).sum())
    best = int(errors.argmin())
    return None if errors[best] >= nothing else _path(embedding, values)[best]


def _path(embedding: Floats, values: Floats) -> list[Ridge]:
    """Return the ridge of each penalty, from one decomposition: w = V s / (s^2 + penalty) U' y."""
    middle, spread = embedding.mean(axis=0), np.maximum(embedding.std(axis=0), 1e-6)
    left, size, right = np.linalg.svd((embedding - middle) / spread, full_matrices=False)  # (N, K), (K,), (K, D)
    projected = left.T @ (values - values.mean())
    found = []
    for penalty in _PENALTIES:
        weight = (right.T @ (size / (size**2 + penalty) * projected)) / spread
        found.append(Ridge(weight, float(values.mean() - middle @ weight)))
    return found
