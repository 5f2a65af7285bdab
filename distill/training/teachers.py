"""A teacher's soft scores: what a small student learns beside, and far beyond, the judge's labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from distill.errors import TrainError
from distill.labelled import LabelledSet
from distill.training.calibrate import Calibration
from distill.training.checkpoint import FOLDS, Checkpoint
from distill.training.network import Scores, has_bf16, predict
from distill.training.settings import TrainSettings
from scorer.bundle.encode import Encoded, Encoder
from scorer.dialogue import Dialogue, training_hash
from scorer.outputs import replacing_binary


def check_teachers(teachers: Sequence[Checkpoint], settings: TrainSettings) -> None:
    """Raise TrainError unless every teacher held out the very conversations that its student will.

    Else the student would learn, through the teacher, the labels that it is measured on.
    """
    for teacher in teachers:
        mine, theirs = (settings.folds, settings.split_seed), (teacher.settings.folds, teacher.settings.split_seed)
        if mine != theirs:
            raise TrainError(
                f"teacher {teacher.path}: was trained with --folds {theirs[0]} --split-seed {theirs[1]} and its "
                f"student is to be with {mine[0]} and {mine[1]}; give the teacher's: both must hold out the same"
            )
        missing = [k for k in range(settings.folds) if not (teacher.path / FOLDS / str(k)).is_dir()]
        if missing:
            raise TrainError(f"teacher {teacher.path}: lacks {FOLDS}/{missing[0]}, its model without that fold")


class Teaching:
    """The mean of several teachers' scores of labelled and unlabelled dialogues, a fold at a time.

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
        known = {*labelled.hashes}
        distinct: dict[str, Dialogue] = {}
        for dialogue in unlabelled:
            content = training_hash(dialogue)
            if content not in known:
                distinct.setdefault(content, dialogue)
        self.teachers = teachers
        self.unlabelled: list[Dialogue] = list(distinct.values())
        self.encoded_unlabelled: list[Encoded] = student.encode(self.unlabelled)
        self._labelled = labelled
        self._work = work

    def soft_scores(
        self, fold: int | None, on_scored: Callable[[int, int], None] | None = None
    ) -> tuple[Scores, Scores]:
        """Return soft scores of labelled (N, 2) and unlabelled (U, 2) dialogues, by teachers that never saw ``fold``.

        None is the teachers that were trained last. Their scores are taken before calibration: it undoes the
        shrinking that a mean squared error wants of a target. ``on_scored`` hears how many are done, of how many.
        """
        path = self._work / f"soft-{'final' if fold is None else fold}.npy"
        if not path.exists():
            dialogues = [*self._labelled.dialogues, *self.unlabelled]
            count = _Count(len(dialogues) * len(self.teachers), on_scored)
            scores = np.mean([_scores(teacher, fold, dialogues, count.add) for teacher in self.teachers], axis=0)
            with replacing_binary(path) as file:
                np.save(file, scores.astype(np.float32))
        both: Scores = np.load(path)
        return both[: len(self._labelled)], both[len(self._labelled) :]


class _Count:
    """Adds up rows, and hands on how many there are."""

    def __init__(self, total: int, on_scored: Callable[[int, int], None] | None) -> None:
        self._done, self._total, self._on_scored = 0, total, on_scored

    def add(self, rows: int) -> None:
        """Count some rows more."""
        self._done += rows
        if self._on_scored is not None:
            self._on_scored(self._done, self._total)


def _scores(
    teacher: Checkpoint, fold: int | None, dialogues: Sequence[Dialogue], on_batch: Callable[[int], None]
) -> Scores:
    checkpoint = teacher if fold is None else teacher.fold(fold)
    scores: Scores = predict(
        checkpoint.load_model(), checkpoint.encoder.encode(dialogues), bf16=has_bf16(), on_batch=on_batch
    )
    if "calibration" not in checkpoint.info:
        return scores
    calibration = Calibration(
        tuple(checkpoint.info["calibration"]["slope"]), tuple(checkpoint.info["calibration"]["intercept"])
    )
    return np.asarray((scores - np.asarray(calibration.intercept)) / np.asarray(calibration.slope), dtype=np.float32)
