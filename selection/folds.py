"""Assign conversations to folds by a hash, so that a conversation's fold never depends on what else is there.

Labels that are added later, a teacher and its student, and two machines all agree on who was held out.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Folds = npt.NDArray[np.int64]

HOLDOUT_PARTS = 10
"""Without cross-validation one of so many parts is held out; an inner split for early stopping is one as well."""


def fold_of(conversation: str, folds: int, seed: int) -> int:
    """Return the fold of a conversation, 0 to ``folds`` - 1."""
    digest = blake2b(f"{seed}:{conversation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % folds


def folds_of(conversations: Iterable[str], folds: int, seed: int) -> Folds:
    """Return the fold of each row's conversation, shape (N,)."""
    return np.array([fold_of(conversation, folds, seed) for conversation in conversations], dtype=np.int64)


def inner_holdout(conversations: Iterable[str], seed: int) -> npt.NDArray[np.bool_]:
    """Return which rows an inner split holds out for early stopping, shape (N,); independent of the folds."""
    parts = folds_of((f"inner:{conversation}" for conversation in conversations), HOLDOUT_PARTS, seed)
    return np.asarray(parts == 0)
