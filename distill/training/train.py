"""`empathy train`: from labelled dialogues to a calibrated checkpoint that says how good it is.

One fit, or one a fold and one on everything; each is kept the moment it is done, so a killed run goes on where it
was. Calibration, cuts, uncertainty and every figure come from predictions of held-out conversations.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from distill.errors import TrainError
from distill.labelled import LabelledSet, check_trainable
from distill.training.assemble import finish, fold_info
from distill.training.checkpoint import THEN, Checkpoint, load_checkpoint, write_checkpoint, writing_weights
from distill.training.fits import Part, Progress, Training, measured_folds, plan
from distill.training.network import Backbone, Scores, load_backbone, predict
from distill.training.settings import TrainSettings
from distill.training.teachers import Teaching, check_teachers
from distill.training.trainer import Examples, fit
from distill.training.work_folder import check_room, identity, open_work
from scorer.dialogue import Dialogue
from scorer.outputs import Existing, replacing_binary, writing
from selection.folds import HOLDOUT_PARTS, inner_holdout


def train(
    labelled: LabelledSet,
    settings: TrainSettings,
    output: Path,
    *,
    teachers: Sequence[Checkpoint] = (),
    unlabelled: Sequence[Dialogue] = (),
    existing: Existing = "error",
    progress: Progress | None = None,
) -> Checkpoint:
    """Train a scorer on ``labelled`` and write it to ``output``, whole or not at all.

    Without ``settings.folds`` one tenth of the conversations is held out; with K folds K + 1 models are trained and
    the last one, on everything, is the checkpoint. ``teachers`` give soft scores of labelled and ``unlabelled``
    dialogues; where there are folds, the teacher of a fold is the one that did not see it either.

    TrainError says what the labels, the backbone or a teacher lack, before anything is trained; OutputError why
    ``output`` may not be written. What a killed run finished stands in ``output``.partial until it is resumed.
    """
    progress = progress or Progress()
    parts = plan(labelled, settings)
    check_trainable(labelled, settings.folds or HOLDOUT_PARTS)
    _check_measurable(labelled, settings, parts)
    backbone = checked_backbone(settings)
    check_teachers(teachers, settings)
    if unlabelled and not teachers:
        raise TrainError("--unlabelled dialogues are learnt from a teacher's scores: name one with --teacher")
    # Under torchrun every process comes here; the first one writes, the others wait and read.
    processes = PartialState(cpu=not torch.cuda.is_available())
    with processes.main_process_first():
        mine = existing if processes.is_main_process else "resume"
        work = open_work(output, identity(labelled, settings, teachers, unlabelled), mine)
    check_room(output, backbone, settings)
    encoded = backbone.encoder(settings.max_length).encode(labelled.dialogues)
    teaching = (
        Teaching(teachers, labelled, unlabelled, backbone.encoder(settings.max_length), work) if teachers else None
    )
    run = Training(labelled, settings, backbone, encoded, teaching, work, progress, processes)
    progress.begin(sum(run.steps(part) for part in parts))
    raw = np.full(labelled.scores.shape, np.nan, dtype=np.float32)
    for part in parts:
        raw[part.held_out] = _fit_part(run, part)
    if processes.is_main_process:
        checkpoint = finish(run, parts, raw)
        with writing(output, then=THEN):
            if output.exists():
                shutil.rmtree(output)
            checkpoint.path.rename(output)
            shutil.rmtree(work)
    processes.wait_for_everyone()
    return load_checkpoint(output)


def _check_measurable(labelled: LabelledSet, settings: TrainSettings, parts: Sequence[Part]) -> None:
    """Raise TrainError if the hash dealt a fold no conversation, or all that is held out to one measured fold."""
    held_out = np.any([part.held_out for part in parts], axis=0)
    measured = np.unique(measured_folds(labelled, settings)[held_out])
    expected = settings.folds or 2
    if len(measured) < expected:
        conversations = len(set(labelled.conversations))
        raise TrainError(
            f"{conversations} conversations and split seed {settings.split_seed} leave {expected - len(measured)} of "
            f"{expected} measured folds empty: label more conversations, or try another --split-seed"
        )


def _fit_part(run: Training, part: Part) -> Scores:
    """Return the raw scores of the rows that a fit is held out from, (H, 2), and keep its checkpoint."""
    folder = run.folder(part)
    scores_file = folder.with_name(f"{folder.name}.npy")
    if folder.is_dir() and scores_file.exists():
        run.progress.skip(run.steps(part))
        kept: Scores = np.load(scores_file)
        return kept
    examples, validation = _examples(run, part)
    run.progress.fit(part.name)
    trainer = run.work / "trainer" / folder.name
    with writing_weights(run.work):
        model = fit(run.backbone, examples, validation, run.settings, trainer, run.progress.step)
        if run.processes.is_main_process:
            raw = predict(model, [run.encoded[row] for row in np.flatnonzero(part.held_out)])
            folder.parent.mkdir(exist_ok=True)
            with replacing_binary(scores_file) as file:
                np.save(file, raw)
            shutil.rmtree(folder, ignore_errors=True)
            write_checkpoint(folder, model, run.backbone, fold_info(run, part))
            shutil.rmtree(trainer, ignore_errors=True)
    run.processes.wait_for_everyone()
    scores: Scores = np.load(scores_file)
    return scores


def _examples(run: Training, part: Part) -> tuple[Examples, Examples | None]:
    """Return what a fit learns from and what stops it early."""
    rows = np.flatnonzero(part.train)
    targets, weights = run.labelled.scores[rows], run.labelled.weights[rows]
    encoded = [run.encoded[row] for row in rows]
    validation = None
    if run.settings.patience is not None:
        inner = inner_holdout([run.labelled.dialogues[row].conversation for row in rows], run.settings.split_seed)
        kept = np.flatnonzero(inner)
        validation = Examples([encoded[row] for row in kept], targets[kept], weights[kept])
        rows, targets, weights = rows[~inner], targets[~inner], weights[~inner]
        encoded = [encoded[row] for row in np.flatnonzero(~inner)]
    if run.teaching is None:
        return Examples(encoded, targets, weights), validation
    with run.processes.main_process_first():
        soft, soft_unlabelled = run.teaching.soft_scores(part.fold, run.progress.teach)
    share = run.settings.judge_share
    targets = np.concatenate([share * targets + (1 - share) * soft[rows], soft_unlabelled])
    weights = np.concatenate([weights, np.ones(len(soft_unlabelled), dtype=np.float32)])
    return Examples([*encoded, *run.teaching.encoded_unlabelled], targets, weights), validation


def checked_backbone(settings: TrainSettings) -> Backbone:
    """Return the encoder that a training begins with; TrainError if it cannot be loaded, is too short or shallow."""
    backbone = load_backbone(settings.backbone, settings.layers)
    if settings.max_length > backbone.max_length:
        raise TrainError(
            f"max length is {settings.max_length} and {settings.backbone} takes {backbone.max_length} tokens at most"
        )
    return backbone
