"""Who marks the responses in ``benchmarks.moe``: scorers that took no part in the selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from distill.labelled import LabelledSet
from distill.training.checkpoint import Checkpoint, load_checkpoint
from distill.training.fits import assign
from distill.training.network import predict
from scorer.bundle.cuts import Cuts, read_cuts
from scorer.dialogue import Dialogue, training_hash
from scorer.engines.base import Scores
from scorer.model import Scorer
from selection.folds import Folds, folds_of

PARTS = 3
"""Parts of the conversations where no checkpoint has divided them; a seed takes one."""


class Marker(Protocol):
    """Scores responses of every seed's held-out dialogues; ``sha256`` is what it is known by."""

    @property
    def sha256(self) -> str:
        """A hash of it."""

    @property
    def cuts(self) -> Cuts:
        """The judge's scale on its own."""

    def folds(self, labelled: LabelledSet) -> Folds:
        """Return which seed each dialogue belongs to, (N,)."""

    def marks(self, seed: int, dialogues: Sequence[Dialogue]) -> Scores:
        """Return scores (N, 2)."""

    def note(self, held_out: Sequence[Dialogue]) -> str:
        """Return what a reader must know of it."""


@dataclass(frozen=True)
class FoldScorers:
    """The scorers of a cross-validated checkpoint: each marks the dialogues of its fold, which it never saw."""

    path: Path

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return load_checkpoint(self.path)

    @property
    def sha256(self) -> str:
        """A hash of the checkpoint."""
        return self._checkpoint.sha256

    @property
    def cuts(self) -> Cuts:
        """The judge's scale on the calibrated one."""
        return read_cuts(self._checkpoint.info.cuts)

    def folds(self, labelled: LabelledSet) -> Folds:
        """Return the checkpoint's own folds, (N,)."""
        return assign(labelled.conversations, self._checkpoint.info.settings).folds

    def marks(self, seed: int, dialogues: Sequence[Dialogue]) -> Scores:
        """Return scores (N, 2) of the fold's scorer, on the scale of its calibration."""
        fold = self._checkpoint.fold(seed)
        fitted = self._checkpoint.info.calibration
        assert fitted  # of a whole checkpoint
        raw = predict(fold.load_model(), fold.encoder.encode(dialogues))
        return np.asarray(np.asarray(fitted.slope) * raw + np.asarray(fitted.intercept), dtype=np.float32)

    def note(self, held_out: Sequence[Dialogue]) -> str:
        """Return what it saw."""
        return f"the scorers saw none of these {len(held_out)} dialogues: each was trained on the other folds"


@dataclass(frozen=True)
class BundleScorer:
    """One scorer for all seeds, as it is used: the starter, for one."""

    path: str

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer.load(None if self.path == "starter" else self.path, engine="onnxruntime")

    @property
    def sha256(self) -> str:
        """A hash of the bundle."""
        return self._scorer.bundle.sha256

    @property
    def cuts(self) -> Cuts:
        """The bundle's cuts."""
        return self._scorer.bundle.info.cuts

    def folds(self, labelled: LabelledSet) -> Folds:
        """Return one of ``PARTS`` by the hash of each conversation, (N,)."""
        return folds_of(labelled.conversations, PARTS, 0)

    def marks(self, seed: int, dialogues: Sequence[Dialogue]) -> Scores:
        """Return scores (N, 2), the same for every seed."""
        del seed
        return self._scorer.score(dialogues, progress=False)

    def note(self, held_out: Sequence[Dialogue]) -> str:
        """Return how many of the dialogues it was trained on."""
        training = self._scorer.bundle.info.training
        known = {*training.content_hashes, *training.unlabelled_hashes}
        seen = sum(training_hash(dialogue) in known for dialogue in held_out)
        known_to = (
            f"the scorer {self._scorer.bundle.info.name} was trained on {seen} of these {len(held_out)} dialogues"
        )
        return f"{known_to}: it may know what was selected by, so perplexity counts first" if seen else known_to
