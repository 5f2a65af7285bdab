"""A teacher's soft scores: what a small student learns beside, and far beyond, the judge's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import UNSET

from distill.errors import TrainError
from distill.labelled import LabelledSet
from distill.training.checkpoint import FOLDS, Checkpoint
from distill.training.network import has_bf16, predict
from distill.training.settings import TrainSettings
from scorer.bundle.encode import Encoder
from scorer.dialogue import Dialogue, training_hash
from scorer.engines.base import Scores
from scorer.outputs import replacing_binary
from scorer.progress import Progress


def check_teachers(teachers: Sequence[Checkpoint], settings: TrainSettings) -> None:
    """Raise TrainError unless every teacher held out the very conversations that its student will.

    Else the student would learn, through the teacher, the labels that it is measured on.
    """
    for teacher in teachers:
        known = teacher.info.settings
        mine, theirs = (settings.folds, settings.split_seed), (known.folds, known.split_seed)
        if mine != theirs:
            raise TrainError(
                f"teacher {teacher.path}: was trained with --folds {theirs[0]} --split-seed {theirs[1]} and its "
                f"student is to be with {mine[0]} and {mine[1]}; give the teacher's: both must hold out the same"
            )
        missing = [k for k in range(settings.folds) if not (teacher.path / FOLDS / str(k)).is_dir()]
        if missing:
            raise TrainError(f"teacher {teacher.path}: lacks {FOLDS}/{missing[0]}, its model without that fold")


class Teaching:
    """The mean of several teachers' scores of labelled and unlabelled dialogues, one fold at a time.

    Unlabelled dialogues that are also labelled are left out: held-out text stays unseen in every way.
    """

    def __init__(
        self,
        teachers: Sequence[Checkpoint],
        labelled: LabelledSet,
        unlabelled: Sequence[Dialogue],
        student: Encoder,
        work: Path,
    ) -> None:
        """Take teachers and dialogues; ``work`` keeps the scores of each fold, so that a resumed run has them."""
        distinct: dict[str, Dialogue] = {}
        for dialogue in unlabelled:
            distinct.setdefault(training_hash(dialogue), dialogue)
        for content in labelled.hashes:
            distinct.pop(content, None)
        self.teachers = teachers
        self.unlabelled = list(distinct.values())
        self.encoded_unlabelled = student.encode(self.unlabelled)
        self._labelled = labelled
        self._work = work

    def soft_scores(self, fold: int | None, progress: Progress) -> tuple[Scores, Scores]:
        """Return soft scores of labelled (N, 2) and unlabelled (U, 2) dialogues, by teachers that never saw ``fold``.

        None is the teachers that were trained last. Their scores are taken before calibration: it undoes the
        shrinking that a mean squared error wants of a target.
        """
        path = self._work / f"soft-{'final' if fold is None else fold}.npy"
        if not path.exists():
            dialogues = [*self._labelled.dialogues, *self.unlabelled]
            scores = np.mean([_scores(teacher, fold, dialogues, progress) for teacher in self.teachers], axis=0)
            with replacing_binary(path) as file:
                np.save(file, scores.astype(np.float32))
        both: Scores = np.load(path)
        return both[: len(self._labelled)], both[len(self._labelled) :]


def _scores(teacher: Checkpoint, fold: int | None, dialogues: Sequence[Dialogue], progress: Progress) -> Scores:
    checkpoint = teacher if fold is None else teacher.fold(fold)
    progress.stage("the teacher scores dialogues", len(dialogues))
    encoded = checkpoint.encoder.encode(dialogues)
    scores: Scores = predict(checkpoint.load_model(), encoded, bf16=has_bf16(), progress=progress)
    calibration = checkpoint.info.calibration
    if calibration is UNSET:
        return scores
    return np.asarray((scores - np.asarray(calibration.intercept)) / np.asarray(calibration.slope), dtype=np.float32)
