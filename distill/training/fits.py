"""What a training consists of: its fits, what they share, and who hears how far they are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import PartialState

from distill.labelled import LabelledSet
from distill.training.checkpoint import FOLDS
from distill.training.network import Backbone
from distill.training.settings import TrainSettings
from distill.training.teachers import Teaching
from distill.training.trainer import steps_of
from scorer.bundle.encode import Encoded
from selection.folds import HOLDOUT_PARTS, Folds, folds_of

Mask = npt.NDArray[np.bool_]

FINAL = "final"
"""Name of the fit that becomes the checkpoint, and of its folder."""


class Progress:
    """Hears how far a training is; this one says nothing."""

    def begin(self, steps: int) -> None:
        """Note how many optimiser steps all fits take together."""

    def fit(self, name: str) -> None:
        """Note which fit begins."""

    def step(self, done: int, loss: float) -> None:
        """Note the steps done in this fit."""

    def skip(self, steps: int) -> None:
        """Note a fit that an earlier run finished."""

    def teach(self, done: int, total: int) -> None:
        """Note how many of the dialogues the teachers have scored for the next fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One fit: the rows it learns from and the rows it is held out from, masks (N,)."""

    name: str
    train: Mask
    held_out: Mask
    fold: int | None


@dataclass(slots=True)
class Training:
    """Everything that the fits of one training share; ``work`` is where they are kept."""

    labelled: LabelledSet
    settings: TrainSettings
    backbone: Backbone
    encoded: list[Encoded]
    teaching: Teaching | None
    work: Path
    progress: Progress
    processes: PartialState
    started: float = field(default_factory=time.monotonic)

    def folder(self, part: Part) -> Path:
        """Return where a fit's checkpoint is kept."""
        return self.work / FINAL if part.fold is None else self.work / FOLDS / str(part.fold)

    def steps(self, part: Part) -> int:
        """Return how many optimiser steps a fit takes on one device."""
        rows = int(part.train.sum()) + (0 if self.teaching is None else len(self.teaching.unlabelled))
        return steps_of(rows, self.settings)


def plan(labelled: LabelledSet, settings: TrainSettings) -> list[Part]:
    """Return the fits of a training: one a fold and one on everything, or one with a tenth held out."""
    if not settings.folds:
        held_out = folds_of(labelled.conversations, HOLDOUT_PARTS, settings.split_seed) == 0
        return [Part(FINAL, ~held_out, held_out, None)]
    folds = folds_of(labelled.conversations, settings.folds, settings.split_seed)
    every = np.ones(len(labelled), dtype=bool)
    parts = [Part(f"fold {k + 1} of {settings.folds}", folds != k, folds == k, k) for k in range(settings.folds)]
    return [*parts, Part(FINAL, every, ~every, None)]


def measured_folds(labelled: LabelledSet, settings: TrainSettings) -> Folds:
    """Return the folds for cross-fitting cuts and calibration; a single holdout is halved by conversation."""
    if settings.folds:
        return folds_of(labelled.conversations, settings.folds, settings.split_seed)
    return folds_of((f"half:{conversation}" for conversation in labelled.conversations), 2, settings.split_seed)
