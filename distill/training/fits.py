"""What a training consists of: its fits, assigned to rows once, what these share, and by what it is known again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

import numpy as np
from accelerate import PartialState

from distill.errors import TrainError
from distill.labelled import LabelledSet
from distill.training.checkpoint import FOLDS, Checkpoint, CheckpointInfo, LearntFrom
from distill.training.network import Backbone, content_of, has_bf16
from distill.training.settings import TeachSettings, TrainSettings
from distill.training.soft import Lessons, SoftSet
from scorer.arrays import Ints, Mask
from scorer.bundle.encode import Encoded, Encoder
from scorer.dialogue import Dialogue, training_hash
from scorer.progress import Progress
from selection.folds import HOLDOUT_PARTS, folds_of

FINAL = "final"
"""Name of the fit that becomes the checkpoint, and of its folder."""

_NAMED = 5  # so many files of many are named


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """One model to train: the rows that it learns from and the rows that are held out from it, masks (N,)."""

    name: str
    train: Mask
    held_out: Mask
    fold: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The fits of a training; ``folds`` (N,) are those by which calibration, cuts and figures are cross-fitted."""

    fits: Sequence[Fit]
    folds: Ints


def assign(conversations: Sequence[str], settings: TrainSettings) -> Split:
    """Assign the rows of conversations (N,) to fits: one per fold and one on everything, or one with a tenth held out.

    That tenth is halved by conversation for cross-fitting. TrainError if a fold of what is held out is empty.
    """
    count, seed = settings.folds, settings.split_seed
    if count:
        folds = folds_of(conversations, count, seed)
        every = np.ones(len(folds), dtype=bool)
        fits = [Fit(f"fold {k + 1} of {count}", folds != k, folds == k, k) for k in range(count)]
        split = Split([*fits, Fit(FINAL, every, ~every)], folds)
    else:
        held_out = folds_of(conversations, HOLDOUT_PARTS, seed) == 0
        halves = folds_of((f"half:{conversation}" for conversation in conversations), 2, seed)
        split = Split([Fit(FINAL, ~held_out, held_out)], halves)
    measured = np.any([fit.held_out for fit in split.fits], axis=0)
    empty = (count or 2) - len(np.unique(split.folds[measured]))
    if empty:
        raise TrainError(
            f"{len(set(conversations))} conversations and split seed {seed} leave {empty} of {count or 2} measured "
            "folds empty: label more conversations, or try another --split-seed"
        )
    return split


@dataclass(slots=True)
class TrainRun:
    """What the fits of one training share; ``work`` is where they are kept, ``done`` the steps of the finished ones.

    ``before`` is the checkpoint that the training goes on from, None where its backbone is only an encoder.
    """

    labelled: LabelledSet
    settings: TrainSettings
    backbone: Backbone
    encoder: Encoder
    encoded: list[Encoded]
    lessons: Lessons | None
    work: Path
    progress: Progress
    processes: PartialState
    before: Checkpoint | None = None
    total: int = 0
    done: int = 0
    started: float = field(default_factory=time.monotonic)

    def folder(self, fit: Fit) -> Path:
        """Return where a fit's checkpoint is kept."""
        return self.work / FINAL if fit.fold is None else self.work / FOLDS / str(fit.fold)

    def goes_on_from(self, fit: Fit) -> Checkpoint | None:
        """Return the checkpoint that a fit goes on from: of a fold, the one that did not see the fold either."""
        return self.before and (self.before if fit.fold is None else self.before.fold(fit.fold))

    def start(self, fit: Fit) -> Backbone:
        """Return the encoder that a fit begins with."""
        before = self.goes_on_from(fit)
        return replace(self.backbone, name=str(before.path)) if before else self.backbone

    def steps(self, fit: Fit) -> int:
        """Return how many optimiser steps a fit takes on one device."""
        rows = int(fit.train.sum()) + (int(self.taught(fit).sum()) if self.lessons else 0)
        return self.settings.steps(rows + round(self.settings.counterexamples * rows))

    def taught(self, fit: Fit) -> Mask:
        """Return which of the teachers' extra dialogues a fit learns, (E,): no conversation of theirs is held out."""
        assert self.lessons
        held_out = [self.labelled.dialogues[row].conversation for row in np.flatnonzero(fit.held_out)]
        return self.lessons.without(held_out)

    def describe(self, fit: Fit) -> CheckpointInfo:
        """Return the empathy.json of one fit: what is known of it before anything is measured."""
        name = self.settings.backbone
        return CheckpointInfo(
            settings=self.settings,
            max_length=self.settings.max_length,
            backbone=self.before.info.backbone if self.before else Path(name).name if Path(name).is_dir() else name,
            created=date.today().isoformat(),
            versions={package: version(package) for package in ("empathy-scorer", "torch", "transformers")},
            bf16=has_bf16(),
            part=fit.name,
            training=self._learnt_from(fit),
            epochs_before=self.before.info.epochs_before + self.before.info.settings.epochs if self.before else 0,
        )

    def _learnt_from(self, fit: Fit) -> LearntFrom:
        learnt = self.labelled.take(np.flatnonzero(fit.train))
        files = sorted({Path(dialogue.source).name for dialogue in learnt.dialogues})
        unlabelled = {*self.lessons.extra.hashes} if self.lessons else set[str]()
        teachers = self.lessons.extra.info.teachers if self.lessons else []
        hashes = {*learnt.hashes}
        if before := self.goes_on_from(fit):
            earlier = before.info.training
            unlabelled |= {*earlier.unlabelled_hashes}
            hashes |= {*earlier.content_hashes}
            teachers = list(dict.fromkeys([*earlier.teachers, *teachers]))
        return LearntFrom(
            data=", ".join(files[:_NAMED]) + (f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""),
            dialogues=len(learnt),
            judgements=sum(map(len, learnt.judgements)),
            judge=_said_by_judges(learnt, "model"),
            rubric=_said_by_judges(learnt, "rubric"),
            conversations=len(set(learnt.conversations)),
            unlabelled=len(unlabelled),
            teachers=teachers,
            content_hashes=sorted(hashes),
            unlabelled_hashes=sorted(unlabelled),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainIdentity:
    """What must be the same for a training to be resumed; ``inputs`` is a hash of all dialogues and labels.

    ``backbone`` and ``near_encoder`` are hashes of their files and stand in the settings' names' place; ``teachers``
    are the hashes of the teachers' checkpoints, or that of their soft scores.
    """

    settings: TrainSettings
    backbone: str
    inputs: str
    teachers: list[str]
    teaching: TeachSettings | None = None
    near_encoder: str | None = None


def identify(
    labelled: LabelledSet,
    settings: TrainSettings,
    backbone: Backbone,
    teachers: Sequence[Checkpoint],
    unlabelled: Sequence[Dialogue],
    teaching: TeachSettings | None = None,
    soft: SoftSet | None = None,
) -> TrainIdentity:
    """Return what must be the same for a training to be resumed."""
    state = blake2b(digest_size=16)
    rows = zip(labelled.dialogues, labelled.scores.tolist(), labelled.weights.tolist(), strict=True)
    for dialogue, scores, weight in rows:
        state.update(f"{_known_by(dialogue)}{scores}{weight}\n".encode())
    for dialogue in unlabelled:
        state.update(f"{_known_by(dialogue)}\n".encode())
    return TrainIdentity(
        settings=replace(settings, backbone=""),
        backbone=backbone.sha256,
        inputs=state.hexdigest(),
        teachers=[soft.sha256] if soft else [teacher.sha256 for teacher in teachers],
        teaching=replace(teaching, near_encoder=None) if teaching else None,
        near_encoder=content_of(teaching.near_encoder) if teaching and teaching.near_encoder else None,
    )


def _known_by(dialogue: Dialogue) -> str:
    """Return all of a dialogue that a training looks at: its text, and its conversation, which decides its fold."""
    return json.dumps([dialogue.id, dialogue.conversation, training_hash(dialogue)])


def _said_by_judges(labelled: LabelledSet, key: str) -> list[str] | None:
    """Return what the labels say of their judge, None where they say nothing."""
    judgements = (one.judge or {} for row in labelled.judgements for one in row)
    return sorted({str(said) for judge in judgements if (said := judge.get(key))}) or None
