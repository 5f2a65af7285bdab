"""`empathy teach`: teachers score dialogues, real and re-paired, once for each fold that they held out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from msgspec import UNSET

from distill.errors import TrainError
from distill.training.checkpoint import FOLDS, Checkpoint
from distill.training.network import content_of, has_bf16, predict
from distill.training.pairs import re_pair
from distill.training.settings import TeachSettings
from distill.training.soft import SOFT_KEY, SoftInfo, SoftSet, check_soft, write_soft
from scorer.apart import check_apart, check_own, footer_holds
from scorer.bundle.encode import Encoded
from scorer.dialogue import Dialogue, training_hash
from scorer.engines.base import Scores
from scorer.locks import locked
from scorer.outputs import Existing, begin_work, check_new, end_work, replacing_binary
from scorer.progress import Progress, Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachIdentity:
    """What must be the same for teaching to be resumed; ``inputs`` is a hash of all dialogues.

    ``near_encoder`` is a hash of its files and stands in the place of the settings' name.
    """

    settings: TeachSettings
    inputs: str
    teachers: list[str]
    near_encoder: str | None = None


def check_teachers(teachers: Sequence[Checkpoint], role: str = "teacher") -> tuple[int, int]:
    """Return the teachers' folds and split seed; TrainError unless all have the same, and their fold models."""
    splits = {(teacher.info.settings.folds, teacher.info.settings.split_seed): teacher for teacher in teachers}
    if len(splits) > 1:
        said = ", ".join(f"{t.path}: --folds {folds} --split-seed {seed}" for (folds, seed), t in splits.items())
        raise TrainError(f"the teachers were trained with different folds ({said}); all must hold out the same")
    [(folds, seed)] = splits
    for teacher in teachers:
        missing = [k for k in range(folds) if not (teacher.path / FOLDS / str(k)).is_dir()]
        if missing:
            raise TrainError(f"{role} {teacher.path}: lacks {FOLDS}/{missing[0]}, its model without that fold")
    return folds, seed


def teach(
    teachers: Sequence[Checkpoint],
    dialogues: Sequence[Dialogue],
    settings: TeachSettings,
    output: Path,
    *,
    existing: Existing = "error",
    progress: Progress | None = None,
) -> SoftSet:
    """Score dialogues, and ``settings.pairs`` re-paired ones of each, and write the teachers' means to ``output``.

    Dialogues of the same text count once. A killed run keeps each model's scores in ``output``.partial. A whole
    ``output`` is returned as it is, if all that it was made from is the same. TrainError says what the teachers lack,
    OutputError why ``output`` may not be written.
    """
    with locked(output):
        return _teach(teachers, dialogues, settings, output, existing, progress or Silent())


def _teach(
    teachers: Sequence[Checkpoint],
    dialogues: Sequence[Dialogue],
    settings: TeachSettings,
    output: Path,
    existing: Existing,
    progress: Progress,
) -> SoftSet:
    folds, split_seed = check_teachers(teachers)
    resumed = existing == "resume" and output.is_file()
    check_new(output, overwrite=resumed or existing == "overwrite")
    check_apart(output, *(teacher.path for teacher in teachers))
    check_own(output, lambda path: footer_holds(path, SOFT_KEY), "file of soft scores")
    hashes = [teacher.sha256 for teacher in teachers]
    distinct: dict[str, Dialogue] = {}
    for dialogue in dialogues:
        distinct.setdefault(training_hash(dialogue), dialogue)
    known = json.dumps([[d.id, d.conversation, key] for key, d in distinct.items()])
    identity = TeachIdentity(
        settings=replace(settings, near_encoder=None),
        inputs=blake2b(known.encode(), digest_size=16).hexdigest(),
        teachers=hashes,
        near_encoder=content_of(settings.near_encoder) if settings.near_encoder else None,
    )
    if resumed:
        soft = check_soft(output, identity)
        end_work(output, identity)
        return soft
    work = begin_work(output, identity, existing)
    rows = list(distinct.values())
    partners = [dialogue.conversation for dialogue in rows]
    progress.stage("re-pairing dialogues")
    paired = re_pair(rows, settings.pairs, seed=settings.seed, encoder=settings.near_encoder)
    for dialogue, partner in zip(*paired, strict=True):
        if distinct.setdefault(training_hash(dialogue), dialogue) is dialogue:
            partners.append(partner)
    rows = list(distinct.values())
    scores = _scores(teachers, folds, rows, work, progress)
    info = SoftInfo(
        folds=folds,
        split_seed=split_seed,
        teachers=[teacher.info.backbone for teacher in teachers],
        teacher_hashes=hashes,
    )
    soft = SoftSet(rows, partners, scores, info)
    write_soft(output, soft, identity)
    end_work(output, identity)
    return soft


def _scores(
    teachers: Sequence[Checkpoint], folds: int, dialogues: Sequence[Dialogue], work: Path, progress: Progress
) -> Scores:
    """Return the mean of the teachers' scores for each fold, (max(folds, 1), N, 2)."""
    means = np.zeros((max(folds, 1), len(dialogues), 2), dtype=np.float32)
    models = len(teachers) * len(means)
    progress.stage("teachers score", models * len(dialogues))
    encoded: dict[str, list[Encoded]] = {}
    done = 0
    for number, teacher in enumerate(teachers):
        vocabulary = f"{teacher.backbone.tokenizer.backend_tokenizer.to_str()}{teacher.info.max_length}"
        if vocabulary not in encoded:  # teachers of one tokenizer read the same ids
            encoded = {vocabulary: teacher.encoder.encode(dialogues)}
        for fold in range(len(means)):
            path = work / f"scores-{number}-{fold}.npy"
            if not path.exists():
                found = _uncalibrated(
                    teacher.fold(fold) if folds else teacher, encoded[vocabulary], _Within(progress, done)
                )
                with replacing_binary(path) as file:
                    np.save(file, found)
            means[fold] += np.load(path) / len(teachers)
            done += len(dialogues)
            progress.update(done)
    return means


class _Within(Silent):
    """Tells a progress how far one model of several is."""

    def __init__(self, progress: Progress, before: int) -> None:
        self._progress, self._before = progress, before

    def update(self, done: float, *, total: float | None = None, note: str = "") -> None:
        """Say how many dialogues are scored, those of earlier models included."""
        self._progress.update(self._before + done, note=note)


def _uncalibrated(checkpoint: Checkpoint, encoded: Sequence[Encoded], progress: Progress) -> Scores:
    """Return a teacher's scores before calibration: it undoes the shrinking that a squared error wants of a target."""
    model = checkpoint.load_model().to("cuda" if torch.cuda.is_available() else "cpu")
    scores: Scores = predict(model, encoded, bf16=has_bf16(), progress=progress)
    calibration = checkpoint.info.calibration
    if calibration is UNSET:
        return scores
    return np.asarray((scores - np.asarray(calibration.intercept)) / np.asarray(calibration.slope), dtype=np.float32)
