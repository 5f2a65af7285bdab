"""The end of a training: held-out predictions become calibration, cuts, uncertainty, figures and a whole checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import to_builtins
from transformers import PreTrainedModel

from distill.errors import CHECKPOINT_JSON
from distill.labelled import LabelledSet
from distill.training.calibrate import balanced_cuts, cross_calibrate, fit_calibration, fit_uncertainty, measure
from distill.training.card import checkpoint_card
from distill.training.checkpoint import FOLDS, OOF, THEN, CheckpointInfo, save_checkpoint
from distill.training.fits import Split, TrainRun
from distill.training.network import fold_affine, has_bf16, predict
from scorer.arrays import Ints
from scorer.bundle.domain import fit_domain
from scorer.dialogue import HEADS
from scorer.engines.base import Scores
from scorer.finished import seal
from scorer.outputs import new_folder, replacing
from scorer.run.score_file import write_scores
from selection.metrics import correlation

_LEARNT = 500  # so many of the dialogues that it learnt show how well it knows its teachers' scores by heart


def finish(run: TrainRun, split: Split, raw: Scores, model: PreTrainedModel, output: Path, identity: Any) -> None:
    """Calibrate the final ``model`` on ``raw`` held-out predictions (N, 2), NaN where none is, and write all of it.

    ``identity`` is the record of all that it was made from.
    """
    labelled, rows = run.labelled, np.flatnonzero(~np.isnan(raw).any(axis=1))
    scores, labels, folds = raw[rows], labelled.scores[rows], split.folds[rows]
    calibration = fit_calibration(scores, labels)
    calibrated = cross_calibrate(scores, labels, folds)
    shipped = calibration.apply(scores)
    follows = _follows(run, split, raw, model)
    fold_affine(model, calibration.slope, calibration.intercept)
    count = run.settings.folds
    how = f"{count}-fold cross-validation by conversation" if count else "one tenth of the conversations held out"
    info = replace(
        run.describe(split.fits[-1]),
        part="all labels" if count else "nine tenths of the conversations",
        calibration=calibration,
        cuts=balanced_cuts(shipped, labels),
        uncertainty=fit_uncertainty(shipped, labels),
        measured={"how": f"{how}, {len(rows)} labels", **measure(calibrated, labels, folds), **follows},
        domain=fit_domain(labelled.dialogues, run.encoded, run.backbone.vocabulary),
        seconds=round(time.monotonic() - run.started),
    )
    with new_folder(output, mark=CHECKPOINT_JSON, then=THEN) as whole:
        save_checkpoint(whole, model, run.backbone, info)
        with replacing(whole / "README.md") as file:
            file.write(checkpoint_card(info))
        if labelled.rejects:
            with replacing(whole / "rejects.jsonl") as file:
                file.writelines(json.dumps(asdict(reject)) + "\n" for reject in labelled.rejects)
        _write_oof(whole / OOF, info, labelled.take(rows), folds, calibrated, scores)
        if count:
            # Links, not copies: both names must be there until the whole takes its place.
            skip = shutil.ignore_patterns("*.npy", ".*")
            shutil.copytree(run.work / FOLDS, whole / FOLDS, ignore=skip, copy_function=_link)
        seal(whole, identity)


def _follows(run: TrainRun, split: Split, raw: Scores, model: PreTrainedModel) -> dict[str, dict[str, float]]:
    """Return Pearson's r with the teachers on labelled dialogues that were held out, and on ones that were learnt.

    A student that follows only on what it learnt needs other dialogues, not more epochs.
    """
    if run.lessons is None:
        return {}
    known = run.lessons.known
    held_out = [np.flatnonzero(fit.held_out & known) for fit in split.fits]
    theirs = [run.lessons.scores(fit.fold)[0][rows] for fit, rows in zip(split.fits, held_out, strict=True)]
    final = split.fits[-1]
    learnt = np.flatnonzero(final.train & known)
    if len(learnt) > _LEARNT:
        learnt = np.random.default_rng(run.settings.split_seed).choice(learnt, _LEARNT, replace=False)
    again = predict(model, [run.encoded[row] for row in learnt], bf16=has_bf16())
    pairs = {
        "follows_held_out": (raw[np.concatenate(held_out)], np.concatenate(theirs)),
        "follows_learnt": (again, run.lessons.scores(final.fold)[0][learnt]),
    }
    found = {name: _pearson(own, taught) for name, (own, taught) in pairs.items() if len(own) > 1}
    return {name: values for name, values in found.items() if not np.isnan(list(values.values())).any()}


def _pearson(own: Scores, taught: Scores) -> dict[str, float]:
    columns = zip(HEADS, own.T.astype(np.float64), taught.T.astype(np.float64), strict=True)
    return {head: round(correlation(x, y, np.ones(len(x))), 4) for head, x, y in columns}


def _write_oof(
    path: Path, info: CheckpointInfo, labelled: LabelledSet, folds: Ints, calibrated: Scores, raw: Scores
) -> None:
    """Write held-out predictions as a score file: with ids, scores and, for selection, the scale they are on."""
    columns = {
        "id": [dialogue.id for dialogue in labelled.dialogues],
        "conversation": labelled.conversations,
        "fold": folds,
        **{head: calibrated[:, i] for i, head in enumerate(HEADS)},
        **{f"{head}_raw": raw[:, i] for i, head in enumerate(HEADS)},
        **{f"{head}_judge": labelled.scores[:, i] for i, head in enumerate(HEADS)},
        "content": labelled.hashes,
    }
    about = {
        "name": path.name,
        "cuts": info.cuts,
        "half_widths": to_builtins(info.uncertainty),
        "backbone": info.backbone,
        "judge": info.training.judge,
        "rubric": info.training.rubric,
    }
    write_scores(path, columns, json.dumps(about))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
