"""`empathy train`: from labelled dialogues to a calibrated checkpoint that says how good it is.

One fit, or one per fold and one on everything; each is kept as soon as it is done, so that a killed run can be resumed.
Calibration, cuts, uncertainty and every figure come from predictions of held-out conversations.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedModel

from distill.errors import CHECKPOINT_JSON, TrainError
from distill.labelled import LabelledSet, check_trainable
from distill.robustness.counterexamples import counterexamples
from distill.robustness.edits import edit
from distill.training.assemble import finish
from distill.training.checkpoint import THEN, Checkpoint, load_checkpoint, save_checkpoint, writing_weights
from distill.training.fits import Fit, Split, TrainIdentity, TrainRun, assign, identify
from distill.training.network import Backbone, load_backbone, load_network, predict
from distill.training.settings import TeachSettings, TrainSettings
from distill.training.soft import Lessons, SoftSet, check_split, read_soft
from distill.training.teach import check_teachers, teach
from distill.training.trainer import Steps, TrainingRows, fine_tune
from scorer.arrays import Ints
from scorer.dialogue import HEADS, Dialogue
from scorer.engines.base import Scores
from scorer.finished import check_sealed
from scorer.locks import locked
from scorer.outputs import Existing, begin_work, check_folder, end_work, new_folder, replacing_binary
from scorer.progress import Progress, Silent
from selection.folds import HOLDOUT_PARTS, inner_holdout

_BYTES_PER_PARAMETER = 4
_TRAINER_COPIES = 6  # two checkpoints at once, each with the weights and AdamW's two moments

COUNTEREXAMPLE_WEIGHT = 0.3
"""What a bad reply counts in training. Its first error is some ten times a real reply's (benchmarks/README.md)."""


def train_scorer(
    labelled: LabelledSet,
    settings: TrainSettings,
    output: Path,
    *,
    teachers: Sequence[Checkpoint] = (),
    unlabelled: Sequence[Dialogue] = (),
    teaching: TeachSettings | None = None,
    soft: SoftSet | None = None,
    existing: Existing = "error",
    progress: Progress | None = None,
) -> Checkpoint:
    """Train a scorer on ``labelled`` and write it to ``output``, whole or not at all.

    Without ``settings.folds`` one tenth of the conversations is held out; with K folds K + 1 models are trained and
    the last one, on everything, is the checkpoint. ``teachers`` give soft scores of labelled and ``unlabelled``
    dialogues, and of the re-paired ones that ``teaching`` asks for; or ``soft`` holds such scores already. Where there
    are folds, the teacher of a fold is the one that did not see it either.

    TrainError says what the labels, the backbone or a teacher lack, before anything is trained; OutputError why
    ``output`` may not be written. What a killed run finished stands in ``output``.partial until it is resumed; a whole
    ``output`` is returned as it is, if all that it was made from is the same.
    """
    with _locked(output):
        begun = _begin(labelled, settings, output, teachers, unlabelled, teaching, soft, existing, progress)
        return load_checkpoint(output) if begun is None else _train(*begun, output)


def _train(run: TrainRun, split: Split, identity: TrainIdentity, output: Path) -> Checkpoint:
    run.total = sum(map(run.steps, split.fits))
    raw = np.full(run.labelled.scores.shape, np.nan, dtype=np.float32)
    for fit in split.fits:
        model = None  # the last fit's, whose memory the next one needs
        raw[fit.held_out], model = run_fit(run, fit)
    if run.processes.is_main_process:
        finish(run, split, raw, model or load_network(run.folder(split.fits[-1])), output, identity)
        end_work(output, identity)
    run.processes.wait_for_everyone()
    return load_checkpoint(output)


def train_fit(
    labelled: LabelledSet,
    settings: TrainSettings,
    output: Path,
    number: int,
    *,
    soft: SoftSet | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train only one fit of a training, 0 to K - 1 or K for the one on everything, and return its folder.

    Several processes may do so at once; `train_scorer` with the same arguments and ``existing`` = ``resume`` then finds
    the fits done. TrainError where there is no such fit. Where the whole is there, its folder is returned.
    """
    with _locked(output, shared=True):
        begun = _begin(labelled, settings, output, (), (), None, soft, "resume", progress)
        if begun is None:
            return output
        run, split, _ = begun
        if not 0 <= number < len(split.fits):
            raise TrainError(f"fit is {number}, expected 0 to {len(split.fits) - 1}, the last one on everything")
        fit = split.fits[number]
        run.total = run.steps(fit)
        run.folder(fit).parent.mkdir(exist_ok=True)
        with _locked(run.folder(fit)):
            run_fit(run, fit)
        return run.folder(fit)


@contextmanager
def _locked(output: Path, *, shared: bool = False) -> Iterator[None]:
    """Lock an output for the first process of a training; the others are its own."""
    with locked(output, shared=shared) if _processes().is_main_process else nullcontext():
        yield


def _processes() -> PartialState:
    """Return the processes of torchrun, or this one."""
    return PartialState(cpu=not torch.cuda.is_available())


def _begin(
    labelled: LabelledSet,
    settings: TrainSettings,
    output: Path,
    teachers: Sequence[Checkpoint],
    unlabelled: Sequence[Dialogue],
    teaching: TeachSettings | None,
    soft: SoftSet | None,
    existing: Existing,
    progress: Progress | None,
) -> tuple[TrainRun, Split, TrainIdentity] | None:
    """Check everything that can be wrong, and return what the fits share; the teachers have scored by then.

    None where the output is there, of this very training.
    """
    check_trainable(labelled, settings.folds or HOLDOUT_PARTS)
    split = assign(labelled.conversations, settings)
    backbone = checked_backbone(settings)
    before = _goes_on_from(backbone, settings)
    if unlabelled and not teachers:
        raise TrainError("--unlabelled dialogues are learnt from a teacher's scores: name one with --teacher")
    if teachers:
        check_split(*check_teachers(teachers), settings)
    encoder = backbone.encoder(settings.max_length)
    lessons = Lessons.of(soft, labelled, settings, encoder) if soft else None
    if output.parent.is_dir():
        _check_room(output, backbone, settings)
    # Under torchrun every process comes here; the first one writes, the others wait and read.
    processes = _processes()
    identity = identify(labelled, settings, backbone, teachers, unlabelled, teaching, soft)
    with processes.main_process_first():
        if existing == "resume" and (output / CHECKPOINT_JSON).exists():
            if processes.is_main_process:
                check_sealed(output, identity)
                end_work(output, identity)  # a kill may have come between the two
            return None
        if processes.is_main_process:
            check_folder(output, existing, CHECKPOINT_JSON, "`empathy train`")
        work = begin_work(output, identity, existing if processes.is_main_process else "resume")
    progress = progress or Silent()
    if teachers:
        path = work / "soft.parquet"
        with processes.main_process_first():
            if not path.exists():
                dialogues = [*labelled.dialogues, *unlabelled]
                teach(teachers, dialogues, teaching or TeachSettings(), path, existing="resume", progress=progress)
            lessons = Lessons.of(read_soft(path), labelled, settings, encoder)
    encoded = encoder.encode(labelled.dialogues)
    run = TrainRun(labelled, settings, backbone, encoder, encoded, lessons, work, progress, processes, before)
    return run, split, identity


def checked_backbone(settings: TrainSettings) -> Backbone:
    """Return the encoder that a training begins with; TrainError if it cannot be loaded, is too short or shallow."""
    backbone = load_backbone(settings.backbone, settings.layers)
    if settings.max_length > backbone.max_length:
        raise TrainError(
            f"max length is {settings.max_length} and {settings.backbone} takes {backbone.max_length} tokens at most"
        )
    return backbone


def _goes_on_from(backbone: Backbone, settings: TrainSettings) -> Checkpoint | None:
    """Return the checkpoint that a training goes on from; TrainError if it learnt what is to be held out now."""
    if not backbone.is_checkpoint:
        if settings.earlier_share:
            raise TrainError(
                f"earlier share is {settings.earlier_share:g} and the backbone {backbone.name!r} is no checkpoint "
                "of `empathy train`: it has no earlier scores to keep; leave it out"
            )
        return None
    before = load_checkpoint(backbone.name)
    check_split(*check_teachers([before], "backbone"), settings, "the backbone was")
    return before


def _check_room(output: Path, backbone: Backbone, settings: TrainSettings) -> None:
    """Raise TrainError if the disk will not hold the folds, the final model twice, and the Trainer's own state."""
    weights = _BYTES_PER_PARAMETER * backbone.parameters
    needed = weights * (settings.folds + 2 + _TRAINER_COPIES)
    free = shutil.disk_usage(output.parent).free
    if free < needed:
        raise TrainError(
            f"{output}: the training writes up to {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on that disk; "
            "make room or name another output"
        )


def run_fit(run: TrainRun, fit: Fit) -> tuple[Scores, PreTrainedModel | None]:
    """Train one fit, and return the raw scores of the rows that it is held out from, (H, 2), and its model.

    Its checkpoint is kept in ``run``'s folder; the model is None where an earlier run finished the fit.
    """
    folder = run.folder(fit)
    scores_file = folder.with_name(f"{folder.name}.npy")
    model = None
    if not (folder.is_dir() and scores_file.exists()):
        examples, validation = _examples(run, fit)
        run.progress.stage("training", run.total, run.done)
        trainer = run.work / "trainer" / folder.name
        with writing_weights(run.work):
            steps = Steps(run.progress, fit.name, run.done)
            model = fine_tune(run.start(fit), examples, validation, run.settings, trainer, steps)
            if run.processes.is_main_process:
                raw = predict(model, [run.encoded[row] for row in np.flatnonzero(fit.held_out)])
                folder.parent.mkdir(exist_ok=True)
                with replacing_binary(scores_file) as file:
                    np.save(file, raw)
                with new_folder(folder, then=THEN) as unfinished:
                    save_checkpoint(unfinished, model, run.backbone, run.describe(fit))
                shutil.rmtree(trainer, ignore_errors=True)
        run.processes.wait_for_everyone()
    run.done += run.steps(fit)
    scores: Scores = np.load(scores_file)
    return scores, model


def _examples(run: TrainRun, fit: Fit) -> tuple[TrainingRows, TrainingRows | None]:
    """Return what a fit learns from and what stops it early."""
    settings, rows, validation = run.settings, np.flatnonzero(fit.train), None
    if settings.patience is not None:
        inner = inner_holdout([run.labelled.dialogues[row].conversation for row in rows], settings.split_seed)
        validation = _labelled_rows(run, rows[inner])
        rows = rows[~inner]
    learnt = _labelled_rows(run, rows)
    dialogues = [run.labelled.dialogues[row] for row in rows]
    contexts = dialogues
    if run.lessons:
        soft, extra_scores = run.lessons.scores(fit.fold)
        extra = np.flatnonzero(run.taught(fit)).tolist()
        share = settings.judge_share
        learnt = TrainingRows(learnt.encoded, share * learnt.targets + (1 - share) * soft[rows], learnt.weights)
        learnt = learnt.joined([run.lessons.encoded[row] for row in extra], extra_scores[extra])
        dialogues = [*dialogues, *(run.lessons.extra.dialogues[row] for row in extra)]
        real = [row for row in extra if run.lessons.extra.is_real(row)]
        contexts = [*contexts, *(run.lessons.extra.dialogues[row] for row in real)]
    for head, values in zip(HEADS, learnt.targets.T, strict=True):
        if not np.ptp(values):
            raise TrainError(f"every {head} to learn is {values[0]:g}: look at what the teachers give")
    if settings.edits:
        learnt = _edited(learnt, dialogues, run)
    if settings.counterexamples:
        # Unlike the others, a response from elsewhere may fit; whoever has teachers' scores of such ones learns these.
        asked = run.lessons is not None and run.lessons.extra.re_paired
        without = {settings.left_out_kind or "", "unrelated" if asked else ""}
        count = round(settings.counterexamples * len(learnt))
        bad, ceilings = counterexamples(contexts, count, seed=settings.seed, without=tuple(without))
        learnt = learnt.joined(run.encoder.encode(bad), ceilings, weight=COUNTEREXAMPLE_WEIGHT, ceiling=True)
    return learnt, validation


def _labelled_rows(run: TrainRun, rows: Ints) -> TrainingRows:
    labelled = run.labelled
    return TrainingRows([run.encoded[row] for row in rows], labelled.scores[rows], labelled.weights[rows])


def _edited(learnt: TrainingRows, dialogues: Sequence[Dialogue], run: TrainRun) -> TrainingRows:
    """Return the rows with a share of the dialogues read in an edited form; the targets stay."""
    draw = random.Random(run.settings.seed)
    places = draw.sample(range(len(dialogues)), round(run.settings.edits * len(dialogues)))
    encoded = list(learnt.encoded)
    edited = run.encoder.encode([edit(dialogues[place], draw) for place in places])
    for place, item in zip(places, edited, strict=True):
        encoded[place] = item
    return replace(learnt, encoded=encoded)
