"""`empathy train`: from labelled dialogues to a calibrated checkpoint that says how good it is.

One fit, or one a fold and one on everything; each is kept the moment it is done, so a killed run goes on where it
was. Calibration, cuts, uncertainty and every figure come from predictions of held-out conversations.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate import PartialState

from distill.calibrate import (
    COVERAGE,
    cross_calibrate,
    cross_coverage,
    cut_table,
    fit_calibration,
    fit_uncertainty,
)
from distill.card import checkpoint_card
from distill.checkpoint import FOLDS, OOF, Checkpoint, load_checkpoint, write_checkpoint
from distill.errors import TrainError
from distill.fit import Examples, fit, steps_of
from distill.labelled import LabelledSet, check_trainable
from distill.measure import cross_levels, summarise
from distill.metrics import Pair
from distill.network import Backbone, Scores, fold_affine, has_bf16, load_backbone, predict
from distill.settings import TrainSettings
from distill.splits import HOLDOUT_PARTS, folds_of, inner_holdout
from distill.teach import Teaching, check_teachers
from scorer.dialogue import HEADS, Dialogue
from scorer.domain import fit_domain
from scorer.encode import Encoded
from scorer.errors import OutputError
from scorer.files import replacing, replacing_binary, writing

Existing = Literal["error", "resume", "overwrite"]
Mask = npt.NDArray[np.bool_]

_FINAL = "final"
_BYTES_A_PARAMETER = 4
_THEN = "; mend that and go on with --resume"


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
class _Run:
    """Everything that the fits of one training share."""

    labelled: LabelledSet
    settings: TrainSettings
    backbone: Backbone
    encoded: list[Encoded]
    teaching: Teaching | None
    work: Path
    progress: Progress
    processes: PartialState
    started: float = field(default_factory=time.monotonic)


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
    backbone = _checked_backbone(settings)
    check_teachers(teachers, settings)
    if unlabelled and not teachers:
        raise TrainError("--unlabelled dialogues are learnt from a teacher's scores: name one with --teacher")
    # Under torchrun every process comes here; the first one writes, the others wait and read.
    processes = PartialState(cpu=not torch.cuda.is_available())
    with processes.main_process_first():
        mine = existing if processes.is_main_process else "resume"
        work = _open(output, _identity(labelled, settings, teachers, unlabelled), mine)
    encoded = backbone.encoder(settings.max_length).encode(labelled.dialogues)
    teaching = (
        Teaching(teachers, labelled, unlabelled, backbone.encoder(settings.max_length), work) if teachers else None
    )
    run = _Run(labelled, settings, backbone, encoded, teaching, work, progress, processes)
    progress.begin(sum(_steps(run, part) for part in parts))
    raw = np.full(labelled.scores.shape, np.nan, dtype=np.float32)
    for part in parts:
        raw[part.held_out] = _fit_part(run, part)
    if processes.is_main_process:
        checkpoint = _finish(run, parts, raw)
        with writing(output, then=_THEN):
            if output.exists():
                shutil.rmtree(output)
            checkpoint.path.rename(output)
            shutil.rmtree(work)
    processes.wait_for_everyone()
    return load_checkpoint(output)


def plan(labelled: LabelledSet, settings: TrainSettings) -> list[Part]:
    """Return the fits of a training: one a fold and one on everything, or one with a tenth held out."""
    if not settings.folds:
        held_out = folds_of(labelled.conversations, HOLDOUT_PARTS, settings.split_seed) == 0
        return [Part(_FINAL, ~held_out, held_out, None)]
    folds = folds_of(labelled.conversations, settings.folds, settings.split_seed)
    every = np.ones(len(labelled), dtype=bool)
    parts = [Part(f"fold {k + 1} of {settings.folds}", folds != k, folds == k, k) for k in range(settings.folds)]
    return [*parts, Part(_FINAL, every, ~every, None)]


def _check_measurable(labelled: LabelledSet, settings: TrainSettings, parts: Sequence[Part]) -> None:
    """Raise TrainError if the hash dealt a fold no conversation, or all that is held out to one measured fold."""
    held_out = np.any([part.held_out for part in parts], axis=0)
    measured = np.unique(_measured_folds(labelled, settings)[held_out])
    expected = settings.folds or 2
    if len(measured) < expected:
        conversations = len(set(labelled.conversations))
        raise TrainError(
            f"{conversations} conversations and split seed {settings.split_seed} leave {expected - len(measured)} of "
            f"{expected} measured folds empty: label more conversations, or try another --split-seed"
        )


def _fit_part(run: _Run, part: Part) -> Scores:
    """Return the raw scores of the rows that a fit is held out from, (H, 2), and keep its checkpoint."""
    folder = _folder(run.work, part)
    scores_file = folder.with_name(f"{folder.name}.npy")
    if folder.is_dir() and scores_file.exists():
        run.progress.skip(_steps(run, part))
        kept: Scores = np.load(scores_file)
        return kept
    examples, validation = _examples(run, part)
    run.progress.fit(part.name)
    trainer = run.work / "trainer" / folder.name
    with writing(run.work, then=_THEN):
        model = fit(run.backbone, examples, validation, run.settings, trainer, run.progress.step)
        if run.processes.is_main_process:
            raw = predict(model, [run.encoded[row] for row in np.flatnonzero(part.held_out)])
            folder.parent.mkdir(exist_ok=True)
            with replacing_binary(scores_file) as file:
                np.save(file, raw)
            shutil.rmtree(folder, ignore_errors=True)
            write_checkpoint(folder, model, run.backbone, _fold_info(run, part))
            shutil.rmtree(trainer, ignore_errors=True)
    run.processes.wait_for_everyone()
    scores: Scores = np.load(scores_file)
    return scores


def _examples(run: _Run, part: Part) -> tuple[Examples, Examples | None]:
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


def _finish(run: _Run, parts: Sequence[Part], raw: Scores) -> Checkpoint:
    """Calibrate the final model on the held-out predictions and write the whole checkpoint beside the work."""
    labelled, settings = run.labelled, run.settings
    held_out: Mask = np.asarray(~np.isnan(raw).any(axis=1))
    folds = _measured_folds(labelled, settings)[held_out]
    scores, labels = raw[held_out], labelled.scores[held_out]
    calibration = fit_calibration(scores, labels)
    calibrated = cross_calibrate(scores, labels, folds)
    levels = cross_levels(calibrated, labels, folds)
    pair = Pair.of(labels, calibrated, levels)
    coverage = cross_coverage(calibrated, labels, folds)
    model = load_checkpoint(_folder(run.work, parts[-1])).load_model()
    fold_affine(model, calibration.slope, calibration.intercept)
    shipped = calibration.apply(scores)
    info: dict[str, Any] = {
        **_common(run),
        "part": "all labels" if settings.folds else "nine tenths of the conversations",
        "calibration": {"slope": list(calibration.slope), "intercept": list(calibration.intercept)},
        "cuts": cut_table(shipped, labels),
        "uncertainty": fit_uncertainty(shipped, labels).to_json(),
        "measured": {
            "how": _how(settings, held_out),
            **summarise(pair),
            "coverage": {head: round(value, 4) for head, value in zip(HEADS, coverage, strict=True)},
            "coverage_aim": COVERAGE,
        },
        "training": _training(run, parts[-1]),
        "domain": fit_domain(labelled.dialogues, run.encoded, len(run.backbone.tokenizer)).to_json(),  # type: ignore[arg-type]
        "seconds": round(time.monotonic() - run.started),
    }
    whole = run.work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    with writing(run.work, then=_THEN):
        checkpoint = write_checkpoint(whole, model, run.backbone, info)
        with replacing(whole / "README.md") as file:
            file.write(checkpoint_card(checkpoint.info))
        _write_rejects(whole / "rejects.jsonl", labelled)
        _write_oof(whole / OOF, run, held_out, folds, calibrated, scores)
        if settings.folds:
            shutil.copytree(run.work / FOLDS, whole / FOLDS, ignore=shutil.ignore_patterns("*.npy", ".*"))
    return checkpoint


def _write_rejects(path: Path, labelled: LabelledSet) -> None:
    if labelled.rejects:
        with replacing(path) as file:
            file.writelines(json.dumps(asdict(reject)) + "\n" for reject in labelled.rejects)


def _write_oof(path: Path, run: _Run, held_out: Mask, folds: Any, calibrated: Scores, raw: Scores) -> None:
    rows = np.flatnonzero(held_out)
    dialogues = [run.labelled.dialogues[row] for row in rows]
    hashes = run.labelled.hashes
    columns: dict[str, Any] = {
        "id": [dialogue.id for dialogue in dialogues],
        "conversation": [dialogue.conversation for dialogue in dialogues],
        "fold": folds,
        **{head: calibrated[:, i] for i, head in enumerate(HEADS)},
        **{f"{head}_raw": raw[:, i] for i, head in enumerate(HEADS)},
        **{f"{head}_judge": run.labelled.scores[rows, i] for i, head in enumerate(HEADS)},
        "content": [hashes[row] for row in rows],
    }
    with replacing_binary(path) as file:
        pq.write_table(pa.table(columns), file)


def _measured_folds(labelled: LabelledSet, settings: TrainSettings) -> npt.NDArray[np.int64]:
    """Return the folds for cross-fitting cuts and calibration; a single holdout is halved by conversation."""
    if settings.folds:
        return folds_of(labelled.conversations, settings.folds, settings.split_seed)
    return folds_of((f"half:{conversation}" for conversation in labelled.conversations), 2, settings.split_seed)


def _how(settings: TrainSettings, held_out: Mask) -> str:
    count = int(held_out.sum())
    if settings.folds:
        return f"{settings.folds}-fold cross-validation by conversation, {count} labels"
    return f"one tenth of the conversations held out, {count} labels"


def _common(run: _Run) -> dict[str, Any]:
    return {
        "settings": run.settings.to_json(),
        "max_length": run.settings.max_length,
        "backbone": Path(run.settings.backbone).name if Path(run.settings.backbone).is_dir() else run.settings.backbone,
        "created": date.today().isoformat(),
        "versions": {name: version(name) for name in ("empathy-scorer", "torch", "transformers")},
        "bf16": has_bf16(),
    }


def _fold_info(run: _Run, part: Part) -> dict[str, Any]:
    return {**_common(run), "part": part.name, "training": _training(run, part)}


def _training(run: _Run, part: Part) -> dict[str, Any]:
    hashes = run.labelled.hashes
    rows = np.flatnonzero(part.train)
    teaching = run.teaching
    return {
        "dialogues": len(rows),
        "judgements": sum(len(run.labelled.judgements[row]) for row in rows),
        "conversations": len({run.labelled.dialogues[row].conversation for row in rows}),
        "unlabelled": 0 if teaching is None else len(teaching.unlabelled),
        "teachers": [] if teaching is None else [teacher.info["backbone"] for teacher in teaching.teachers],
        "content_hashes": sorted(hashes[row] for row in rows),
    }


def _steps(run: _Run, part: Part) -> int:
    rows = int(part.train.sum()) + (0 if run.teaching is None else len(run.teaching.unlabelled))
    return steps_of(rows, run.settings)


def _folder(work: Path, part: Part) -> Path:
    return work / _FINAL if part.fold is None else work / FOLDS / str(part.fold)


def _checked_backbone(settings: TrainSettings) -> Backbone:
    backbone = load_backbone(settings.backbone)
    if settings.max_length > backbone.max_length:
        raise TrainError(
            f"max length is {settings.max_length} and {settings.backbone} takes {backbone.max_length} tokens at most"
        )
    return backbone


def _identity(
    labelled: LabelledSet, settings: TrainSettings, teachers: Sequence[Checkpoint], unlabelled: Sequence[Dialogue]
) -> dict[str, Any]:
    """Return what must be the same for a training to be resumed."""
    state = blake2b(digest_size=16)
    for content, row in zip(labelled.hashes, labelled.scores.tolist(), strict=True):
        state.update(f"{content}{row}".encode())
    for dialogue in unlabelled:
        state.update(dialogue.id.encode())
    return {
        "settings": settings.to_json(),
        "inputs": state.hexdigest(),
        "teachers": [teacher.sha256 for teacher in teachers],
    }


def _open(output: Path, identity: dict[str, Any], existing: Existing) -> Path:
    """Return the folder in which a training works; OutputError if the output may not be written."""
    if not output.parent.is_dir():
        raise OutputError(f"{output}: the folder {output.parent} does not exist; create it first")
    work = output.with_name(output.name + ".partial")
    manifest = work / "run.json"
    if output.exists() and existing != "overwrite":
        hint = "it is finished" if existing == "resume" else "name another output or say --overwrite"
        raise OutputError(f"{output}: exists already; {hint}")
    if output.exists() and not (output.is_dir() and (not any(output.iterdir()) or (output / "empathy.json").exists())):
        raise OutputError(
            f"{output}: is no checkpoint of `empathy train`, so it is not overwritten; remove it yourself"
        )
    if work.exists() and existing == "error":
        raise OutputError(f"{work}: an earlier run's; go on with --resume or start afresh with --overwrite")
    with writing(output):
        if work.exists() and existing == "overwrite":
            shutil.rmtree(work)
        if manifest.exists():
            _check_same(work, json.loads(manifest.read_text()), identity)
        else:
            work.mkdir(exist_ok=True)
            with replacing(manifest) as file:
                file.write(json.dumps(identity, indent=1) + "\n")
    return work


def _check_same(work: Path, known: dict[str, Any], mine: dict[str, Any]) -> None:
    for name, value in mine["settings"].items():
        if known["settings"].get(name) != value:
            raise OutputError(
                f"{work}: was begun with {name.replace('_', ' ')} {known['settings'].get(name)} and this run has "
                f"{value}; use the same, or start afresh with --overwrite"
            )
    if known != mine:
        raise OutputError(f"{work}: was begun with other labels, dialogues or teachers; start afresh with --overwrite")
